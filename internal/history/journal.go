package history

import (
	"fmt"

	"aggregator/internal/events"
)

// Entry is an event as the journal has it.
type Entry struct {
	Position events.Position
	BookID   int64
	Weight   float64 // what it added to the scores
}

// Packed is events as the columns of aggregator.journal have them, in order.
type Packed struct {
	Positions []int64 // ms * 2^20 + seq of each; or ms and seq of each, if one of them does not fit
	Books     []int64
	Weights   []float32 // of each; nil if one of them is not exact as float32
	Exact     []float64 // nil unless Weights is
}

// A position takes one number if its milliseconds are below 2^43, which they are until the year 2248, and its
// sequence number is below 2^20.
const (
	seqBits = 20
	msBits  = 43
)

// Fit says whether the position of each event takes only one number.
func Fit(all []events.Event) bool {
	for i := range all {
		if at := all[i].Position; at.Ms>>msBits != 0 || at.Seq>>seqBits != 0 {
			return false
		}
	}
	return true
}

// Pack lays out events that have an action.
func Pack(all []events.Event) Packed {
	p := Packed{
		Positions: make([]int64, 0, len(all)), Books: make([]int64, len(all)), Weights: make([]float32, len(all)),
	}
	fit := Fit(all)
	for i := range all {
		e := &all[i]
		if fit {
			p.Positions = append(p.Positions, e.Position.Ms<<seqBits|e.Position.Seq)
		} else {
			p.Positions = append(p.Positions, e.Position.Ms, e.Position.Seq)
		}
		p.Books[i] = e.BookID
		if p.Weights != nil {
			p.Weights[i] = float32(e.Action.Weight)
			if float64(p.Weights[i]) != e.Action.Weight {
				p.Weights = nil
			}
		}
	}
	if p.Weights == nil {
		p.Exact = make([]float64, len(all))
		for i := range all {
			p.Exact[i] = all[i].Action.Weight
		}
	}
	return p
}

// Entries are the events. The error says that the columns do not belong together.
func (p Packed) Entries() ([]Entry, error) {
	n := len(p.Books)
	weighed := len(p.Weights) == n || len(p.Exact) == n
	if !weighed || len(p.Positions) != n && len(p.Positions) != 2*n {
		return nil, fmt.Errorf("the journal has %d positions, %d books and %d weights",
			len(p.Positions), n, max(len(p.Weights), len(p.Exact)))
	}
	all := make([]Entry, n)
	for i := range all {
		e := &all[i]
		e.BookID = p.Books[i]
		if len(p.Positions) == n {
			e.Position = events.Position{Ms: p.Positions[i] >> seqBits, Seq: p.Positions[i] & (1<<seqBits - 1)}
		} else {
			e.Position = events.Position{Ms: p.Positions[2*i], Seq: p.Positions[2*i+1]}
		}
		if len(p.Exact) == n {
			e.Weight = p.Exact[i]
		} else {
			e.Weight = float64(p.Weights[i])
		}
	}
	return all, nil
}
