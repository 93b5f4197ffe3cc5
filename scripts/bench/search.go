package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/postgres"
	"aggregator/internal/searchtext"
	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/results"
)

// partSearch keeps the texts of ever more books, and finds books by them, with and without
// the index.
func (b *bench) partSearch(ctx context.Context) error {
	measured := results.Search{When: now()}
	for _, books := range b.books {
		for _, index := range []bool{true, false} {
			row, err := b.search(ctx, books, index)
			if err != nil {
				return err
			}
			measured.Rows = append(measured.Rows, row)
		}
	}
	b.results.Search = &measured
	fmt.Fprintf(b.out, "\nsearch, %s\n", measured.When.Format(time.DateTime))
	report.Search(measured).WriteText(b.out)
	return nil
}

func (b *bench) search(ctx context.Context, books int64, index bool) (row results.SearchRow, err error) {
	const name = "search"
	b.log("  %d books, index %t", books, index)
	url, err := b.servers.Postgres.CreateDatabase(ctx, name, "")
	if err != nil {
		return row, err
	}
	if err := postgres.Migrate(ctx, postgres.Options{URL: url}); err != nil {
		return row, err
	}
	// One connection is the aggregator's, one that of an application, with its own settings.
	pool, err := postgres.Open(ctx, postgres.Options{URL: url, MaxConns: 1})
	if err != nil {
		return row, err
	}
	app, err := pgx.Connect(ctx, url)
	if err != nil {
		pool.Close()
		return row, err
	}
	row, err = measureSearch(ctx, pool, app, books, index)
	pool.Close()
	_ = app.Close(ctx)
	if err == nil {
		err = b.servers.Postgres.DropDatabase(ctx, name)
	}
	return row, err
}

// Words of made-up letters, some ten thousand of them.
const (
	word      = `substr(translate(md5((%s)::text), '0123456789', 'ghijklmnop'), 1, 4 + (%[1]s)::int %% 5)`
	dropIndex = `DROP INDEX book_search_text_trgm`
	findBook  = `SELECT id, title FROM book WHERE search_text LIKE '%' || $1 || '%' ORDER BY title LIMIT 20`
)

func measureSearch(ctx context.Context, pool *pgxpool.Pool, app *pgx.Conn, books int64, index bool) (row results.SearchRow, err error) {
	row = results.SearchRow{Books: books, Index: index}
	statements := []string{
		`INSERT INTO topic (id, name) SELECT i, ` + fmt.Sprintf(word, "i") + ` FROM generate_series(1, 25) i`,
		fmt.Sprintf(`INSERT INTO book (id, title, author, publisher) SELECT i, %s || ' ' || %s || ' ' || %s, %s || ' ' || %s, %s FROM generate_series(1::bigint, %d) i`,
			fmt.Sprintf(word, "i * 7919 % 10007"), fmt.Sprintf(word, "i * 104729 % 10009"), fmt.Sprintf(word, "i * 1299709 % 10037"),
			fmt.Sprintf(word, "i % 1009"), fmt.Sprintf(word, "i % 2003"), fmt.Sprintf(word, "i % 101"), books),
		fmt.Sprintf(`INSERT INTO book_topic SELECT i, 1 + (i + k) %% 25 FROM generate_series(1, %d) i, generate_series(1, 2) k`, books),
		`VACUUM ANALYZE`, `CHECKPOINT`,
	}
	if !index {
		statements = append([]string{dropIndex}, statements...)
	}
	if err := execAll(ctx, app, statements...); err != nil {
		return row, err
	}
	if row.Fill, err = refresh(ctx, pool, books); err != nil {
		return row, err
	}
	if err := execAll(ctx, app, `VACUUM ANALYZE`, `CHECKPOINT`); err != nil {
		return row, err
	}
	if row.Look, err = refresh(ctx, pool, 0); err != nil {
		return row, err
	}
	if row.Find, err = find(ctx, app); err != nil {
		return row, err
	}
	// An application that edits a book at a time; a commit waits for the disk, which is not the index's doing.
	const edits = 1000
	began := time.Now()
	if err := execAll(ctx, app, `SET synchronous_commit = off`); err != nil {
		return row, err
	}
	for i := range int64(edits) {
		if _, err := app.Exec(ctx, `UPDATE book SET author = $2 WHERE id = $1`, 1+i*(books/edits), fmt.Sprint("Author ", i)); err != nil {
			return row, err
		}
	}
	row.Edit = time.Since(began).Seconds() / edits
	if row.Again, err = refresh(ctx, pool, edits); err != nil {
		return row, err
	}
	if index {
		err = app.QueryRow(ctx, `SELECT pg_relation_size('book_search_text_trgm')`).Scan(&row.Size)
	}
	return row, err
}

// refresh returns how many seconds it took to write so many texts.
func refresh(ctx context.Context, pool *pgxpool.Pool, want int64) (seconds float64, err error) {
	began := time.Now()
	done, err := searchtext.Refresh(ctx, pool, searchtext.Options{})
	if err == nil && done.Changed != want {
		err = fmt.Errorf("%d texts were written, not %d", done.Changed, want)
	}
	return time.Since(began).Seconds(), err
}

// find returns how many seconds each of some searches took.
func find(ctx context.Context, app *pgx.Conn) (seconds []float64, err error) {
	for i := range 51 {
		var looked string
		if err := app.QueryRow(ctx, `SELECT split_part(title, ' ', 2) FROM book WHERE id = $1`, 1+i*97).Scan(&looked); err != nil {
			return nil, err
		}
		began := time.Now()
		found, err := app.Exec(ctx, findBook, looked)
		if err != nil {
			return nil, err
		}
		seconds = append(seconds, time.Since(began).Seconds())
		if found.RowsAffected() == 0 {
			return nil, fmt.Errorf("no book was found by %q", looked)
		}
	}
	return seconds, nil
}

func execAll(ctx context.Context, db *pgx.Conn, statements ...string) error {
	for _, statement := range statements {
		if _, err := db.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
