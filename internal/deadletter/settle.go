package deadletter

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

// AlreadySettled is the SQLSTATE with which QueueApplied fails its transaction when the dead
// letter was settled before, by another retry or by dropping it, or is not there.
const AlreadySettled = "LG003"

// QueueApplied puts the statements that settle a dead letter as applied onto the batch of one transaction: the
// one that applies its event, whose profile and book they record. They must be its first. They lock the marks
// of the profile, as aggregator.apply does, so that the transaction comes before or after any other that
// changes the profile. Marks count what chunks applied, so they stay as they are. The transaction fails with
// AlreadySettled unless it is this one that settles the dead letter: run twice, it applies the event once.
func QueueApplied(batch *pgx.Batch, id ID, e events.Event) {
	at := id.Position
	batch.Queue(makeMark, e.ProfileID, origin(id.Source))
	batch.Queue(`SELECT 1 FROM aggregator.mark WHERE child_profile_id = $1 ORDER BY source FOR UPDATE`, e.ProfileID)
	batch.Queue(settleApplied, id.Source, at.Ms, at.Seq, e.ProfileID, e.BookID)
}

const (
	// An entry that was no event when it was read has left no mark, and what is not there cannot be locked.
	// Hence a mark at zero, which passes nothing.
	makeMark = `INSERT INTO aggregator.mark (child_profile_id, source, position_ms, position_seq, applied)
VALUES ($1, $2, 0, 0, 0) ON CONFLICT DO NOTHING`

	settleApplied = `WITH settled AS (
    UPDATE aggregator.dead_letter
    SET settled_at = now(), settled_as = 'applied', attempts = attempts + 1, last_attempt_at = now(), last_error = NULL,
        child_profile_id = $4, book_id = $5
    WHERE source = $1 AND position_ms = $2 AND position_seq = $3 AND settled_at IS NULL
    RETURNING 1
)
SELECT aggregator.require(count(*) = 1, '` + AlreadySettled + `', 'the dead letter is settled already') FROM settled`
)

// Attempted records that a retry of a dead letter failed, and why. A dead letter that was settled meanwhile
// is left as it is. Repeated, it counts another retry.
func Attempted(ctx context.Context, pool *pgxpool.Pool, id ID, why string) error {
	_, err := pool.Exec(ctx, `
UPDATE aggregator.dead_letter SET attempts = attempts + 1, last_attempt_at = now(), last_error = $4
WHERE source = $1 AND position_ms = $2 AND position_seq = $3 AND settled_at IS NULL`,
		id.Source, id.Position.Ms, id.Position.Seq, postgres.Text(why))
	if err != nil {
		return fmt.Errorf("recording a retry of the dead letter %s: %w", id, err)
	}
	return nil
}

// Drop settles dead letters as dropped, durably: they will never be applied. It returns
// how many it dropped; the others were settled before or are not there. Safe to repeat.
func Drop(ctx context.Context, pool *pgxpool.Pool, ids []ID) (dropped int64, err error) {
	sources, ms, seq := make([]string, len(ids)), make([]int64, len(ids)), make([]int64, len(ids))
	for i, id := range ids {
		sources[i], ms[i], seq[i] = id.Source, id.Position.Ms, id.Position.Seq
	}
	err = postgres.Durably(ctx, pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, dropLetters, sources, ms, seq)
		dropped = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("dropping dead letters: %w", err)
	}
	return dropped, nil
}

// Rows are locked in the order of their key, so that two such transactions do not deadlock.
const dropLetters = `WITH chosen AS (
    SELECT source, position_ms, position_seq FROM aggregator.dead_letter
    WHERE (source, position_ms, position_seq) IN (SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]))
        AND settled_at IS NULL
    ORDER BY 1, 2, 3 FOR UPDATE
)
UPDATE aggregator.dead_letter d SET settled_at = now(), settled_as = 'dropped'
FROM chosen c
WHERE d.source = c.source AND d.position_ms = c.position_ms AND d.position_seq = c.position_seq
	AND d.settled_at IS NULL`
