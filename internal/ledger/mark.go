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

// Marks returns where the marks of the profiles are. Profiles without one are left out.
func Marks(ctx context.Context, pool *pgxpool.Pool, source string, profileIDs []int64) (map[int64]events.Position, error) {
	rows, err := pool.Query(ctx, `
SELECT child_profile_id, position_ms, position_seq FROM aggregator.mark
WHERE source = $1 AND child_profile_id = ANY($2)`, source, profileIDs)
	if err != nil {
		return nil, fmt.Errorf("reading marks of %s: %w", source, err)
	}
	marks := make(map[int64]events.Position, len(profileIDs))
	var id int64
	var at events.Position
	_, err = pgx.ForEachRow(rows, []any{&id, &at.Ms, &at.Seq}, func() error {
		marks[id] = at
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading marks of %s: %w", source, err)
	}
	return marks, nil
}

// Advance puts the statements that move marks onto the batch of one transaction. They
// must be its first: they lock the profiles' marks and so make the profiles' other rows
// safe to change. The moves must be of different profiles, in rising order of their
// ids. The transaction fails with MarkMoved unless every mark is where it was seen.
func Advance(batch *pgx.Batch, source string, moves []Move) {
	var first, next []Move
	for _, m := range moves {
		if m.Seen.IsZero() {
			first = append(first, m)
		} else {
			next = append(next, m)
		}
	}
	queueMoves(batch, source, first, createMark, createMarks)
	queueMoves(batch, source, next, moveMark, moveMarks)
}

func queueMoves(batch *pgx.Batch, source string, moves []Move, one, many string) {
	switch len(moves) {
	case 0:
	case 1:
		m := moves[0]
		args := []any{source, m.ProfileID, m.To.Ms, m.To.Seq, m.Applied}
		if !m.Seen.IsZero() {
			args = append(args, m.Seen.Ms, m.Seen.Seq)
		}
		batch.Queue(one, args...)
	default:
		c := columnsOf(moves)
		args := []any{source, c.profiles, c.toMs, c.toSeq, c.applied}
		if !moves[0].Seen.IsZero() {
			args = append(args, c.seenMs, c.seenSeq)
		}
		batch.Queue(many, args...)
	}
}

// A mark that was there and is gone must not be made again by an insert: its profile's
// scores are gone with it. Hence two kinds of statement; and each for one mark, which is
// the usual case, and for many.
const (
	createMark = `WITH moved AS (
    INSERT INTO aggregator.mark (source, child_profile_id, position_ms, position_seq, applied)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING
    RETURNING 1
)
` + refuseUnlessMoved + `1`

	createMarks = `WITH moved AS (
    INSERT INTO aggregator.mark (source, child_profile_id, position_ms, position_seq, applied)
    SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
    ON CONFLICT DO NOTHING
    RETURNING 1
)
` + refuseUnlessMoved + `cardinality($2)`

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
