package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

// Checkpoint says up to where a source is processed.
type Checkpoint struct {
	Source   string
	Position events.Position
	Base     int64 // entries that the stream had been given before we began
	Entries  int64 // entries that it had been given up to the position
	Epoch    int64 // how often the source was reset
	Updated  time.Time
}

var (
	// ErrNoCheckpoint says that a source has no checkpoint yet.
	ErrNoCheckpoint = errors.New("no checkpoint")
	// ErrRefused says that a checkpoint was not moved: it was at another position, or a mark of the chunk was
	// not in place.
	ErrRefused = errors.New("checkpoint refused")
	// ErrReset says that a source was reset since its checkpoint was read. It is an
	// ErrRefused, too.
	ErrReset = fmt.Errorf("%w: the source was reset", ErrRefused)
)

const selectCheckpoints = `SELECT source, position_ms, position_seq, base, entries, epoch, updated_at FROM ` +
	`aggregator.checkpoint`

func scanCheckpoint(row pgx.CollectableRow) (c Checkpoint, err error) {
	err = row.Scan(&c.Source, &c.Position.Ms, &c.Position.Seq, &c.Base, &c.Entries, &c.Epoch, &c.Updated)
	return c, err
}

// Checkpoints returns the checkpoints of all sources, by name.
func Checkpoints(ctx context.Context, pool *pgxpool.Pool) ([]Checkpoint, error) {
	rows, err := pool.Query(ctx, selectCheckpoints+` ORDER BY source`)
	if err != nil {
		return nil, fmt.Errorf("reading checkpoints: %w", err)
	}
	checkpoints, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("reading checkpoints: %w", err)
	}
	return checkpoints, nil
}

// Load returns the checkpoint of a source, or ErrNoCheckpoint.
func Load(ctx context.Context, pool *pgxpool.Pool, source string) (Checkpoint, error) {
	rows, err := pool.Query(ctx, selectCheckpoints+` WHERE source = $1`, source)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("reading the checkpoint of %s: %w", source, err)
	}
	checkpoint, err := pgx.CollectExactlyOneRow(rows, scanCheckpoint)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoCheckpoint
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("reading the checkpoint of %s: %w", source, err)
	}
	return checkpoint, nil
}

// Create makes the first checkpoint of a source, unless there is one, because another instance may have been
// first. It returns the checkpoint as Confirm does. Safe to repeat.
func Create(ctx context.Context, pool *pgxpool.Pool, source string, at events.Position,
	entries int64,
) (Checkpoint, error) {
	_, err := pool.Exec(ctx, `
INSERT INTO aggregator.checkpoint (source, position_ms, position_seq, base, entries)
VALUES ($1, $2, $3, $4, $4) ON CONFLICT DO NOTHING`, source, at.Ms, at.Seq, entries)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("creating the checkpoint of %s: %w", source, err)
	}
	return Confirm(ctx, pool, source)
}

// Confirm returns the checkpoint of a source once it is certain to be durable. That a checkpoint
// can be read does not mean that it is: a commit whose answer never came may be visible and yet
// be lost in a failover to a standby that did not have it. So Confirm writes the row again, as it
// is, and waits until that is on all disks. The error is ErrNoCheckpoint if there is none. Safe to
// repeat; without an answer it waits until ctx ends.
func Confirm(ctx context.Context, pool *pgxpool.Pool, source string) (checkpoint Checkpoint, err error) {
	err = postgres.Durably(ctx, pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, confirmCheckpoint, source) // its error is also that of the rows
		checkpoint, err = pgx.CollectExactlyOneRow(rows, scanCheckpoint)
		if errors.Is(err, pgx.ErrNoRows) {
			err = ErrNoCheckpoint
		}
		return err
	})
	if err != nil {
		return Checkpoint{}, fmt.Errorf("confirming the checkpoint of %s: %w", source, err)
	}
	return checkpoint, nil
}

const confirmCheckpoint = `UPDATE aggregator.checkpoint SET position_ms = position_ms WHERE source = $1
RETURNING source, position_ms, position_seq, base, entries, epoch, updated_at`

// Advance is a chunk whose profiles are all processed.
type Advance struct {
	From    Checkpoint           // where the chunk begins
	To      events.Position      // its last entry
	Entries int                  // in it
	Marks   []Place              // of all its profiles, by rising id: where they must be at least
	Dead    []deadletter.Content // entries in it that are no events
}

// Place is how far a profile's mark must have come.
type Place struct {
	ProfileID int64
	At        events.Position
}

// MoveCheckpoint moves the checkpoint over a chunk and writes its dead letters, in one durable
// transaction, and returns the new checkpoint. The error is ErrRefused if the
// checkpoint is not where the chunk begins, or if a mark is not in place, or if the source
// was reset. After any error start again from the checkpoint (Load).
func MoveCheckpoint(ctx context.Context, pool *pgxpool.Pool, s Advance) (Checkpoint, error) {
	var err error
	if len(s.Dead) > 0 || postgres.OnCitus(pool.Config().ConnConfig) {
		err = postgres.Durably(ctx, pool, func(tx pgx.Tx) error { return TryMoveCheckpoint(ctx, tx, s) })
	} else {
		var batch pgx.Batch
		queueMove(&batch, s) // if it is refused there is nothing to undo
		err = postgres.SendDurably(ctx, pool, &batch)
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("moving the checkpoint of %s to %s: %w", s.From.Source, s.To, err)
	}
	to := s.From
	to.Position = s.To
	to.Entries += int64(s.Entries)
	return to, nil
}

// TryMoveCheckpoint is MoveCheckpoint in a transaction of the caller, which ends it.
func TryMoveCheckpoint(ctx context.Context, tx pgx.Tx, s Advance) error {
	var batch pgx.Batch
	deadletter.Queue(&batch, s.From.Source, s.Dead)
	if postgres.OnCitus(tx.Conn().Config()) {
		queueMoveOnCitus(&batch, s)
	} else {
		queueMove(&batch, s)
	}
	return tx.SendBatch(ctx, &batch).Close()
}

func queueMove(batch *pgx.Batch, s Advance) {
	batch.Queue(moveCheckpoint, append(s.moves(), s.marks()...)...).Exec(one)
}

// queueMoveOnCitus has two statements, because one cannot do both there. No mark goes back but by a reset, which then
// is in the way of the update.
func queueMoveOnCitus(batch *pgx.Batch, s Advance) {
	batch.Queue(countMarksOnCitus, append([]any{s.From.Source, s.From.Epoch}, s.marks()...)...).QueryRow(
		func(row pgx.Row) error {
			var there int
			err := row.Scan(&there)
			if err == nil && there != len(s.Marks) {
				err = ErrRefused
			}
			return err
		})
	batch.Queue(advanceCheckpoint, s.moves()...).Exec(one)
}

// one refuses what has not changed one row.
func one(tag pgconn.CommandTag) error {
	if tag.RowsAffected() != 1 {
		return ErrRefused
	}
	return nil
}

// moves are the arguments of advanceCheckpoint.
func (s Advance) moves() []any {
	return []any{
		s.From.Source, s.To.Ms, s.To.Seq, s.From.Entries + int64(s.Entries), s.From.Position.Ms, s.From.Position.Seq,
		s.From.Epoch,
	}
}

// marks are arguments: the profiles, and both numbers of their positions.
func (s Advance) marks() []any {
	profiles, ms, seq := make([]int64, len(s.Marks)), make([]int64, len(s.Marks)), make([]int64, len(s.Marks))
	for i, m := range s.Marks {
		profiles[i], ms[i], seq[i] = m.ProfileID, m.At.Ms, m.At.Seq
	}
	return []any{profiles, ms, seq}
}

// The update must change a row, or else nothing is flushed and nothing is known. OFFSET 0 keeps the planner
// from joining in the other order, which takes the square of the time.
const (
	advanceCheckpoint = `UPDATE aggregator.checkpoint c
SET position_ms = $2, position_seq = $3, entries = $4, updated_at = now()
WHERE c.source = $1 AND c.position_ms = $5 AND c.position_seq = $6 AND c.epoch = $7`

	moveCheckpoint = advanceCheckpoint + ` AND cardinality($8::bigint[]) = (
    SELECT count(*) FROM unnest($8, $9::bigint[], $10::bigint[]) w (child_profile_id, ms, seq) CROSS JOIN LATERAL (
        SELECT FROM aggregator.mark m WHERE m.source = $1 AND m.child_profile_id = w.child_profile_id
            AND (m.position_ms, m.position_seq) >= (w.ms, w.seq)
        OFFSET 0) m)`
)

// On Citus the marks are counted on the workers, each with the checkpoint as that worker has it: one that does not know
// yet of a reset has marks that do not count. The profiles are in rising order. All nodes have the checkpoint, so that
// the transaction that moves it is prepared on each of them, which flushes what was committed there before.
const countMarksOnCitus = `SELECT count(*) FROM aggregator.mark m JOIN aggregator.checkpoint c ON c.source = m.source
WHERE m.source = $1 AND c.epoch = $2 AND m.child_profile_id = ANY ($3::bigint[]) AND (m.position_ms, m.position_seq) >=
    (($4::bigint[])[width_bucket(m.child_profile_id, $3)], ($5::bigint[])[width_bucket(m.child_profile_id, $3)])`
