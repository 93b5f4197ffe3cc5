//go:build faults

package faults_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// TestSearchTextKilled kills refreshes of the search texts beside a service under load and
// somebody who edits books. No event may suffer from it, and the texts are right once one
// refresh comes to its end.
func TestSearchTextKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.sql(`INSERT INTO book (id, title, author) SELECT 5000000000 + i, 'The  Moon ' || i, 'Ｋｉｍ ' || i % 100 FROM `+
		`generate_series(1, 20000) i`,
		`INSERT INTO book_topic SELECT 5000000000 + i, t.id FROM generate_series(1, 20000) i, (SELECT min(id) AS id FROM `+
			`topic) t`)
	service := w.start("run")
	pushed := w.load(300, 8*time.Second)
	rest := w.editBooks()

	killed := 0
	for range 10 {
		w.sql(`DELETE FROM aggregator.lease WHERE source = 'job:search_text'`) // it would run out
		refresh := w.start("search-text")
		w.until("it is at work", func() bool {
			return !refresh.running() || w.number(`SELECT count(*) FROM aggregator.lease WHERE source = 'job:search_text'`) == 1
		})
		time.Sleep(rand.N(300 * time.Millisecond)) // the fault
		refresh.kill()
		if refresh.cmd.ProcessState.ExitCode() == -1 {
			killed++
		}
	}
	require.Positive(t, killed)
	pushed()
	rest()
	w.emptied()
	service.stop()

	w.sql(`DELETE FROM aggregator.lease WHERE source = 'job:search_text'`)
	last := w.start("search-text")
	require.Zero(t, last.wait(), "%s", last.tail())
	require.Zero(t, w.number(`SELECT count(*) FROM book b WHERE search_text IS DISTINCT FROM (
		SELECT btrim(regexp_replace(normalize(lower(normalize(concat_ws(' ', title, author, publisher, (
			SELECT string_agg(DISTINCT name, ' ' ORDER BY name) FROM (
				SELECT normalize(lower(normalize(name, NFKC)), NFKC) COLLATE "C" FROM topic JOIN book_topic ON topic_id = topic.id
					WHERE book_id = b.id) t (name)
		)), NFKC)), NFKC), '\s+', ' ', 'g')))`))
	w.exact()
	t.Logf("%d refreshes were killed", killed)
}

// editBooks edits what a search text is made of, and nothing that an event counts for, until
// its result is called.
func (w *world) editBooks() (rest func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	conn := w.connect()
	ended := make(chan error, 1)
	go func() {
		var err error
		for i := 0; err == nil; i++ {
			err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				for _, statement := range []string{
					`UPDATE book SET title = 'Edited ' || $1::bigint WHERE id = 5000000000 + $2::bigint`,
					`UPDATE book SET author = NULL, search_text = 'by somebody else ' || $1::bigint WHERE id = 5000000100 + ` +
						`$2::bigint`,
					`UPDATE topic SET name = 'Edited ' || $1::bigint WHERE id = (SELECT id FROM topic ORDER BY id OFFSET $2::bigint ` +
						`% 3 LIMIT 1)`,
				} {
					if _, err := tx.Exec(ctx, statement, i, 1+rand.IntN(19_000)); err != nil {
						return err
					}
				}
				return nil
			})
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond): // its pace
			}
		}
		ended <- err
	}()
	return func() {
		cancel()
		require.ErrorIs(w.t, <-ended, context.Canceled)
	}
}
