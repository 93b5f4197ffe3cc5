package scores

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPreferenceMean(t *testing.T) {
	t.Parallel()
	inf, nan := math.Inf(1), math.NaN()
	for _, tc := range []struct {
		name      string
		rule      Preference
		values    []float64
		mean      float64
		favorites []int64 // by their place
	}{
		{"those above zero", MeanOfPositive, []float64{-4, 0, 2, 4, 6}, 4, []int64{3, 4}},
		{"and zero", AboveMeanOfNonnegative, []float64{-4, 0, 2, 4, 6}, 3, []int64{3, 4}},
		{"equal", MeanOfPositive, []float64{3, 3}, 3, []int64{0, 1}},
		{"equal, none above", AboveMeanOfNonnegative, []float64{0, 0}, 0, nil},
		{"equal, whose mean is rounded up", MeanOfPositive, []float64{0.1, 0.1, 0.1}, 0.1, []int64{0, 1, 2}},
		{"equal, whose mean is rounded up, none above", AboveMeanOfNonnegative, []float64{0.1, 0.1, 0.1}, 0.1, nil},
		{"no numbers", MeanOfPositive, []float64{inf, nan, -inf, 2}, 2, []int64{3}},
		{"a sum too large", MeanOfPositive, []float64{math.MaxFloat64, math.MaxFloat64}, math.MaxFloat64, []int64{0, 1}},
		{"none counts", MeanOfPositive, []float64{-2, 0}, nan, nil},
		{"nothing", AboveMeanOfNonnegative, nil, nan, nil},
	} {
		var sums []Sum
		for i, v := range tc.values {
			sums = append(sums, Sum{ID: int64(i), Value: v})
		}
		mean, some := tc.rule.Mean(sums)
		require.Equal(t, !math.IsNaN(tc.mean), some, tc.name)
		if some {
			require.InDelta(t, tc.mean, mean, 0, tc.name)
		}
		require.Equal(t, tc.favorites, tc.rule.Favorites(sums), tc.name)
	}
}
