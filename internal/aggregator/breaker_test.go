package aggregator

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/apply"
	"aggregator/internal/events"
	"aggregator/internal/verdict"
)

// chunkOf is the census of a chunk of n entries, so many of them dead.
func chunkOf(n int, dead map[events.Reason]int) apply.Census {
	return apply.Census{Entries: n, Dead: dead}
}

func malformed(n int) map[events.Reason]int {
	if n == 0 {
		return nil
	}
	return map[events.Reason]int{events.Malformed: n}
}

func TestBreaker(t *testing.T) {
	const window = 100
	for _, c := range []struct {
		name   string
		share  float64
		chunks [][2]int // entries, dead
		trips  int      // the chunk that does; -1: none
	}{
		{"all of a large chunk", 0.5, [][2]int{{100, 100}}, 0},
		{"a small total says nothing", 0.5, [][2]int{{50, 50}, {49, 49}}, -1},
		{"the window fills up", 0.5, [][2]int{{50, 50}, {49, 49}, {1, 1}}, 2},
		{"just the share is allowed", 0.5, [][2]int{{100, 50}, {100, 50}}, -1},
		{"one more is not", 0.5, [][2]int{{100, 50}, {100, 51}}, 1},
		{"old good entries do not count", 0.5, [][2]int{{1_000_000, 0}, {60, 60}, {60, 60}}, 2},
		{"old good entries count while they are needed", 0.5, [][2]int{{1_000_000, 0}, {99, 99}}, -1},
		{"old dead letters do not count", 0.5, [][2]int{{99, 99}, {100, 1}}, -1},
		{"a chunk without dead letters passes", 0.5, [][2]int{{99, 99}, {1, 0}, {1, 0}}, -1},
		{"share 1 is off", 1, [][2]int{{100, 100}, {100, 100}}, -1},
		{"share 0 allows none", 0, [][2]int{{99, 0}, {1, 1}}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := breaker{share: c.share, window: window}
			tripped := -1
			for i, chunk := range c.chunks {
				n := chunkOf(chunk[0], malformed(chunk[1]))
				if err := b.check(n); err != nil {
					tripped = i
					break
				}
				b.processed(n)
			}
			assert.Equal(t, c.trips, tripped)
		})
	}
}

// A chunk that is judged again, after an error, is judged alike.
func TestBreakerCheckChangesNothing(t *testing.T) {
	b := breaker{share: 0.5, window: 10}
	b.processed(chunkOf(9, malformed(5)))
	for range 3 {
		require.Error(t, b.check(chunkOf(1, malformed(1))))
		require.NoError(t, b.check(chunkOf(3, malformed(1))))
	}
	assert.Equal(t, apply.Census{Entries: 9, Dead: malformed(5)}, b.total)
}

// What is kept is as much as the window needs, and its sums are right.
func TestBreakerForgets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	b := breaker{share: 0.5, window: 500}
	for range 2000 {
		n := 1 + r.IntN(40)
		dead := malformed(r.IntN(n))
		if r.IntN(3) == 0 {
			dead = map[events.Reason]int{events.UnknownBook: n}
		}
		b.processed(chunkOf(n, dead))
		sum := apply.Census{}
		for _, c := range b.chunks {
			sum.Plus(c, 1)
		}
		require.Equal(t, sum.Entries, b.total.Entries)
		require.Equal(t, sum.DeadEntries(), b.total.DeadEntries())
		require.Less(t, b.total.Entries, 540)
	}
	assert.GreaterOrEqual(t, b.total.Entries, 500)
}

func TestBreakerSaysWhatToDo(t *testing.T) {
	b := breaker{share: 0.25, window: 100}
	err := b.check(chunkOf(100,
		map[events.Reason]int{events.Malformed: 3, events.UnknownAction: 40, events.UnknownBook: 1, events.OutOfRange: 2}))
	require.EqualError(t, err,
		"46 of the last 100 entries cannot be applied (40 unknown_action, 3 malformed, 2 out_of_range), "+
			"more than dead.max_share = 0.25 allows; the latest are still in Redis and no dead letter of them was written; "+
			"add the action to events.weights, and start again; or raise dead.max_share")
	assert.Equal(t, verdict.Halt, verdict.Of(err))
}
