package searchtext_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/searchtext"
	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// library is a database with books, as its owner sees it.
type library struct {
	*pgxpool.Pool
	t   *testing.T
	url string
}

func newLibrary(t *testing.T, books int) library {
	t.Helper()
	t.Parallel()
	l := library{t: t, url: testenv.Database(t)}
	var err error
	l.Pool, err = postgres.Open(t.Context(), postgres.Options{URL: l.url, MaxConns: 8})
	require.NoError(t, err)
	t.Cleanup(l.Close)
	l.exec(normal)
	l.exec(`INSERT INTO topic (id, name) SELECT i, 'Topic  ' || i FROM generate_series(1, 9) i`)
	l.exec(`INSERT INTO book (id, title, author, publisher)
		SELECT i, 'The  Moon ' || i, CASE WHEN i % 3 > 0 THEN 'Ｋｉｍ ' || i END, CASE WHEN i % 5 > 0 THEN 'Émile' END
			FROM generate_series(1, $1::int) i`, books)
	l.exec(`INSERT INTO book_topic SELECT i, 1 + (i + k) % 9 FROM generate_series(1, $1::int) i, generate_series(1, 2) `+
		`k WHERE i % 7 > 0`, books)
	return l
}

func (l library) exec(sql string, args ...any) {
	l.t.Helper()
	_, err := l.Exec(l.t.Context(), sql, args...)
	require.NoError(l.t, err, sql)
}

// daemon is a pool of the role that does it in production. After is called after each
// statement of it, with how many there were, and may cancel the next.
func (l library) daemon(after func(statements int)) *pgxpool.Pool {
	l.t.Helper()
	pool, err := postgres.Open(
		l.t.Context(), postgres.Options{URL: testenv.As(l.t, l.url, "aggregator_daemon"), MaxConns: 2})
	require.NoError(l.t, err)
	config := pool.Config()
	pool.Close()
	config.ConnConfig.Tracer = &tracer{after: after}
	pool, err = pgxpool.NewWithConfig(l.t.Context(), config)
	require.NoError(l.t, err)
	l.t.Cleanup(pool.Close)
	return pool
}

func (l library) refresh(o searchtext.Options) searchtext.Result {
	l.t.Helper()
	got, err := searchtext.Refresh(l.t.Context(), l.daemon(nil), o)
	require.NoError(l.t, err)
	return got
}

// wrong are the books whose text is not what PostgreSQL itself derives.
func (l library) wrong() []int64 {
	l.t.Helper()
	rows, err := l.Query(l.t.Context(), `
SELECT id FROM book b WHERE search_text IS DISTINCT FROM (
    SELECT btrim(regexp_replace(concat_ws(' ', normal(title), normal(author), normal(publisher),
        (SELECT string_agg(DISTINCT normal(name) COLLATE "C", ' ' ORDER BY normal(name) COLLATE "C")
         FROM book_topic JOIN topic ON topic.id = topic_id WHERE book_id = b.id)), '\s+', ' ', 'g')))
ORDER BY id`)
	require.NoError(l.t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(l.t, err)
	return ids
}

const normal = `CREATE FUNCTION normal(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT btrim(regexp_replace(normalize(lower(normalize($1, NFKC)), NFKC), '\s+', ' ', 'g')) $$`

type tracer struct {
	after func(int)
	count int
}

func (tr *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, tr, q.SQL)
}

func (tr *tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if sql, _ := ctx.Value(tr).(string); !strings.Contains(sql, "book") {
		return // a setting of the session
	}
	tr.count++
	if tr.after != nil {
		tr.after(tr.count)
	}
}

func TestRefresh(t *testing.T) {
	l := newLibrary(t, 1200)
	require.Len(t, l.wrong(), 1200)
	assert.Equal(t, searchtext.Result{Books: 1200, Changed: 1200}, l.refresh(searchtext.Options{}))
	require.Empty(t, l.wrong())
	assert.Equal(t, searchtext.Result{Books: 1200}, l.refresh(searchtext.Options{}), "what is right is not written")

	for _, c := range []struct {
		edit    string
		changed int64
	}{
		{`UPDATE book SET title = 'Ｗｉｄｅ' WHERE id = 17`, 1},
		{`UPDATE book SET author = NULL WHERE id = 1`, 1},
		{`UPDATE book SET publisher = '' WHERE id = 1200`, 0}, // it had none
		{`UPDATE book SET publisher = 'x' WHERE id IN (1000, 1001)`, 2},
		{`DELETE FROM book_topic WHERE book_id IN (1, 2)`, 2},
		{`INSERT INTO book_topic VALUES (7, 1)`, 1},
		{`UPDATE topic SET name = 'topic 3' WHERE id = 3`, 0}, // the same when normalised
		{`UPDATE book SET search_text = NULL WHERE id = 5`, 1},
		{`UPDATE book SET search_text = 'by hand' WHERE id = 6`, 1},
		{`UPDATE book SET price = '7' WHERE id = 6`, 0},
		{`INSERT INTO book (id, title) VALUES (-5, ''), (9999, 'New')`, 2},
		{`DELETE FROM book WHERE id BETWEEN 900 AND 1100`, 0},
	} {
		l.exec(c.edit)
		assert.Equal(t, c.changed, l.refresh(searchtext.Options{}).Changed, c.edit)
		assert.Empty(t, l.wrong(), c.edit)
	}
}

func TestDryRun(t *testing.T) {
	l := newLibrary(t, 1001)
	l.exec(`UPDATE book SET search_text = 'x' WHERE id = 1`)
	assert.Equal(t, searchtext.Result{Books: 1001, Changed: 1001}, l.refresh(searchtext.Options{DryRun: true}))
	var written int
	require.NoError(t, l.QueryRow(t.Context(), `SELECT count(search_text) FROM book`).Scan(&written))
	assert.Equal(t, 1, written)
}

// A limit ends it with books left; one that is not reached leaves none out, wherever it began.
func TestLimit(t *testing.T) {
	l := newLibrary(t, 1500)
	assert.Equal(t, searchtext.Result{Left: true}, l.refresh(searchtext.Options{MaxDuration: 1}))
	assert.Equal(t, searchtext.Result{Books: 1500, Changed: 1500}, l.refresh(searchtext.Options{MaxDuration: time.Hour}))
	assert.Empty(t, l.wrong())
	l.exec(`DELETE FROM book_topic; DELETE FROM book WHERE id > 1`)
	assert.Equal(t, searchtext.Result{Books: 1, Changed: 1}, l.refresh(searchtext.Options{MaxDuration: time.Hour}))
	l.exec(`DELETE FROM book`)
	assert.Equal(t, searchtext.Result{}, l.refresh(searchtext.Options{MaxDuration: time.Hour}))
}

// What was done is told after each batch.
func TestProgress(t *testing.T) {
	l := newLibrary(t, 2500)
	count, err := searchtext.Count(t.Context(), l.daemon(nil))
	require.NoError(t, err)
	assert.EqualValues(t, 2500, count)
	var seen []searchtext.Result
	got := l.refresh(searchtext.Options{Progress: func(r searchtext.Result) { seen = append(seen, r) }})
	assert.Equal(t, []searchtext.Result{{Books: 1000, Changed: 1000}, {Books: 2000, Changed: 2000}, got}, seen)
}

// A book that an application has locked is not waited for, and comes again.
func TestLocked(t *testing.T) {
	l := newLibrary(t, 250)
	editor, err := l.Begin(t.Context())
	require.NoError(t, err)
	_, err = editor.Exec(t.Context(), `UPDATE book SET title = 'Mine' WHERE id IN (3, 150)`)
	require.NoError(t, err)
	assert.Equal(t, searchtext.Result{Books: 250, Changed: 248, Busy: 2}, l.refresh(searchtext.Options{}))
	assert.Equal(t, []int64{3, 150}, l.wrong())
	require.NoError(t, editor.Commit(t.Context()))
	assert.Equal(t, searchtext.Result{Books: 250, Changed: 2}, l.refresh(searchtext.Options{}))
	assert.Empty(t, l.wrong())
}

// A book that PostgreSQL refuses keeps no other from being done.
func TestRefused(t *testing.T) {
	l := newLibrary(t, 250)
	l.exec(`ALTER TABLE book ALTER search_text TYPE varchar(60)`)
	l.exec(`UPDATE book SET author = $1 WHERE id IN (3, 4, 150)`, strings.Repeat("x", 60))
	got, err := searchtext.Refresh(t.Context(), l.daemon(nil), searchtext.Options{})
	require.ErrorContains(t, err, "that of 3 books, the first of them book 3:")
	require.ErrorContains(t, err, "22001")
	assert.Equal(t, searchtext.Result{Books: 250, Changed: 247, Refused: 3}, got)
	assert.Equal(t, []int64{3, 4, 150}, l.wrong())
}

// edits are what somebody else does to books 1 to 10, between two statements of ours.
var edits = []string{
	`UPDATE book SET title = 'Edited' WHERE id = 1`,
	`UPDATE book SET author = NULL WHERE id = 2`,
	`UPDATE book SET publisher = 'Edited' WHERE id = 3`,
	`UPDATE book SET search_text = 'by somebody else' WHERE id = 4`,
	`DELETE FROM book_topic WHERE book_id = 5`,
	`INSERT INTO book_topic VALUES (7, 1)`,
	`UPDATE topic SET name = 'Edited' WHERE id = 2`,
	`DELETE FROM book WHERE id BETWEEN 9 AND 18`,
	`INSERT INTO book (id, title) VALUES (-1, 'New')`,
}

// The job of old read a page by OFFSET, and wrote what it had made of it. What was edited in
// between it overwrote with stale text; and where books were removed, as many of the next page
// moved up into the one that was through.
func TestAsOfOld(t *testing.T) {
	l := newLibrary(t, 2500)
	const page = 1000
	for offset := 0; ; offset += page {
		rows, err := l.Query(t.Context(), `SELECT id, title, coalesce(author, ''), coalesce(publisher, ''),
			array(SELECT name FROM topic JOIN book_topic ON topic_id = topic.id WHERE book_id = book.id) FROM book ORDER BY id
				LIMIT $1 OFFSET $2`, page, offset)
		require.NoError(t, err)
		var batch pgx.Batch
		var id int64
		var title, author, publisher string
		var topics []string
		_, err = pgx.ForEachRow(rows, []any{&id, &title, &author, &publisher, &topics}, func() error {
			batch.Queue(`UPDATE book SET search_text = $2 WHERE id = $1`, id, searchtext.Text(title, author, publisher, topics))
			topics = nil
			return nil
		})
		require.NoError(t, err)
		if batch.Len() == 0 {
			break
		}
		if offset == 0 {
			for _, edit := range edits[:8] {
				l.exec(edit)
			}
		}
		require.NoError(t, l.SendBatch(t.Context(), &batch).Close())
	}
	wrong := l.wrong()
	assert.Subset(t, wrong, []int64{1, 2, 3, 5, 7}, "stale")
	var never []int64
	for id := range int64(10) {
		never = append(never, 1001+id)
	}
	assert.Subset(t, wrong, never, "never looked at")
	l.refresh(searchtext.Options{})
	assert.Empty(t, l.wrong())
}

// The same edits at each instant, from the first statement that reads the books to the last
// before they are through: no text is stale, and none is left out.
func TestEditedMeanwhile(t *testing.T) {
	for instant := 1; instant <= 2; instant++ { // after the books were read; after they were written
		t.Run(fmt.Sprint(instant), func(t *testing.T) {
			l := newLibrary(t, 2500)
			daemon := l.daemon(func(statements int) {
				if statements == instant {
					for _, edit := range edits {
						l.exec(edit)
					}
				}
			})
			got, err := searchtext.Refresh(t.Context(), daemon, searchtext.Options{})
			require.NoError(t, err)
			assert.Zero(t, got.Busy)
			assert.Equal(t, []int64{-1}, l.wrong(), "a book that was not there at the begin is for the next time")
			assert.EqualValues(t, 1, l.refresh(searchtext.Options{}).Changed)
			assert.Empty(t, l.wrong())
		})
	}
}

// It may end after any statement; the next one goes on.
func TestEndedAnywhere(t *testing.T) {
	l := newLibrary(t, 150)
	for instant, ended := 1, true; ended; instant++ {
		l.exec(`UPDATE book SET search_text = NULL`)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := searchtext.Refresh(ctx, l.daemon(func(statements int) {
			if statements == instant {
				cancel()
			}
		}), searchtext.Options{})
		cancel()
		if ended = instant < 6; ended { // read, write, read, write, read, read
			require.ErrorIs(t, err, context.Canceled)
		}
		l.refresh(searchtext.Options{})
		require.Empty(t, l.wrong())
	}
}

// Two at once, beside editors who never wait for more than a moment: all is right once they rest.
func TestTogether(t *testing.T) {
	l := newLibrary(t, 300)
	const refreshers, editors, editsEach = 2, 2, 400
	done := make(chan error)
	rest := make(chan struct{})
	for range refreshers {
		pool := l.daemon(nil)
		go func() {
			for {
				select {
				case <-rest:
					done <- nil
					return
				default:
				}
				if _, err := searchtext.Refresh(t.Context(), pool, searchtext.Options{}); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	edited := make(chan error)
	for e := range editors {
		go func() { edited <- edit(t.Context(), l.Pool, uint64(e), editsEach) }()
	}
	var failed []error
	for range editors {
		failed = append(failed, <-edited)
	}
	close(rest)
	for range refreshers {
		failed = append(failed, <-done)
	}
	require.NoError(t, errors.Join(failed...))
	got := l.refresh(searchtext.Options{})
	assert.Zero(t, got.Busy)
	assert.Empty(t, l.wrong())
}

// What somebody else has written since a book was read is not overwritten, not even for a
// moment: here the refresh ends before it could look again.
func TestNotOverwritten(t *testing.T) {
	l := newLibrary(t, 20)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := searchtext.Refresh(ctx, l.daemon(func(statements int) {
		switch statements {
		case 1:
			for _, edit := range edits[:4] {
				l.exec(edit)
			}
		case 2:
			cancel()
		}
	}), searchtext.Options{})
	require.ErrorIs(t, err, context.Canceled)
	rows, err := l.Query(t.Context(), `SELECT search_text FROM book WHERE id <= 5 ORDER BY id`)
	require.NoError(t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[*string])
	require.NoError(t, err)
	assert.Equal(t, []*string{nil, nil, nil, new("by somebody else"), new("the moon 5 kim 5 topic 7 topic 8")}, texts)
}
