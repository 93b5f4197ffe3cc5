package scores

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
