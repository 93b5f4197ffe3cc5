package aggregator

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"aggregator/internal/events"
)

// refuse processes the runs that PostgreSQL refuses for their data: the events that it refuses
// become dead letters, the others are applied. Before anything is written it is decided whether
// the data is to blame at all: each run is tried in a transaction that is rolled back. If the same
// refusal strikes one profile after the other, or the dead letters become too many, the error says
// that the deployment is wrong, and no dead letter is written.
func (p *partition) refuse(ctx context.Context, f *flight, data []refused, expected *census) error {
	if len(data) == 0 {
		p.streak.applied(int(p.hand.updated.Load()))
		return nil
	}
	// The schema may have changed since the attempt began.
	if err := Probe(ctx, p.pool, p.source.Name()); err != nil {
		return err
	}
	why := make(map[int64]*pgconn.PgError, len(data))
	for _, r := range data {
		why[r.runs[0].profileID] = r.why
	}
	for _, r := range f.due {
		refusal := why[r.profileID]
		if refusal == nil {
			if f.known.changes(r) {
				p.streak.applied(1)
			}
			continue
		}
		trial, err := p.isolate(ctx, r, refusal, f.known, false)
		if err != nil {
			return err
		}
		if trial.applied > 0 {
			p.streak.applied(1)
		} else {
			p.streak.refused(refusal)
		}
		expected.bury(events.DataError, trial.refused)
		if err := errors.Join(p.streak.broken(), p.dead.check(*expected)); err != nil {
			return err
		}
	}
	if err := p.streak.verdict(); err != nil {
		return err
	}
	for _, r := range f.due {
		if why[r.profileID] == nil {
			continue
		}
		done, err := p.isolate(ctx, r, why[r.profileID], f.known, true)
		if err != nil {
			return err
		}
		f.mark([]run{r}, committed)
		p.settled(done.tally)
	}
	return nil
}

// isolated is what becomes of a run that PostgreSQL has refused as a whole.
type isolated struct {
	tally
	refused int // events that it refuses one by one
}

// isolate applies a run that PostgreSQL refuses for its data, in ever smaller runs; an event
// that is refused alone becomes a dead letter. Each smaller run leaves a history row. All of
// it is one transaction, which is committed or, if it is only to find out, rolled back.
func (p *partition) isolate(ctx context.Context, r run, why *pgconn.PgError, known catalogue,
	keep bool,
) (done isolated, err error) {
	known = known.creating() // no smaller run may be refused for a row that is not there
	ctx, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	err = pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		// A deferred constraint would speak up only at the commit, when it is too late to isolate.
		if _, err := tx.Exec(ctx, `SET CONSTRAINTS ALL IMMEDIATE`); err != nil {
			return err
		}
		if err := split(ctx, tx, r, why, known, &done); err != nil {
			return err
		}
		if !keep {
			return errTrial
		}
		return nil
	})
	if err != nil && !errors.Is(err, errTrial) {
		return done, fmt.Errorf("applying events of profile %d: %w", r.profileID, err)
	}
	p.progressed()
	return done, nil
}

// errTrial rolls a trial back.
var errTrial = errors.New("only a trial")

// split applies the halves of a run that was refused, each behind a savepoint.
func split(ctx context.Context, tx pgx.Tx, r run, why *pgconn.PgError, known catalogue, done *isolated) error {
	if len(r.events) == 1 {
		if err := send(ctx, tx, burial(known.from, r, why)); err != nil {
			return fmt.Errorf("writing a dead letter: %w", err)
		}
		done.dead++
		done.refused++
		return nil
	}
	first, second := r.halves()
	for _, half := range []run{first, second} {
		batch, total := known.transaction([]run{half})
		err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error { return send(ctx, savepoint, batch) })
		var refusal *pgconn.PgError
		switch {
		case err == nil:
			done.plus(total)
		case errors.As(err, &refusal) && refusesData(refusal, r):
			if err := split(ctx, tx, half, refusal, known, done); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return nil
}

// refusesData says whether a transaction that creates its rows was refused for its data.
func refusesData(refusal *pgconn.PgError, r run) bool {
	switch Classify(refusal) {
	case Data, Incomplete:
		return true
	case Gone:
		return r.tried.found
	}
	return false
}

func send(ctx context.Context, tx pgx.Tx, batch *pgx.Batch) error {
	return tx.SendBatch(ctx, batch).Close()
}
