package aggregator_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/apply"
	"aggregator/internal/events"
	"aggregator/internal/testenv"
)

var (
	stream = events.Options{Kind: events.KindStream, Key: "likes"}
	left   = events.Options{Kind: events.KindList, Key: "likes", PushSide: events.PushLeft}
	right  = events.Options{Kind: events.KindList, Key: "likes", PushSide: events.PushRight}
)

func partitioned(o events.Options, n int) events.Options {
	o.Partitions = n
	return o
}

// Whatever the source, the chunk and the grouping, the tables hold what was pushed.
func TestDrainEqualsOracle(t *testing.T) {
	testenv.Long(t)
	cases := []struct {
		name     string
		source   events.Options
		chunk    int
		together int
		workers  int
	}{
		{"stream in one chunk", stream, 50_000, 1, 4},
		{"stream in small chunks", stream, 97, 1, 4},
		{"stream one by one", stream, 1, 1, 1},
		{"many profiles a transaction", stream, 500, 7, 2},
		{"all profiles in a transaction", stream, 500, 2000, 4},
		{"so many profiles a transaction as there are", stream, 500, apply.Auto, 4},
		{"list pushed left", left, 400, 1, 4},
		{"list pushed right", right, 400, 1, 4},
		{"partitions", partitioned(stream, 3), 150, 1, 2},
		{"partitions of a list", partitioned(left, 4), 150, 3, 2},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, c.source)
			f.options.ChunkMaxEvents, f.options.ProfilesPerTransaction, f.options.Workers = c.chunk, c.together, c.workers
			r := rand.New(rand.NewPCG(1, uint64(i)))
			n := 1000
			if c.chunk == 1 {
				n = 60
			}
			for range 2 { // the second time marks and rows are there already
				f.push(random(r, n)...)
				stats := f.drain()
				assert.EqualValues(t, n, stats.Read)
				assert.Equal(t, stats.Read, stats.Applied+stats.Dead)
				assert.Zero(t, stats.Restarts)
				f.verify()
			}
			assert.Zero(t, f.drain().Read, "nothing is left")
		})
	}
}

// Profiles and books of a chunk are asked for while it is still being read, if it is long.
func TestLongChunk(t *testing.T) {
	f := newFixture(t, stream)
	f.push(random(rand.New(rand.NewPCG(5, 5)), 15_000)...)
	stats := f.drain()
	assert.EqualValues(t, 15_000, stats.Read)
	assert.EqualValues(t, 1, stats.Chunks)
	f.verify()
}

// One history row a profile and chunk.
func TestHistoryRows(t *testing.T) {
	f := newFixture(t, stream)
	f.options.ChunkMaxEvents = 4
	f.push("1:1:LIKE", "1:2:LIKE", "2:1:LIKE", "2:1:DISLIKE", "1:1:LIKE", "9999:1:LIKE", "3:9999:LIKE", "2:12:LIKE")
	f.drain()
	f.verify()
	rows, err := f.pool.Query(f.ctx, `SELECT child_profile_id, count(*) FROM child_personality_history GROUP BY 1`)
	require.NoError(t, err)
	got := map[int64]int{}
	var profile int64
	var n int
	_, err = pgx.ForEachRow(rows, []any{&profile, &n}, func() error { got[profile] = n; return nil })
	require.NoError(t, err)
	assert.Equal(t, map[int64]int{1: 2, 2: 2}, got, "profile 3 did not change")
}

func TestCoalesce(t *testing.T) {
	f := newFixture(t, stream)
	f.options.Coalesce = true
	f.push("1:1:LIKE", "1:1:LIKE", "1:1:DISLIKE", "1:2:LIKE", "2:1:LIKE")
	stats := f.drain()
	assert.EqualValues(t, 5, stats.Applied, "events that another made void are settled with it")
	applied := f.found().applied
	assert.Equal(t, map[int64]int64{1: 4, 2: 1}, applied)
	f.pushed = []string{"1:1:DISLIKE", "1:2:LIKE", "2:1:LIKE"}
	assert.Equal(t, f.expected().genres, f.found().genres)
	assert.Equal(t, f.expected().latest, f.found().latest)
}

// With Auto the profiles of a busy source share transactions, those of a quiet one do not. When PostgreSQL refuses
// one, the others of its group are applied all the same.
func TestAutoGrouping(t *testing.T) {
	f := newFixture(t, stream)
	f.options.ProfilesPerTransaction, f.options.Workers = apply.Auto, 2
	f.exec(`INSERT INTO child_profile (id, name) SELECT p, 'child' FROM generate_series(1001, 1150) p`)
	f.exec(`ALTER TABLE genre_score ADD CONSTRAINT most CHECK (child_profile_id <> 1120 OR score < 4)`)
	transactions := func() (n int) {
		require.NoError(t, f.pool.QueryRow(f.ctx, `SELECT count(DISTINCT xmin::text)
			FROM aggregator.mark WHERE child_profile_id > 1000`).Scan(&n))
		return n
	}
	push := func(from, to int) {
		var texts []string
		for p := from; p <= to; p++ {
			texts = append(texts, fmt.Sprintf("%d:1:LIKE", p))
		}
		f.push(texts...)
	}
	push(1001, 1099) // which are 99
	assert.EqualValues(t, 99, f.drain().Applied)
	assert.Equal(t, 99, transactions())
	push(1001, 1150)
	assert.EqualValues(t, 150, f.drain().Applied)
	assert.Equal(t, 3, transactions())
	push(1001, 1150)
	stats := f.drain()
	assert.EqualValues(t, 149, stats.Applied)
	assert.EqualValues(t, 1, stats.Dead)
	assert.Equal(t, 2+50, transactions())
}

// What a drain says of its time has a place for each phase, in order, and counts each transaction once.
func TestTimelines(t *testing.T) {
	f := newFixture(t, stream)
	f.options.ChunkMaxEvents, f.options.ProfilesPerTransaction = 2, 1
	f.push("1:1:LIKE", "2:1:LIKE", "1:2:LIKE", "1:3:LIKE", "3:1:LIKE")
	a := f.new()
	before := time.Now()
	_, err := a.Drain(f.ctx, aggregator.Limits{})
	require.NoError(t, err)
	all := a.Timelines()
	require.Len(t, all, 1)
	assert.EqualValues(t, 3, all[0].Chunks)
	assert.EqualValues(t, 4, all[0].Transactions)
	assert.Positive(t, all[0].P50)
	assert.GreaterOrEqual(t, all[0].P95, all[0].P50)
	from := before
	for phase, span := range all[0].Phases {
		assert.Positive(t, span.Took, "phase %d", phase)
		assert.False(t, span.From.Before(from), "phase %d", phase)
		assert.False(t, span.From.Add(span.Took).After(span.To), "phase %d", phase)
		assert.False(t, span.To.After(time.Now()), "phase %d", phase)
		from = span.From
	}
}

// Several instances on one source, in small chunks, so that they meet often.
func TestInstancesAtOnce(t *testing.T) {
	testenv.Long(t)
	for _, c := range []struct {
		name     string
		source   events.Options
		together int
	}{{"stream", stream, 1}, {"stream, grouped", stream, 5}, {"list", left, 1}} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, c.source)
			f.options.ChunkMaxEvents, f.options.ProfilesPerTransaction, f.options.Workers = 40, c.together, 2
			f.push(random(rand.New(rand.NewPCG(2, 2)), 2000)...)
			ended := make(chan error)
			for range 3 {
				a := f.new()
				go func() {
					_, err := a.Drain(f.ctx, aggregator.Limits{})
					ended <- err
				}()
			}
			for range 3 {
				require.NoError(t, <-ended)
			}
			f.drain()
			f.verify()
		})
	}
}

// An event that PostgreSQL refuses becomes a dead letter; those beside it count.
func TestDataErrorIsIsolated(t *testing.T) {
	for name, together := range map[string]int{"alone": 1, "grouped": 50} {
		t.Run(name, func(t *testing.T) { testDataErrorIsIsolated(t, together) })
	}
}

func testDataErrorIsIsolated(t *testing.T, together int) {
	f := newFixture(t, stream)
	f.options.ProfilesPerTransaction = together
	f.exec(`ALTER TABLE genre_score ADD CONSTRAINT most CHECK (score <= 6)`)
	texts := []string{
		"1:1:LIKE", "2:1:LIKE", "1:2:LIKE", "1:1:LIKE", "1:1:LIKE", "1:1:LIKE", "1:1:LIKE", "1:3:LIKE",
		"3:2:LIKE",
	}
	f.push(texts...)
	stats := f.drain()
	assert.EqualValues(t, 2, stats.Dead)
	assert.EqualValues(t, 7, stats.Applied)
	got := f.found()
	assert.Equal(t, map[string]int{"data_error 1:1:LIKE": 2}, got.dead)
	f.pushed = []string{"1:1:LIKE", "2:1:LIKE", "1:2:LIKE", "1:1:LIKE", "1:1:LIKE", "1:3:LIKE", "3:2:LIKE"}
	assert.Equal(t, f.expected().genres, got.genres)
	assert.Equal(t, f.expected().latest, got.latest)
	var state string
	require.NoError(t, f.pool.QueryRow(f.ctx, `SELECT DISTINCT sqlstate FROM aggregator.dead_letter`).Scan(&state))
	assert.Equal(t, "23514", state)
	f.verifyRedis()
}

// An action that gets a weight between two tries of a chunk, the first of which did not
// come to its checkpoint, is still the dead letter that it was, and nothing else.
func TestActionGetsItsWeightBetweenTwoTries(t *testing.T) {
	f := newFixture(t, stream)
	f.options.Retain = time.Hour
	f.push("1:1:LIKE", "1:1:EAT", "1:2:LIKE", "2:1:EAT")
	f.drain()
	// What a crash before the checkpoint leaves: the marks have moved, it has not.
	f.exec(`UPDATE aggregator.checkpoint SET position_ms = 0, position_seq = 0, entries = 0`)
	f.push("3:1:EAT")
	f.source.Weights["EAT"] = 5
	f.drain()
	got := f.found()
	assert.Equal(t, map[int64]int64{1: 2, 3: 1}, got.applied)
	assert.Equal(t, map[string]int{"unknown_action 1:1:EAT": 1, "unknown_action 2:1:EAT": 1}, got.dead)
}

// A profile that was there a moment ago is deleted before its transaction.
func TestProfileDeletedMeanwhile(t *testing.T) {
	f := newFixture(t, stream)
	f.push("1:1:LIKE", "2:1:LIKE")
	a := f.new()
	_, err := a.Drain(f.ctx, aggregator.Limits{}) // remembers both profiles
	require.NoError(t, err)
	f.exec(`ALTER TABLE child_profile DISABLE TRIGGER aggregator_changed`) // nobody tells
	f.exec(`DELETE FROM child_profile WHERE id = 1`)
	f.push("1:1:LIKE", "2:1:LIKE")
	_, err = a.Drain(f.ctx, aggregator.Limits{})
	require.NoError(t, err)
	got := f.found()
	assert.Equal(t, map[string]int{"unknown_profile 1:1:LIKE": 1}, got.dead)
	assert.Equal(t, map[int64]int64{1: 1, 2: 2}, got.applied)
}

// A schema that does not fit halts; nothing is lost.
func TestHalt(t *testing.T) {
	f := newFixture(t, stream)
	f.exec(`ALTER TABLE topic_score RENAME TO gone`)
	f.push("1:1:LIKE", "2:1:LIKE")
	_, err := f.new().Drain(f.ctx, aggregator.Limits{})
	require.ErrorContains(t, err, "topic_score")
	require.ErrorContains(t, err, "; aggregator doctor says what is missing")
	f.exec(`ALTER TABLE gone RENAME TO topic_score`)
	f.drain()
	f.verify()
}

func TestLimits(t *testing.T) {
	f := newFixture(t, partitioned(stream, 2))
	f.options.ChunkMaxEvents = 30
	f.push(random(rand.New(rand.NewPCG(3, 3)), 300)...)
	a := f.new()
	left, err := a.Drain(f.ctx, aggregator.Limits{MaxEvents: 100})
	require.NoError(t, err)
	assert.EqualValues(t, 200, left)
	assert.EqualValues(t, 100, a.Stats().Read)

	left, err = f.new().Drain(f.ctx, aggregator.Limits{MaxDuration: time.Nanosecond})
	require.NoError(t, err)
	assert.EqualValues(t, 200, left)

	left, err = f.new().Drain(f.ctx, aggregator.Limits{MaxEvents: 200})
	require.NoError(t, err)
	assert.Zero(t, left)
	f.verify()
}

// A chunk whose trim fails is processed, and counts as such.
func TestLimitWhileTrimsFail(t *testing.T) {
	f := newFixture(t, stream)
	f.options.ChunkMaxEvents = 100 // each is trimmed
	f.push(random(rand.New(rand.NewPCG(3, 3)), 1000)...)
	f.daemon.redis.AddHook(&failingScripts{})
	a := f.new()
	left, err := a.Drain(f.ctx, aggregator.Limits{MaxEvents: 300})
	require.NoError(t, err)
	assert.EqualValues(t, 700, left)
	assert.EqualValues(t, 300, a.Stats().Read)
	assert.Positive(t, a.Stats().Restarts)
}

// failingScripts makes the first scripts fail that are to trim after a chunk.
type failingScripts struct {
	redis.Hook
	failed atomic.Int64
}

func (h *failingScripts) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *failingScripts) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *failingScripts) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args() // evalsha SHA 1 STREAM GROUP POSITION ...
		if cmd.Name() == "evalsha" && len(args) > 5 && args[5] != "0-0" && h.failed.Add(1) <= 3 {
			err := errors.New("made to fail")
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// The service applies what comes, and when it is told to stop it finishes what it has.
func TestRun(t *testing.T) {
	for name, source := range map[string]events.Options{"stream": stream, "list": right} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, source)
			ctx, stop := context.WithCancel(f.ctx)
			a := f.new()
			ended := make(chan error)
			go func() { ended <- a.Run(ctx) }()
			r := rand.New(rand.NewPCG(4, 4))
			total := 0
			for _, n := range []int{1, 500, 3} {
				f.push(random(r, n)...)
				total += n
				require.Eventually(t, func() bool { return a.Stats().Read == int64(total) }, 3*time.Minute, time.Millisecond)
			}
			f.push(random(r, 2000)...)
			stop()
			require.NoError(t, <-ended)
			assert.Zero(t, a.Stats().Restarts)
			f.drain()
			f.verify()
		})
	}
}

// What is kept for a while, or for another group, goes when it may, also if nothing comes.
func TestTrimsWhileIdle(t *testing.T) {
	f := newFixture(t, stream)
	f.options.Retain = 500 * time.Millisecond
	require.NoError(t, f.redis.XGroupCreateMkStream(f.ctx, "likes", "other", "0").Err())
	length := func() int64 {
		n, err := f.redis.XLen(f.ctx, "likes").Result()
		require.NoError(t, err)
		return n
	}
	service := f.start("only", 0)
	f.push("1:1:LIKE", "2:1:LIKE")
	eventually(t, func() bool { return service.Stats().Read == 2 })
	require.EqualValues(t, 2, length())
	require.NoError(t, f.redis.XGroupDestroy(f.ctx, "likes", "other").Err())
	eventually(t, func() bool { return length() == 0 })
	service.stop()
	require.NoError(t, <-service.ended)
	f.verify()
}

// A change in the catalogue reaches a service that remembers the old state.
func TestCatalogueChange(t *testing.T) {
	f := newFixture(t, stream)
	ctx, stop := context.WithCancel(f.ctx)
	a := f.new()
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	f.push("1:1:LIKE", "1:77:LIKE")
	require.Eventually(t, func() bool { return a.Stats().Read == 2 }, 3*time.Minute, time.Millisecond)
	f.exec(`INSERT INTO book (id, title, genre_id) VALUES (77, 'new', 3)`)
	f.exec(`UPDATE book SET genre_id = 4 WHERE id = 1`)
	// The word may take a moment: push until the event counts for the new genre.
	n := int64(2)
	require.Eventually(t, func() bool {
		f.push("2:1:LIKE", "3:77:LIKE")
		n += 2
		require.Eventually(t, func() bool { return a.Stats().Read >= n }, 3*time.Minute, time.Millisecond)
		return f.found().genres[[2]int64{2, 4}] > 0
	}, 20*time.Second, 10*time.Millisecond)
	stop()
	require.NoError(t, <-ended)
	got := f.found()
	assert.Equal(t, map[string]int{"unknown_book 1:77:LIKE": 1}, got.dead,
		"a book that was missing is found once it is there")
	assert.Positive(t, got.genres[[2]int64{3, 3}])
}
