package cluster

import (
	"maps"
	"slices"
	"time"
)

// Why a source came to an instance, or went.
const (
	MoveFree     = "free"     // taken: no instance had it
	MoveExpired  = "expired"  // taken: its holder is gone
	MoveReturned = "returned" // taken back: it was held under our name
	MoveSurplus  = "surplus"  // given up: another instance is to have it
	MoveLeaving  = "leaving"  // given up: this instance leaves
	MoveUnable   = "unable"   // given up: Redis answers other instances, and not this one
	MoveLost     = "lost"     // another instance has it
	MoveLapsed   = "lapsed"   // it was not renewed in time
)

// Moves are all reasons.
var Moves = []string{MoveFree, MoveExpired, MoveReturned, MoveSurplus, MoveLeaving, MoveUnable, MoveLost, MoveLapsed}

// UnownedBounds are the upper bounds, in seconds, of the buckets of Figures.Unowned.
var UnownedBounds = []float64{.01, .025, .05, .1, .3, 1, 2, 5, 7, 10, 30, 60, 300}

// Figures are what a Keeper has counted since New, and how it is now.
type Figures struct {
	Held    int // sources
	Target  int
	Members int // that share them, as far as is known
	Moves   map[string]int64

	// Unowned says for how long the sources that it took had been without an owner, at most: since it was told
	// that they are free, or last saw them held. If the holder is gone, the time runs from its last renewal.
	Unowned        []uint64 // how many were within each of UnownedBounds
	UnownedCount   uint64
	UnownedSeconds float64
}

func newFigures() Figures {
	f := Figures{Moves: make(map[string]int64), Unowned: make([]uint64, len(UnownedBounds))}
	for _, reason := range Moves {
		f.Moves[reason] = 0
	}
	return f
}

func (f *Figures) moved(reason string) { f.Moves[reason]++ }

func (f *Figures) unowned(d time.Duration) {
	seconds := max(0, d.Seconds())
	f.UnownedCount++
	f.UnownedSeconds += seconds
	for i, bound := range UnownedBounds {
		if seconds <= bound {
			f.Unowned[i]++
		}
	}
}

// Figures may be asked for at any time.
func (k *Keeper) Figures() Figures {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.figures
	f.Moves, f.Unowned = maps.Clone(f.Moves), slices.Clone(f.Unowned)
	f.Held, f.Target, f.Members = len(k.own), k.now.target, k.now.members
	return f
}
