package apply

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
)

func TestGroup(t *testing.T) {
	for range 200 {
		all := make([]events.Event, rand.IntN(300))
		profiles := 1 + rand.Int64N(50)
		for i := range all {
			all[i] = events.Event{
				Position: events.Position{Ms: int64(i)}, ProfileID: rand.Int64N(profiles) - 3,
				BookID: rand.Int64(),
			}
		}
		sorted := slices.Clone(all)
		slices.SortStableFunc(sorted, func(a, b events.Event) int { return cmp.Compare(a.ProfileID, b.ProfileID) })

		var joined []events.Event
		last := int64(-4)
		for _, seg := range group(all) {
			require.Greater(t, seg.profileID, last)
			last = seg.profileID
			require.NotEmpty(t, seg.events)
			require.Equal(t, len(seg.events), cap(seg.events), "to append to one must not write over the next")
			for _, e := range seg.events {
				require.Equal(t, seg.profileID, e.ProfileID)
			}
			joined = append(joined, seg.events...)
		}
		require.Len(t, joined, len(sorted))
		if len(sorted) > 0 {
			require.Equal(t, sorted, joined)
			require.Equal(t, sorted, all, "the slice is in their order, too")
		}
	}
}
