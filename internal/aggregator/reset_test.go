package aggregator_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/apply"
	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/testenv"
)

// reset resets all partitions.
func (f *fixture) reset() []ledger.ResetSource {
	f.t.Helper()
	sources, err := events.Sources(f.daemon.redis, f.source)
	require.NoError(f.t, err)
	done, err := aggregator.Reset(f.ctx, f.daemon.pool, sources)
	require.NoError(f.t, err)
	return done
}

// Drains, without a lease or an end, while somebody resets again and again: whatever is
// in hand when it happens, in the end each entry has counted once since the last reset.
func TestResetBesideDrains(t *testing.T) {
	testenv.Long(t)
	for name, source := range map[string]events.Options{
		"stream": stream, "list": left, "partitions": partitioned(stream, 3),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, source)
			f.options.Retain, f.options.ChunkMaxEvents = time.Hour, 50
			f.push(random(rand.New(rand.NewPCG(7, 7)), 400)...)
			services := []*service{f.start("first", 0), f.start("second", 0)}
			for range 5 {
				eventually(t, func() bool {
					return f.count(`SELECT coalesce(sum(entries - base), 0)::bigint FROM aggregator.checkpoint`) > 0
				})
				f.reset()
			}
			f.push(random(rand.New(rand.NewPCG(8, 8)), 100)...)
			eventually(t, func() bool { return f.count(`SELECT sum(entries - base)::bigint FROM aggregator.checkpoint`) == 500 })
			for _, s := range services {
				s.stop()
				require.NoError(t, <-s.ended)
			}
			f.requireEven()
			f.requireNoIncident()

			f.exec(`DELETE FROM aggregator.dead_letter WHERE source LIKE '%@%'`) // their entries were read again
			got, want := f.found(), f.expected()
			assert.Equal(t, want.applied, got.applied)
			assert.Equal(t, want.dead, got.dead)
		})
	}
}

// A service that has nothing to do, and no lease by which one could see it, finds out that its
// source was reset: it does not trim what is to be read again.
func TestResetBesideAnIdleService(t *testing.T) {
	f := newFixture(t, stream)
	require.NoError(t, f.redis.XGroupCreateMkStream(f.ctx, f.source.Key, "slow", "0").Err())
	s := f.start("idle", 0)
	f.push("1:1:LIKE", "1:2:LIKE", "2:1:LIKE")
	eventually(t, func() bool { return s.Stats().Read == 3 })
	f.reset()
	eventually(t, func() bool { return s.Stats().Read == 6 })
	require.NoError(t, f.redis.XGroupDestroy(f.ctx, f.source.Key, "slow").Err())
	eventually(t, func() bool { return s.Stats().Trimmed == 3 })
	s.stop()
	require.NoError(t, <-s.ended)
	assert.Contains(t, s.said(), "the stream is missing, or its last id or bookmark is before the checkpoint")
	f.requireEven()
	require.EqualValues(t, 3, f.count(sumOfMarks))
	f.pushed = append(f.pushed, f.pushed...) // so it is as if they had been pushed twice
	want := f.expected()
	assert.Equal(t, want.genres, f.found().genres)
}

// What was read before a reset makes no mark and moves no checkpoint after it.
func TestResetEndsASession(t *testing.T) {
	f := newFixture(t, stream)
	f.push("1:1:LIKE")
	f.drain()
	before, err := ledger.Load(f.ctx, f.daemon.pool, f.source.Key)
	require.NoError(t, err)
	done := f.reset()[0]
	require.Equal(t, before, done.Was)
	require.True(t, done.Now.Position.IsZero())
	_, err = ledger.Marks(f.ctx, f.daemon.pool, before, []int64{1, 2})
	require.ErrorIs(t, err, ledger.ErrReset)
	require.ErrorIs(t, err, ledger.ErrRefused)
	marks, err := ledger.Marks(f.ctx, f.daemon.pool, done.Now, []int64{1, 2})
	require.NoError(t, err)
	require.Equal(t, map[int64]events.Position{1: {}}, marks)
	_, err = ledger.MoveCheckpoint(f.ctx, f.daemon.pool,
		ledger.Advance{From: before, To: events.Position{Ms: 1 << 50}, Entries: 1})
	require.ErrorIs(t, err, ledger.ErrRefused)
	stale := done.Now
	stale.Epoch--
	_, err = ledger.MoveCheckpoint(f.ctx, f.daemon.pool,
		ledger.Advance{From: stale, To: events.Position{Ms: 1 << 50}, Entries: 1})
	require.ErrorIs(t, err, ledger.ErrRefused, "at the same place, in another epoch")
}

// While a reset is at work in Redis nobody can read a checkpoint, and if it fails there,
// nothing has happened.
func TestResetFailsInRedis(t *testing.T) {
	testenv.Long(t)
	f := newFixture(t, stream)
	f.push("1:1:LIKE", "junk\xff")
	f.drain()
	before, err := ledger.Load(f.ctx, f.daemon.pool, f.source.Key)
	require.NoError(t, err)
	_, err = ledger.Reset(f.ctx, f.daemon.pool, []string{f.source.Key},
		func(ctx context.Context, _ string, _, _ events.Position, _ func([]events.Entry) error) (int64, error) {
			_, err := ledger.Load(ctx, f.daemon.pool, f.source.Key) // it waits for a lock, until its time is over
			require.ErrorContains(t, err, "lock timeout")
			return 0, context.DeadlineExceeded
		})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	after, err := ledger.Load(f.ctx, f.daemon.pool, f.source.Key)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.EqualValues(t, 1, f.count(sumOfMarks))
	f.requireEven()
	f.verify()
}

// An entry of a stream made anew that happens to have the id of a dead letter is not the
// dead letter's, and both are there afterwards.
func TestResetWithTheIDOfAnother(t *testing.T) {
	f := newFixture(t, stream)
	f.push("junk", "waste", "1:1:LIKE")
	f.drain()
	letters := f.letters(deadletter.Filter{})
	require.Len(t, letters, 2)
	require.NoError(t, f.redis.Del(f.ctx, f.source.Key).Err())
	for i, text := range []string{"rubbish", "waste"} {
		require.NoError(t, f.redis.Do(f.ctx, "XADD", f.source.Key, letters[i].Position.String(), "event", text).Err())
	}
	done := f.reset()[0]
	require.EqualValues(t, 2, done.Archived)
	require.EqualValues(t, 1, done.Dropped)
	f.drain()
	var left []string
	for _, l := range f.letters(deadletter.Filter{}) {
		left = append(left, strings.TrimPrefix(l.Source, f.source.Key)+" "+string(l.Payload.Bytes))
	}
	assert.ElementsMatch(t, []string{"@1 junk", " rubbish", " waste"}, left)
	f.requireEven()
}

// A dead letter of before a reset is applied in turn with chunks of after it.
func TestLettersPutAsideAreInOrder(t *testing.T) {
	f := newFixture(t, stream)
	f.push("31:1:LIKE", "31:2:LIKE")
	f.drain()
	f.reset()
	profile := f.addProfile()
	tx, err := f.daemon.pool.Begin(f.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(f.ctx, `SELECT FROM aggregator.mark WHERE child_profile_id = $1 AND source = $2 FOR UPDATE`, profile,
		f.source.Key)
	require.NoError(t, err)
	retried := make(chan apply.Retried, 1)
	go func() {
		done, err := f.retrier().Retry(f.ctx, f.letters(deadletter.Filter{}))
		assert.NoError(t, err)
		retried <- done
	}()
	eventually(t, func() bool {
		return f.count(`SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE `+
			`'%aggregator.mark%' AND datname = current_database()`) > 0
	})
	require.NoError(t, tx.Rollback(f.ctx))
	require.Equal(t, 2, (<-retried).Applied)
	f.push("31:3:LIKE")
	f.drain()
	f.verify()
}
