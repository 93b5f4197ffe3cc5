package aggregator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"aggregator/internal/apply"
	"aggregator/internal/events"
)

// breaker stops a source most of whose entries would become dead letters. That is not bad data but a wrong
// key, a wrong database, or settings without an action that producers send, and a person has to look before a
// million dead letters are written. It looks at the latest chunks: as few as hold so many entries as the
// window has. Until there are so many it does nothing. It knows neither Redis nor PostgreSQL nor the clock.
type breaker struct {
	share  float64 // of the entries that may be dead letters; with more it trips; 1 or more: never trips
	window int     // how many entries it takes to judge; 0: never trips
	chunks []apply.Census
	total  apply.Census
}

// check says whether the chunk may be processed. It changes nothing: a chunk that is read again after an
// error is counted once, when it is processed. A chunk without dead letters may always be.
func (b *breaker) check(chunk apply.Census) error {
	if b.share >= 1 || b.window == 0 || len(chunk.Dead) == 0 {
		return nil
	}
	latest := apply.Census{}
	latest.Plus(b.total, 1)
	latest.Plus(chunk, 1)
	for _, oldest := range b.chunks {
		if latest.Entries-oldest.Entries < b.window {
			break
		}
		latest.Plus(oldest, -1)
	}
	dead := latest.DeadEntries()
	if latest.Entries < b.window || float64(dead) <= b.share*float64(latest.Entries) {
		return nil
	}
	return &tooManyDead{latest, b.share}
}

// processed remembers a chunk.
func (b *breaker) processed(chunk apply.Census) {
	b.chunks = append(b.chunks, chunk)
	b.total.Plus(chunk, 1)
	for len(b.chunks) > 1 && b.total.Entries-b.chunks[0].Entries >= b.window {
		b.total.Plus(b.chunks[0], -1)
		b.chunks = b.chunks[1:]
	}
}

// tooManyDead is the error with which a breaker trips.
type tooManyDead struct {
	apply.Census
	share float64
}

func (e *tooManyDead) Misconfigured() {}

func (e *tooManyDead) Error() string {
	reasons := slices.SortedFunc(maps.Keys(e.Dead), func(a, b events.Reason) int {
		return cmp.Or(cmp.Compare(e.Dead[b], e.Dead[a]), cmp.Compare(a, b))
	})
	most := make([]string, 0, 3)
	for _, reason := range reasons[:min(3, len(reasons))] {
		most = append(most, fmt.Sprintf("%d %s", e.Dead[reason], reason))
	}
	return fmt.Sprintf("%d of the last %d entries cannot be applied (%s), more than dead.max_share = %g allows; "+
		"the latest are still in Redis and no dead letter of them was written; %s, and start again; or raise dead.max_share",
		e.DeadEntries(), e.Entries, strings.Join(most, ", "), e.share, remedy(reasons[0]))
}

// remedy says what a person should look at.
func remedy(most events.Reason) string {
	switch most {
	case events.UnknownAction:
		return "add the action to events.weights"
	case events.UnknownProfile, events.UnknownBook:
		return "check whether postgres.url is the database that the producer's application uses"
	case events.DataError:
		return "check what PostgreSQL refuses, and why (aggregator doctor)"
	}
	return "check whether source.key is the right key, and what its producer sends"
}
