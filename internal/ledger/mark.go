package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

// Marks returns where the marks of the profiles are, for a reader that starts at a checkpoint. Profiles
// without one are left out. The error is ErrReset if the source was reset since the checkpoint was read.
func Marks(ctx context.Context, pool *pgxpool.Pool, from Checkpoint, profileIDs []int64) (
	map[int64]events.Position, error,
) {
	if postgres.OnCitus(pool.Config().ConnConfig) {
		return marksOnCitus(ctx, pool, from, profileIDs)
	}
	marks := make(map[int64]events.Position, len(profileIDs))
	rows, _ := pool.Query(ctx, readMarks, from.Source, from.Epoch, profileIDs) // its error is also that of the rows
	var id *int64
	var ms, seq *int64
	tag, err := pgx.ForEachRow(rows, []any{&id, &ms, &seq}, func() error {
		if id != nil {
			marks[*id] = events.Position{Ms: *ms, Seq: *seq}
		}
		return nil
	})
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrReset
	}
	if err != nil {
		return nil, fmt.Errorf("reading marks of %s: %w", from.Source, err)
	}
	return marks, nil
}

// It returns at least one row, unless there is no such checkpoint. OFFSET 0 as in moveCheckpoint.
const readMarks = `SELECT m.child_profile_id, m.position_ms, m.position_seq FROM aggregator.checkpoint c
LEFT JOIN LATERAL unnest($3::bigint[]) w (id) ON true
LEFT JOIN LATERAL (
    SELECT * FROM aggregator.mark m WHERE m.source = $1 AND m.child_profile_id = w.id
    OFFSET 0) m ON true
WHERE c.source = $1 AND c.epoch = $2`

// marksOnCitus is Marks where each worker has its part of the marks, and a copy of the checkpoints. A worker that does
// not know yet of a reset still has marks of the epoch before: they do not count. The coordinator knows of it first.
func marksOnCitus(ctx context.Context, pool *pgxpool.Pool, from Checkpoint, profileIDs []int64) (
	map[int64]events.Position, error,
) {
	marks := make(map[int64]events.Position, len(profileIDs))
	rows, _ := pool.Query(ctx, `SELECT m.child_profile_id, m.position_ms, m.position_seq
FROM aggregator.mark m JOIN aggregator.checkpoint c ON c.source = m.source
WHERE m.source = $1 AND c.epoch = $2 AND m.child_profile_id = ANY ($3::bigint[])`,
		from.Source, from.Epoch, profileIDs) // its error is also that of the rows
	var id int64
	var at events.Position
	_, err := pgx.ForEachRow(rows, []any{&id, &at.Ms, &at.Seq}, func() error {
		marks[id] = at
		return nil
	})
	if err == nil {
		var now Checkpoint
		if now, err = Load(ctx, pool, from.Source); errors.Is(err, ErrNoCheckpoint) || err == nil && now.Epoch != from.Epoch {
			err = ErrReset
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading marks of %s: %w", from.Source, err)
	}
	return marks, nil
}
