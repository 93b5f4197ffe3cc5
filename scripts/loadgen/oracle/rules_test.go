package oracle

import (
	"slices"
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

func TestAboveTheMeanOfNonnegative(t *testing.T) {
	cases := map[string]struct {
		scores  []float64
		unknown int // the place that has no row, or NULL; -1: none
		want    []int
	}{
		"nothing":             {nil, -1, nil},
		"only less than zero": {[]float64{-2, -4}, -1, nil},
		"zeros":               {[]float64{0, 0}, -1, nil},
		"all alike":           {[]float64{4, 4, 4}, -1, nil},
		"one alone":           {[]float64{4}, -1, nil},
		"a zero counts":       {[]float64{0, 4}, -1, []int{1}},
		"a missing one not":   {[]float64{0, 4}, 0, nil},
		"the mean itself":     {[]float64{2, 4, 6}, -1, []int{2}},
		"negative left out":   {[]float64{-100, 4, 6}, -1, []int{2}},
		"below with zeros":    {[]float64{0, 0, 2, 4}, -1, []int{2, 3}},
		"below without":       {[]float64{0, 2, 4, 6, 8}, 0, []int{3, 4}},
		"nothing known":       {[]float64{0}, 0, nil},
		// The mean of ten times 0.1 is a little less than 0.1.
		"rounding": {slices.Repeat([]float64{0.1}, 10), -1, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			known := slices.Repeat([]bool{true}, len(c.scores))
			if c.unknown >= 0 {
				known[c.unknown] = false
			}
			require.Equal(t, c.want, AboveMeanOfNonnegative.among(c.scores, known))
		})
	}
	sum := 0.0
	for range 10 {
		sum += 0.1
	}
	require.Less(t, sum/10, 0.1, "the case above shows nothing")
}

func TestRules(t *testing.T) {
	for _, rule := range []Preferred{"", MeanOfPositive, AboveMeanOfNonnegative} {
		require.NoError(t, rule.Check())
	}
	require.ErrorContains(t, Preferred("best").Check(), `unknown preferred "best"`)
	require.Equal(t, []int{0}, Preferred("").among([]float64{2, 0}, []bool{true, true}))
	require.Equal(t, []int{0}, MeanOfPositive.among([]float64{2, 0}, []bool{true, true}))
}

func TestEqual(t *testing.T) {
	require.True(t, equal(0.1+0.2, 0.3))
	require.True(t, equal(1e12, 1e12))
	require.False(t, equal(2, 4))
	require.False(t, equal(0, 1e-6))
	require.False(t, equal(1e6, 1e6+0.1))
}
