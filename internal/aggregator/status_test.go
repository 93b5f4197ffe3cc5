package aggregator_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/cluster"
	"aggregator/internal/testenv"
)

func (s *service) state() aggregator.State { return s.Status()[0].State }

func TestStatusOfALife(t *testing.T) {
	testenv.Long(t)
	f := newFixture(t, stream)
	_, err := cluster.Acquire(f.ctx, f.pool, f.source.Key, "another", time.Hour)
	require.NoError(t, err)
	s := f.start("me", time.Hour)
	eventually(t, func() bool { return s.state() == aggregator.StandingBy })
	assert.Equal(t, "the lease is with another", s.Status()[0].Reason)
	assert.False(t, s.Status()[0].Leased)

	f.exec(`DELETE FROM aggregator.lease`)
	eventually(t, func() bool { return s.state() == aggregator.Working })
	assert.True(t, s.Status()[0].Leased)
	assert.Empty(t, s.Status()[0].Reason)

	f.push("1:1:LIKE", "1:1:EAT", "2:1:LIKE")
	eventually(t, func() bool { return s.Status()[0].Chunks > 0 && s.Stats().Read == 3 })
	assert.EqualValues(t, 2, s.Status()[0].Applied)
	assert.EqualValues(t, 1, s.Status()[0].Dead)

	// The loop goes on failing, and says so all the time, although each session begins well.
	f.stick(3)
	f.push("1:1:LIKE")
	eventually(t, func() bool { return s.state() == aggregator.BackingOff })
	since := s.Status()[0].Since
	eventually(t, func() bool {
		require.Equal(t, aggregator.BackingOff, s.state())
		return s.Status()[0].Causes["postgres_error"] >= 3
	})
	assert.Equal(t, since, s.Status()[0].Since)
	assert.Contains(t, s.Status()[0].Reason, "stuck")
	assert.Less(t, time.Since(s.Status()[0].LastTurn), time.Minute)

	f.unstick()
	eventually(t, func() bool { return s.state() == aggregator.Working })
	s.stop()
	require.NoError(t, <-s.ended)
	assert.Equal(t, aggregator.Stopped, s.state())
	f.verify()
}

func TestStatusHalted(t *testing.T) {
	f := newFixture(t, stream)
	s := f.start("me", 0)
	eventually(t, func() bool { return s.state() == aggregator.Working })
	f.exec(`ALTER TABLE genre_score RENAME TO away`)
	f.push("1:1:LIKE")
	require.Error(t, <-s.ended)
	assert.Equal(t, aggregator.Halted, s.state())
	assert.Contains(t, s.Status()[0].Reason, "genre_score")
}

// A loop with nothing to do and one that waits for others to give connections back live.
func TestStatusShowsLife(t *testing.T) {
	f := newFixture(t, partitioned(stream, 3))
	s := f.start("me", 0)
	turns := func() (all []time.Time) {
		for _, status := range s.Status() {
			all = append(all, status.LastTurn)
		}
		return all
	}
	for range 3 {
		before := turns()
		eventually(t, func() bool {
			for i, turn := range turns() {
				if !turn.After(before[i]) {
					return false
				}
			}
			return true
		})
	}
	for _, turn := range turns() {
		// Round strips the monotonic reading: there is one, so that a clock that is set neither looks
		// like a hang nor hides one.
		require.NotEqual(t, turn.Round(0), turn) //nolint:testifylint // they are equal but for that
	}
}
