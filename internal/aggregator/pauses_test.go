package aggregator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPauses(t *testing.T) {
	t.Parallel()
	const first = 150 * time.Millisecond // at most
	p, longest := newPauses(), time.Duration(0)
	for range 100 {
		require.LessOrEqual(t, p.next(0), first)
		for range 100 {
			longest = max(longest, p.next(0))
		}
		p.forget()
	}
	require.LessOrEqual(t, longest, longestPause)
	require.Greater(t, longest, longestPause/2)

	for range 100 {
		p.next(longestPause)
	}
	require.Greater(t, p.next(longestPause), first, "each turn failed at once, or soon")
	require.LessOrEqual(t, p.next(longestPause+1), first, "this one did not")
}
