package aggregator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"aggregator/internal/events"
)

// breaker stops a source most of whose entries would become dead letters: that is not bad
// data but a wrong key, a wrong database, or settings without an action that producers
// send, and a person has to look before a million letters are written. It looks at the
// latest chunks, as few as have so many entries; until there are so many it is silent.
// It knows neither Redis nor PostgreSQL nor the clock.
type breaker struct {
	share  float64 // of the entries: more must not be dead; 1 or more: never trips
	window int     // entries that it takes to judge; 0: never trips
	chunks []census
	total  census
}

// census counts the entries of a chunk.
type census struct {
	entries int
	dead    map[events.Reason]int // nil: none
}

func (c census) deadEntries() (n int) {
	for _, of := range c.dead {
		n += of
	}
	return n
}

func (c *census) bury(reason events.Reason, n int) {
	if c.dead == nil {
		c.dead = make(map[events.Reason]int)
	}
	if c.dead[reason] += n; c.dead[reason] == 0 {
		delete(c.dead, reason)
	}
}

// plus adds another census, sign times.
func (c *census) plus(other census, sign int) {
	c.entries += sign * other.entries
	for reason, n := range other.dead {
		c.bury(reason, sign*n)
	}
}

// check says whether the chunk may be settled. It changes nothing: a chunk that is read
// again after an error is counted once, when it is settled. A chunk without dead letters
// is always let through.
func (b *breaker) check(chunk census) error {
	if b.share >= 1 || b.window == 0 || len(chunk.dead) == 0 {
		return nil
	}
	latest := census{}
	latest.plus(b.total, 1)
	latest.plus(chunk, 1)
	for _, oldest := range b.chunks {
		if latest.entries-oldest.entries < b.window {
			break
		}
		latest.plus(oldest, -1)
	}
	dead := latest.deadEntries()
	if latest.entries < b.window || float64(dead) <= b.share*float64(latest.entries) {
		return nil
	}
	return &tooManyDead{latest, b.share}
}

// settled remembers a chunk.
func (b *breaker) settled(chunk census) {
	b.chunks = append(b.chunks, chunk)
	b.total.plus(chunk, 1)
	for len(b.chunks) > 1 && b.total.entries-b.chunks[0].entries >= b.window {
		b.total.plus(b.chunks[0], -1)
		b.chunks = b.chunks[1:]
	}
}

// tooManyDead is the error with which a breaker trips.
type tooManyDead struct {
	census
	share float64
}

func (e *tooManyDead) misconfigured() {}

func (e *tooManyDead) Error() string {
	reasons := slices.SortedFunc(maps.Keys(e.dead), func(a, b events.Reason) int {
		return cmp.Or(cmp.Compare(e.dead[b], e.dead[a]), cmp.Compare(a, b))
	})
	most := make([]string, 0, 3)
	for _, reason := range reasons[:min(3, len(reasons))] {
		most = append(most, fmt.Sprintf("%d %s", e.dead[reason], reason))
	}
	return fmt.Sprintf("%d of the last %d entries cannot be applied (%s), more than dead.max_share = %g allows; "+
		"the latest are still in Redis and no dead letter of them was written; %s, and start again; or raise dead.max_share",
		e.deadEntries(), e.entries, strings.Join(most, ", "), e.share, remedy(reasons[0]))
}

// remedy says what a person should look at.
func remedy(most events.Reason) string {
	switch most {
	case events.UnknownAction:
		return "add the action to events.weights"
	case events.UnknownProfile, events.UnknownBook:
		return "see whether postgres.url is the database that the producer's application uses"
	case events.DataError:
		return "see what PostgreSQL refuses, and why (aggregator doctor)"
	}
	return "see whether source.key is the right key and what its producer sends"
}
