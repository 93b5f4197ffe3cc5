package oracle

import "slices"

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
