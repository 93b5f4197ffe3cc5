//go:build faults

package faults_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// weakening is a change to the product that gives up one of the rules that keep events
// from being lost or doubled. It is made to a copy of the source, which is compiled in the
// place of the original: nothing in the product is there for it.
type weakening struct {
	name    string
	changes []change
	reveal  func(t *testing.T, program string) report // a part of the suite, with that program
}

// change replaces a text that must be in the file exactly once.
type change struct{ file, old, new string }

var weakenings = []weakening{
	{
		name: "the checkpoint does not look at the marks",
		changes: []change{{
			"internal/ledger/checkpoint.go",
			"AND cardinality($8::bigint[]) = (", "AND cardinality($8::bigint[]) >= (",
		}},
		reveal: func(t *testing.T, program string) report {
			return crashAt(t, "before_checkpoint", 1500*time.Millisecond, program).compare()
		},
	},
	{
		name: "the checkpoint is not flushed",
		changes: []change{
			{"internal/postgres/durable.go", "SET LOCAL synchronous_commit = on", "SET LOCAL synchronous_commit = off"},
			{"internal/postgres/durable.go", "set_config('synchronous_commit', 'on'", "set_config('synchronous_commit', 'off'"},
		},
		reveal: func(t *testing.T, program string) report { return crashAt(t, "after_trim", 0, program).compare() },
	},
	{
		name: "trimmed by a checkpoint that is seen, and waits are cancelled",
		changes: []change{
			impatience,
			{
				"internal/aggregator/attempt.go",
				"		checkpoint, err = ledger.Confirm(ctx, p.pool, p.source.Name())\n", "		err = nil\n",
			},
			{"internal/postgres/durable.go", "if connected.Load() {", "if false {"},
		},
		reveal: func(t *testing.T, program string) report { return loseWhatWasSeen(t, givenUp, program) },
	},
	{
		name: "a commit counts whose wait was cancelled",
		changes: []change{
			impatience,
			{"internal/postgres/durable.go", `notice.Routine == "SyncRepWaitForLSN"`, "false"},
		},
		reveal: func(t *testing.T, program string) report { return loseWhatWasSeen(t, cancelled, program) },
	},
	{
		name: "trimmed before the checkpoint",
		changes: []change{{
			"internal/aggregator/attempt.go", `	crash.At("before_checkpoint")
`,
			`	ahead := ledger.Checkpoint{Position: batch.Last, Entries: from.Entries + int64(batch.Entries)}
	if err := p.trim(ctx, ahead); err != nil {
		return from, err
	}
	crash.At("before_checkpoint")
`,
		}},
		reveal: func(t *testing.T, program string) report {
			return crashAt(t, "before_checkpoint", 0, program).compare()
		},
	},
	{
		name: "events that the marks have passed are not skipped",
		changes: []change{{
			"internal/apply/chunk.go",
			"rest := seg.after(marks[seg.profileID])",
			"rest := segment{profileID: seg.profileID, events: seg.events, seen: marks[seg.profileID]}",
		}},
		reveal: func(t *testing.T, program string) report {
			w := unrestricted(t, program)
			w.push(2000)
			w.start("drain", "CRASH_AT=before_checkpoint:2").crashed()
			w.start("drain").wait() // it may find out by itself that its counts do not add up
			return w.compare()
		},
	},
	{
		name: "marks are not compared",
		reveal: func(t *testing.T, program string) report {
			w := unrestricted(t, program)
			w.weaken("aggregator.apply", "AND position_ms = seen_ms AND position_seq = seen_seq", "")
			w.weaken("aggregator.apply", "WHERE m.position_ms = 0 AND m.position_seq = 0", "")
			return overlap(w)
		},
	},
	{
		name: "a reset fences off nobody",
		changes: []change{
			{"internal/events/scripts/bookmark.lua", "if (delivered(stream, fence) or '') ~= fenced then return 1 end\n", ""},
			{"internal/events/scripts/trim.lua", "if (delivered(stream, fence) or '') ~= fenced then return { 0, 1 } end\n", ""},
		},
		reveal: func(t *testing.T, program string) report {
			return resetBesideFirst(t, unrestricted(t, program), "after_checkpoint").compare()
		},
	},
	{
		name:    "a cursor that instances share",
		changes: []change{sharedCursor, useSharedCursor},
		reveal:  func(t *testing.T, program string) report { return overlap(unrestricted(t, program)) },
	},
	{
		name: "a client that sends commands again, with a cursor",
		changes: []change{
			sharedCursor, useSharedCursor, recoverPending,
			{"internal/service/redis.go", "*s.retries = -1", "*s.retries = 3"},
		},
		reveal: loseReads,
	},
}

// The cursor is that of the consumer group. With recoverPending, what was delivered and not
// settled is read again after a restart of the loop.
var (
	useSharedCursor = change{
		"internal/events/source.go",
		"		return s.readStream(ctx, batch, limit, patience)\n",
		"		time.Sleep(min(patience, 20*time.Millisecond))\n		return s.readShared(ctx, batch, limit)\n",
	}
	sharedCursor = change{
		"internal/events/source.go", "// readStream is Read for what is in the stream.\n",
		"var restarted bool\n\n" +
			"func (s *Source) readShared(ctx context.Context, batch *Batch, limit int) (int, error) {\n" +
			"	from := \">\"\n" +
			"	if restarted {\n		from = batch.Last.String()\n	}\n" +
			"	cmd := redis.NewRawCmd(ctx, \"EVAL\", `" + cursorScript + "`, 1, s.stream, limit, from)\n" +
			"	if err := s.client.Process(ctx, cmd); err != nil {\n		return 0, err\n	}\n" +
			"	n, err := batch.decode(cmd.Val(), s.decoder)\n" +
			"	if n == 0 && err == nil && restarted {\n		restarted = false\n		return s.readShared(ctx, batch, limit)\n	}\n" +
			"	return n, err\n}\n\n" +
			"// readStream is Read for what is in the stream.\n",
	}
	recoverPending = change{
		"internal/events/source.go", "	reply, err := inspectScript.RunRO(",
		"	restarted = true\n	reply, err := inspectScript.RunRO(",
	}
)

const cursorScript = `
redis.pcall('XGROUP', 'CREATE', KEYS[1], 'aggregator', '0', 'MKSTREAM')
local read = redis.call('XREADGROUP', 'GROUP', 'aggregator', 'c', 'COUNT', ARGV[1], 'STREAMS', KEYS[1], ARGV[2])
if not read then return {} end
return read[1][2]`

// TestControls weakens the daemon, one rule at a time. The suite must find lost or doubled
// events each time: one that cannot fail proves nothing.
func TestControls(t *testing.T) {
	for _, weak := range weakenings {
		t.Run(weak.name, func(t *testing.T) {
			program := weak.build(t)
			for round := range 5 {
				r := weak.reveal(t, program)
				t.Logf("round %d: %s", round+1, r)
				if r.Lost+r.Doubled > 0 {
					require.False(t, r.OK)
					return
				}
			}
			t.Fatal("the suite does not find out that the daemon is weakened")
		})
	}
	// What makes the last one fail is the client that sends again, not the cursor.
	t.Run("a client that does not send again, with a cursor", func(t *testing.T) {
		weak := weakening{name: "cursor", changes: []change{sharedCursor, useSharedCursor, recoverPending}}
		r := loseReads(t, weak.build(t))
		t.Log(r)
		require.True(t, r.OK, "%s", r.text)
	})
}

// build compiles the daemon from the weakened source.
func (weak weakening) build(t *testing.T) (program string) {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs(module)
	require.NoError(t, err)
	changed := map[string]string{}
	for _, c := range weak.changes {
		file := filepath.Join(root, c.file)
		copied := filepath.Join(dir, strings.ReplaceAll(c.file, "/", "_"))
		source := file
		if changed[file] != "" {
			source = copied
		}
		text, err := os.ReadFile(source)
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(text), c.old), "%s has changed: adapt this control to it\n%s", c.file, c.old)
		require.NoError(t, os.WriteFile(copied, []byte(strings.Replace(string(text), c.old, c.new, 1)), 0o600))
		changed[file] = copied
	}
	overlay, err := json.Marshal(map[string]any{"Replace": changed})
	require.NoError(t, err)
	file := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(file, overlay, 0o600))
	program, err = buildDaemon(t.Context(), "-overlay", file)
	require.NoError(t, err)
	return program
}

// unrestricted is a world in which a daemon may do anything: a weakened one needs other
// rights than the real one.
func unrestricted(t *testing.T, program string) *world {
	t.Helper()
	w := newWorld(t, setup{program: program})
	w.redisURL, w.postgresURL = w.redis.URL(), w.database
	return w
}

// weaken replaces a text that must be in a function of the schema exactly once.
func (w *world) weaken(function, old, by string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.database)
	require.NoError(w.t, err)
	defer conn.Close(w.t.Context())
	var text string
	require.NoError(w.t, conn.QueryRow(w.t.Context(), `SELECT pg_get_functiondef($1::regproc)`, function).Scan(&text))
	require.Equal(w.t, 1, strings.Count(text, old), "%s has changed: adapt this control to it\n%s", function, old)
	_, err = conn.Exec(w.t.Context(), strings.Replace(text, old, by, 1))
	require.NoError(w.t, err)
}

// overlap runs three instances at once.
func overlap(w *world) report {
	w.t.Helper()
	w.push(4000)
	all := []*daemon{w.start("run"), w.start("run"), w.start("run")}
	w.push(2000)
	last, since := int64(-1), time.Now()
	w.until("Redis is drained, or stands still", func() bool {
		n := w.waiting()
		if n != last {
			last, since = n, time.Now()
		}
		return n == 0 || time.Since(since) > 10*time.Second
	})
	for _, d := range all {
		d.stop()
	}
	return w.compare()
}

// loseReads loses the replies to reads of one instance.
func loseReads(t *testing.T, program string) report {
	t.Helper()
	w := unrestricted(t, program)
	p, address := newProxy(t, w.redis.URL(), redisMessages(t))
	w.redisURL = address
	w.push(1000)
	d := w.start("run")
	w.emptied()
	p.lose("EVAL ", 3, false)
	for range 3 {
		w.push(500)
		w.emptied()
	}
	d.stop()
	require.NotZero(t, p.losses(), "%q", p.names())
	return w.compare()
}
