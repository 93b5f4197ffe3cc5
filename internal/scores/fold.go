package scores

import (
	"cmp"
	"math"
	"slices"

	"aggregator/internal/events"
)

// Book is what an event on a book counts for.
type Book struct {
	GenreID  int64   // if it has one; 0 is as good as any other
	Topics   []int64 // without duplicates
	Letters  Letters // of its MBTI type; none if it has no type
	HasGenre bool
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
	genres, topics := adder{room: len(profile)}, adder{room: 2 * len(profile)}
	var unknown []events.Event
	for _, e := range profile {
		book, known := books[e.BookID]
		if !known {
			unknown = append(unknown, e)
			continue
		}
		if book.HasGenre {
			genres.add(book.GenreID, e.Action.Weight)
		}
		for _, topic := range book.Topics {
			topics.add(topic, e.Action.Weight)
		}
		delta.add(book, e.Action.Weight)
	}
	delta.Genres, delta.Topics = genres.sorted(), topics.sorted()
	return delta, unknown
}

// add adds the letters of a book.
func (d *Delta) add(book Book, weight float64) {
	d.Events++
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
	d.Genres, d.Topics = merge(d.Genres, other.Genres), merge(d.Topics, other.Topics)
	for i, v := range other.MBTI {
		d.MBTI[i] += v
	}
}

// Finite says whether all the sums are numbers: that of two finite weights may be Infinity.
func (d Delta) Finite() bool {
	for _, sums := range [][]Sum{d.Genres, d.Topics} {
		for _, s := range sums {
			if !finite(s.Value) {
				return false
			}
		}
	}
	for _, v := range d.MBTI {
		if !finite(v) {
			return false
		}
	}
	return true
}

func finite(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }

// adder adds up values by id. As long as they are few it keeps them sorted; of many, to insert each
// in its place would take the square of the time, so that it remembers where each is.
type adder struct {
	sums  []Sum
	place map[int64]int // in sums; nil while they are sorted
	room  int           // to begin with
}

const fewSums = 256

func (a *adder) add(id int64, value float64) {
	i, found := a.find(id)
	switch {
	case found:
		a.sums[i].Value += value
	case a.place != nil:
		a.place[id] = len(a.sums)
		a.sums = append(a.sums, Sum{ID: id, Value: value})
	default:
		if a.sums == nil {
			a.sums = make([]Sum, 0, min(a.room, 32))
		}
		a.sums = slices.Insert(a.sums, i, Sum{ID: id, Value: value})
		if len(a.sums) == fewSums {
			a.place = make(map[int64]int, 2*fewSums)
			for i, s := range a.sums {
				a.place[s.ID] = i
			}
		}
	}
}

func (a *adder) find(id int64) (int, bool) {
	if a.place != nil {
		i, found := a.place[id]
		return i, found
	}
	return slices.BinarySearchFunc(a.sums, id, func(s Sum, id int64) int { return cmp.Compare(s.ID, id) })
}

// sorted returns the sums by rising id: rows are always touched in this order, so that
// transactions cannot deadlock each other.
func (a *adder) sorted() []Sum {
	if a.place != nil {
		slices.SortFunc(a.sums, func(s, t Sum) int { return cmp.Compare(s.ID, t.ID) })
	}
	return a.sums
}

func merge(sums, more []Sum) []Sum {
	var a adder
	for _, s := range slices.Concat(sums, more) {
		a.add(s.ID, s.Value)
	}
	return a.sorted()
}
