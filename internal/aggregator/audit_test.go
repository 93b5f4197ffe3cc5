package aggregator_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/audit"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/testenv"
)

// auditor draws up the balance of every source, with the daemon's rights and connections
// of its own.
func (f *fixture) auditor() func() []audit.Balance {
	f.t.Helper()
	sources, err := events.Sources(f.daemon.redis, f.source)
	require.NoError(f.t, err)
	config := f.daemon.pool.Config()
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(f.ctx, config)
	require.NoError(f.t, err)
	f.t.Cleanup(pool.Close)
	return func() []audit.Balance {
		f.t.Helper()
		all := make([]audit.Balance, len(sources))
		for i, source := range sources {
			all[i], err = audit.Take(f.ctx, pool, source)
			for errors.Is(err, ledger.ErrNotInTime) { // on a busy machine; it says so, and one asks again
				all[i], err = audit.Take(f.ctx, pool, source)
			}
			require.NoError(f.t, err)
		}
		return all
	}
}

func (f *fixture) requireEven() {
	f.t.Helper()
	for _, b := range f.auditor()() {
		require.True(f.t, b.Even(), "%s; %+v", b.Complaint(), b)
	}
}

// requireNoIncident says that nothing was taken for a server that went back, or for a loss, and that nothing is.
func (f *fixture) requireNoIncident() {
	f.t.Helper()
	require.Zero(f.t, f.count(`SELECT count(*) FROM aggregator.incident`))
	sources, err := events.Sources(f.daemon.redis, f.source)
	require.NoError(f.t, err)
	for _, source := range sources {
		found, err := aggregator.Recognise(f.ctx, f.pool, source)
		require.NoError(f.t, err)
		require.Empty(f.t, found)
	}
}

// The books balance at every moment of a load, whatever the source and whatever stays
// behind in Redis.
func TestAuditUnderLoad(t *testing.T) {
	testenv.Long(t)
	for _, c := range []struct {
		name   string
		source events.Options
		retain time.Duration
		lags   bool // another group does
	}{
		{"stream", stream, 0, false},
		{"stream, retained", stream, time.Hour, false},
		{"stream, retained for a moment", stream, 50 * time.Millisecond, false},
		{"stream with another group", stream, 0, true},
		{"list", left, 0, false},
		{"partitions", partitioned(stream, 3), 0, false},
		{"partitions of a list, retained", partitioned(left, 2), time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, c.source)
			f.options.Retain, f.options.ChunkMaxEvents = c.retain, 2000
			if c.lags {
				require.NoError(t, f.redis.XGroupCreateMkStream(f.ctx, f.source.Key, "slow", "0").Err())
			}
			r := rand.New(rand.NewPCG(8, 8))
			f.push(random(r, 200)...)
			f.drain() // so that there are checkpoints
			f.requireEven()

			const load = 4000
			service := f.start("first", 0)
			second := f.start("second", 0)
			var enough, pushed atomic.Bool // enough has been pushed when a chunk was seen in flight
			go func() {
				defer pushed.Store(true)
				for n := 0; n < load || !enough.Load() && n < 50*load; n += 500 {
					f.push(random(r, 500)...)
				}
			}()
			taken, inFlight := 0, 0
			audit := f.auditor()
			for done := false; !done; {
				done = pushed.Load()
				for _, b := range audit() {
					done = done && b.Unprocessed == 0
					require.True(t, b.Even(), "%s; %+v", b.Complaint(), b)
					require.Empty(t, b.Unrecorded())
					if taken++; b.InFlight > 0 {
						inFlight++
						enough.Store(true)
					}
				}
				if taken%10 == 0 {
					f.requireNoIncident()
				}
				if c.lags && taken%50 == 0 {
					require.NoError(t, f.redis.XReadGroup(f.ctx, &redis.XReadGroupArgs{
						Group: "slow", Consumer: "c", Streams: []string{f.source.Key, ">"}, Count: 100, NoAck: true,
					}).Err())
				}
			}
			t.Logf("%d balances, %d of them with a chunk in flight; %d conflicts", taken, inFlight,
				service.Stats().Conflicts+second.Stats().Conflicts)
			assert.Positive(t, inFlight)
			service.stop()
			second.stop()
			require.NoError(t, <-service.ended)
			require.NoError(t, <-second.ended)
			f.requireEven()
			f.requireNoIncident()
			assert.Equal(t, f.expected().applied, f.found().applied)
		})
	}
}

// What was done by hand shows, and for how many events.
func TestAuditFindsWhatDoesNotFit(t *testing.T) {
	testenv.Long(t)
	type outcome struct{ difference, vanished int64 }
	for name, tc := range map[string]struct {
		damage func(f *fixture)
		want   outcome
	}{
		"nothing": {func(*fixture) {}, outcome{}},
		"unread entry deleted": {func(f *fixture) {
			f.push("1:1:LIKE", "1:2:LIKE", "1:3:LIKE")
			entries, err := f.redis.XRevRangeN(f.ctx, f.source.Key, "+", "-", 2).Result()
			require.NoError(f.t, err)
			require.NoError(f.t, f.redis.XDel(f.ctx, f.source.Key, entries[1].ID).Err())
		}, outcome{0, 1}},
		"unread entry deleted, the others drained": {func(f *fixture) {
			f.push("1:1:LIKE", "1:2:LIKE", "1:3:LIKE")
			entries, err := f.redis.XRevRangeN(f.ctx, f.source.Key, "+", "-", 2).Result()
			require.NoError(f.t, err)
			require.NoError(f.t, f.redis.XDel(f.ctx, f.source.Key, entries[1].ID).Err())
			f.drain()
		}, outcome{0, 1}},
		"stream cut off": {func(f *fixture) {
			f.push(random(rand.New(rand.NewPCG(1, 2)), 50)...)
			require.NoError(f.t, f.redis.XTrimMaxLen(f.ctx, f.source.Key, 20).Err())
		}, outcome{0, 30}},
		"settled entries deleted": {func(f *fixture) { // which harms nobody
			require.NoError(f.t, f.redis.XTrimMaxLen(f.ctx, f.source.Key, 20).Err())
		}, outcome{}},
		"stream deleted": {func(f *fixture) {
			require.NoError(f.t, f.redis.Del(f.ctx, f.source.Key).Err())
		}, outcome{0, -400}},
		"mark deleted": {func(f *fixture) {
			f.exec(`DELETE FROM aggregator.mark WHERE child_profile_id = 2`)
		}, outcome{-7, 0}},
		"dead letter deleted": {func(f *fixture) {
			f.exec(`DELETE FROM aggregator.dead_letter WHERE ctid = (SELECT ctid FROM aggregator.dead_letter LIMIT 1)`)
		}, outcome{-1, 0}},
		"mark raised": {func(f *fixture) {
			f.exec(`UPDATE aggregator.mark SET applied = applied + 5 WHERE child_profile_id = 1`)
		}, outcome{5, 0}},
		"checkpoint and marks put back": {func(f *fixture) {
			at := f.latest(100)
			f.exec(`UPDATE aggregator.checkpoint SET position_ms = $1, position_seq = $2, entries = entries - 100`, at.Ms,
				at.Seq)
			f.exec(`UPDATE aggregator.mark SET position_ms = $1, position_seq = $2 WHERE (position_ms, position_seq) > ($1, $2)`,
				at.Ms, at.Seq)
			f.drain()
		}, outcome{92, 0}}, // the others are dead letters, which are rows and come but once
		"checkpoint and marks put back, before they are drained": {func(f *fixture) {
			at := f.latest(100)
			f.exec(`UPDATE aggregator.checkpoint SET position_ms = $1, position_seq = $2, entries = entries - 100`, at.Ms,
				at.Seq)
			f.exec(`UPDATE aggregator.mark SET position_ms = $1, position_seq = $2 WHERE (position_ms, position_seq) > ($1, $2)`,
				at.Ms, at.Seq)
		}, outcome{100, 0}},
		"checkpoint alone put back": {func(f *fixture) { // as a backup would; the marks know
			at := f.latest(100)
			f.exec(`UPDATE aggregator.checkpoint SET position_ms = $1, position_seq = $2, entries = entries - 100`, at.Ms,
				at.Seq)
			f.drain()
		}, outcome{}},
		"checkpoint moved over unread entries": {func(f *fixture) {
			f.push("1:1:LIKE", "1:2:LIKE", "1:3:LIKE")
			at := f.latest(1)
			f.exec(`UPDATE aggregator.checkpoint SET position_ms = $1, position_seq = $2, entries = entries + 2`, at.Ms, at.Seq)
		}, outcome{-2, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, stream)
			f.options.Retain = time.Hour
			f.push(random(rand.New(rand.NewPCG(9, 9)), 400)...)
			f.drain()
			f.requireEven()
			tc.damage(f)
			b := f.auditor()()[0]
			assert.Equal(t, tc.want, outcome{b.Difference(), b.Vanished()}, "%s; %+v", b.Complaint(), b)
		})
	}
}

// latest is the position before the n latest entries.
func (f *fixture) latest(n int64) events.Position {
	entries, err := f.redis.XRevRangeN(f.ctx, f.source.Key, "+", "-", n+1).Result()
	require.NoError(f.t, err)
	at, err := events.ParsePosition(entries[n].ID)
	require.NoError(f.t, err)
	return at
}

// A source that was read by another program before is accounted for from where it was
// taken over, whatever Redis believes of the group.
func TestAuditOfAStreamTakenOver(t *testing.T) {
	for name, tc := range map[string]struct {
		ack  bool
		then func(f *fixture)
	}{
		"all read are acknowledged": {true, func(*fixture) {}},
		"none is acknowledged":      {false, func(*fixture) {}},
		"entries were deleted": {true, func(f *fixture) {
			entries, err := f.redis.XRange(f.ctx, f.source.Key, "-", "+").Result()
			require.NoError(f.t, err)
			require.NoError(f.t, f.redis.XDel(f.ctx, f.source.Key, entries[3].ID, entries[200].ID).Err())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, stream)
			require.NoError(t, f.redis.XGroupCreateMkStream(f.ctx, f.source.Key, events.Group, "0").Err())
			f.push(random(rand.New(rand.NewPCG(4, 4)), 300)...)
			read, err := f.redis.XReadGroup(f.ctx, &redis.XReadGroupArgs{
				Group: events.Group, Consumer: "old", Streams: []string{f.source.Key, ">"}, Count: 100, NoAck: tc.ack,
			}).Result()
			require.NoError(t, err)
			require.Len(t, read[0].Messages, 100)
			tc.then(f)
			f.drain()
			f.requireEven()
		})
	}
}

func TestAuditWithoutCheckpoint(t *testing.T) {
	f := newFixture(t, stream)
	sources, err := events.Sources(f.daemon.redis, f.source)
	require.NoError(t, err)
	_, err = audit.Take(f.ctx, f.daemon.pool, sources[0])
	require.ErrorIs(t, err, ledger.ErrNoCheckpoint)
}

// While the books are read the checkpoint stands still; not for long.
func TestHoldIsBounded(t *testing.T) {
	f := newFixture(t, stream)
	f.push("1:1:LIKE")
	f.drain()
	err := ledger.Hold(f.ctx, f.daemon.pool, f.source.Key, func(ctx context.Context, books ledger.Accounts) error {
		assert.EqualValues(t, 1, books.Applied)
		_, err := f.pool.Exec(f.ctx, `UPDATE aggregator.checkpoint SET entries = entries`)
		require.NoError(t, err) // it waits until the hold is over
		return ctx.Err()
	})
	require.ErrorIs(t, err, ledger.ErrNotInTime)
}
