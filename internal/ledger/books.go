package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

// Accounts are what PostgreSQL says of a source, all at one moment.
type Accounts struct {
	Checkpoint     Checkpoint
	Applied        int64                     // events applied, by the marks
	Dead           int64                     // dead letters, settled or not, also those that a purge removed since
	PastCheckpoint map[int64]events.Position // by profile: marks that are after the checkpoint's position
	Incidents      []Incident                // all of the source, oldest first
}

// heldAtMost is how long a checkpoint may be held against a daemon that wants to move it.
// It is well below the time-out after which that daemon would give up (lock_timeout).
const heldAtMost = 2 * time.Second

// ErrNotInTime says that the accounts could not be read within the time for which a checkpoint may be held,
// or that it was being moved all the time.
var ErrNotInTime = fmt.Errorf(
	"the checkpoint may be held for %s, which was too short to reconcile the source", heldAtMost)

// Hold reads the accounts of a source and calls check while the source's checkpoint cannot move: meanwhile nothing
// after the checkpoint is trimmed, but transactions of profiles may go on. It locks the checkpoint's row (FOR
// SHARE, which needs the right to update it) for no longer than two seconds, or four if this process is stopped or
// cut off; then the error has ErrNotInTime. Without a checkpoint it has ErrNoCheckpoint. It changes nothing.
func Hold(ctx context.Context, pool *pgxpool.Pool, source string, check func(context.Context, Accounts) error) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, boundIdle); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, selectCheckpoints+` WHERE source = $1 FOR SHARE`, source)
		if err != nil {
			return err
		}
		checkpoint, err := pgx.CollectExactlyOneRow(rows, scanCheckpoint)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoCheckpoint
		}
		if err != nil {
			return err
		}
		// From here on a daemon may be waiting for us.
		if _, err := tx.Exec(ctx, boundStatement); err != nil {
			return err
		}
		held, cancel := context.WithTimeoutCause(ctx, heldAtMost, ErrNotInTime)
		defer cancel()
		books, err := readAccounts(held, tx, checkpoint)
		if err == nil {
			err = check(held, books)
		}
		if err != nil && errors.Is(context.Cause(held), ErrNotInTime) {
			return ErrNotInTime
		}
		return err
	})
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && slices.Contains([]string{lockTimedOut, statementTimedOut, idleTimedOut}, refusal.Code) {
		err = ErrNotInTime
	}
	if err != nil {
		return fmt.Errorf("reading the counts of %s: %w", source, err)
	}
	return nil
}

const (
	lockTimedOut      = "55P03"
	statementTimedOut = "57014"
	idleTimedOut      = "25P03"
)

// The server ends the transaction if we do not. All marks are read: there is no shorter way than to read the
// whole table, which our sessions avoid otherwise.
var (
	boundIdle      = fmt.Sprintf(`SET LOCAL idle_in_transaction_session_timeout = %d`, heldAtMost.Milliseconds())
	boundStatement = fmt.Sprintf(
		`SELECT set_config('statement_timeout', '%d', true), set_config('enable_seqscan', 'on', true)`,
		heldAtMost.Milliseconds())
)

// readAccounts takes all counts from one snapshot, and the incidents while the checkpoint is still held.
func readAccounts(ctx context.Context, tx pgx.Tx, at Checkpoint) (Accounts, error) {
	b := Accounts{Checkpoint: at, PastCheckpoint: make(map[int64]events.Position)}
	var profiles, ms, seq []int64
	read := readAtOnce
	if postgres.OnCitus(tx.Conn().Config()) {
		read = readOnCitus
	}
	err := read(ctx, tx, at, &b, &profiles, &ms, &seq)
	for i, profile := range profiles {
		b.PastCheckpoint[profile] = events.Position{Ms: ms[i], Seq: seq[i]}
	}
	if err == nil {
		// While the checkpoint is held, an incident can be accepted only if the counts agree.
		b.Incidents, err = collectIncidents(ctx, tx, `WHERE source = $1`, at.Source)
	}
	return b, err
}

func readAtOnce(ctx context.Context, tx pgx.Tx, at Checkpoint, b *Accounts, profiles, ms, seq *[]int64) error {
	return tx.QueryRow(ctx, `
SELECT (SELECT coalesce(sum(applied), 0)::bigint FROM aggregator.mark WHERE source = $1),
    (SELECT count(*) FROM aggregator.dead_letter WHERE source = $1)
        + coalesce((SELECT removed FROM aggregator.dead_letter_removed WHERE source = $1), 0),
    array_agg(child_profile_id), array_agg(position_ms), array_agg(position_seq)
FROM aggregator.mark WHERE source = $1 AND (position_ms, position_seq) > ($2, $3)`,
		at.Source, at.Position.Ms, at.Position.Seq).Scan(&b.Applied, &b.Dead, profiles, ms, seq)
}

// readOnCitus has no snapshot of all nodes. Instead it waits, by a lock, until no transaction of a profile is in
// flight, and holds these up until the accounts are read.
func readOnCitus(ctx context.Context, tx pgx.Tx, at Checkpoint, b *Accounts, profiles, ms, seq *[]int64) error {
	if _, err := tx.Exec(ctx, `LOCK TABLE aggregator.mark IN SHARE MODE`); err != nil {
		return err
	}
	past := ` FILTER (WHERE (position_ms, position_seq) > ($2, $3))`
	err := tx.QueryRow(ctx, `SELECT coalesce(sum(applied), 0)::bigint, array_agg(child_profile_id)`+past+`,
    array_agg(position_ms)`+past+`, array_agg(position_seq)`+past+` FROM aggregator.mark WHERE source = $1`,
		at.Source, at.Position.Ms, at.Position.Seq).Scan(&b.Applied, profiles, ms, seq)
	if err != nil {
		return err
	}
	return tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM aggregator.dead_letter WHERE source = $1)
    + coalesce((SELECT removed FROM aggregator.dead_letter_removed WHERE source = $1), 0)`, at.Source).Scan(&b.Dead)
}
