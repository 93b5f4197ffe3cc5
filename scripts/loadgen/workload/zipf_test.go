package workload

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestZipfShape(t *testing.T) {
	const n, draws, theta = 1000, 400_000, 0.99
	z := newZipf(n, theta)
	count := make([]float64, n)
	d := newDraw(7, 0)
	for range draws {
		count[z.rank(d.float())]++
	}
	zeta := 0.0
	for r := 1.0; r <= n; r++ {
		zeta += math.Pow(r, -theta)
	}
	share := func(rank int) float64 { return math.Pow(float64(rank+1), -theta) / zeta }
	// The first two ranks are exact in Gray's method, the others nearly so.
	require.InEpsilon(t, share(0), count[0]/draws, 0.02)
	require.InEpsilon(t, share(1), count[1]/draws, 0.03)
	for _, upTo := range []int{10, 100, 500} {
		want, got := 0.0, 0.0
		for r := range upTo {
			want += share(r)
			got += count[r] / draws
		}
		require.InEpsilon(t, want, got, 0.05, "share of the first %d", upTo)
	}
}

func TestZipfOfFewIDs(t *testing.T) {
	for _, n := range []int64{1, 2, 3} {
		z := newZipf(n, 0.5)
		for u := 0.0; u < 1; u += 0.001 {
			require.GreaterOrEqual(t, z.rank(u), int64(0))
			require.Less(t, z.rank(u), n)
		}
		require.Less(t, z.rank(math.Nextafter(1, 0)), n)
	}
}

func TestScrambleGivesEachRankAnIDOfItsOwn(t *testing.T) {
	for _, n := range []int64{1, 2, 6, 97, 1000, 10_000, 65_536} {
		s, err := newIDs(n, Zipf, 0.99)
		require.NoError(t, err)
		seen := make(map[int64]bool, n)
		for rank := range n {
			id := s.scramble(rank)
			require.True(t, id >= 1 && id <= n, "id %d of %d", id, n)
			seen[id] = true
		}
		require.Len(t, seen, int(n))
	}
}

func TestUniformReachesBothEnds(t *testing.T) {
	s, err := newIDs(10, Uniform, 0)
	require.NoError(t, err)
	count := map[int64]int{}
	d := newDraw(1, 1)
	for range 10_000 {
		count[s.draw(&d)]++
	}
	require.Len(t, count, 10)
	for id := int64(1); id <= 10; id++ {
		require.InDelta(t, 1000, count[id], 150)
	}
}
