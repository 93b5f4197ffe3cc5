package events_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
	"aggregator/internal/testenv"
)

// A power loss may cut Redis' append-only file anywhere in what was written last. Here it is cut
// within what each of our scripts appends (see cuts); Redis starts, more is pushed and
// acknowledged, and Redis starts again. Each event must be read exactly once all the same.
func TestAppendOnlyFileCut(t *testing.T) {
	stream := events.Options{Kind: events.KindStream, Key: "s"}
	list := events.Options{Kind: events.KindList, Key: "l", PushSide: events.PushLeft}
	right := events.Options{Kind: events.KindList, Key: "l", PushSide: events.PushRight}

	// trimInOne is what Trim was: one script, two writes.
	const trimInOne = `local removed = redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2])
redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'ENTRIESREAD', ARGV[3])
return removed`

	for name, c := range map[string]struct {
		from    events.Options
		prepare func(c *consumer) // what comes before
		batch   func(c *consumer) // what appends the bytes that are cut
		writes  []string          // the commands in them
		attempt bool              // the consumer begins again after the power loss, and the file is written anew
		loses   bool              // a control: what goes wrong must show
	}{
		"first trim": {
			from: stream, prepare: func(c *consumer) { c.push(3); c.read() },
			batch: func(c *consumer) { c.trim() }, writes: []string{"XGROUP", "XTRIM"},
		},
		"next trim": {
			from: stream, prepare: func(c *consumer) { c.push(3); c.read(); c.trim(); c.push(2); c.read() },
			batch: func(c *consumer) { c.trim() }, writes: []string{"XGROUP", "XTRIM"},
		},
		"trim with more to read": {
			from: stream, prepare: func(c *consumer) { c.push(3); c.read(); c.push(2) },
			batch: func(c *consumer) { c.trim() }, writes: []string{"XGROUP", "XTRIM"},
		},
		"rewind": {
			from: stream, prepare: func(c *consumer) { c.push(3); c.read(); c.trim(); c.push(2) },
			batch: func(c *consumer) { c.reset() }, writes: []string{"XGROUP", "XGROUP"},
		},
		"raise of a stream that is gone": {
			from:    stream,
			prepare: func(c *consumer) { c.push(3); c.read(); require.NoError(c.t, c.client.Del(c.t.Context(), "s").Err()) },
			batch:   func(c *consumer) { c.raise() }, writes: []string{"XGROUP", "XSETID"},
		},
		"raise of a stream with entries to keep": {
			from: stream,
			prepare: func(c *consumer) {
				c.push(3)
				c.read()
				require.NoError(c.t, c.client.Del(c.t.Context(), "s").Err())
				c.pushAs("1-1")
				c.pushAs("2-0")
			},
			batch: func(c *consumer) { c.raise() }, writes: []string{"MULTI", "COPY", "XSETID", "EXEC"},
			attempt: true,
		},
		"move from a list pushed left": {
			from: list, prepare: func(c *consumer) { c.push(2); c.read(); c.trim(); c.push(2) },
			batch: func(c *consumer) { c.move() }, writes: []string{"MULTI", "LTRIM", "XADD", "XADD", "EXEC"},
			attempt: true,
		},
		"move from a list pushed right": {
			from: right, prepare: func(c *consumer) { c.push(2) },
			batch: func(c *consumer) { c.move() }, writes: []string{"MULTI", "LTRIM", "XADD", "XADD", "EXEC"},
			attempt: true,
		},
		"control: move, and the file is not written anew": {
			from: list, prepare: func(c *consumer) { c.push(2) },
			batch: func(c *consumer) { c.move() }, writes: []string{"MULTI", "LTRIM", "XADD", "XADD", "EXEC"},
			loses: true,
		},
		"control: trim and bookmark in one script": {
			from: stream, prepare: func(c *consumer) { c.push(3); c.read() },
			batch: func(c *consumer) {
				next := fmt.Sprintf("%d-%d", c.at.Ms, c.at.Seq+1)
				require.NoError(c.t, c.client.Eval(c.t.Context(), trimInOne, []string{"s"}, events.Group, next, c.entries).Err())
			},
			writes: []string{"MULTI", "XTRIM", "XGROUP", "EXEC"}, loses: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := newDisk(t)
			before := &consumer{t: t, options: c.from}
			before.connect(disk.server.URL())
			c.prepare(before)
			whole := len(disk.content())
			c.batch(before)
			disk.powerOff()
			written := disk.content()[whole:]
			writes, ends := commands(t, written)
			require.Equal(t, c.writes, writes)

			lost := 0
			for _, n := range cuts(ends) {
				after := before.clone()
				disk.cut(whole + n)
				after.connect(disk.powerOn())
				if c.attempt {
					if c.from.Kind == events.KindList {
						after.push(1) // before the consumer is back
					}
					after.begin()
					rewritten(t, after.client)
				}
				after.push(2)
				disk.powerOff()
				after.connect(disk.powerOn())
				switch err := after.drain(); {
				case !c.loses:
					require.NoErrorf(t, err, "cut after %q", written[:n])
				case err != nil:
					lost++
				}
				disk.powerOff()
			}
			if c.loses {
				require.NotZero(t, lost)
			}
			t.Logf("%d bytes, not exact after %d of %d cuts", len(written), lost, len(cuts(ends)))
		})
	}
}

// disk is that of a Redis, of which each power loss leaves as much as is wanted.
type disk struct {
	t      *testing.T
	server *testenv.RedisServer
	dir    string            // of the append-only file
	incr   string            // the part of it that grows
	files  map[string][]byte // at the first power loss
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	server := testenv.NewRedis(t, testenv.AppendOnly(), testenv.RedisArgs("--auto-aof-rewrite-percentage", "0"))
	settings, err := connect(t, server.URL()).ConfigGet(t.Context(), "dir").Result()
	require.NoError(t, err)
	dir := filepath.Join(settings["dir"], "appendonlydir")
	return &disk{t: t, server: server, dir: dir, incr: filepath.Join(dir, "appendonly.aof.1.incr.aof")}
}

func (d *disk) content() []byte {
	d.t.Helper()
	content, err := os.ReadFile(d.incr)
	require.NoError(d.t, err)
	return content
}

func (d *disk) powerOff() {
	d.t.Helper()
	require.NoError(d.t, d.server.Kill())
	if d.files != nil {
		return
	}
	d.files = map[string][]byte{}
	names, err := filepath.Glob(filepath.Join(d.dir, "*"))
	require.NoError(d.t, err)
	for _, name := range names {
		d.files[name], err = os.ReadFile(name)
		require.NoError(d.t, err)
	}
}

// powerOn returns the address of the server.
func (d *disk) powerOn() string {
	d.t.Helper()
	require.NoError(d.t, d.server.Start(d.t.Context()))
	return d.server.URL()
}

// cut makes the files what they were at the first power loss, the one that grows cut short.
func (d *disk) cut(at int) {
	d.t.Helper()
	owner, err := os.Stat(d.dir)
	require.NoError(d.t, err)
	uid, gid := int(owner.Sys().(*syscall.Stat_t).Uid), int(owner.Sys().(*syscall.Stat_t).Gid)
	names, err := filepath.Glob(filepath.Join(d.dir, "*"))
	require.NoError(d.t, err)
	for _, name := range names {
		require.NoError(d.t, os.Remove(name))
	}
	for name, content := range d.files {
		if name == d.incr {
			content = content[:at]
		}
		require.NoError(d.t, os.WriteFile(name, content, 0o600))
		require.NoError(d.t, os.Chown(name, uid, gid))
	}
}

// commands are the names of those in a piece of an append-only file, and where each ends.
func commands(t *testing.T, piece []byte) (names []string, ends []int) {
	t.Helper()
	for lines := strings.SplitAfter(string(piece), "\r\n"); len(lines) > 1; {
		n, err := strconv.Atoi(strings.Trim(lines[0], "*\r\n"))
		require.NoError(t, err)
		names, lines = append(names, strings.TrimSpace(lines[2])), lines[1+2*n:]
		ends = append(ends, len(piece)-len(strings.Join(lines, "")))
	}
	return names, ends
}

// consumer does with a source what the daemon does, and keeps in memory what that keeps in
// PostgreSQL. Events are told apart by their profile.
type consumer struct {
	t       *testing.T
	options events.Options
	client  *redis.Client
	source  *events.Source

	at      events.Position // the checkpoint
	entries int64           // added up to it
	seen    events.Seen

	pushed, applied []int64
}

func (c *consumer) clone() *consumer {
	other := *c
	other.pushed, other.applied = slices.Clone(c.pushed), slices.Clone(c.applied)
	return &other
}

func (c *consumer) connect(url string) {
	c.t.Helper()
	c.client = connect(c.t, url)
	c.source = open(c.t, c.client, c.options)[0]
}

// push returns when Redis has acknowledged all.
func (c *consumer) push(n int) {
	c.t.Helper()
	for range n {
		c.pushAs("*")
	}
}

func (c *consumer) pushAs(id string) {
	c.t.Helper()
	ctx, profile := c.t.Context(), int64(len(c.pushed))
	text, key := fmt.Sprintf("%d:7:LIKE", profile), c.options.Key
	var err error
	switch {
	case c.options.Kind == events.KindStream:
		err = c.client.XAdd(ctx, &redis.XAddArgs{Stream: key, ID: id, Values: []any{"event", text}}).Err()
	case c.options.PushSide == events.PushLeft:
		err = c.client.LPush(ctx, key, text).Err()
	default:
		err = c.client.RPush(ctx, key, text).Err()
	}
	require.NoError(c.t, err)
	c.pushed = append(c.pushed, profile)
}

// move moves what is in the list, and no more.
func (c *consumer) move() {
	c.t.Helper()
	_, err := c.source.Read(c.t.Context(), &events.Batch{Last: c.at}, 1, 0)
	require.NoError(c.t, err)
}

func (c *consumer) raise() {
	c.t.Helper()
	_, err := c.source.Raise(c.t.Context(), c.at, c.entries)
	require.NoError(c.t, err)
}

// reset is as the daemon's.
func (c *consumer) reset() {
	c.t.Helper()
	state, err := c.source.Rewind(c.t.Context())
	require.NoError(c.t, err)
	c.at, c.entries = events.Position{}, state.Added-state.Length
}

// begin begins an attempt.
func (c *consumer) begin() {
	c.t.Helper()
	state, err := c.source.Inspect(c.t.Context())
	require.NoError(c.t, err)
	_, err = c.source.Rewrite(c.t.Context())
	require.NoError(c.t, err)
	c.seen = state.Seen()
	if c.at.After(state.Last) {
		c.raise()
	}
}

// read applies what there is.
func (c *consumer) read() {
	c.t.Helper()
	for {
		batch := events.Batch{Last: c.at}
		n, err := c.source.Read(c.t.Context(), &batch, 100, 0)
		require.NoError(c.t, err)
		if n == 0 {
			return
		}
		for _, e := range batch.Events {
			c.applied = append(c.applied, e.ProfileID)
		}
		c.at, c.entries = batch.Last, c.entries+int64(n)
	}
}

func (c *consumer) trim() {
	c.t.Helper()
	trimmed, err := c.source.Trim(c.t.Context(), c.at, c.entries, 0, c.seen)
	require.NoError(c.t, err)
	require.False(c.t, trimmed.WentBack)
	c.seen.Bookmark = c.at
}

// drain begins an attempt, and says whether in the end each event was applied once, or is kept
// beside the stream, and nothing is left.
func (c *consumer) drain() error {
	c.t.Helper()
	ctx := c.t.Context()
	c.begin()
	c.read()
	c.trim()
	left, err := c.source.Waiting(ctx, events.Position{}, 0)
	require.NoError(c.t, err)
	all := slices.Clone(c.applied)
	kept, err := c.client.Keys(ctx, "*:behind:*").Result()
	require.NoError(c.t, err)
	for _, key := range kept {
		var batch events.Batch
		_, err := open(c.t, c.client, events.Options{Kind: events.KindStream, Key: key})[0].Read(ctx, &batch, 100, 0)
		require.NoError(c.t, err)
		for _, e := range batch.Events {
			all = append(all, e.ProfileID)
		}
	}
	slices.Sort(all)
	if left > 0 || !slices.Equal(c.pushed, all) {
		return fmt.Errorf("pushed %v, applied %v, %d left", c.pushed, all, left)
	}
	return nil
}
