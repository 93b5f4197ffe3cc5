package apply

import (
	"cmp"
	"maps"
	"slices"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// segment is some events of one profile, in order, that one transaction processes.
type segment struct {
	profileID int64
	events    []events.Event
	seen      events.Position // where the profile's mark is
	place     int             // among the segments of its chunk that are due
	tried     attempts
}

// attempts are what was tried already for a segment that was refused.
type attempts struct {
	careful bool // adding to its scores one by one, whatever is in the way
	found   bool // looking for its profile, which is there
}

// group sorts the events, which are in order, by profile, and returns a segment for each profile, by rising
// id. The segments share the memory of the slice. To count the events of each profile and to move each event
// to its place is faster than to sort them.
func group(all []events.Event) []segment {
	var segments []segment
	known := make(map[int64]int32) // profiles, in the order in which they were met
	places := make([]int32, len(all))
	var counts []int32
	for i := range all {
		id := all[i].ProfileID
		met, found := known[id]
		if !found {
			met = int32(len(segments))
			known[id] = met
			segments, counts = append(segments, segment{profileID: id, place: int(met)}), append(counts, 0)
		}
		places[i] = met
		counts[met]++
	}
	slices.SortFunc(segments, func(a, b segment) int { return cmp.Compare(a.profileID, b.profileID) })
	next := int32(0)
	for i := range segments {
		seg := &segments[i]
		n := counts[seg.place]
		seg.events = all[next : next+n : next+n]
		counts[seg.place] = next // from here on: where the next event of the profile goes
		next += n
		seg.place = 0
	}
	for i, met := range places {
		places[i] = counts[met]
		counts[met]++
	}
	for i := range all {
		for to := places[i]; to != int32(i); to = places[i] {
			all[i], all[to] = all[to], all[i]
			places[i], places[to] = places[to], to
		}
	}
	return segments
}

// after drops the events that the mark has passed.
func (seg segment) after(mark events.Position) segment {
	i, found := slices.BinarySearchFunc(seg.events, mark, func(e events.Event, at events.Position) int {
		return e.Position.Compare(at)
	})
	if found {
		i++
	}
	seg.events, seg.seen = seg.events[i:], mark
	return seg
}

// last is the position of the segment's last event.
func (seg segment) last() events.Position { return seg.events[len(seg.events)-1].Position }

// halves cuts the segment in two; the second half begins where the first one leaves the mark.
func (seg segment) halves() (segment, segment) {
	middle := len(seg.events) / 2
	first, second := seg, seg
	first.events, second.events = seg.events[:middle:middle], seg.events[middle:]
	second.seen = first.last()
	return first, second
}

func profileIDs(segments []segment) []int64 {
	ids := make([]int64, len(segments))
	for i, seg := range segments {
		ids[i] = seg.profileID
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

// places are where the marks of the segments' profiles must be once all are processed.
func places(segments []segment) []ledger.Place {
	places := make([]ledger.Place, len(segments))
	for i, seg := range segments {
		places[i] = ledger.Place{ProfileID: seg.profileID, At: seg.last()}
	}
	return places
}
