package latency

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(d time.Duration) time.Time { return start.Add(d) }

func TestLatencyCountsFromWhenAnEventWasDue(t *testing.T) {
	// Event i is due after i times 10 ms.
	load := Load{Start: start, Rate: 100, Count: 4}
	o := Of(load, []Sighting{{at(5 * time.Millisecond), 1}, {at(60 * time.Millisecond), 4}})
	// They took 5, 50, 40 and 30 ms.
	require.Equal(t, int64(4), o.Events)
	require.InDelta(t, 30, o.P50, 0.1)
	require.InDelta(t, 50, o.Max, 0.1)
	require.True(t, o.Sustained)
}

func TestStallIsFeltByAllEventsThatItDelays(t *testing.T) {
	load := Load{Start: start, Rate: 1000, Count: 10_000}
	// All is well for nine seconds and seen at once; then nothing for the last one.
	var seen []Sighting
	for ms := range 9_000 {
		seen = append(seen, Sighting{at(time.Duration(ms)*time.Millisecond + time.Millisecond), int64(ms) + 1})
	}
	seen = append(seen, Sighting{at(10 * time.Second), 10_000})
	o := Of(load, seen)
	require.InDelta(t, 1, o.P50, 0.1)
	require.InDelta(t, 900, o.P99, 2) // one event in a hundred waited longer than that
	require.InDelta(t, 1000, o.Max, 2)
	require.True(t, o.Sustained)
}

func TestQueueThatGrowsIsNotSustained(t *testing.T) {
	// Of 1,000 a second only so many are settled: the last event waits longest.
	settling := func(rate float64) (seen []Sighting) {
		for n := int64(100); n <= 3000; n += 100 {
			seen = append(seen, Sighting{at(time.Duration(float64(n) / rate * float64(time.Second))), n})
		}
		return seen
	}
	load := Load{Start: start, Rate: 1000, Count: 3000}
	require.True(t, Of(load, settling(1000)).Sustained)
	slow := Of(load, settling(800))
	require.Less(t, slow.P99, 1000.0)
	require.Greater(t, slow.Growth, 1.5)
	require.False(t, slow.Sustained)
	require.False(t, Of(load, settling(500)).Sustained)
}
