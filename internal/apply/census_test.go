package apply

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"aggregator/internal/events"
)

func TestCensus(t *testing.T) {
	event := func(profile, book int64) events.Event {
		return events.Event{ProfileID: profile, BookID: book, Action: &events.Action{Name: "LIKE", Weight: 2}}
	}
	all := []events.Event{event(1, 1), event(1, 2), event(2, 1), event(3, 9), event(3, 1)}
	batch := &events.Batch{
		Events: all, Entries: 8,
		Rejected: []events.Rejection{{Reason: events.Malformed}, {Reason: events.UnknownAction}, {Reason: events.Malformed}},
	}
	segments := group(all)
	of := func(due []segment) Census { // of some profiles, and no book
		c := Chunk{batch: batch, due: due, known: known{profiles: map[int64]struct{}{1: {}, 3: {}}}}
		return c.Census()
	}
	assert.Equal(t, map[events.Reason]int{
		events.Malformed: 2, events.UnknownAction: 1, events.UnknownProfile: 1, events.UnknownBook: 4,
	}, of(segments).Dead)
	assert.Equal(t, 8, of(segments[2:]).Entries, "also those that are not due")
	assert.Equal(t, 2, of(segments[2:]).Dead[events.UnknownBook])
}
