package history_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/history"
)

// While one of the two clocks is ahead nothing is removed that is not due by the other.
func TestPurgeWhileAClockIsAhead(t *testing.T) {
	w := newPurgeWorld(t)
	const n = 20
	w.fill(n, `i % 2 = 0`, 40*day)
	by := func(ahead time.Duration) history.PurgeResult {
		return w.do(history.PurgeOptions{
			OlderThan: 30 * day, Retention: history.Retention{AllDays: 30, DailyDays: 60},
			Now: func() time.Time { return time.Now().Add(ahead) },
		})
	}
	w.do(history.PurgeOptions{OlderThan: 50 * day, Now: func() time.Time { return time.Now().Add(365 * day) }})
	require.Len(t, w.ids(), n, "ours is ahead")
	done := by(-400 * day)
	require.Zero(t, done.Deleted+done.Thinned)
	require.Len(t, w.ids(), n, "PostgreSQL's is ahead")
	done = by(0)
	require.EqualValues(t, n/2, done.Deleted)
	require.Positive(t, done.Thinned)
}
