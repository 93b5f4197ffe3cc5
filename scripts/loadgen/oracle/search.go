package oracle

// search looks for a choice of events whose scores add up to what is left.
type search struct {
	left           []float64 // genres, topics and letters, one after the other
	topics, letter int       // where these begin
	steps          int       // that may still be taken: the search must end
}

const mostSteps = 200_000

func newSearch(genres, topics, letters []float64) *search {
	left := append(append(append([]float64(nil), genres...), topics...), letters...)
	return &search{left: left, topics: len(genres), letter: len(genres) + len(topics), steps: mostSteps}
}

// columns calls f with each place that the event touches.
func (s *search) columns(e uncertain, f func(at int)) {
	if e.book.genre >= 0 {
		f(e.book.genre)
	}
	for _, topic := range e.book.topics {
		f(s.topics + topic)
	}
	for _, letter := range e.book.letters {
		f(s.letter + letter)
	}
}

// take counts an event as applied (sign 1), or takes that back (-1).
func (s *search) take(e uncertain, sign float64) {
	s.columns(e, func(at int) { s.left[at] -= sign * e.weight })
}

// find chooses n of the events, the first ones where there are several choices.
func (s *search) find(events []uncertain, n int) (chosen []bool, ok bool) {
	// reach has, for each event, how far down and up those from it on can move a score.
	type span struct{ down, up float64 }
	reach := make([][]span, len(events)+1)
	reach[len(events)] = make([]span, len(s.left))
	for i := len(events) - 1; i >= 0; i-- {
		reach[i] = append([]span(nil), reach[i+1]...)
		s.columns(events[i], func(at int) {
			reach[i][at].down += min(events[i].weight, 0)
			reach[i][at].up += max(events[i].weight, 0)
		})
	}
	chosen = make([]bool, len(events))
	var from func(i, n int) bool
	from = func(i, n int) bool {
		if s.steps--; s.steps < 0 || n < 0 || n > len(events)-i {
			return false
		}
		for at, left := range s.left {
			r := reach[i][at]
			if (left < r.down && !equal(left, r.down)) || (left > r.up && !equal(left, r.up)) {
				return false
			}
		}
		if i == len(events) {
			return true
		}
		s.take(events[i], 1)
		if chosen[i] = true; from(i+1, n-1) {
			return true
		}
		s.take(events[i], -1)
		chosen[i] = false
		return from(i+1, n)
	}
	return chosen, from(0, n)
}
