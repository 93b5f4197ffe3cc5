package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// ErrMore says that there are more incidents of a source than were to be accepted.
var ErrMore = errors.New("there is another incident, which was not shown yet: run verify --accept again")

// Accept ends open incidents of a source, so that its counts agree from here on: what they were off by is
// taken over into the checkpoint, in a new epoch, and any instance that works on the source begins again from
// there. A stream whose ids are before the checkpoint is raised first, or it would be found again. by is the
// instance that was told to. It applies and removes nothing. Safe to repeat, and while the service runs.
// Errors have ErrMore if there are other incidents than the given ones, and ledger.ErrNotInTime as Take's do.
// After any other error the incidents may still be open.
func Accept(
	ctx context.Context, pool *pgxpool.Pool, source *events.Source, incidents []ledger.Incident, by string,
) error {
	ids := make([]int64, len(incidents))
	for i, one := range incidents {
		ids[i] = one.ID
	}
	const attempts = 3
	var err error
	for range attempts {
		if err = accept(ctx, pool, source, ids, by); !errors.Is(err, ledger.ErrReset) {
			break
		}
	}
	return err
}

func accept(ctx context.Context, pool *pgxpool.Pool, source *events.Source, ids []int64, by string) error {
	at, err := ledger.Load(ctx, pool, source.Name())
	if errors.Is(err, ledger.ErrNoCheckpoint) { // which is the incident
		return ledger.AcceptIncidents(ctx, pool, ledger.Checkpoint{Source: source.Name()}, ids, by, ledger.Rebase{})
	}
	if err != nil {
		return err
	}
	state, err := source.Inspect(ctx)
	if err != nil {
		return err
	}
	if at.Position.After(state.Last) {
		if _, err := source.Raise(ctx, at.Position, at.Entries); err != nil {
			return err
		}
	}
	b, err := Take(ctx, pool, source)
	if err != nil {
		return err
	}
	unseen := b.Unrecorded()
	for _, i := range b.Open {
		if !slices.Contains(ids, i.ID) {
			unseen = append(unseen, i)
		}
	}
	if len(unseen) > 0 {
		return fmt.Errorf("%w: %s: %s", ErrMore, source.Name(), unseen[0])
	}
	off := ledger.Rebase{Vanished: b.Vanished(), Difference: b.Difference()}
	return ledger.AcceptIncidents(ctx, pool, b.Checkpoint, ids, by, off)
}
