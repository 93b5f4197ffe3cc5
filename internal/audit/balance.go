package audit

import (
	"fmt"
	"strings"
)

// Balance holds the accounts of a source at one moment, in events or entries.
type Balance struct {
	// What PostgreSQL says.
	Settled int64 // entries that the checkpoint has passed since our beginning
	Applied int64 // events applied, by the marks
	Dead    int64 // dead letters, settled or not
	InHand  int64 // events that a mark has passed and the checkpoint not yet

	// What Redis says, and PostgreSQL of it.
	Added  int64 // entries ever added to the stream
	Left   int64 // of them, those behind the checkpoint that are there
	Passed int64 // of them, those that the checkpoint has passed, with those before our beginning
}

// Difference is how many events too many were applied or are dead letters, or, if it is
// negative, how many are neither.
func (b Balance) Difference() int64 { return b.Applied + b.Dead - b.Settled - b.InHand }

// Vanished is how many entries were removed before they were read. It is negative if the
// stream has a smaller count than it had: it was made anew, or Redis was rolled back.
func (b Balance) Vanished() int64 { return b.Added - b.Left - b.Passed }

// Even says whether the books balance.
func (b Balance) Even() bool { return b.Difference() == 0 && b.Vanished() == 0 }

// Complaint says in one line what does not fit; it is empty if the books balance.
func (b Balance) Complaint() string {
	var all []string
	switch d := b.Difference(); {
	case d > 0:
		all = append(all, fmt.Sprintf("%d too many: %d applied + %d dead letters, but %d entries settled + %d in hand: some were counted twice",
			d, b.Applied, b.Dead, b.Settled, b.InHand))
	case d < 0:
		all = append(all, fmt.Sprintf("%d lost: %d applied + %d dead letters, but %d entries settled + %d in hand",
			-d, b.Applied, b.Dead, b.Settled, b.InHand))
	}
	switch v := b.Vanished(); {
	case v > 0:
		all = append(all, fmt.Sprintf("%d removed unread: %d entries were ever added, %d are left and %d were read: somebody used XDEL, XTRIM or MAXLEN",
			v, b.Added, b.Left, b.Passed))
	case v < 0:
		all = append(all, fmt.Sprintf("%d read that Redis does not know of: %d entries were ever added, %d are left and %d were read: the stream was made anew or Redis was rolled back",
			-v, b.Added, b.Left, b.Passed))
	}
	return strings.Join(all, "; ")
}
