package apply

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
)

// attempt is a chunk of an applier that has come so far with each segment.
func attempt(a *Applier, last int64, rejected int, segments []segment, stages ...stage) *Chunk {
	c := &Chunk{
		applier: a, segments: segments, due: segments, stages: stages,
		batch: &events.Batch{Last: position(last, 0), Rejected: make([]events.Rejection, rejected)},
		known: known{
			from: ledger.Checkpoint{Source: "s"}, books: map[int64]scores.Book{1: {}},
			profiles: map[int64]struct{}{1: {}, 2: {}, 3: {}},
		},
	}
	return c
}

// resolving is an applier that adds up what it finds out.
func resolving() (*Applier, *Tally) {
	var found Tally
	return &Applier{Resolved: func(t Tally) { found.plus(t) }}, &found
}

// What may be committed is counted once the mark has passed it, once, and what was never sent is not.
func TestResolveByMarks(t *testing.T) {
	type marks = map[int64]events.Position
	for _, c := range []struct {
		name  string
		reads []marks // one after the other
		want  Tally
		left  int // that may still be committed
	}{
		{"nothing is read", nil, Tally{}, 2},
		{"no mark", []marks{{}}, Tally{}, 2},
		{"the mark of one", []marks{{1: position(3, 0)}}, Tally{2, 0, 1}, 1},
		{"further than it was sent", []marks{{1: position(9, 0)}}, Tally{2, 0, 1}, 1},
		{"not as far", []marks{{1: position(2, 9)}}, Tally{}, 2},
		{"all", []marks{{1: position(3, 0), 2: position(4, 0)}}, Tally{3, 0, 2}, 0},
		{"one, and later the other", []marks{{1: position(3, 0)}, {1: position(3, 0), 2: position(4, 0)}}, Tally{3, 0, 2}, 0},
		{"twice", []marks{{1: position(3, 0)}, {1: position(3, 0)}}, Tally{2, 0, 1}, 1},
		{"what was not sent", []marks{{3: position(5, 0)}}, Tally{}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, found := resolving()
			attempt(a, 5, 0, []segment{liked(1, 1, 3), liked(2, 4), liked(3, 5)}, sentOff, committed, unsent).Failed(false)
			require.True(t, a.Uncertain())
			for _, read := range c.reads {
				a.resolve(read)
			}
			assert.Equal(t, c.want, *found)
			assert.Len(t, a.left.moves, c.left)
		})
	}
	a, found := resolving()
	a.resolve(marks{1: position(3, 0)})
	assert.Zero(t, *found, "nothing has failed")
}

// A later attempt takes the place of what it has sent again, and keeps what it has not.
func TestFailedAgain(t *testing.T) {
	a, found := resolving()
	attempt(a, 8, 0, []segment{liked(1, 1, 3), liked(2, 4)}, sentOff, sentOff).Failed(false)
	attempt(a, 5, 0, []segment{liked(1, 1, 3, 5), liked(3, 2)}, sentOff, unsent).Failed(false)
	require.Len(t, a.left.moves, 2)
	assert.Equal(t, position(8, 0), a.left.until, "the earlier chunk was longer")
	assert.Equal(t, position(5, 0), a.left.chunk)
	a.resolve(map[int64]events.Position{1: position(3, 0)})
	assert.Zero(t, *found, "of the two it is the later one that counts")
	a.resolve(map[int64]events.Position{1: position(5, 0), 2: position(4, 0), 3: position(2, 0)})
	assert.Equal(t, Tally{4, 0, 2}, *found)
}

// Events that the report has already are recognised when they are read again, up to the mark.
func TestBefore(t *testing.T) {
	var none *uncertain
	require.Zero(t, none.before(liked(1, 1, 2), position(9, 0)))
	for _, c := range []struct {
		name    string
		profile int64
		mark    events.Position
		want    int
	}{
		{"all that was counted", 1, position(3, 0), 2},
		{"what another applied since", 1, position(9, 0), 2},
		{"PostgreSQL lost a part", 1, position(1, 0), 1},
		{"PostgreSQL lost all", 1, position(0, 0), 0},
		{"a profile that was not counted", 2, position(9, 0), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &uncertain{counted: map[int64]events.Position{1: position(3, 0)}}
			assert.Equal(t, c.want, u.before(liked(c.profile, 1, 3, 4, 6), c.mark))
		})
	}
}

// A chunk whose checkpoint was moved leaves nothing of its profiles in doubt, and nothing at all if none of the
// attempts before it went further.
func TestDone(t *testing.T) {
	for _, c := range []struct {
		name      string
		last      int64
		segments  []segment
		uncertain []int64 // profiles; nil: it is over
	}{
		{"as far", 5, []segment{liked(1, 1)}, nil},
		{"further", 9, []segment{liked(1, 1)}, nil},
		{"not as far", 4, []segment{liked(1, 1)}, []int64{2}},
		{"not as far, others", 4, []segment{liked(3, 1), liked(4, 2)}, []int64{1, 2}},
		{"not as far, all", 4, []segment{liked(1, 1), liked(2, 2), liked(3, 3)}, []int64{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, found := resolving()
			attempt(a, 5, 0, []segment{liked(1, 1, 3), liked(2, 5)}, sentOff, sentOff).Failed(false)
			attempt(a, c.last, 0, c.segments, make([]stage, len(c.segments))...).Done()
			assert.Zero(t, *found)
			if c.uncertain == nil {
				assert.False(t, a.Uncertain())
				return
			}
			require.True(t, a.Uncertain())
			left := []int64{}
			for _, m := range a.left.moves {
				left = append(left, m.profileID)
			}
			assert.Equal(t, c.uncertain, left)
		})
	}
}

// By the checkpoint: whether the one was moved whose answer was lost, and when all is known.
func TestResolve(t *testing.T) {
	t.Parallel()
	pool, from := written(t)
	testenv.Execute(t, pool, `INSERT INTO aggregator.mark VALUES (1, 's', 3, 0, 2), (2, 'other', 9, 0, 1)`)
	for _, c := range []struct {
		name  string
		moved bool
		at    events.Position
		epoch int64
		want  Tally
		over  bool
	}{
		{"the checkpoint was moved", true, position(5, 0), 0, Tally{2, 4, 1}, true},
		{"it was not", true, position(0, 0), 0, Tally{2, 0, 1}, false},
		{"another has moved it further", true, position(8, 0), 0, Tally{2, 0, 1}, true},
		{"it was not tried", false, position(5, 0), 0, Tally{2, 0, 1}, true},
		{"the source was reset", true, position(5, 0), 1, Tally{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, found := resolving()
			a.Pool = pool
			require.NoError(t, a.Resolve(t.Context(), from), "nothing has failed")
			attempt(a, 5, 4, []segment{liked(1, 1, 3), liked(2, 5)}, sentOff, sentOff).Failed(c.moved)
			now := from
			now.Position, now.Epoch = c.at, c.epoch
			for range 2 { // safe to repeat
				require.NoError(t, a.Resolve(t.Context(), now))
				assert.Equal(t, c.want, *found)
				assert.Equal(t, c.over, !a.Uncertain())
			}
		})
	}
	a, found := resolving()
	a.Pool = pool
	attempt(a, 5, 0, []segment{liked(1, 1, 3)}, sentOff).Failed(false)
	gone := from
	gone.Source = "gone"
	require.ErrorIs(t, a.Resolve(t.Context(), gone), ledger.ErrReset)
	require.True(t, a.Uncertain(), "it may be called again")
	require.NoError(t, a.Resolve(t.Context(), from))
	assert.Equal(t, Tally{2, 0, 1}, *found)
}
