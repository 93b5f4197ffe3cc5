// Package audit reconciles: it finds out whether every entry that Redis was ever given is applied, a dead
// letter, or still there.
//
// Two accounts are kept independently of the checkpoint's count of entries. In PostgreSQL each mark counts
// the events applied to its profile, and each dead letter is a row, or was one and is counted; their sum shows
// what was lost or counted twice. Redis counts the entries ever added to a stream; that count minus the
// entries that are left shows what was removed unread.
//
// The accounts may be read at any time, while producers push and any number of instances drain. The
// checkpoint is held for a moment (see ledger.Hold), which makes a daemon wait, and what was applied after it
// is counted event by event.
//
// Whether scores are what was written last is another comparison (Scores): that of each profile with its
// latest row of history. Neither compares scores with events, nor knows what Redis itself has forgotten,
// stream and count alike.
package audit

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// Take draws up the balance of a source. Errors have ledger.ErrNoCheckpoint when there is nothing to account
// for yet. They have ledger.ErrNotInTime when it could not be done, in several tries, without disturbing the
// daemon for too long: a chunk in flight of some hundred thousand events, or as many entries both waiting and
// retained. It changes nothing.
func Take(ctx context.Context, pool *pgxpool.Pool, source *events.Source) (b Balance, err error) {
	const attempts = 3
	for range attempts {
		if b, err = take(ctx, pool, source); !errors.Is(err, ledger.ErrNotInTime) {
			break
		}
	}
	return b, err
}

func take(ctx context.Context, pool *pgxpool.Pool, source *events.Source) (b Balance, err error) {
	err = ledger.Hold(ctx, pool, source.Name(), func(ctx context.Context, books ledger.Accounts) error {
		at := books.Checkpoint
		b = Balance{Processed: at.Entries - at.Base, Applied: books.Applied, Dead: books.Dead, Read: at.Entries}
		census, err := source.Census(ctx, at.Position, at.Entries)
		if err != nil {
			return err
		}
		b.Added, b.Unprocessed = census.Added, census.Left
		b.Checkpoint = at
		// While the checkpoint is held, no instance that works from it moves the bookmark past it.
		state, err := source.Inspect(ctx)
		if err != nil {
			return err
		}
		if m := state.Bookmark; m != nil && m.Position.After(at.Position) {
			b.bookmark = *m
		}
		b.explain(books.Incidents)
		b.InFlight, err = source.CountMarked(ctx, at.Position, books.PastCheckpoint)
		return err
	})
	return b, err
}
