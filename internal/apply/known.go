package apply

import (
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/history"
	"aggregator/internal/ledger"
	"aggregator/internal/scores"
)

// known is what was looked up for a chunk.
type known struct {
	profiles map[int64]struct{}
	books    map[int64]scores.Book
	rules    rules
	from     ledger.Checkpoint // where the chunk begins
	coalesce bool              // a profile's last event on a book is its only one
}

// changes says whether a segment has something to add to the scores of its profile.
func (k known) changes(seg segment) bool {
	if _, known := k.profiles[seg.profileID]; !known {
		return false
	}
	return slices.ContainsFunc(seg.events, func(e events.Event) bool {
		_, listed := k.books[e.BookID]
		return listed && e.Action != nil
	})
}

// Tally counts the events of transactions by what becomes of them, and the profiles whose
// scores they change.
type Tally struct{ Applied, Dead, Updated int }

func (t *Tally) plus(other Tally) {
	t.Applied += other.Applied
	t.Dead += other.Dead
	t.Updated += other.Updated
}

// tally counts what a transaction does that has only this segment.
func (k known) tally(seg segment) Tally {
	_, _, t := k.change(seg)
	return t
}

// change says what processes a segment: what to write for its profile, and its dead letters.
func (k known) change(seg segment) (change, []deadletter.Content, Tally) {
	delta, counted, dead := k.fold(seg)
	t := Tally{Applied: len(seg.events) - len(dead), Dead: len(dead)}
	if delta.Events > 0 {
		t.Updated = 1
	}
	ch := change{
		delta: delta, seen: seg.seen, to: seg.last(), applied: t.Applied,
		careful: seg.tried.careful, events: counted,
	}
	return ch, dead, t
}

// unit is what is sent at once, with one answer.
type unit struct {
	batch    *pgx.Batch
	segments []segment
	each     []Tally // of each segment in a call with a transaction for each segment; nil: all of it is one transaction
	Tally
}

// units composes what processes segments of different profiles, by rising id: one transaction, or one call
// with a transaction for each segment. Segments that neither can take get a transaction of their own.
func (k known) units(segments []segment, inOne bool) []unit {
	var (
		alone   []unit
		shared  unit
		changes = make([]change, 0, len(segments))
		letters []deadletter.Content
	)
	for _, seg := range segments {
		ch, dead, t := k.change(seg)
		if len(segments) > 1 && (inOne && ch.careful || !inOne && (len(dead) > 0 || !history.Fit(ch.events)) ||
			!ch.delta.Finite()) {
			alone = append(alone, k.transaction([]segment{seg}, []change{ch}, dead, t))
			continue
		}
		changes, letters = append(changes, ch), append(letters, dead...)
		shared.segments = append(shared.segments, seg)
		shared.each = append(shared.each, t)
		shared.plus(t)
	}
	switch {
	case len(changes) == 0:
		return alone
	case inOne || len(changes) == 1:
		return append(alone, k.transaction(shared.segments, changes, letters, shared.Tally))
	}
	shared.batch = &pgx.Batch{}
	queueEach(shared.batch, k.from, k.rules, changes)
	return append(alone, shared)
}

func (k known) transaction(segments []segment, changes []change, letters []deadletter.Content, total Tally) unit {
	batch := &pgx.Batch{}
	queueTogether(batch, k.from, k.rules, changes)
	deadletter.Queue(batch, k.from.Source, letters)
	return unit{batch: batch, segments: segments, Tally: total}
}

// revival composes what applies a dead letter's event from its row. If the event still cannot be applied,
// it returns why, and no batch. The event is alone, as if in a chunk of its own: events.coalesce has
// nothing to leave out.
func (k known) revival(id deadletter.ID, e events.Event) (*pgx.Batch, string) {
	delta, counted, dead := k.fold(segment{profileID: e.ProfileID, events: []events.Event{e}})
	if len(dead) > 0 {
		return nil, dead[0].Detail
	}
	batch := &pgx.Batch{}
	deadletter.QueueApplied(batch, id, e)
	from := k.from
	if k.rules.journal {
		from.Source = id.Source // for the journal alone: no mark is moved
	}
	queueOne(batch, from, k.rules, change{delta: delta, careful: true, events: counted})
	return batch, ""
}

// fold adds up a segment, and returns the events that it has added up, if there is a journal; events that cannot
// be added up are returned as dead letters.
func (k known) fold(seg segment) (scores.Delta, []events.Event, []deadletter.Content) {
	counted, weightless := weighed(seg.events)
	var dead []deadletter.Content
	for _, e := range weightless {
		_, _, detail := (events.Decoder{}).Decode(e.Payload()) // which knows no actions
		dead = append(dead, deadletter.Unapplied(e, events.UnknownAction, detail))
	}
	if _, known := k.profiles[seg.profileID]; !known {
		return scores.Delta{ProfileID: seg.profileID}, nil,
			append(dead, unapplied(counted, events.UnknownProfile, profileUnknown)...)
	}
	if k.coalesce {
		counted = events.Coalesce(slices.Clone(counted))
	}
	delta, unknown := scores.Fold(seg.profileID, counted, k.books)
	dead = append(dead, unapplied(unknown, events.UnknownBook, bookUnknown)...)
	switch {
	case !k.rules.journal:
		return delta, nil, dead
	case len(unknown) > 0:
		counted = slices.DeleteFunc(slices.Clone(counted), func(e events.Event) bool {
			_, listed := k.books[e.BookID]
			return !listed
		})
	}
	return delta, counted, dead
}

// foldOnto adds a segment to the scores that there are. If the sum is not finite, PostgreSQL would refuse the
// whole segment, which is then applied in halves (see split). foldOnto does the same: the events that PostgreSQL
// would have refused become dead letters.
func (k known) foldOnto(before scores.Delta, seg segment) (scores.Delta, []deadletter.Content) {
	delta, _, dead := k.fold(seg)
	if delta.Merge(before); delta.Finite() || len(seg.events) == 0 {
		return delta, dead
	}
	if len(seg.events) == 1 {
		total := scores.Delta{ProfileID: seg.profileID}
		total.Merge(before)
		return total, unapplied(seg.events, events.DataError, "a sum of events is not a finite number")
	}
	first, second := seg.halves()
	total, dead := k.foldOnto(before, first)
	total, more := k.foldOnto(total, second)
	return total, append(dead, more...)
}

// weighed separates the events that have a weight from those that have none, which are few.
func weighed(all []events.Event) (with, without []events.Event) {
	none := func(e events.Event) bool { return e.Action == nil }
	if !slices.ContainsFunc(all, none) {
		return all, nil
	}
	for _, e := range all {
		if none(e) {
			without = append(without, e)
		} else {
			with = append(with, e)
		}
	}
	return with, without
}

const (
	profileUnknown = "there is no such child profile"
	bookUnknown    = "there is no such book"
)

func unapplied(list []events.Event, reason events.Reason, detail string) []deadletter.Content {
	letters := make([]deadletter.Content, len(list))
	for i, e := range list {
		letters[i] = deadletter.Unapplied(e, reason, detail)
	}
	return letters
}

// deadLetterAlone makes a dead letter of a single event that PostgreSQL refuses.
func deadLetterAlone(from ledger.Checkpoint, seg segment, refusal *pgconn.PgError) *pgx.Batch {
	letter := deadletter.Unapplied(seg.events[0], events.DataError, refusal.Message)
	letter.SQLState = &refusal.Code
	batch := &pgx.Batch{}
	queueOne(batch, from, rules{}, change{delta: scores.Delta{ProfileID: seg.profileID}, seen: seg.seen, to: seg.last()})
	deadletter.Queue(batch, from.Source, []deadletter.Content{letter})
	return batch
}
