package oracle

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"aggregator/scripts/loadgen/tables"
)

// catalogue is what the database says of books, and who the profiles are.
type catalogue struct {
	profiles, genres, topics axis
	types                    map[int64]string
	books                    map[int64]book
}

// book has what one event of it touches, as places on the axes.
type book struct {
	genre   int // -1: none
	topics  []int
	letters []int // none, or four
}

func readCatalogue(ctx context.Context, tx pgx.Tx, k tables.Kind) (*catalogue, error) {
	c := &catalogue{types: map[int64]string{}, books: map[int64]book{}}
	axes := []struct {
		table string
		axis  *axis
	}{{"child_profile", &c.profiles}, {"genre", &c.genres}, {"topic", &c.topics}}
	for _, a := range axes {
		rows, _ := tx.Query(ctx, "SELECT id FROM "+k.From(a.table)) // the error comes with the rows
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", a.table, err)
		}
		*a.axis = newAxis(ids)
	}
	return c, c.readBooks(ctx, tx, k)
}

var aType = regexp.MustCompile(`^[IE][NS][TF][JP]$`)

// readBooks leaves out what joins a book to nothing: the application's columns may be NULL.
func (c *catalogue) readBooks(ctx context.Context, tx pgx.Tx, k tables.Kind) error {
	var id, other int64
	var name string
	query := "SELECT id, coalesce(upper(btrim(mbti::text)), '') FROM " + k.From("mbti")
	err := each(ctx, tx, query, []any{&id, &name}, func() { c.types[id] = name })
	if err != nil {
		return fmt.Errorf("reading mbti: %w", err)
	}
	var genre *int64
	err = each(ctx, tx, "SELECT id, genre_id FROM "+k.From("book"), []any{&id, &genre}, func() {
		b := book{genre: -1}
		if genre != nil {
			b.genre = c.genres.place[*genre]
		}
		c.books[id] = b
	})
	if err != nil {
		return fmt.Errorf("reading book: %w", err)
	}
	query = "SELECT DISTINCT book_id, topic_id FROM " + k.From("book_topic") +
		" WHERE book_id IS NOT NULL AND topic_id IS NOT NULL"
	err = each(ctx, tx, query, []any{&id, &other}, func() {
		b := c.books[id]
		b.topics = append(b.topics, c.topics.place[other])
		c.books[id] = b
	})
	if err != nil {
		return fmt.Errorf("reading book_topic: %w", err)
	}
	// Of several types of a book the first that is one counts.
	query = "SELECT book_id, mbti_id FROM " + k.From("book_mbti") +
		" WHERE book_id IS NOT NULL AND mbti_id IS NOT NULL ORDER BY book_id, mbti_id"
	err = each(ctx, tx, query, []any{&id, &other}, func() {
		b := c.books[id]
		if len(b.letters) > 0 || !aType.MatchString(c.types[other]) {
			return
		}
		for _, letter := range c.types[other] {
			b.letters = append(b.letters, strings.IndexRune(letters, letter))
		}
		c.books[id] = b
	})
	if err != nil {
		return fmt.Errorf("reading book_mbti: %w", err)
	}
	return nil
}

// each scans every row of a query.
func each(ctx context.Context, tx pgx.Tx, query string, into []any, row func()) error {
	rows, _ := tx.Query(ctx, query) // the error comes with the rows
	_, err := pgx.ForEachRow(rows, into, func() error { row(); return nil })
	return err
}
