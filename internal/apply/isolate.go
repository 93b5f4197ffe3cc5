package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"aggregator/internal/events"
	"aggregator/internal/postgres"
	"aggregator/internal/verdict"
)

// refuse processes the segments that PostgreSQL refuses for their data: the events that it refuses become
// dead letters, the others are applied. Before anything is written, each segment is tried in a transaction
// that is rolled back, to decide whether the data is to blame at all. If profiles one after the other meet
// the same refusal, or the dead letters become too many, the error says that it is a misconfiguration, and no
// dead letter is written.
func (c *Chunk) refuse(ctx context.Context, data []refused, expected *Census, check func(Census) error) error {
	a := c.applier
	if len(data) == 0 {
		a.streak.applied(int(c.updated.Load()))
		return nil
	}
	if err := a.probe(ctx); err != nil { // the schema may have changed since the attempt began
		return err
	}
	of := make(map[int64]refused, len(data))
	for _, r := range data {
		of[r.segments[0].profileID] = r
	}
	for _, seg := range c.due {
		refusal, found := of[seg.profileID]
		if !found {
			if c.known.changes(seg) {
				a.streak.applied(1)
			}
			continue
		}
		trial, err := c.isolate(ctx, refusal, false)
		if err != nil {
			return err
		}
		if trial.Applied > 0 {
			a.streak.applied(1)
		} else {
			a.streak.refused(refusal.why)
		}
		expected.AddDead(events.DataError, trial.refused)
		if err := errors.Join(a.streak.broken(), check(*expected)); err != nil {
			return err
		}
	}
	if err := a.streak.verdict(); err != nil {
		return err
	}
	for _, seg := range c.due {
		refusal, found := of[seg.profileID]
		if !found {
			continue
		}
		done, err := c.isolate(ctx, refusal, true)
		if err != nil {
			return err
		}
		c.mark([]segment{seg}, committed)
		c.countCommitted(done.Tally)
	}
	return nil
}

func (a *Applier) probe(ctx context.Context) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	return Probe(ctx, a.Pool, a.Source, a.Options.Journal)
}

// isolated is what becomes of a segment that PostgreSQL has refused as a whole.
type isolated struct {
	Tally
	refused int // events that it refuses one by one
}

// isolate applies a segment that PostgreSQL refuses for its data, in smaller and smaller segments; an event
// that is refused alone becomes a dead letter. Each smaller segment leaves a history row. All of it is one
// transaction, which is committed or, if it is only to find out, rolled back.
func (c *Chunk) isolate(ctx context.Context, refusal refused, keep bool) (done isolated, err error) {
	seg := refusal.segments[0]
	seg.tried.careful = true // no smaller segment may be refused for a row that is not there
	ctx, cancel := c.applier.bounded(ctx)
	defer cancel()
	err = pgx.BeginFunc(ctx, c.applier.Pool, func(tx pgx.Tx) error {
		// A deferred constraint would be checked only at the commit, when it is too late to isolate.
		if _, err := tx.Exec(ctx, `SET CONSTRAINTS ALL IMMEDIATE`); err != nil {
			return err
		}
		if postgres.OnCitus(tx.Conn().Config()) {
			if _, err := tx.Exec(ctx, postgres.TwoPhase); err != nil {
				return err
			}
		}
		if err := split(ctx, tx, seg, refusal.why, c.known, &done); err != nil {
			return err
		}
		if !keep {
			return errTrial
		}
		return nil
	})
	if err != nil && !errors.Is(err, errTrial) {
		return done, fmt.Errorf("applying events of profile %d: %w", seg.profileID, err)
	}
	c.applier.Committed(Tally{}) // it makes progress
	return done, nil
}

// errTrial rolls a trial back.
var errTrial = errors.New("only a trial")

// split applies the halves of a segment that was refused, each after a savepoint of its own.
func split(ctx context.Context, tx pgx.Tx, seg segment, why *pgconn.PgError, known known, done *isolated) error {
	if len(seg.events) == 1 {
		if err := send(ctx, tx, deadLetterAlone(known.from, seg, why)); err != nil {
			return fmt.Errorf("writing a dead letter: %w", err)
		}
		done.Dead++
		done.refused++
		return nil
	}
	first, second := seg.halves()
	for _, half := range []segment{first, second} {
		u := known.units([]segment{half}, true)[0]
		err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error { return send(ctx, savepoint, u.batch) })
		var refusal *pgconn.PgError
		switch {
		case err == nil:
			done.plus(u.Tally)
		case errors.As(err, &refusal) && refusesData(refusal, seg):
			if err := split(ctx, tx, half, refusal, known, done); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return nil
}

// refusesData says whether a transaction that was made with care was refused for its data.
func refusesData(refusal *pgconn.PgError, seg segment) bool {
	switch verdict.Of(refusal) {
	case verdict.Data, verdict.Incomplete:
		return true
	case verdict.Gone:
		return seg.tried.found
	}
	return false
}

func send(ctx context.Context, tx pgx.Tx, batch *pgx.Batch) error {
	return tx.SendBatch(ctx, batch).Close()
}
