package ledger

import (
	"cmp"
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
	marks := make(map[int64]events.Position, len(profileIDs))
	failed := func(err error) error {
		if err != nil {
			err = fmt.Errorf("reading marks of %s: %w", from.Source, err)
		}
		return err
	}
	known := func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() == 0 {
			return ErrReset
		}
		return nil
	}
	read := func(rows pgx.Rows) (pgconn.CommandTag, error) {
		var id, ms, seq *int64
		return pgx.ForEachRow(rows, []any{&id, &ms, &seq}, func() error {
			if id != nil {
				marks[*id] = events.Position{Ms: *ms, Seq: *seq}
			}
			return nil
		})
	}
	if postgres.OnCitus(cfg) {
		batch.Queue(readMarksOnCitus, from.Source, from.Epoch, profileIDs).Query(func(rows pgx.Rows) error {
			_, err := read(rows)
			return failed(err)
		})
		batch.Queue(readEpoch, from.Source, from.Epoch).Exec(func(tag pgconn.CommandTag) error {
			return failed(known(tag))
		})
		return marks
	}
	batch.Queue(readMarks, from.Source, from.Epoch, profileIDs).Query(func(rows pgx.Rows) error {
		tag, err := read(rows)
		return failed(cmp.Or(err, known(tag)))
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

// Each worker has its part of the marks, and a copy of the checkpoints. A worker that does not know yet of a reset
// still has marks of the epoch before, which do not count. The coordinator knows of it first, and is asked afterwards.
const readMarksOnCitus = `SELECT m.child_profile_id, m.position_ms, m.position_seq
FROM aggregator.mark m JOIN aggregator.checkpoint c ON c.source = m.source
WHERE m.source = $1 AND c.epoch = $2 AND m.child_profile_id = ANY ($3::bigint[])`

const readEpoch = `SELECT FROM aggregator.checkpoint WHERE source = $1 AND epoch = $2`
