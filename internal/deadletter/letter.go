package deadletter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

// Letter is the row of a dead letter.
type Letter struct {
	Source string
	Content
	Created     time.Time
	Attempts    int        // retries so far
	LastAttempt *time.Time // nil: never retried
	LastError   *string    // why the latest retry failed; nil if it did not
	Settled     *time.Time // nil: it is not settled
	SettledAs   string     // applied or dropped; empty while it is not settled
}

// ID is the key of the dead letter.
func (l Letter) ID() ID { return ID{l.Source, l.Position} }

// ID is the key of a dead letter: the entry that it is made of.
type ID struct {
	Source   string
	Position events.Position
}

func (id ID) String() string { return id.Source + " " + id.Position.String() }

// Filter chooses dead letters. The zero Filter chooses all that are not settled.
type Filter struct {
	Reasons   []events.Reason // none: any
	OlderThan time.Duration   // 0: any; by the clock of PostgreSQL
	NewerThan time.Duration   // 0: any
	Until     time.Time       // only those written at that time or before; zero: any
	ProfileID *int64          // nil: any
	Sources   []string        // none: any
	Settled   bool            // also those that are settled
	Known     bool            // only those whose profile and book exist now

	ByPosition bool // in the order of source and position, not oldest first
	Newest     bool // newest first; not with ByPosition
}

var (
	// ErrNone says that there is no such dead letter.
	ErrNone = errors.New("no such dead letter")
	// ErrSettled says that a dead letter was applied or dropped before.
	ErrSettled = errors.New("the dead letter is settled already")
	// ErrStillDead says that dead letters were retried and are still dead.
	ErrStillDead = errors.New("still cannot be applied")
)

const selectLetters = `SELECT source, position_ms, position_seq, child_profile_id, book_id, reason, sqlstate, detail,
    payload, payload_form, created_at, attempts, last_attempt_at, last_error, settled_at, coalesce(settled_as, '')
FROM aggregator.dead_letter d`

func scanLetter(row pgx.CollectableRow) (l Letter, err error) {
	err = row.Scan(&l.Source, &l.Position.Ms, &l.Position.Seq, &l.ProfileID, &l.BookID, &l.Reason, &l.SQLState, &l.Detail,
		&l.Payload.Bytes, &l.Payload.Form, &l.Created, &l.Attempts, &l.LastAttempt, &l.LastError, &l.Settled, &l.SettledAs)
	return l, err
}

// Find returns one dead letter, or ErrNone. Reads only.
func Find(ctx context.Context, pool *pgxpool.Pool, id ID) (Letter, error) {
	rows, err := pool.Query(ctx, selectLetters+` WHERE source = $1 AND position_ms = $2 AND position_seq = $3`,
		id.Source, id.Position.Ms, id.Position.Seq)
	if err != nil {
		return Letter{}, fmt.Errorf("reading the dead letter %s: %w", id, err)
	}
	letter, err := pgx.CollectExactlyOneRow(rows, scanLetter)
	if errors.Is(err, pgx.ErrNoRows) {
		return Letter{}, fmt.Errorf("%s: %w", id, ErrNone)
	}
	if err != nil {
		return Letter{}, fmt.Errorf("reading the dead letter %s: %w", id, err)
	}
	return letter, nil
}

// Count returns how many dead letters the filter chooses. Reads only.
func Count(ctx context.Context, pool *pgxpool.Pool, f Filter) (int64, error) {
	at, err := f.clock(ctx, pool)
	if err != nil {
		return 0, fmt.Errorf("counting dead letters: %w", err)
	}
	var n int64
	where, args := f.where(at, nil)
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM aggregator.dead_letter d`+where, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting dead letters: %w", err)
	}
	return n, nil
}

// Page returns at most so many of the dead letters that the filter chooses, and whether there are more: those
// that come after one of them in the filter's order, or the first ones if that is nil. ErrNone says that the one
// to come after does not exist any more. Reads only.
func Page(
	ctx context.Context, pool *pgxpool.Pool, f Filter, after *ID, size int,
) (page []Letter, more bool, err error) {
	var last *Letter
	if after != nil {
		found, err := Find(ctx, pool, *after)
		if err != nil {
			return nil, false, err
		}
		last = &found
	}
	at, err := f.clock(ctx, pool)
	if err == nil {
		page, err = f.read(ctx, pool, at, last, size+1)
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading dead letters: %w", err)
	}
	return page[:min(size, len(page))], len(page) > size, nil
}

func (f Filter) read(ctx context.Context, pool *pgxpool.Pool, at dated, after *Letter, size int) ([]Letter, error) {
	where, args := f.where(at, after)
	rows, _ := pool.Query(ctx, selectLetters+where+fmt.Sprintf(`
ORDER BY %s LIMIT %d`, f.order(), size), args...) // its error is also that of the rows
	return pgx.CollectRows(rows, scanLetter)
}

// Limited passes pages on until they had so many dead letters; 0: all.
func Limited(pages iter.Seq2[[]Letter, error], limit int) iter.Seq2[[]Letter, error] {
	return func(yield func([]Letter, error) bool) {
		left := limit
		for page, err := range pages {
			if limit > 0 {
				page = page[:min(left, len(page))]
				left -= len(page)
			}
			if !yield(page, err) || (limit > 0 && left == 0) {
				return
			}
		}
	}
}

// Pages returns the dead letters that the filter chooses, in its order, at most so many at a
// time: a payload may be a megabyte. Each page goes on in an index where the one before ended. What is
// written after the first page was read is left out, so that Pages comes to an end while a daemon writes
// more. What is settled meanwhile may be left out too. An error ends it. Reads only.
func Pages(ctx context.Context, pool *pgxpool.Pool, f Filter, page int) iter.Seq2[[]Letter, error] {
	return func(yield func([]Letter, error) bool) {
		at, err := f.clock(ctx, pool)
		if err != nil {
			yield(nil, fmt.Errorf("reading dead letters: %w", err))
			return
		}
		var last *Letter
		for {
			letters, err := f.read(ctx, pool, at, last, page)
			if err != nil {
				yield(nil, fmt.Errorf("reading dead letters: %w", err))
				return
			}
			if len(letters) > 0 && !yield(letters, nil) {
				return
			}
			if len(letters) < page {
				return
			}
			last = &letters[page-1]
		}
	}
}

// clock returns PostgreSQL's time, with which dead letters are dated, and the time up to which they are read:
// that time is after now only if the clock was ahead once. Without a bound, a reader would have to follow a
// daemon that writes more.
func (f Filter) clock(ctx context.Context, pool *pgxpool.Pool) (at dated, err error) {
	latest := `SELECT max(created_at) FROM aggregator.dead_letter`
	if !f.Settled {
		latest += ` WHERE settled_at IS NULL` // which has an index
	}
	err = pool.QueryRow(ctx, `SELECT now(), greatest(now(), (`+latest+`))`).Scan(&at.now, &at.latest)
	if err == nil && f.Known && postgres.OnCitus(pool.Config().ConnConfig) {
		at.profiles, err = knownProfiles(ctx, pool)
	}
	return at, err
}

// dated is when dead letters are read.
type dated struct {
	now, latest time.Time
	profiles    []int64 // of Known, those that exist; nil: PostgreSQL finds out
}

// knownProfiles are those of unsettled dead letters that exist. Citus joins no table of the coordinator with one that
// is distributed.
func knownProfiles(ctx context.Context, pool *pgxpool.Pool) ([]int64, error) {
	rows, _ := pool.Query(ctx, `SELECT DISTINCT child_profile_id FROM aggregator.dead_letter
WHERE settled_at IS NULL AND reason IN ('unknown_profile', 'unknown_book') AND child_profile_id IS NOT NULL`)
	asked, err := pgx.CollectRows(rows, pgx.RowTo[int64]) // its error is also that of the query
	if err != nil {
		return nil, err
	}
	rows, _ = pool.Query(ctx, `SELECT id FROM child_profile WHERE id = ANY ($1::bigint[])`, asked) // likewise
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

func (f Filter) order() string {
	switch {
	case f.ByPosition:
		return `d.source, d.position_ms, d.position_seq`
	case f.Newest:
		return `d.created_at DESC, d.source DESC, d.position_ms DESC, d.position_seq DESC`
	}
	return `d.created_at, d.source, d.position_ms, d.position_seq`
}

// where is the condition for what comes after a dead letter (nil: from the first on), with its arguments. It
// has only the conditions that are asked for: the plans do not depend on the arguments, and an optional
// condition would keep them from using the partial indexes.
func (f Filter) where(at dated, after *Letter) (string, []any) {
	var conditions []string
	var args []any
	add := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		conditions = append(conditions, condition)
	}
	if f.OlderThan > 0 {
		add(`d.created_at <= ?`, at.now.Add(-f.OlderThan))
	} else {
		add(`d.created_at <= ?`, at.latest)
	}
	if !f.Until.IsZero() {
		add(`d.created_at <= ?`, f.Until)
	}
	if f.NewerThan > 0 {
		add(`d.created_at > ?`, at.now.Add(-f.NewerThan))
	}
	switch {
	// Not in the words of the index by time: with that index, each page would sort all of it.
	case !f.Settled && f.ByPosition:
		add(`coalesce(d.settled_at, 'infinity') = 'infinity'`)
	case !f.Settled:
		add(`d.settled_at IS NULL`)
	}
	if len(f.Reasons) > 0 {
		add(`d.reason = ANY(?)`, f.Reasons)
	}
	if f.ProfileID != nil {
		add(`d.child_profile_id = ?`, *f.ProfileID)
	}
	if len(f.Sources) > 0 {
		add(`d.source = ANY(?)`, f.Sources)
	}
	if f.Known {
		add(`d.reason IN ('unknown_profile', 'unknown_book')`)
		if at.profiles != nil {
			add(`d.child_profile_id = ANY(?)`, at.profiles)
		} else {
			add(`EXISTS (SELECT FROM child_profile p WHERE p.id = d.child_profile_id)`)
		}
		add(`EXISTS (SELECT FROM book b WHERE b.id = d.book_id)`)
	}
	switch {
	case after != nil && f.ByPosition:
		add(`(d.source, d.position_ms, d.position_seq) > (?, ?, ?)`, after.Source, after.Position.Ms, after.Position.Seq)
	case after != nil:
		than := `>`
		if f.Newest {
			than = `<`
		}
		add(`(d.created_at, d.source, d.position_ms, d.position_seq) `+than+` (?, ?, ?, ?)`,
			after.Created, after.Source, after.Position.Ms, after.Position.Seq)
	}
	return ` WHERE ` + strings.Join(conditions, ` AND `), args
}
