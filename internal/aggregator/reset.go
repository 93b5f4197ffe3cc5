package aggregator

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/crash"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// ResetPreview is what a reset of a source would lead to, in entries.
type ResetPreview struct {
	Held  int64 // in Redis now: all of them will be counted
	Again int64 // of these, those at or before the checkpoint, or in flight: counted before
}

// PreviewReset says what a reset of a source would lead to. It changes nothing.
func PreviewReset(ctx context.Context, pool *pgxpool.Pool, source *events.Source) (f ResetPreview, err error) {
	at, err := ledger.Load(ctx, pool, source.Name())
	if err != nil && !errors.Is(err, ledger.ErrNoCheckpoint) {
		return f, err
	}
	if f.Again, f.Held, err = source.Held(ctx, at.Position); err != nil || at.Updated.IsZero() {
		return f, err
	}
	marks, err := ledger.MarksPast(ctx, pool, at)
	if err != nil {
		return f, err
	}
	inFlight, err := source.CountMarked(ctx, at.Position, marks)
	f.Again += inFlight
	return f, err
}

// Reset forgets up to where the sources are processed: all entries that are in Redis are counted from the
// beginning, also those that were counted before. See ledger.Reset.
//
// What tells processed entries from others is all in PostgreSQL, and changes in one commit. Redis has only the
// bookmark and the fence, and nothing is read by these. Before that commit, while no process can read a checkpoint,
// the bookmark is put back and a new fence is made. From this moment on, no attempt trims to a checkpoint that it
// has read before (events.Source.Trim). If Reset is killed before the commit, all is as it was: the next attempt on
// the source moves the bookmark forward again. If it is killed after the commit, all is done.
//
// The last id of a stream that was raised is left as it is: new entries come after it, and a reader that
// begins at zero sees those before it, too.
func Reset(ctx context.Context, pool *pgxpool.Pool, sources []*events.Source) ([]ledger.ResetSource, error) {
	names, byName := make([]string, len(sources)), make(map[string]*events.Source)
	for i, source := range sources {
		names[i], byName[source.Name()] = source.Name(), source
	}
	crash.At("before_reset")
	done, err := ledger.Reset(
		ctx, pool, names, func(ctx context.Context, name string, after, to events.Position, drop func([]events.Entry) error) (
			int64, error,
		) {
			source := byName[name]
			state, err := source.Rewind(ctx)
			if err != nil {
				return 0, err
			}
			crash.At("rewound")
			if to.After(state.Last) {
				to = state.Last
			}
			return state.Added - state.Length, source.Entries(ctx, after, to, drop)
		})
	crash.At("after_reset")
	return done, err
}
