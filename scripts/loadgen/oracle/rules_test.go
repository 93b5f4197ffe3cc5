package oracle

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTypeOf(t *testing.T) {
	cases := map[string]struct {
		scores [8]float64 // I E S N T F J P
		want   string
	}{
		"ties":            {[8]float64{}, "INTJ"},
		"ties of less":    {[8]float64{-2, -2, -4, -4, -6, -6, -8, -8}, "INTJ"},
		"the other eight": {[8]float64{0, 2, 2, 0, 0, 2, 0, 2}, "ESFP"},
		"negative":        {[8]float64{-2, -4, -2, -4, -4, -2, -2, -4}, "ISFJ"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, typeOf(c.scores[:])) })
	}
}

func TestFavourites(t *testing.T) {
	cases := map[string]struct {
		scores []float64
		want   []int
	}{
		"nothing":           {nil, nil},
		"none positive":     {[]float64{0, -2, -4}, nil},
		"one":               {[]float64{0, 2, -4}, []int{1}},
		"the mean itself":   {[]float64{2, 4, 6}, []int{1, 2}},
		"negative left out": {[]float64{-100, 4, 6}, []int{2}},
		"all alike":         {[]float64{4, 4, 4}, []int{0, 1, 2}},
		// The mean of three times 0.1 is a little more than 0.1.
		"rounding": {[]float64{0.1, 0.1, 0.1}, []int{0, 1, 2}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, favourites(c.scores)) })
	}
	sum := 0.0
	for _, score := range []float64{0.1, 0.1, 0.1} {
		sum += score
	}
	require.Greater(t, sum/3, 0.1, "the case above shows nothing")
}

func TestEqual(t *testing.T) {
	require.True(t, equal(0.1+0.2, 0.3))
	require.True(t, equal(1e12, 1e12))
	require.False(t, equal(2, 4))
	require.False(t, equal(0, 1e-6))
	require.False(t, equal(1e6, 1e6+0.1))
}
