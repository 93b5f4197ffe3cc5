package aggregator

import (
	"slices"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"aggregator/internal/events"
	"aggregator/internal/history"
	"aggregator/internal/ledger"
	"aggregator/internal/scores"
)

// catalogue is what is known of the profiles and books of a chunk.
type catalogue struct {
	profiles map[int64]struct{}
	books    map[int64]scores.Book
	types    history.Types
	from     ledger.Checkpoint // where the chunk begins
	coalesce bool              // a profile's last event on a book is its only one

	// incomplete says that a score was found without a row: from there on, transactions
	// create what they need.
	incomplete *atomic.Bool
}

// creating is the same, for transactions that create the scores that they need.
func (c catalogue) creating() catalogue {
	c.incomplete = new(atomic.Bool)
	c.incomplete.Store(true)
	return c
}

// changes says whether a run has something to add to the scores of its profile.
func (c catalogue) changes(r run) bool {
	if _, known := c.profiles[r.profileID]; !known {
		return false
	}
	return slices.ContainsFunc(r.events, func(e events.Event) bool {
		_, listed := c.books[e.BookID]
		return listed && e.Action != nil
	})
}

// tally counts the events of transactions by what becomes of them, and the profiles whose
// scores they change.
type tally struct{ applied, dead, updated int }

func (t *tally) plus(other tally) {
	t.applied += other.applied
	t.dead += other.dead
	t.updated += other.updated
}

// tally counts what a transaction for the run alone does.
func (c catalogue) tally(r run) tally {
	_, total := c.transaction([]run{r})
	return total
}

// transaction composes what settles the runs at once. They must be of different
// profiles, by rising id.
func (c catalogue) transaction(runs []run) (*pgx.Batch, tally) {
	var (
		total   tally
		moves   = make([]ledger.Move, 0, len(runs))
		deltas  = make([]scores.Delta, 0, len(runs))
		letters []ledger.DeadLetter
	)
	for _, r := range runs {
		delta, dead := c.fold(r)
		applied := len(r.events) - len(dead)
		if delta.Events > 0 {
			deltas = append(deltas, delta)
			total.updated++
		}
		letters = append(letters, dead...)
		moves = append(moves, ledger.Move{ProfileID: r.profileID, Seen: r.seen, To: r.last(), Applied: applied})
		total.applied += applied
		total.dead += len(dead)
	}
	batch := &pgx.Batch{}
	ledger.Advance(batch, c.from, moves)
	ledger.Bury(batch, c.from.Source, letters)
	if len(deltas) > 0 {
		history.Queue(batch, deltas, c.types, c.incomplete.Load())
	}
	return batch, total
}

// revival composes what applies a dead letter's event from its row. If the event still
// cannot be applied, it returns why, and no batch. Alone with its event it is a chunk of
// its own: events.coalesce has nothing to leave out.
func (c catalogue) revival(id ledger.LetterID, e events.Event) (*pgx.Batch, string) {
	delta, dead := c.fold(run{profileID: e.ProfileID, events: []events.Event{e}})
	if len(dead) > 0 {
		return nil, dead[0].Detail
	}
	batch := &pgx.Batch{}
	ledger.Revive(batch, id, e)
	history.Queue(batch, []scores.Delta{delta}, c.types, true)
	return batch, ""
}

// fold adds up a run; what cannot be added up is dead.
func (c catalogue) fold(r run) (scores.Delta, []ledger.DeadLetter) {
	counted, weightless := weighed(r.events)
	var dead []ledger.DeadLetter
	for _, e := range weightless {
		_, _, detail := (events.Decoder{}).Decode(e.Payload()) // which knows no actions
		dead = append(dead, ledger.Unapplied(e, events.UnknownAction, detail))
	}
	if _, known := c.profiles[r.profileID]; !known {
		return scores.Delta{}, append(dead, unapplied(counted, events.UnknownProfile, profileUnknown)...)
	}
	if c.coalesce {
		counted = events.Coalesce(slices.Clone(counted))
	}
	delta, unknown := scores.Fold(r.profileID, counted, c.books)
	return delta, append(dead, unapplied(unknown, events.UnknownBook, bookUnknown)...)
}

// weighed parts the events that have a weight from those that have none, which are few.
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

func unapplied(list []events.Event, reason events.Reason, detail string) []ledger.DeadLetter {
	letters := make([]ledger.DeadLetter, len(list))
	for i, e := range list {
		letters[i] = ledger.Unapplied(e, reason, detail)
	}
	return letters
}

// burial passes a single event that PostgreSQL refuses.
func burial(from ledger.Checkpoint, r run, refusal *pgconn.PgError) *pgx.Batch {
	letter := ledger.Unapplied(r.events[0], events.DataError, refusal.Message)
	letter.SQLState = &refusal.Code
	batch := &pgx.Batch{}
	ledger.Advance(batch, from, []ledger.Move{{ProfileID: r.profileID, Seen: r.seen, To: r.last()}})
	ledger.Bury(batch, from.Source, []ledger.DeadLetter{letter})
	return batch
}
