package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

// ResetSource is a source that was reset.
type ResetSource struct {
	Was        Checkpoint // its Updated is zero if there was none
	Now        Checkpoint // at zero
	Archived   int64      // dead letters that were archived
	Dropped    int64      // of these, those whose entry is still in the stream, and read again
	ArchivedAs string     // the source of these dead letters from now on
}

// Rewind prepares the stream of a source, in Redis, for being read from its beginning. It returns how many
// entries the stream was given that are not there any more. It passes to drop those that are there after one
// position, up to and including another one.
type Rewind func(ctx context.Context, source string, after, to events.Position, drop func([]events.Entry) error) (
	gone int64, err error)

// Reset forgets up to where sources are processed, so that all that their streams hold is read from the
// beginning and counted, whether or not it was counted before:
//
//   - Marks are put to zero. They stay as rows, so that a retry of a dead letter has something to lock.
//   - Checkpoints are put to zero, in a new epoch, from which on entries and events are counted from zero.
//   - Dead letters are archived, under another source (deadletter.Aside): their positions may be given again,
//     and they belong to the counts of the epoch before. They can be listed, retried and dropped like any
//     others. But those that are not settled and whose entries are still there become dropped, because these
//     entries will be read again.
//
// All of it is one durable transaction. It waits until no transaction that moves a mark is in flight, and
// holds up those of all sources until its end. From before Rewind is called until the end, no process can
// read a checkpoint. Any reader that has read one before finds that out when it next reads marks, makes one,
// or moves the checkpoint, and begins again.
//
// What Rewind does must be harmless if the transaction then fails. After an error the reset did not happen,
// unless the connection broke at the very end. To repeat it does no harm as long as nothing was read meanwhile.
func Reset(ctx context.Context, pool *pgxpool.Pool, sources []string, rewind Rewind) ([]ResetSource, error) {
	all := make([]ResetSource, len(sources))
	err := postgres.Durably(ctx, pool, func(tx pgx.Tx) error {
		before := []string{takeYourTime, lockMarks}
		if postgres.OnCitus(tx.Conn().Config()) {
			before = []string{takeYourTime, inOneTransaction, lockMarks, noneInDoubt}
		}
		for _, statement := range before {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, resetMarks, sources); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, lockCheckpoints); err != nil {
			return err
		}
		for i, source := range sources {
			if err := all[i].begin(ctx, tx, source, rewind); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("resetting: %w", err)
	}
	return all, nil
}

const (
	// There may be a million marks, and it takes a second to look through as many entries.
	takeYourTime = `SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout',
		'0', true),
    set_config('enable_seqscan', 'on', true)`

	// Locks are taken in the order in which aggregator.apply takes them. Without the first lock, a mark could
	// come between the update and the commit. The lock of the checkpoints keeps any process that reads first
	// Redis and then the checkpoint from seeing a stream that is rewound and a checkpoint that is not.
	lockMarks       = `LOCK TABLE aggregator.mark IN SHARE ROW EXCLUSIVE MODE`
	lockCheckpoints = `LOCK TABLE aggregator.checkpoint IN ACCESS EXCLUSIVE MODE`

	// On Citus all that a reset does on a worker is one transaction there, with one connection: else another could see
	// the lock gone and the checkpoint as it was. A transaction that was prepared on a worker that then failed has no
	// lock on the table any more, and its mark is not seen yet: Citus ends it within a minute after the worker is back.
	inOneTransaction = `SET LOCAL citus.multi_shard_modify_mode = 'sequential'`

	noneInDoubt = `SELECT aggregator.require(bool_and(success AND result = '0'), '57P03',
    'a transaction on a worker of Citus is in doubt')
FROM run_command_on_workers('SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()')`

	resetMarks = `UPDATE aggregator.mark SET position_ms = 0, position_seq = 0, applied = 0
WHERE source = ANY($1) AND (position_ms, position_seq, applied) <> (0, 0, 0)`

	resetCheckpoint = `INSERT INTO aggregator.checkpoint AS c (source, position_ms, position_seq, base, entries, epoch)
VALUES ($1, 0, 0, $2, $2, 1)
ON CONFLICT (source) DO UPDATE SET position_ms = 0, position_seq = 0, base = excluded.base, entries = excluded.entries,
    epoch = c.epoch + 1, updated_at = excluded.updated_at
RETURNING source, position_ms, position_seq, base, entries, epoch, updated_at`

	unsettledRange = `SELECT coalesce(min(position_ms) - 1, 0), coalesce(max(position_ms), 0) FROM aggregator.dead_letter
WHERE source = $1 AND settled_at IS NULL`

	dropThere = `UPDATE aggregator.dead_letter d SET settled_at = now(), settled_as = 'dropped'
FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bytea[]) e (ms, seq, form, payload)
WHERE d.source = $1 AND d.position_ms = e.ms AND d.position_seq = e.seq AND d.settled_at IS NULL
    AND d.payload_form = e.form AND d.payload = e.payload`

	putAside = `UPDATE aggregator.dead_letter SET source = $2 WHERE source = $1`
	// After the rows: a purge that has removed some of them has counted them here by then.
	putCountAside = `UPDATE aggregator.dead_letter_removed SET source = $2 WHERE source = $1`
)

// begin puts aside the dead letters of one source, and resets its checkpoint, after its marks.
func (a *ResetSource) begin(ctx context.Context, tx pgx.Tx, source string, rewind Rewind) error {
	rows, _ := tx.Query(ctx, selectCheckpoints+` WHERE source = $1`, source) // its error is also that of the rows
	was, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil {
		return err
	}
	if len(was) > 0 {
		a.Was = was[0]
	}
	after, to := events.Position{Seq: events.MaxSeq}, events.Position{Seq: events.MaxSeq}
	if err := tx.QueryRow(ctx, unsettledRange, source).Scan(&after.Ms, &to.Ms); err != nil {
		return err
	}
	if after.Ms < 0 {
		after = events.Position{}
	}
	// The same position alone does not make the same entry: the stream may be another one.
	drop := func(page []events.Entry) error {
		var ms, seq []int64
		var forms []string
		var payloads [][]byte
		for _, e := range page {
			ms, seq = append(ms, e.Position.Ms), append(seq, e.Position.Seq)
			forms, payloads = append(forms, string(e.Payload.Form)), append(payloads, e.Payload.Bytes)
		}
		tag, err := tx.Exec(ctx, dropThere, source, ms, seq, forms, payloads)
		a.Dropped += tag.RowsAffected()
		return err
	}
	gone, err := rewind(ctx, source, after, to, drop)
	if err != nil {
		return err
	}
	rows, _ = tx.Query(ctx, resetCheckpoint, source, gone) // likewise
	if a.Now, err = pgx.CollectExactlyOneRow(rows, scanCheckpoint); err != nil {
		return err
	}
	a.ArchivedAs = deadletter.Aside(source, a.Now.Epoch)
	tag, err := tx.Exec(ctx, putAside, source, a.ArchivedAs)
	a.Archived = tag.RowsAffected()
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, putCountAside, source, a.ArchivedAs)
	return err
}

// MarksPast returns the marks of a source that are after its checkpoint, by profile. It reads all marks,
// and changes nothing.
func MarksPast(ctx context.Context, pool *pgxpool.Pool, at Checkpoint) (map[int64]events.Position, error) {
	rows, _ := pool.Query(ctx, `SELECT child_profile_id, position_ms, position_seq FROM aggregator.mark
WHERE source = $1 AND (position_ms, position_seq) > ($2, $3)`, at.Source, at.Position.Ms,
		at.Position.Seq) // its error is also that of the rows
	marks := make(map[int64]events.Position)
	var id int64
	var mark events.Position
	_, err := pgx.ForEachRow(rows, []any{&id, &mark.Ms, &mark.Seq}, func() error {
		marks[id] = mark
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading marks of %s: %w", at.Source, err)
	}
	return marks, nil
}
