package workload

import (
	"fmt"
	"math"
)

// firstUnknown is far above every id that a catalogue of ours has.
const firstUnknown = int64(1) << 40

// madeUp is the Source of generated events.
type madeUp struct {
	Settings
	profiles, books ids
}

func newMadeUp(s Settings) (*madeUp, error) {
	profiles, err := newIDs(s.Profiles, s.ProfileDist, s.Theta)
	if err != nil {
		return nil, fmt.Errorf("profiles: %w", err)
	}
	books, err := newIDs(s.Books, s.BookDist, s.Theta)
	if err != nil {
		return nil, fmt.Errorf("books: %w", err)
	}
	return &madeUp{Settings: s, profiles: profiles, books: books}, nil
}

func (m *madeUp) Len() int64 { return m.Count }

func (m *madeUp) At(index int64) Event {
	d := newDraw(m.Seed, index)
	for index > 0 && d.float() < m.Duplicates {
		index--
		d = newDraw(m.Seed, index)
	}
	return m.fresh(&d)
}

// fresh makes an event that is not by intention the copy of another.
func (m *madeUp) fresh(d *draw) Event {
	kind := d.float()
	if kind < m.Malformed {
		return m.makeJunk(d)
	}
	e := Event{
		Profile: m.profiles.draw(d), Book: m.books.draw(d), Like: d.float() < m.LikeRatio,
		asFields: m.Wire == WireFields,
	}
	if kind < m.Malformed+m.Unknown {
		makeUnknown(&e, d)
	}
	e.Partition = int(e.Profile % int64(m.Partitions))
	return e
}

// makeUnknown gives the event an unknown profile, book, or both. The ends of the range of
// ids are among them: they are valid numbers that no table has.
func makeUnknown(e *Event, d *draw) {
	which := d.below(3)
	if which != 0 {
		e.Profile = unknownID(d)
	}
	if which != 1 {
		e.Book = unknownID(d)
	}
}

func unknownID(d *draw) int64 {
	switch d.below(16) {
	case 0:
		return 0
	case 1:
		return math.MaxInt64
	}
	return firstUnknown + d.below(1<<20)
}
