package deadletter

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
)

// Removal is a batch of RemoveSettled.
type Removal struct {
	Removed int64
	Last    ID   // where the next batch goes on
	More    bool // there may be more
}

// RemoveSettled removes dead letters that were settled before a time, or only counts them: those among so many that
// come after a place, in the order of source and position. The zero ID is before all. How many it removes of each
// source is counted with them, in one transaction, because reconciling counts them still (ledger.Accounts). A dead
// letter that another transaction holds is left. Safe to repeat, and several times at once.
func RemoveSettled(
	ctx context.Context, pool *pgxpool.Pool, before time.Time, after ID, batch int, countOnly bool,
) (r Removal, err error) {
	statement := removeSettled
	if countOnly {
		statement = countSettled
	}
	var seen int64
	var source *string
	var ms, seq *int64
	at := after.Position
	err = pool.QueryRow(ctx, statement, before, after.Source, at.Ms, at.Seq, batch).
		Scan(&seen, &r.Removed, &source, &ms, &seq)
	if err != nil {
		return r, fmt.Errorf("removing dead letters: %w", err)
	}
	if source != nil {
		r.Last = ID{*source, events.Position{Ms: *ms, Seq: *seq}}
	}
	r.More = seen == int64(batch)
	return r, nil
}

// in: $1 what was settled before this is due; $2, $3, $4 the last row of the batch before; $5 rows at most.
// out: rows seen and removed, the last of them.
const (
	nextLetters = `WITH next AS (
    SELECT source, position_ms, position_seq, settled_at FROM aggregator.dead_letter
    WHERE (source, position_ms, position_seq) > ($2, $3::bigint, $4::bigint)
    ORDER BY source, position_ms, position_seq LIMIT $5
), due AS (
    SELECT source, position_ms, position_seq FROM aggregator.dead_letter d
    WHERE (source, position_ms, position_seq) IN (
        SELECT source, position_ms, position_seq FROM next WHERE settled_at < $1)`

	lastLetter = `
SELECT (SELECT count(*) FROM next), (SELECT count(*) FROM gone), last.*
FROM (SELECT 1) one LEFT JOIN (
    SELECT source, position_ms, position_seq FROM next ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT 1
) last ON true`

	removeSettled = nextLetters + `
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM aggregator.dead_letter d USING due
    WHERE d.source = due.source AND d.position_ms = due.position_ms AND d.position_seq = due.position_seq
    RETURNING d.source
), counted AS (
    INSERT INTO aggregator.dead_letter_removed AS r (source, removed)
    SELECT source, count(*) FROM gone GROUP BY source ORDER BY source
    ON CONFLICT (source) DO UPDATE SET removed = r.removed + excluded.removed
)` + lastLetter

	countSettled = nextLetters + `
), gone AS (SELECT FROM due)` + lastLetter
)

// Erased is what Erase has done, or would do.
type Erased struct {
	Dropped int64 // dead letters that were not settled
	Emptied int64 // dead letters, with those
}

// Erase forgets what dead letters say of a profile, in a transaction: which profile and book, the payload, the
// detail and the error of the latest retry. What is not settled is dropped first: without its payload it cannot be
// applied. Entries that are no events count if their payload begins with the id. The rows stay, because
// reconciling counts them. Safe to repeat.
func Erase(ctx context.Context, tx pgx.Tx, profileID int64) (done Erased, err error) {
	err = tx.QueryRow(ctx, `WITH erased AS (
    UPDATE aggregator.dead_letter d SET settled_at = coalesce(d.settled_at, now()),
        settled_as = coalesce(d.settled_as, 'dropped'),
        child_profile_id = NULL, book_id = NULL, payload = '', detail = 'erased', last_error = NULL
    FROM (
        SELECT source, position_ms, position_seq, settled_at IS NULL AS unsettled FROM aggregator.dead_letter
        WHERE`+ofProfile+` ORDER BY 1, 2, 3 FOR UPDATE
    ) o
    WHERE d.source = o.source AND d.position_ms = o.position_ms AND d.position_seq = o.position_seq
    RETURNING o.unsettled
)
SELECT count(*) FILTER (WHERE unsettled), count(*) FROM erased`, profileID).Scan(&done.Dropped, &done.Emptied)
	if err != nil {
		return done, fmt.Errorf("erasing dead letters: %w", err)
	}
	return done, nil
}

// CountErasable counts what Erase would change. Reads only.
func CountErasable(ctx context.Context, tx pgx.Tx, profileID int64) (done Erased, err error) {
	err = tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE settled_at IS NULL), count(*) FROM aggregator.dead_letter
WHERE`+ofProfile, profileID).Scan(&done.Dropped, &done.Emptied)
	if err != nil {
		return done, fmt.Errorf("counting dead letters: %w", err)
	}
	return done, nil
}

// ofProfile are the dead letters of the profile $1. It reads all of the table.
const ofProfile = ` (child_profile_id = $1::bigint OR child_profile_id IS NULL AND payload_form = 'event'
    AND substring(payload FROM 1 FOR 20) LIKE convert_to($1::bigint || ':%', 'UTF8'))`
