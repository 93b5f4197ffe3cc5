package history_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
	"aggregator/internal/history"
)

// Events are the same after they were packed, whatever their positions and weights are.
func TestPack(t *testing.T) {
	t.Parallel()
	at := func(ms, seq int64) events.Position { return events.Position{Ms: ms, Seq: seq} }
	for name, tc := range map[string]struct {
		entries          []history.Entry
		positions, exact int
	}{
		"none":             {nil, 0, 0},
		"usual":            {[]history.Entry{{at(1761985000123, 7), 42, 2}, {at(1761985000124, 0), math.MaxInt64, -2}}, 2, 0},
		"the largest":      {[]history.Entry{{at(1<<43-1, 1<<20-1), 1, 2}}, 1, 0},
		"too late":         {[]history.Entry{{at(1, 0), 1, 2}, {at(1<<43, 0), 1, 2}}, 4, 0},
		"too many in a ms": {[]history.Entry{{at(1, 1<<20), 1, 2}, {at(math.MaxInt64, math.MaxInt64), 1, 2}}, 4, 0},
		"a tenth":          {[]history.Entry{{at(1, 0), 1, 2}, {at(2, 0), 1, 0.1}}, 2, 2},
		"huge":             {[]history.Entry{{at(1, 0), 1, 1e300}}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			all := make([]events.Event, len(tc.entries))
			for i, e := range tc.entries {
				all[i] = events.Event{Position: e.Position, BookID: e.BookID, Action: &events.Action{Weight: e.Weight}}
			}
			p := history.Pack(all)
			assert.Len(t, p.Positions, tc.positions)
			assert.Len(t, p.Exact, tc.exact)
			assert.Equal(t, history.Fit(all), tc.positions == len(all))
			entries, err := p.Entries()
			require.NoError(t, err)
			assert.Equal(t, append([]history.Entry{}, tc.entries...), entries)
		})
	}
	_, err := history.Packed{Positions: []int64{1}, Books: []int64{1, 2}, Weights: []float32{1, 2}}.Entries()
	require.Error(t, err)
}
