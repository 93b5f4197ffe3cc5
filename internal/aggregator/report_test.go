package aggregator_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/testenv"
)

// An event that was applied is in the report of the drain that applied it, also if its
// attempt failed afterwards.
func TestReportOfAFailedAttempt(t *testing.T) {
	testenv.Long(t)
	for name, chunk := range map[string]int{"in one chunk": 1000, "in several": 200} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, stream)
			f.options.ChunkMaxEvents = chunk
			f.push(random(rand.New(rand.NewPCG(1, 1)), 500)...)
			f.stick(100)
			s := f.start("me", 0)
			eventually(t, func() bool { return s.Status()[0].Causes["postgres_error"] >= 3 })
			assert.Positive(t, s.Stats().Applied, "although no checkpoint was made")
			f.unstick()
			eventually(t, func() bool { return f.left() == 0 })
			s.stop()
			require.NoError(t, <-s.ended)
			f.verify()
			stats := s.Stats()
			assert.Equal(t, f.count(sumOfMarks), stats.Applied)
			assert.Equal(t, f.count(`SELECT count(*) FROM aggregator.dead_letter`), stats.Dead)
			assert.EqualValues(t, 500, stats.Read)
			assert.Zero(t, stats.Skipped)
		})
	}
}

// PostgreSQL goes on with a transaction whose connection was given up. What it commits after the next attempt has
// begun is in the report as well.
func TestReportOfALateCommit(t *testing.T) {
	testenv.Long(t)
	for name, together := range map[string]int{"a transaction each": 1, "in one": 100} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, stream)
			f.options.ProfilesPerTransaction = together
			f.options.Timeout = time.Second
			f.push("2:1:LIKE") // not the first profile, which a probe would wait for
			f.drain()
			f.push("2:1:LIKE", "2:2:LIKE", "2:77:LIKE")
			f.exec(`CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS
				'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN new; END'`)
			f.exec(`CREATE TRIGGER held BEFORE UPDATE ON genre_score FOR EACH ROW
				WHEN (new.child_profile_id = 2) EXECUTE FUNCTION held()`)
			lock, err := f.pool.Begin(f.ctx)
			require.NoError(t, err)
			_, err = lock.Exec(f.ctx, `SELECT pg_advisory_xact_lock(1)`)
			require.NoError(t, err)
			s := f.start("me", 0)
			eventually(t, func() bool { // the second waits for the first
				return f.count(`SELECT count(*) FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock'`) >= 2
			})
			require.NoError(t, lock.Rollback(f.ctx))
			eventually(t, func() bool { return f.left() == 0 })
			s.stop()
			require.NoError(t, <-s.ended)
			f.verify()
			stats := s.Stats()
			assert.Positive(t, stats.Restarts)
			assert.EqualValues(t, 2, stats.Applied)
			assert.EqualValues(t, 1, stats.Dead)
			assert.EqualValues(t, 3, stats.Read)
			assert.Zero(t, stats.Skipped)
		})
	}
}

// What an attempt had sent, and a later one applied itself, is counted once, also if another attempt fails
// before the entries of the first are behind the checkpoint.
func TestReportOfSmallerChunksAfterATimeout(t *testing.T) {
	testenv.Long(t)
	f := newFixture(t, stream)
	f.options.ProfilesPerTransaction = 100
	f.options.Timeout = time.Second
	f.push("2:1:LIKE", "3:1:LIKE") // not the first profile, which a probe would wait for
	f.drain()
	f.exec(`CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN new; END'`)
	f.exec(`CREATE TRIGGER held BEFORE UPDATE ON genre_score FOR EACH ROW
		WHEN (new.child_profile_id = 3) EXECUTE FUNCTION held()`)
	lock, err := f.pool.Begin(f.ctx)
	require.NoError(t, err)
	_, err = lock.Exec(f.ctx, `SELECT pg_advisory_xact_lock(1)`)
	require.NoError(t, err)
	f.push("2:1:LIKE", "2:2:LIKE", "3:1:LIKE", "3:2:LIKE")
	s := f.start("me", 0)
	eventually(t, func() bool { return s.Stats().Restarts > 0 })
	eventually(t, func() bool { // what was given up is not committed, and the first half is applied again
		f.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`)
		return f.left() == 2
	})
	failed := s.Stats().Restarts
	eventually(t, func() bool { return s.Stats().Restarts > failed })
	require.NoError(t, lock.Rollback(f.ctx))
	eventually(t, func() bool { return f.left() == 0 })
	s.stop()
	require.NoError(t, <-s.ended)
	f.verify()
	assert.EqualValues(t, 4, s.Stats().Applied)
	assert.EqualValues(t, 4, s.Stats().Read)
	assert.Zero(t, s.Stats().Skipped)
}

// What a call has committed is in the report also if another instance has gone on with the profile before the
// call was refused for the next one.
func TestReportOfACallThatAnotherInstanceOvertakes(t *testing.T) {
	f := newFixture(t, stream)
	f.push("2:1:LIKE", "3:1:LIKE")
	f.drain()
	at := func(profile int) string {
		return fmt.Sprintf(`WHERE source = '%s' AND child_profile_id = %d`, f.source.Key, profile)
	}
	other, err := f.pool.Begin(f.ctx)
	require.NoError(t, err)
	_, err = other.Exec(f.ctx, `UPDATE aggregator.mark SET position_ms = position_ms + 1000000 `+at(3))
	require.NoError(t, err)
	f.push("2:1:LIKE", "2:2:LIKE", "3:1:LIKE")
	s := f.start("me", 0)
	eventually(t, func() bool { // the second profile of the call waits for the other instance
		return f.count(`SELECT applied FROM aggregator.mark `+at(2)) == 3
	})
	f.exec(`UPDATE aggregator.mark SET position_ms = position_ms + 1000000 ` + at(2))
	require.NoError(t, other.Commit(f.ctx))
	eventually(t, func() bool { return f.left() == 0 })
	s.stop()
	require.NoError(t, <-s.ended)
	stats := s.Stats()
	assert.EqualValues(t, 2, stats.Applied)
	assert.EqualValues(t, 1, stats.Skipped)
	assert.EqualValues(t, 3, stats.Read)
}

// What a source has applied before it halts is in the report, too.
func TestReportOfAHalt(t *testing.T) {
	f := newFixture(t, stream)
	f.exec(`ALTER TABLE genre_score ADD CHECK (child_profile_id < 15) NOT VALID`)
	for profile := 1; profile <= profiles; profile++ {
		f.push(fmt.Sprintf("%d:1:LIKE", profile))
	}
	a := f.new()
	_, err := a.Drain(f.ctx, aggregator.Limits{})
	require.ErrorContains(t, err, "refused 10 profiles in a row")
	assert.EqualValues(t, 14, a.Stats().Applied)
	assert.EqualValues(t, 14, a.Stats().Profiles)
	assert.EqualValues(t, 14, f.count(sumOfMarks))
}

// However drains get in each other's way, the sum over them is what the marks say.
func TestReportsOfDrainsAtOnceAddUp(t *testing.T) {
	testenv.Long(t)
	for name, source := range map[string]int{"one source": 1, "partitions": 3} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, partitioned(stream, source))
			f.options.ChunkMaxEvents, f.options.Workers = 100, 2
			f.push(random(rand.New(rand.NewPCG(3, 3)), 1500)...)
			var drains sync.WaitGroup
			all := make([]*aggregator.Aggregator, 3)
			for i := range all {
				all[i] = f.new()
				drains.Go(func() {
					_, err := all[i].Drain(f.ctx, aggregator.Limits{})
					assert.NoError(t, err)
				})
			}
			drains.Wait()
			f.verify()
			var applied, dead int64
			for _, a := range all {
				stats := a.Stats()
				applied += stats.Applied
				dead += stats.Dead
				assert.Equal(t, stats.Read, stats.Applied+stats.Dead+stats.Skipped)
			}
			assert.Equal(t, f.count(sumOfMarks), applied)
			assert.Equal(t, f.count(`SELECT count(*) FROM aggregator.dead_letter`), dead)
		})
	}
}

// A chunk that takes PostgreSQL too long is done in parts.
func TestChunkThatTakesTooLong(t *testing.T) {
	f := newFixture(t, stream)
	url := testenv.As(t, f.pool.Config().ConnString(), "aggregator_daemon")
	f.daemon.pool = openPool(
		t, url+map[bool]string{true: "&", false: "?"}[strings.Contains(url, "?")]+"statement_timeout=600ms")
	f.options.ProfilesPerTransaction = 100
	f.exec(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_sleep(0.03); RETURN new; END'`)
	f.exec(`CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON topic_score FOR EACH ROW EXECUTE FUNCTION slow()`)
	for profile := 1; profile <= profiles; profile++ {
		f.push(fmt.Sprintf("%d:1:LIKE", profile))
	}
	stats := f.drain()
	assert.Positive(t, stats.Restarts)
	assert.EqualValues(t, profiles, stats.Applied)
	f.verify()
}
