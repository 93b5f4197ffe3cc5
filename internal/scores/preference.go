package scores

import "math"

// Preference is the rule that makes a genre or a topic a favorite. The functions of migration 11 have the same
// rules (above_mean).
type Preference string

const (
	// MeanOfPositive: a score above zero, and at least the mean of the scores above zero.
	MeanOfPositive Preference = "mean_of_positive"
	// AboveMeanOfNonnegative: a score above the mean of the scores that are not below zero. If these are all
	// equal there is none.
	AboveMeanOfNonnegative Preference = "above_mean_of_nonnegative"
)

// Preferences are all of them, the default first.
var Preferences = []Preference{MeanOfPositive, AboveMeanOfNonnegative}

// AboveMean says whether it is AboveMeanOfNonnegative; everything else is the default.
func (p Preference) AboveMean() bool { return p == AboveMeanOfNonnegative }

// Mean is what the rule compares each score with: the mean of the scores that count. false: none counts. Of equal
// scores it is that score, and not what rounding makes of their sum.
func (p Preference) Mean(sums []Sum) (float64, bool) {
	total, n := 0.0, 0
	least, most := math.Inf(1), math.Inf(-1)
	for _, s := range sums {
		if p.counts(s.Value) {
			total, least, most, n = total+s.Value, min(least, s.Value), max(most, s.Value), n+1
		}
	}
	return max(least, min(total/float64(n), most)), n > 0
}

// Favorites are the ids of those that the rule makes favorites, in the order of sums. One that is Infinity or NaN
// neither counts nor is a favorite.
func (p Preference) Favorites(sums []Sum) []int64 {
	mean, _ := p.Mean(sums)
	var ids []int64
	for _, s := range sums {
		if p.counts(s.Value) && (s.Value > mean || s.Value == mean && !p.AboveMean()) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

func (p Preference) counts(score float64) bool {
	return finite(score) && (score > 0 || score == 0 && p.AboveMean())
}
