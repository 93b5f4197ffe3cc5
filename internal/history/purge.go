package history

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/deadletter"
	"aggregator/internal/postgres"
)

const (
	// purgeBatch is how many rows a transaction removes at most. It takes tens of
	// milliseconds, so that the application does not wait for long for a row of it.
	purgeBatch = 1000
	// batchTimeout is how long PostgreSQL may take for one. It is longer than the statement
	// and lock time-outs of our connections.
	batchTimeout = 45 * time.Second
)

// PurgeOptions say what is to be removed.
type PurgeOptions struct {
	OlderThan   time.Duration // rows that the application has deleted longer ago than this
	Retention   Retention     // and rows that it thins out
	JournalKeep time.Duration // and what the journal has from longer ago; 0: none of it by its age
	DeadKeep    time.Duration // and dead letters that were settled longer ago; 0: none
	MaxDuration time.Duration // stop after so long, when the current batch is done; 0: no limit
	DryRun      bool          // count only
	Progress    func(PurgeResult)
	Tables      map[string]string // postgres.tables
	Now         func() time.Time  // our clock, beside PostgreSQL's; nil: time.Now
}

// PurgeResult is what was removed or, in a dry run, would be.
type PurgeResult struct {
	Deleted int64         `json:"deleted"`         // rows that the application had deleted
	Thinned int64         `json:"thinned"`         // rows that the retention does not keep
	Genres  int64         `json:"favorite_genres"` // favorites of both
	Topics  int64         `json:"favorite_topics"`
	Journal int64         `json:"journal"`      // rows of the journal, of those rows and by their age
	Dead    int64         `json:"dead_letters"` // that were settled
	Batches int64         `json:"batches"`
	Busy    time.Duration `json:"-"` // without the pauses
	Left    bool          `json:"-"` // it was stopped before it came to the end
}

// Purge removes for good, with their favorites, the rows of history that the application has deleted longer ago
// than OlderThan, and then those that the retention does not keep. What the journal has of them goes with them. Then
// it removes what the journal has from longer ago than JournalKeep, and the dead letters that were settled longer
// ago than DeadKeep. It asks PostgreSQL's clock and ours for the
// time, and the earlier time counts: what is removed because one of them was ahead does not come back.
//
// It removes them in batches, each a transaction of its own that does not wait for rows which other
// transactions hold. It pauses after each batch for as long as the batch took, so that the drain has at least
// half of the time to itself. A row that is restored meanwhile stays. A row that another transaction holds is
// left to the next purge.
//
// When ctx ends, or MaxDuration is over, the current batch is finished, and the result says that something
// may be left: that is no error. Purge may be stopped, killed and repeated at any time, and run several times
// at once: a row is removed with its favorites or not at all.
//
// It costs as much as there is to remove, however large the tables are, except the retention, which at most
// once a day reads all that is kept. With JournalKeep and DeadKeep it reads the whole journal, and all dead letters.
//
// Errors: one with postgres.ErrIndex when the index is missing without which each batch would read the whole
// table. The result counts what was done before an error.
func Purge(ctx context.Context, pool *pgxpool.Pool, o PurgeOptions) (PurgeResult, error) {
	if age := min(o.OlderThan, o.JournalKeep, o.DeadKeep); age < 0 {
		return PurgeResult{}, fmt.Errorf("purging: the age %s is negative", age)
	}
	if err := postgres.CheckDeletedHistory(ctx, pool, o.Tables); err != nil {
		return PurgeResult{}, fmt.Errorf("purging: %w", err)
	}
	if o.MaxDuration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.MaxDuration)
		defer cancel()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &purger{pool: pool, options: o}
	err := p.purgeDeleted(ctx)
	if err == nil && !p.result.Left && o.Retention.Thins() {
		err = p.thin(ctx)
	}
	if err == nil && !p.result.Left && o.JournalKeep > 0 {
		err = p.purgeJournal(ctx)
	}
	if err == nil && !p.result.Left && o.DeadKeep > 0 {
		err = p.purgeLetters(ctx)
	}
	if err != nil {
		err = fmt.Errorf("purging: %w", err)
	}
	return p.result, err
}

// CountDeleted counts the rows that Purge would remove for their age since the application has deleted them.
// It reads only these.
func CountDeleted(ctx context.Context, pool *pgxpool.Pool, olderThan time.Duration) (n int64, err error) {
	err = pool.QueryRow(ctx, `SELECT count(*) FROM child_personality_history WHERE is_deleted AND deleted_at < `+
		`least(now(), $2::timestamptz) - $1::interval`,
		olderThan, time.Now()).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("counting deleted rows of history: %w", err)
	}
	return n, nil
}

// purger is one purge.
type purger struct {
	pool    *pgxpool.Pool
	options PurgeOptions
	result  PurgeResult
}

func (p *purger) onCitus() bool { return postgres.OnCitus(p.pool.Config().ConnConfig) }

// repeat calls batch until it says that there is no more, or ctx ends.
func (p *purger) repeat(ctx context.Context, batch func(context.Context) (more bool, err error)) error {
	for more := true; more; {
		if ctx.Err() != nil {
			p.result.Left = true
			return nil
		}
		began := time.Now()
		var err error
		if more, err = persist(ctx, batch); err != nil {
			return err
		}
		took := time.Since(began)
		p.result.Batches++
		p.result.Busy += took
		if p.options.Progress != nil {
			p.options.Progress(p.result)
		}
		if more && !p.options.DryRun {
			pause(ctx, took)
		}
	}
	return nil
}

// persist calls batch, also when ctx has ended, and a few times more if another transaction was in its way.
func persist(ctx context.Context, batch func(context.Context) (bool, error)) (more bool, err error) {
	const tries = 5
	for try := range tries {
		working, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchTimeout)
		more, err = batch(working)
		cancel()
		if !inTheWay(err) {
			break
		}
		pause(ctx, 100*time.Millisecond<<try)
	}
	return more, err
}

// inTheWay says that a transaction failed because of what other transactions did at the same time.
func inTheWay(err error) bool {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case "40001", "40P01", "55P03": // serialization failure, deadlock, lock not available
		return true
	}
	return false
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// deletedKey is a place in the index of deleted rows.
type deletedKey struct {
	at      pgtype.Timestamptz
	profile pgtype.Int8
	id      pgtype.Int8
}

// purgeDeleted goes through the rows that are due in the order of the index. Each batch begins after the last
// row of the one before. Rows that are gone leave entries in the index until it is vacuumed, and to read
// these entries again and again would cost more with every batch.
func (p *purger) purgeDeleted(ctx context.Context) error {
	before, err := p.ago(ctx, p.options.OlderThan)
	if err != nil {
		return err
	}
	statement := purgeDeleted
	switch {
	case p.options.DryRun:
		statement = countDeleted
	case p.onCitus():
		statement = purgeDeletedOnCitus
	}
	last := deletedKey{
		pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true},
		pgtype.Int8{Int64: beforeAll, Valid: true},
		pgtype.Int8{Int64: beforeAll, Valid: true},
	}
	return p.repeat(ctx, func(ctx context.Context) (bool, error) {
		var found, gone, genres, topics, journal int64
		var next deletedKey
		err := p.pool.QueryRow(ctx, statement, before, last.at, last.profile, last.id, purgeBatch).
			Scan(&found, &gone, &genres, &topics, &journal, &next.at, &next.profile, &next.id)
		if err != nil {
			return false, err
		}
		last = next
		p.result.Deleted += gone
		p.result.Genres += genres
		p.result.Topics += topics
		p.result.Journal += journal
		return found == purgeBatch, nil
	})
}

// ago is the time so long before now, by the clock that is behind.
func (p *purger) ago(ctx context.Context, age time.Duration) (before time.Time, err error) {
	err = p.pool.QueryRow(context.WithoutCancel(ctx), `SELECT least(now(), $2::timestamptz) - $1::interval`,
		age, p.options.Now()).Scan(&before)
	return before, err
}

// purgeJournal goes through the whole journal in the order of its key, which is its only index.
func (p *purger) purgeJournal(ctx context.Context) error {
	before, err := p.ago(ctx, p.options.JournalKeep)
	if err != nil {
		return err
	}
	statement := purgeJournal
	if p.options.DryRun {
		statement = countJournal
	}
	profile, id := int64(beforeAll), int64(beforeAll)
	return p.repeat(ctx, func(ctx context.Context) (bool, error) {
		var seen, gone int64
		var lastProfile, lastID *int64
		err := p.pool.QueryRow(ctx, statement, profile, id, thinBatch, before).Scan(&seen, &gone, &lastProfile, &lastID)
		if err != nil {
			return false, err
		}
		p.result.Journal += gone
		if seen < thinBatch {
			return false, nil
		}
		profile, id = *lastProfile, *lastID
		return true, nil
	})
}

// purgeLetters goes through all dead letters in the order of their key.
func (p *purger) purgeLetters(ctx context.Context) error {
	before, err := p.ago(ctx, p.options.DeadKeep)
	if err != nil {
		return err
	}
	var last deadletter.ID
	return p.repeat(ctx, func(ctx context.Context) (bool, error) {
		r, err := deadletter.RemoveSettled(ctx, p.pool, before, last, purgeBatch, p.options.DryRun)
		p.result.Dead += r.Removed
		last = r.Last
		return r.More, err
	})
}

// beforeAll comes before every id.
const beforeAll = -1 << 63

// Each batch is one statement. Rows that another transaction holds are skipped. A row that has changed since
// the statement began is judged again as it is now, once it is locked: if it was restored it stays, and if it
// is still due it is removed. Its favorites are removed first, because they may refer to it by a foreign key
// that is checked at once. That all of them are counted before the first row is removed ensures this.
const (
	remove = `genres AS (
    DELETE FROM favorite_genre f USING due d WHERE f.child_profile_id = d.child_profile_id AND f.history_id = d.id
	RETURNING 1
), topics AS (
    DELETE FROM favorite_topic f USING due d WHERE f.child_profile_id = d.child_profile_id AND f.history_id = d.id
	RETURNING 1
), journal AS (
    DELETE FROM aggregator.journal j USING due d WHERE j.child_profile_id = d.child_profile_id AND j.history_id = d.id
	RETURNING 1
), gone AS (
    DELETE FROM child_personality_history h USING due d WHERE h.child_profile_id = d.child_profile_id AND h.id = d.id
        AND (SELECT count(*) FROM genres) + (SELECT count(*) FROM topics) >= 0
    RETURNING h.child_profile_id, h.id
)`
	// Citus locks no rows of several shards. The row goes first, if it is still due, and what belongs to it then: a
	// favorite must not refer to it by a foreign key that is checked at once.
	removeOnCitus = `gone AS (
    DELETE FROM child_personality_history h USING due d WHERE h.child_profile_id = d.child_profile_id AND h.id = d.id
        AND {still}
    RETURNING h.child_profile_id, h.id
), genres AS (
    DELETE FROM favorite_genre f USING gone g WHERE f.child_profile_id = g.child_profile_id AND f.history_id = g.id
	RETURNING 1
), topics AS (
    DELETE FROM favorite_topic f USING gone g WHERE f.child_profile_id = g.child_profile_id AND f.history_id = g.id
	RETURNING 1
), journal AS (
    DELETE FROM aggregator.journal j USING gone g WHERE j.child_profile_id = g.child_profile_id AND j.history_id = g.id
	RETURNING 1
)`
	count = `gone AS (
    SELECT child_profile_id, id FROM due
), genres AS (
    SELECT 1 FROM gone g JOIN favorite_genre f ON f.child_profile_id = g.child_profile_id AND f.history_id = g.id
), topics AS (
    SELECT 1 FROM gone g JOIN favorite_topic f ON f.child_profile_id = g.child_profile_id AND f.history_id = g.id
), journal AS (
    SELECT 1 FROM gone g JOIN aggregator.journal j ON j.child_profile_id = g.child_profile_id AND j.history_id = g.id
)`
	counts = `(SELECT count(*) FROM gone), (SELECT count(*) FROM genres), (SELECT count(*) FROM topics),
    (SELECT count(*) FROM journal)`

	// in: $1, $2 the last row of the batch before; $3 rows at most; $4 what was written before this is due.
	// out: rows seen and gone, the last of them.
	journal = `WITH next AS (
    SELECT child_profile_id, history_id, written_at FROM aggregator.journal
    WHERE (child_profile_id, history_id) > ($1::bigint, $2::bigint) ORDER BY child_profile_id, history_id LIMIT $3
), due AS (
    SELECT child_profile_id, history_id FROM next WHERE written_at < $4::timestamptz
), gone AS ({act})
SELECT (SELECT count(*) FROM next), (SELECT count(*) FROM gone), last.*
FROM (SELECT 1) one LEFT JOIN (
    SELECT child_profile_id, history_id FROM next ORDER BY child_profile_id DESC, history_id DESC LIMIT 1
) last ON true`

	// in: $1 what was deleted before this is due; $2, $3, $4 the last row of the batch before; $5 rows at
	// most. out: rows found and gone, their favorites, what the journal has of them, the last of them.
	deleted = `WITH due AS (
    SELECT deleted_at::timestamptz AS at, child_profile_id, id FROM child_personality_history
    WHERE is_deleted AND deleted_at < $1::timestamptz
	AND (deleted_at, child_profile_id, id) > ($2::timestamptz, $3::bigint, $4::bigint)
    ORDER BY deleted_at, child_profile_id, id LIMIT $5 {lock}
), {act}
SELECT (SELECT count(*) FROM due), ` + counts + `, last.*
FROM (SELECT 1) one LEFT JOIN (SELECT * FROM due ORDER BY at DESC, child_profile_id DESC, id DESC LIMIT 1) last ON true`
)

var (
	purgeDeleted        = strings.NewReplacer("{lock}", "FOR UPDATE SKIP LOCKED", "{act}", remove).Replace(deleted)
	purgeDeletedOnCitus = strings.NewReplacer("{lock}", "", "{act}", strings.Replace(removeOnCitus, "{still}",
		"h.is_deleted AND h.deleted_at < $1::timestamptz", 1)).Replace(deleted)
	purgeJournal = strings.Replace(journal, "{act}", `
    DELETE FROM aggregator.journal j USING due d
    WHERE j.child_profile_id = d.child_profile_id AND j.history_id = d.history_id RETURNING 1
`, 1)
	countJournal = strings.Replace(journal, "{act}", `SELECT FROM due`, 1)
	countDeleted = strings.NewReplacer("{lock}", "", "{act}", count).Replace(deleted)
)
