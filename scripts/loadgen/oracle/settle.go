package oracle

// An event of unknown outcome counts once or not at all. For each profile the mark tells
// how many of its uncertain events were applied; settle finds out which, so that the
// rows can be compared with one number: a choice of so many events that explains the
// scores. What helps is that Redis took a beginning of each batch: a profile all or none
// of whose events were applied tells where the batch was cut off, and with that what
// became of the events of other profiles. That is only a hint. Where it does not lead to
// the scores found, every choice is tried; where no choice does, the rows differ.
func (v *verification) settle() {
	cuts := v.cuts()
	for p, events := range v.uncertain {
		n := min(max(v.found.applied[p]-v.applied[p], 0), int64(len(events)))
		chosen := v.choose(p, events, int(n), cuts)
		for i, e := range events {
			if chosen[i] {
				v.apply(p, e.book, e.weight)
			}
		}
	}
}

// cut says that Redis took the events of a batch below lo, and none from hi on.
type cut struct {
	lo, hi int64
	broken bool // what profiles tell of it does not agree
}

func (v *verification) cuts() map[batch]*cut {
	cuts := map[batch]*cut{}
	for _, events := range v.uncertain {
		for _, e := range events {
			c := cuts[e.batch]
			if c == nil {
				c = &cut{lo: e.index, hi: e.index + 1}
				cuts[e.batch] = c
			}
			c.lo, c.hi = min(c.lo, e.index), max(c.hi, e.index+1)
		}
	}
	for changed := true; changed; {
		changed = false
		for p, events := range v.uncertain {
			if v.narrow(v.found.applied[p]-v.applied[p], events, cuts) {
				changed = true
			}
		}
	}
	return cuts
}

// narrow draws conclusions from a profile of whose uncertain events n were applied.
func (v *verification) narrow(n int64, events []uncertain, cuts map[batch]*cut) (changed bool) {
	var open []uncertain
	for _, e := range events {
		switch c := cuts[e.batch]; {
		case c.broken:
			return false
		case e.index < c.lo:
			n--
		case e.index < c.hi:
			open = append(open, e)
		}
	}
	for _, e := range open {
		c := cuts[e.batch]
		switch {
		case n <= 0 && e.index < c.hi:
			c.hi, changed = e.index, true
		case n >= int64(len(open)) && e.index >= c.lo:
			c.lo, changed = e.index+1, true
		}
		c.broken = c.lo > c.hi
	}
	return changed
}

// choose picks n of the events such that they explain the scores found, if there is such
// a choice; else it picks any n.
func (v *verification) choose(p int, events []uncertain, n int, cuts map[batch]*cut) []bool {
	hinted := make([]bool, len(events))
	var open []int
	for i, e := range events {
		c := cuts[e.batch]
		if hinted[i] = !c.broken && e.index < c.lo; !hinted[i] && (c.broken || e.index < c.hi) {
			open = append(open, i)
		}
	}
	if chosen, ok := v.explain(p, events, hinted, open, n); ok {
		return chosen
	}
	all := make([]int, len(events))
	for i := range all {
		all[i] = i
	}
	if chosen, ok := v.explain(p, events, make([]bool, len(events)), all, n); ok {
		return chosen
	}
	first := make([]bool, len(events))
	for i := range n {
		first[i] = true
	}
	return first
}

// explain looks for a choice of n events, those taken already among them, the others out
// of the open ones.
func (v *verification) explain(p int, events []uncertain, taken []bool, open []int, n int) ([]bool, bool) {
	s := newSearch(v.unexplained(p))
	for i, e := range events {
		if taken[i] {
			s.take(e, 1)
			n--
		}
	}
	if n < 0 || n > len(open) {
		return nil, false
	}
	chosen := append([]bool(nil), taken...)
	choice := make([]uncertain, len(open))
	for i, at := range open {
		choice[i] = events[at]
	}
	picked, ok := s.find(choice, n)
	for i, at := range open {
		if ok && picked[i] {
			chosen[at] = true
		}
	}
	return chosen, ok
}

// unexplained is what the profile's scores have above those of its certain events.
func (v *verification) unexplained(p int) (genres, topics, letters []float64) {
	return minus(v.found.genres.of(p), v.genres.of(p)), minus(v.found.topics.of(p), v.topics.of(p)),
		minus(v.found.letters.of(p), v.letters.of(p))
}

func minus(a, b []float64) []float64 {
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	return d
}
