package report

import (
	"math"
	"strconv"
	"strings"

	"aggregator/scripts/bench/results"
)

// Exact writes a number that was chosen, not measured.
func Exact(x float64) string { return grouped(strconv.FormatFloat(x, 'f', -1, 64)) }

// Number writes a figure with three digits, or with all before the point, in groups.
func Number(x float64) string {
	digits := 0
	if x != 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(math.Abs(x)))))
	}
	return grouped(strconv.FormatFloat(x, 'f', min(digits, 4), 64))
}

// grouped writes 1234567.8 as 1,234,567.8.
func grouped(text string) string {
	whole, fraction, found := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if found {
		return whole + "." + fraction
	}
	return whole
}

func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) + " %" }

// spread is the ends of several figures.
func spread(s results.Summary) string { return Number(s.Min) + ".." + Number(s.Max) }
