package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
)

// Books are what PostgreSQL says of a source, all at one moment.
type Books struct {
	Checkpoint Checkpoint
	Applied    int64                     // events applied, by the marks
	Dead       int64                     // dead letters, settled or not
	Ahead      map[int64]events.Position // by profile: marks that are behind the checkpoint's position, that is, younger
}

// heldAtMost is how long a checkpoint may be held against a daemon that wants to move it.
// It is well below the time-out after which that daemon would give up (lock_timeout).
const heldAtMost = 2 * time.Second

// ErrHeldTooLong says that the books could not be read within the time for which a
// checkpoint may be held.
var ErrHeldTooLong = fmt.Errorf("the books could not be read within %s, for which the checkpoint may be held", heldAtMost)

// Hold reads the books of a source and calls check while the source's checkpoint stands
// still: nothing behind it is trimmed meanwhile, but profiles may go on. It locks the
// checkpoint's row (FOR SHARE, which needs the right to update it) for no longer than
// two seconds, or four if this process is stopped or cut off; then the error has
// ErrHeldTooLong. Without a checkpoint it has ErrNoCheckpoint. It changes nothing.
func Hold(ctx context.Context, pool *pgxpool.Pool, source string, check func(context.Context, Books) error) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, boundHold); err != nil {
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
		held, cancel := context.WithTimeoutCause(ctx, heldAtMost, ErrHeldTooLong)
		defer cancel()
		books, err := readBooks(held, tx, checkpoint)
		if err == nil {
			err = check(held, books)
		}
		if err != nil && errors.Is(context.Cause(held), ErrHeldTooLong) {
			return ErrHeldTooLong
		}
		return err
	})
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && (refusal.Code == statementTimedOut || refusal.Code == idleTimedOut) {
		err = ErrHeldTooLong
	}
	if err != nil {
		return fmt.Errorf("reading the books of %s: %w", source, err)
	}
	return nil
}

const (
	statementTimedOut = "57014"
	idleTimedOut      = "25P03"
)

// The server ends the transaction should we not.
var boundHold = fmt.Sprintf(`SET LOCAL statement_timeout = %[1]d; SET LOCAL idle_in_transaction_session_timeout = %[1]d`,
	heldAtMost.Milliseconds())

// readBooks takes all counts from one snapshot.
func readBooks(ctx context.Context, tx pgx.Tx, at Checkpoint) (Books, error) {
	b := Books{Checkpoint: at, Ahead: make(map[int64]events.Position)}
	var profiles, ms, seq []int64
	err := tx.QueryRow(ctx, `
SELECT (SELECT coalesce(sum(applied), 0)::bigint FROM aggregator.mark WHERE source = $1),
    (SELECT count(*) FROM aggregator.dead_letter WHERE source = $1),
    array_agg(child_profile_id), array_agg(position_ms), array_agg(position_seq)
FROM aggregator.mark WHERE source = $1 AND (position_ms, position_seq) > ($2, $3)`,
		at.Source, at.Position.Ms, at.Position.Seq).Scan(&b.Applied, &b.Dead, &profiles, &ms, &seq)
	for i, profile := range profiles {
		b.Ahead[profile] = events.Position{Ms: ms[i], Seq: seq[i]}
	}
	return b, err
}
