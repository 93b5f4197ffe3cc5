package searchtext_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/searchtext"
)

// The searches that docs/design.md shows find by the index, in sessions as an application has
// them, and find what is there.
func TestFind(t *testing.T) {
	l := newLibrary(t, 5000)
	l.exec(`UPDATE book SET title = 'Book ' || md5(id::text), author = chr(44032 + id::int % 1999) || chr(45000 + ` +
		`id::int % 2003) || chr(46000 + id::int % 2011) || ' 이야기'`)
	l.refresh(searchtext.Options{})
	l.exec(`VACUUM ANALYZE book`)
	conn, err := pgx.Connect(t.Context(), l.url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	const (
		anywhere = `SELECT id::text FROM book WHERE search_text LIKE '%' || $1 || '%'`
		begins   = `SELECT id::text FROM book WHERE search_text LIKE $1 || '%' OR search_text LIKE '% ' || $1 || '%'`
	)
	author := searchtext.Text("", string([]rune{44032 + 777, 45000 + 777, 46000 + 777}), "", nil)
	for _, c := range []struct{ name, query, words string }{
		{"letters", anywhere, "c4ca4238a0"}, // md5 of 1
		{"the middle of a word", anywhere, "4238a0b"},
		{"three syllables", anywhere, author},
		{"two syllables that a word begins with", begins, string([]rune(author)[:2])},
	} {
		t.Run(c.name, func(t *testing.T) {
			find := func(query string) []string {
				rows, err := conn.Query(t.Context(), query, c.words)
				require.NoError(t, err)
				found, err := pgx.CollectRows(rows, pgx.RowTo[string])
				require.NoError(t, err)
				return found
			}
			plan := strings.Join(find(`EXPLAIN `+c.query), "\n")
			assert.Contains(t, plan, "Bitmap Index Scan on book_search_text_trgm")
			assert.NotContains(t, plan, "Seq Scan")
			byIndex := find(c.query)
			_, err := conn.Exec(t.Context(), `SET enable_bitmapscan = off`)
			require.NoError(t, err)
			assert.ElementsMatch(t, find(c.query), byIndex)
			assert.NotEmpty(t, byIndex)
			_, err = conn.Exec(t.Context(), `RESET enable_bitmapscan`)
			require.NoError(t, err)
		})
	}
}
