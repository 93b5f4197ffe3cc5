package searchtext

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	readBatch  = 1000 // books read by a statement
	writeBatch = 100  // texts written by one: so many rows are locked, for some milliseconds

	// A book that is not right after so many rounds has others at work on it.
	roundsAtOnce  = 3
	roundsLater   = 5
	betweenRounds = 200 * time.Millisecond
)

// Options say what a refresh may do.
type Options struct {
	// MaxDuration ends it after so long, with a batch finished; 0: no limit. With a limit
	// it begins with a book chosen by chance, so that each is reached at some time.
	MaxDuration time.Duration
	// DryRun counts what would be written, and writes nothing.
	DryRun bool
	// Progress, if there is one, is told after each batch what was done so far.
	Progress func(Result)
}

// Result is what a refresh has done. Its names are those of the JSON form.
type Result struct {
	Books   int64 `json:"books"`   // looked at
	Changed int64 `json:"changed"` // texts written; in a dry run, to be written
	Busy    int64 `json:"busy"`    // left as they were: other sessions had them locked, or changed them again and again
	Refused int64 `json:"refused"` // left as they were: PostgreSQL did not take the text
	Left    bool  `json:"left"`    // the limit ended it before all were looked at
}

// Refresh brings the texts of all books up to date. It may be repeated, ended and run beside
// itself at any time: each statement is a transaction of its own, and what it has not done
// is left for the next.
//
// Books that PostgreSQL refuses, by a constraint of the application, keep no other from
// being done; the first one is the error in the end. Any other error, that of
// the context among them, ends the refresh; the result says what was done before.
func Refresh(ctx context.Context, pool *pgxpool.Pool, o Options) (Result, error) {
	r := refresh{pool: pool, dry: o.DryRun, progress: o.Progress}
	first := int64(math.MinInt64) // all ids are greater
	if o.MaxDuration > 0 {
		r.until = time.Now().Add(o.MaxDuration)
		var err error
		if first, err = r.anywhere(ctx); err != nil {
			return r.Result, err
		}
	}
	err := r.between(ctx, first, math.MaxInt64)
	if err == nil && first > math.MinInt64 {
		err = r.between(ctx, math.MinInt64, first)
	}
	if err == nil {
		err = r.again(ctx)
	}
	if err == nil && r.refusal != nil {
		which := ""
		if r.Refused > 1 {
			which = fmt.Sprintf("%d books, the first of them ", r.Refused)
		}
		err = fmt.Errorf("search text: PostgreSQL refuses that of %s%w", which, r.refusal)
	}
	return r.Result, err
}

// Count counts the books that Refresh would look at.
func Count(ctx context.Context, pool *pgxpool.Pool) (n int64, err error) {
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM book`).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting books: %w", err)
	}
	return n, nil
}

// refresh is one in progress.
type refresh struct {
	Result
	pool     *pgxpool.Pool
	dry      bool
	until    time.Time
	progress func(Result)
	busy     []int64 // to be tried again at the end
	refusal  error   // the first
}

// A book as it was read.
type book struct {
	id                       int64
	title, author, publisher *string
	topics                   []string
	text                     *string
}

func (b book) derived() string {
	return Text(value(b.title), value(b.author), value(b.publisher), b.topics)
}

func (b book) right() bool { return b.text != nil && *b.text == b.derived() }

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// anywhere returns the id of a book to begin after.
func (r *refresh) anywhere(ctx context.Context) (int64, error) {
	var least, most int64
	const sql = `SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM book`
	if err := r.pool.QueryRow(ctx, sql).Scan(&least, &most); err != nil {
		return 0, fmt.Errorf("reading the ids of books: %w", err)
	}
	return least + int64(rand.Uint64N(max(1, uint64(most)-uint64(least)))), nil
}

// between looks at the books with an id above after, up to last.
func (r *refresh) between(ctx context.Context, after, last int64) error {
	for {
		if !r.until.IsZero() && time.Now().After(r.until) {
			r.Left = true
			return nil
		}
		books, err := r.read(ctx, `id > $1::bigint AND id <= $2::bigint ORDER BY id LIMIT $3`, after, last, readBatch)
		if err != nil || len(books) == 0 {
			return err
		}
		after = books[len(books)-1].id
		r.Books += int64(len(books))
		if err := r.correct(ctx, books); err != nil {
			return err
		}
	}
}

// again tries the busy ones again, with a pause before each time.
func (r *refresh) again(ctx context.Context) error {
	for round := 0; round < roundsLater && len(r.busy) > 0; round++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(betweenRounds):
		}
		busy := r.busy
		r.busy = nil
		for ids := range slices.Chunk(busy, readBatch) {
			books, err := r.read(ctx, `id = ANY ($1::bigint[])`, ids)
			if err != nil {
				return err
			}
			if err := r.correct(ctx, books); err != nil {
				return err
			}
		}
	}
	r.Busy = int64(len(r.busy))
	return nil
}

// correct writes, and reads what it has written, until it is right. What is not so after some
// rounds is busy.
func (r *refresh) correct(ctx context.Context, books []book) error {
	if r.progress != nil {
		defer func() { r.progress(r.Result) }()
	}
	wrong := slices.DeleteFunc(books, book.right)
	if r.dry {
		r.Changed += int64(len(wrong))
		return nil
	}
	for part := range slices.Chunk(wrong, writeBatch) {
		for round := 0; round < roundsAtOnce && len(part) > 0; round++ {
			tried, err := r.write(ctx, part)
			if err != nil {
				return err
			}
			if part, err = r.read(ctx, `id = ANY ($1::bigint[])`, tried); err != nil {
				return err
			}
			part = slices.DeleteFunc(part, book.right)
		}
		for _, b := range part {
			r.busy = append(r.busy, b.id)
		}
	}
	return nil
}

func (r *refresh) read(ctx context.Context, which string, args ...any) ([]book, error) {
	rows, _ := r.pool.Query(ctx, `SELECT id, title, author, publisher, search_text, array(
    SELECT t.name FROM book_topic bt JOIN topic t ON t.id = bt.topic_id
    WHERE bt.book_id = book.id AND t.name IS NOT NULL)
FROM book WHERE `+which, args...) // its error is also that of the rows
	books, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b book, err error) {
		return b, row.Scan(&b.id, &b.title, &b.author, &b.publisher, &b.text, &b.topics)
	})
	if err != nil {
		return nil, fmt.Errorf("reading books: %w", err)
	}
	return books, nil
}

// write writes the texts of books that still are as they were read, and returns the ids of
// all but those that PostgreSQL refuses.
func (r *refresh) write(ctx context.Context, books []book) (tried []int64, err error) {
	n := len(books)
	ids, texts := make([]int64, n), make([]string, n)
	titles, authors, publishers, before := make([]*string, n), make([]*string, n), make([]*string, n), make([]*string, n)
	for i, b := range books {
		ids[i], texts[i] = b.id, b.derived()
		titles[i], authors[i], publishers[i], before[i] = b.title, b.author, b.publisher, b.text
	}
	written, err := r.pool.Exec(ctx, writeSQL, ids, titles, authors, publishers, before, texts)
	switch {
	case err == nil:
		r.Changed += written.RowsAffected()
		return ids, nil
	case !refused(err):
		return nil, fmt.Errorf("writing the search text of books: %w", err)
	case n == 1:
		r.Refused++
		if r.refusal == nil {
			r.refusal = fmt.Errorf("book %d: %w", ids[0], err)
		}
		return nil, nil
	}
	for i := range books {
		one, err := r.write(ctx, books[i:i+1])
		if err != nil {
			return nil, err
		}
		tried = append(tried, one...)
	}
	return tried, nil
}

// refused says whether it is the text that PostgreSQL, or a trigger of the application, does
// not take.
func refused(err error) bool {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return false
	}
	switch pgErr.Code[:min(2, len(pgErr.Code))] {
	case "22", "23", "44", "P0": // data, constraint, check option, raised
		return true
	}
	return false
}

// What a row is compared with is its latest version, once it is locked. A row that another
// session has locked is left out.
//
// in: $1 ids, rising; $2 to $5 titles, authors, publishers and texts as they were read; $6 new texts.
// locks: the rows of book that it writes.
const writeSQL = `
UPDATE book SET search_text = n.derived
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    n (id, title, author, publisher, text, derived)
CROSS JOIN LATERAL (
    SELECT FROM book b
    WHERE b.id = n.id AND b.title IS NOT DISTINCT FROM n.title AND b.author IS NOT DISTINCT FROM n.author
      AND b.publisher IS NOT DISTINCT FROM n.publisher AND b.search_text IS NOT DISTINCT FROM n.text
    FOR NO KEY UPDATE SKIP LOCKED
) same
WHERE book.id = n.id`
