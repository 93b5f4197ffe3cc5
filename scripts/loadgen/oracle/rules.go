package oracle

import (
	"fmt"
	"math"
	"slices"
)

// letters are the columns of an MBTI score, in the order of the tables.
const letters = "IESNTFJP"

// typeOf is the personality type of eight scores: of each pair of letters the higher
// one; I, N, T and J when they are equal.
func typeOf(scores []float64) string {
	score := map[rune]float64{}
	for i, letter := range letters {
		score[letter] = scores[i]
	}
	name := ""
	for _, pair := range []string{"IE", "NS", "TF", "JP"} {
		first, second := rune(pair[0]), rune(pair[1])
		if score[first] >= score[second] {
			name += string(first)
		} else {
			name += string(second)
		}
	}
	return name
}

// Preferred is the rule by which genres and topics become favorites. The zero value is MeanOfPositive.
type Preferred string

// The rules.
const (
	MeanOfPositive         Preferred = "mean_of_positive"
	AboveMeanOfNonnegative Preferred = "above_mean_of_nonnegative"
)

// Check says what is wrong with the rule.
func (r Preferred) Check() error {
	if r != "" && r != MeanOfPositive && r != AboveMeanOfNonnegative {
		return fmt.Errorf("unknown preferred %q: %s or %s", string(r), MeanOfPositive, AboveMeanOfNonnegative)
	}
	return nil
}

// among are the places of the scores that the rule prefers. Known tells which of them are scores: what has
// no row, or NULL, counts as 0 in a sum and not at all in a mean.
func (r Preferred) among(scores []float64, known []bool) []int {
	if r == AboveMeanOfNonnegative {
		return aboveMean(scores, known)
	}
	return favourites(scores)
}

// aboveMean are the places of the scores above the mean of those that are not negative.
func aboveMean(scores []float64, known []bool) []int {
	sum, n, lowest := 0.0, 0, math.Inf(1)
	for i, score := range scores {
		if known[i] && score >= 0 {
			sum, n, lowest = sum+score, n+1, min(lowest, score)
		}
	}
	// A mean of equal numbers may come out a little below all of them. Without any, none is above it.
	bar := max(sum/float64(max(n, 1)), lowest)
	var chosen []int
	for i, score := range scores {
		if known[i] && score > bar {
			chosen = append(chosen, i)
		}
	}
	return chosen
}

// favourites are the places of the scores that are positive and at least the mean of the
// positive ones.
func favourites(scores []float64) []int {
	sum, n, highest := 0.0, 0, 0.0
	for _, score := range scores {
		if score > 0 {
			sum, n, highest = sum+score, n+1, max(highest, score)
		}
	}
	if n == 0 {
		return nil
	}
	// A mean of equal numbers may come out a little above all of them.
	bar := min(sum/float64(n), highest)
	var chosen []int
	for i, score := range scores {
		if score > 0 && score >= bar {
			chosen = append(chosen, i)
		}
	}
	return chosen
}

// equal allows for weights that have no exact binary form, whose sums depend on the
// order. Whole numbers, as the default weights, are exact far beyond any count.
func equal(a, b float64) bool {
	d := max(a, b) - min(a, b)
	return d <= 1e-9*max(1, a, b, -a, -b)
}

// idsAt turns places into ids, in order.
func idsAt(ids []int64, places []int) []int64 {
	at := make([]int64, 0, len(places))
	for _, place := range places {
		at = append(at, ids[place])
	}
	slices.Sort(at)
	return at
}
