package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
)

// MarkMoved is the SQLSTATE with which Advance fails its transaction when a mark is not
// where it was seen: another transaction has moved it since, or PostgreSQL lost it.
const MarkMoved = "LG001"

// Move is one step of a profile's mark.
type Move struct {
	ProfileID int64
	Seen      events.Position // where the mark was read; zero if there was none
	To        events.Position // the last event of the transaction
	Applied   int             // events that the transaction applies; dead letters do not count
}

// Marks returns where the marks of the profiles are, for who reads from a checkpoint on.
// Profiles without one are left out. The error is ErrReset if the source was reset since
// the checkpoint was read.
func Marks(ctx context.Context, pool *pgxpool.Pool, from Checkpoint, profileIDs []int64) (map[int64]events.Position, error) {
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

// A row at least, unless there is no such checkpoint.
const readMarks = `SELECT m.child_profile_id, m.position_ms, m.position_seq FROM aggregator.checkpoint c
LEFT JOIN aggregator.mark m ON m.source = $1 AND m.child_profile_id = ANY($3)
WHERE c.source = $1 AND c.epoch = $2`

// Advance puts the statements that move marks onto the batch of one transaction, for who
// has read from a checkpoint on. They must be its first: they lock the profiles' marks and so
// make the profiles' other rows safe to change. The moves must be of different profiles, in
// rising order of their ids. The transaction fails with MarkMoved unless every mark is where
// it was seen, or if it is a first one and the source was reset since.
func Advance(batch *pgx.Batch, from Checkpoint, moves []Move) {
	var first, next []Move
	for _, m := range moves {
		if m.Seen.IsZero() {
			first = append(first, m)
		} else {
			next = append(next, m)
		}
	}
	queueMoves(batch, from, first, createMark, createMarks)
	queueMoves(batch, from, next, moveMark, moveMarks)
}

func queueMoves(batch *pgx.Batch, from Checkpoint, moves []Move, one, many string) {
	switch len(moves) {
	case 0:
	case 1:
		m := moves[0]
		args := []any{from.Source, m.ProfileID, m.To.Ms, m.To.Seq, m.Applied}
		if m.Seen.IsZero() {
			args = append(args, from.Epoch)
		} else {
			args = append(args, m.Seen.Ms, m.Seen.Seq)
		}
		batch.Queue(one, args...)
	default:
		c := columnsOf(moves)
		args := []any{from.Source, c.profiles, c.toMs, c.toSeq, c.applied}
		if moves[0].Seen.IsZero() {
			args = append(args, from.Epoch)
		} else {
			args = append(args, c.seenMs, c.seenSeq)
		}
		batch.Queue(many, args...)
	}
}

// A mark that was there and is gone must not be made again by an insert: its profile's
// scores are gone with it. Hence two kinds of statement; and each for one mark, which is
// the usual case, and for many.
//
// A mark at zero says as little as none: it is what a reset leaves, and a lock to be held.
//
// Who makes a first mark must have read from the checkpoint of this epoch on, or it would
// pass over what came before. To move one there is nothing more to ask: a reset puts all
// marks to zero, and where one was seen before it stands again only when all that is in the
// stream up to there has been counted anew.
const (
	createMark = `WITH moved AS (
    INSERT INTO aggregator.mark AS m (source, child_profile_id, position_ms, position_seq, applied)
    SELECT $1, $2::bigint, $3::bigint, $4::bigint, $5::bigint FROM aggregator.checkpoint WHERE source = $1 AND epoch = $6
` + unlessMarked + `
)
` + refuseUnlessMoved + `1`

	createMarks = `WITH moved AS (
    INSERT INTO aggregator.mark AS m (source, child_profile_id, position_ms, position_seq, applied)
    SELECT $1, w.* FROM aggregator.checkpoint c, unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) w
    WHERE c.source = $1 AND c.epoch = $6
` + unlessMarked + `
)
` + refuseUnlessMoved + `cardinality($2)`

	unlessMarked = `    ON CONFLICT (child_profile_id, source) DO UPDATE
    SET position_ms = excluded.position_ms, position_seq = excluded.position_seq, applied = m.applied + excluded.applied
    WHERE m.position_ms = 0 AND m.position_seq = 0
    RETURNING 1`

	moveMark = `WITH moved AS (
    UPDATE aggregator.mark SET position_ms = $3, position_seq = $4, applied = applied + $5
    WHERE source = $1 AND child_profile_id = $2 AND position_ms = $6 AND position_seq = $7
    RETURNING 1
)
` + refuseUnlessMoved + `1`

	moveMarks = `WITH moved AS (
    UPDATE aggregator.mark m
    SET position_ms = w.to_ms, position_seq = w.to_seq, applied = m.applied + w.applied
    FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
        w (child_profile_id, to_ms, to_seq, applied, seen_ms, seen_seq)
    WHERE m.source = $1 AND m.child_profile_id = w.child_profile_id
        AND m.position_ms = w.seen_ms AND m.position_seq = w.seen_seq
    RETURNING 1
)
` + refuseUnlessMoved + `cardinality($2)`

	// The function is called only to refuse: the call is not cheap.
	refuseUnlessMoved = `SELECT aggregator.require(false, '` + MarkMoved + `', 'a mark has moved') FROM moved HAVING count(*) <> `
)

type moveColumns struct{ profiles, toMs, toSeq, applied, seenMs, seenSeq []int64 }

func columnsOf(moves []Move) moveColumns {
	n := len(moves)
	all := make([]int64, 6*n)
	c := moveColumns{all[:n], all[n : 2*n], all[2*n : 3*n], all[3*n : 4*n], all[4*n : 5*n], all[5*n:]}
	for i, m := range moves {
		c.profiles[i], c.applied[i] = m.ProfileID, int64(m.Applied)
		c.toMs[i], c.toSeq[i] = m.To.Ms, m.To.Seq
		c.seenMs[i], c.seenSeq[i] = m.Seen.Ms, m.Seen.Seq
	}
	return c
}
