package aggregator_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/testenv"
)

// Most entries cannot be applied: the source halts, nothing of the chunk is written, and
// once the deployment is right all of it counts once.
func TestTooManyDeadLettersHalt(t *testing.T) {
	testenv.Long(t)
	for _, c := range []struct {
		name, bad, hint string
		mend            func(*fixture)
	}{
		{
			"an action without a weight", "%d:1:FINISHED", "add the action to events.weights",
			func(f *fixture) { f.source.Weights = map[string]float64{"LIKE": 2, "DISLIKE": -2, "FINISHED": 3} },
		},
		{
			"the books of another database", "%d:13:LIKE", "check whether postgres.url is the database",
			func(f *fixture) { f.addBook(laterID, later) },
		},
		{
			"the profiles of another database", "3%d:1:LIKE", "check whether postgres.url is the database",
			func(f *fixture) {
				for f.known < 39 {
					f.addProfile()
				}
			},
		},
	} {
		for _, kind := range []events.Options{stream, left} {
			t.Run(c.name+" in a "+kind.Kind, func(t *testing.T) {
				f := newFixture(t, kind)
				f.options.DeadWindow, f.options.DeadMaxShare, f.options.ChunkMaxEvents = 100, 0.5, 50
				for i := range 80 {
					f.push(fmt.Sprintf("%d:1:LIKE", i%9+1))
				}
				for i := range 120 {
					f.push(fmt.Sprintf(c.bad, i%9+1))
				}
				// Of the chunks of 50, the second makes 20 of the latest 100, the third 70.
				a := f.new()
				_, err := a.Drain(f.ctx, aggregator.Limits{})
				require.ErrorContains(t, err, "halted: 70 of the last 100 entries cannot be applied (70 ")
				require.ErrorContains(t, err, c.hint)
				assert.EqualValues(t, 100, a.Stats().Read)
				assert.EqualValues(t, 20, f.count(`SELECT count(*) FROM aggregator.dead_letter`))
				assert.EqualValues(t, 100, f.left(), "the rest is still there")
				// A restart forgets the chunks before, but not the rule.
				f.options.ChunkMaxEvents = 1000
				require.ErrorContains(t, f.new().Run(f.ctx), "100 of the last 100 entries cannot be applied")
				assert.EqualValues(t, 20, f.count(`SELECT count(*) FROM aggregator.dead_letter`))

				c.mend(f)
				f.drain()
				assert.Equal(t, 20, f.retry(f.letters(deadletter.Filter{})).Applied)
				f.verify()
			})
		}
	}
}

// left counts the entries in Redis.
func (f *fixture) left() (n int64) {
	f.t.Helper()
	n, err := f.new().Waiting(f.ctx)
	require.NoError(f.t, err)
	return n
}

// Few entries say nothing, however bad, and with a share of 1 nothing halts.
func TestFewDeadLettersDoNotHalt(t *testing.T) {
	for name, options := range map[string]aggregator.Options{
		"small total": {DeadWindow: 100, DeadMaxShare: 0.5},
		"off":         {DeadWindow: 10, DeadMaxShare: 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, stream)
			f.options.DeadWindow, f.options.DeadMaxShare = options.DeadWindow, options.DeadMaxShare
			for range 33 {
				f.push("1:1:EAT", "99:1:LIKE", "1:99:LIKE")
			}
			assert.EqualValues(t, 99, f.drain().Dead)
			f.verify()
		})
	}
}
