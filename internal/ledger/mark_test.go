package ledger_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/testenv"
)

type marks = map[int64]events.Position

// Only the marks of the source and of the profiles that were asked for are read.
func TestMarks(t *testing.T) {
	pool := connect(t)
	from, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 0)
	require.NoError(t, err)
	mark(t, pool, "s", at(5, 1), 1, 2)
	mark(t, pool, "s", at(0, 0), 3) // as a reset leaves it
	mark(t, pool, "other", at(9, 9), 1, 4)
	for _, c := range []struct {
		name string
		ask  []int64
		want marks
	}{
		{"nobody", nil, marks{}},
		{"one", []int64{1}, marks{1: at(5, 1)}},
		{"all", []int64{1, 2, 3}, marks{1: at(5, 1), 2: at(5, 1), 3: {}}},
		{"in any order", []int64{2, 1}, marks{1: at(5, 1), 2: at(5, 1)}},
		{"one without a mark", []int64{2, 7}, marks{2: at(5, 1)}},
		{"one that only another source has marked", []int64{4}, marks{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ledger.Marks(t.Context(), pool, from, c.ask)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

// Who has read the checkpoint before a reset learns of that with the marks, whatever these are, and also if
// there are none.
func TestMarksOfAnotherEpoch(t *testing.T) {
	for name, disturb := range map[string]string{
		"a later epoch":     `UPDATE aggregator.checkpoint SET epoch = epoch + 1 WHERE source = 's'`,
		"an earlier epoch":  `UPDATE aggregator.checkpoint SET epoch = epoch - 1 WHERE source = 's'`,
		"no checkpoint now": `DELETE FROM aggregator.checkpoint WHERE source = 's'`,
	} {
		t.Run(name, func(t *testing.T) {
			pool := connect(t)
			from, err := ledger.Create(t.Context(), pool, "s", at(1, 0), 0)
			require.NoError(t, err)
			_, err = ledger.Create(t.Context(), pool, "other", at(1, 0), 0)
			require.NoError(t, err)
			mark(t, pool, "s", at(5, 1), 1)
			testenv.Execute(t, pool, disturb)
			for _, ask := range [][]int64{nil, {1}, {2}} {
				got, err := ledger.Marks(t.Context(), pool, from, ask)
				require.ErrorIs(t, err, ledger.ErrReset)
				require.ErrorIs(t, err, ledger.ErrRefused)
				assert.Nil(t, got)
			}
		})
	}
}

func TestMarksPast(t *testing.T) {
	pool := connect(t)
	from, err := ledger.Create(t.Context(), pool, "s", at(5, 3), 0)
	require.NoError(t, err)
	none, err := ledger.MarksPast(t.Context(), pool, from)
	require.NoError(t, err)
	require.Equal(t, marks{}, none)

	mark(t, pool, "s", at(4, 9), 1) // a greater number in an earlier millisecond
	mark(t, pool, "s", at(5, 2), 2)
	mark(t, pool, "s", at(5, 3), 3)
	mark(t, pool, "s", at(5, 4), 4)
	mark(t, pool, "s", at(6, 0), 5) // a smaller number in a later one
	mark(t, pool, "other", at(9, 9), 6)
	past, err := ledger.MarksPast(t.Context(), pool, from)
	require.NoError(t, err)
	assert.Equal(t, marks{4: at(5, 4), 5: at(6, 0)}, past)
}
