package limits

import (
	"log/slog"
	"math"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestWithin(t *testing.T) {
	for _, c := range []struct{ limit, goal uint64 }{
		{8 * mib, 4 * mib},
		{64 * mib, 48 * mib},
		{160 * mib, 144 * mib},
		{1000 * mib, 900 * mib},
		{math.MaxUint64, 1<<50 - 1<<50/10},
	} {
		require.EqualValues(t, c.goal, within(c.limit).goal, c.limit)
	}
	none := Memory{}
	require.Equal(t, usualChunk, none.Chunk(1))
	require.Equal(t, usualChunk, none.Chunk(128))
	require.Equal(t, 1_000_000, none.Profiles(1_000_000))
	small := within(64 * mib)
	require.InDelta(t, 2.5*mib, small.Chunk(1), mib/10)
	require.InDelta(t, 0.63*mib, small.Chunk(4), mib/10)
	require.InDelta(t, 37_000, small.Profiles(1_000_000), 1000)
	require.Equal(t, usualChunk, within(1100*mib).Chunk(1))
	require.Equal(t, 5, small.Profiles(5))
}

// Whatever the limit, what chunks and caches may cost is within the goal, unless that is too small for
// anything; and more memory never means less of them.
func TestSharesFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Uint64Range(1<<20, 1<<40).Draw(t, "limit")
		sources := rapid.IntRange(1, 128).Draw(t, "sources")
		m, more := within(limit), within(limit+rapid.Uint64Range(0, 1<<30).Draw(t, "more"))
		held := 8*int64(sources)*int64(m.Chunk(sources)) + int64(m.Profiles(1e6))*profileSize + int64(m.Books(1e5))*bookSize
		least := int64(8*sources*leastChunk + leastCached*(profileSize+bookSize))
		require.LessOrEqual(t, held, m.share(75)+least)
		require.LessOrEqual(t, m.Chunk(sources), usualChunk)
		require.LessOrEqual(t, m.Chunk(sources), more.Chunk(sources))
		require.LessOrEqual(t, m.Profiles(1e6), more.Profiles(1e6))
		require.Less(t, m.goal, int64(limit+1))
	})
}

// GOMEMLIMIT in the environment is what counts. (make image-test has a limit of a container.)
func TestSetLeavesGOMEMLIMIT(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	t.Setenv("GOMEMLIMIT", "50MiB")
	debug.SetMemoryLimit(50 * mib) // as the runtime does when it starts
	require.Equal(t, Memory{50 * mib}, Set(slog.New(slog.DiscardHandler)))
	require.EqualValues(t, 50*mib, debug.SetMemoryLimit(-1))
}
