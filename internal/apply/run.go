package apply

import (
	"cmp"
	"maps"
	"slices"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// run is some events of one profile, in order, that one transaction settles.
type run struct {
	profileID int64
	events    []events.Event
	seen      events.Position // where the profile's mark is
	place     int             // among the runs of its chunk that are due
	tried     attempts
}

// attempts are what was tried already for a run that was refused.
type attempts struct {
	careful bool // to add to its scores one by one, whatever is in the way
	found   bool // to look for its profile, which is there
}

// group sorts the events by profile, each profile's in order, and returns a run for
// each profile, by rising id. The runs share the memory of the slice.
func group(all []events.Event) []run {
	slices.SortFunc(all, func(a, b events.Event) int {
		return cmp.Or(cmp.Compare(a.ProfileID, b.ProfileID), a.Position.Compare(b.Position))
	})
	var runs []run
	for len(all) > 0 {
		id := all[0].ProfileID
		n := 1
		for n < len(all) && all[n].ProfileID == id {
			n++
		}
		runs = append(runs, run{profileID: id, events: all[:n:n]})
		all = all[n:]
	}
	return runs
}

// after drops the events that the mark has passed.
func (r run) after(mark events.Position) run {
	i, found := slices.BinarySearchFunc(r.events, mark, func(e events.Event, at events.Position) int {
		return e.Position.Compare(at)
	})
	if found {
		i++
	}
	r.events, r.seen = r.events[i:], mark
	return r
}

// last is the position of the run's last event.
func (r run) last() events.Position { return r.events[len(r.events)-1].Position }

// halves cuts the run in two; the second begins where the first has left the mark.
func (r run) halves() (run, run) {
	middle := len(r.events) / 2
	first, second := r, r
	first.events, second.events = r.events[:middle:middle], r.events[middle:]
	second.seen = first.last()
	return first, second
}

func profileIDs(runs []run) []int64 {
	ids := make([]int64, len(runs))
	for i, r := range runs {
		ids[i] = r.profileID
	}
	return ids
}

// bookIDs are the books of the events, each once.
func bookIDs(all []events.Event) []int64 {
	seen := make(map[int64]struct{})
	for _, e := range all {
		seen[e.BookID] = struct{}{}
	}
	return slices.Sorted(maps.Keys(seen))
}

// places are where the marks of the runs' profiles must be once all are settled.
func places(runs []run) []ledger.Place {
	places := make([]ledger.Place, len(runs))
	for i, r := range runs {
		places[i] = ledger.Place{ProfileID: r.profileID, At: r.last()}
	}
	return places
}
