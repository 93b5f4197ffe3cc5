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

// Favorites are the ids of those that the rule makes favorites, in the order of sums. One that is Infinity or NaN
// neither counts nor is a favorite.
func (p Preference) Favorites(sums []Sum) []int64 {
	var total float64
	most, n := math.Inf(-1), 0
	rank := func(s Sum) (float64, bool) {
		if s.Value < 0 || s.Value == 0 && !p.AboveMean() || !finite(s.Value) {
			return 0, false
		}
		if p.AboveMean() {
			return -s.Value, true // the opposite of the first rule, on scores with their signs turned
		}
		return s.Value, true
	}
	for _, s := range sums {
		if ranked, counts := rank(s); counts {
			total, most, n = total+ranked, max(most, ranked), n+1
		}
	}
	enough := min(total/float64(n), most) // the mean of equal scores may come out greater than each
	var ids []int64
	for _, s := range sums {
		if ranked, counts := rank(s); counts && (ranked >= enough) != p.AboveMean() {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
