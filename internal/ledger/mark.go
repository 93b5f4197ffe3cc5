package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

// Marks returns where the marks of the profiles are, for a reader that starts at a checkpoint. Profiles
// without one are left out. The error is ErrReset if the source was reset since the checkpoint was read.
func Marks(ctx context.Context, pool *pgxpool.Pool, from Checkpoint, profileIDs []int64) (
	map[int64]events.Position, error,
) {
	var batch pgx.Batch
	marks := QueueMarks(&batch, pool.Config().ConnConfig, from, profileIDs)
	if err := pool.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, err
	}
	return marks, nil
}

// QueueMarks is Marks as a part of a batch for a connection with this configuration. They are there when the batch has
// ended without an error, which is that of Marks.
func QueueMarks(batch *pgx.Batch, cfg *pgx.ConnConfig, from Checkpoint, profileIDs []int64) map[int64]events.Position {
	statement, alone := readMarks, true
	if postgres.OnCitus(cfg) {
		statement, alone = readMarksOnCitus, false
	}
	marks := make(map[int64]events.Position, len(profileIDs))
	fail := func(err error) error { return fmt.Errorf("reading marks of %s: %w", from.Source, err) }
	batch.Queue(statement, from.Source, from.Epoch, profileIDs).Query(func(rows pgx.Rows) error {
		var id, ms, seq *int64
		tag, err := pgx.ForEachRow(rows, []any{&id, &ms, &seq}, func() error {
			if id != nil {
				marks[*id] = events.Position{Ms: *ms, Seq: *seq}
			}
			return nil
		})
		if err == nil && alone && tag.RowsAffected() == 0 {
			err = ErrReset
		}
		if err != nil {
			return fail(err)
		}
		return nil
	})
	if alone {
		return marks
	}
	batch.Queue(selectCheckpoints+` WHERE source = $1 AND epoch = $2`, from.Source, from.Epoch).Exec(
		func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() == 0 {
				return fail(ErrReset)
			}
			return nil
		})
	return marks
}

// It returns at least one row, unless there is no such checkpoint. OFFSET 0 as in moveCheckpoint.
const readMarks = `SELECT m.child_profile_id, m.position_ms, m.position_seq FROM aggregator.checkpoint c
LEFT JOIN LATERAL unnest($3::bigint[]) w (id) ON true
LEFT JOIN LATERAL (
    SELECT * FROM aggregator.mark m WHERE m.source = $1 AND m.child_profile_id = w.id
    OFFSET 0) m ON true
WHERE c.source = $1 AND c.epoch = $2`

// Each worker has its part of the marks, and a copy of the checkpoints. A worker that does not know yet of a reset still
// has marks of the epoch before, which do not count. The coordinator knows of it first, and is asked afterwards.
const readMarksOnCitus = `SELECT m.child_profile_id, m.position_ms, m.position_seq
FROM aggregator.mark m JOIN aggregator.checkpoint c ON c.source = m.source
WHERE m.source = $1 AND c.epoch = $2 AND m.child_profile_id = ANY ($3::bigint[])`
