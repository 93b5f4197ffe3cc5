package scores

import (
	"cmp"
	"slices"

	"aggregator/internal/events"
)

// Book is what an event on a book counts for.
type Book struct {
	GenreID int64   // 0 if the book has none
	Topics  []int64 // without duplicates
	Letters Letters // of its MBTI type; none if it has no type
}

// Delta is what to add to the scores of one profile.
type Delta struct {
	ProfileID int64
	Genres    []Sum // by rising id
	Topics    []Sum // by rising id
	MBTI      [NumLetters]float64
	Typed     bool // an event touched MBTI, if only by nothing in the end
	Events    int  // that were added up
}

// Sum is what to add to the score of a genre or topic.
type Sum struct {
	ID    int64
	Value float64
}

// Fold adds up the events of one profile. Events on books that are not in the map count
// for nothing and are returned, in order. The sums do not depend on the order of the
// events, and two halves of a fold add up to the whole, as far as float64 adds exactly.
func Fold(profileID int64, profile []events.Event, books map[int64]Book) (Delta, []events.Event) {
	delta := Delta{ProfileID: profileID}
	var unknown []events.Event
	for _, e := range profile {
		book, known := books[e.BookID]
		if !known {
			unknown = append(unknown, e)
			continue
		}
		delta.add(book, e.Action.Weight)
	}
	return delta, unknown
}

func (d *Delta) add(book Book, weight float64) {
	d.Events++
	if book.GenreID != 0 {
		d.Genres = addTo(d.Genres, book.GenreID, weight)
	}
	for _, topic := range book.Topics {
		d.Topics = addTo(d.Topics, topic, weight)
	}
	if book.Letters != 0 {
		d.Typed = true
		for i := range d.MBTI {
			if book.Letters.Has(i) {
				d.MBTI[i] += weight
			}
		}
	}
}

// Merge adds another delta of the same profile.
func (d *Delta) Merge(other Delta) {
	d.Events += other.Events
	d.Typed = d.Typed || other.Typed
	for _, s := range other.Genres {
		d.Genres = addTo(d.Genres, s.ID, s.Value)
	}
	for _, s := range other.Topics {
		d.Topics = addTo(d.Topics, s.ID, s.Value)
	}
	for i, v := range other.MBTI {
		d.MBTI[i] += v
	}
}

// addTo keeps the sums sorted: rows are always touched in this order, so that
// transactions cannot deadlock each other.
func addTo(sums []Sum, id int64, value float64) []Sum {
	i, found := slices.BinarySearchFunc(sums, id, func(s Sum, id int64) int { return cmp.Compare(s.ID, id) })
	if found {
		sums[i].Value += value
		return sums
	}
	return slices.Insert(sums, i, Sum{ID: id, Value: value})
}
