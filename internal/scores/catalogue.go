package scores

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/postgres"
)

// Catalogue remembers books, and which child profiles exist, up to a number of each and
// for a while. What is not there is never remembered as missing, so that a book or
// profile that the application has just added is found at once. It is safe for
// concurrent use.
type Catalogue struct {
	pool        *pgxpool.Pool
	log         *slog.Logger
	books       *cache[Book]
	profiles    *cache[struct{}]
	prefetching chan struct{} // holds one while a Prefetch is at work
}

// CatalogueOptions bound what a Catalogue remembers. All must be positive.
type CatalogueOptions struct {
	Books    int           // entries
	Profiles int           // entries
	TTL      time.Duration // after which an entry is read again
}

// NewCatalogue returns an empty catalogue that reads through the pool.
func NewCatalogue(pool *pgxpool.Pool, log *slog.Logger, o CatalogueOptions) *Catalogue {
	c := &Catalogue{pool: pool, log: log, prefetching: make(chan struct{}, 1)}
	c.books = newCache(o.Books, o.TTL, c.loadBooks)
	c.profiles = newCache(o.Profiles, o.TTL, c.loadProfiles)
	return c
}

// Books returns those of the books that exist; ids may come several times. What it does not remember it
// reads in one query. Errors are those of PostgreSQL and of ctx. Safe to repeat.
func (c *Catalogue) Books(ctx context.Context, ids []int64) (map[int64]Book, error) {
	books, err := c.books.get(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("reading books: %w", err)
	}
	return books, nil
}

// Profiles returns those of the profiles that exist, like Books.
func (c *Catalogue) Profiles(ctx context.Context, ids []int64) (map[int64]struct{}, error) {
	profiles, err := c.profiles.get(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("reading child profiles: %w", err)
	}
	return profiles, nil
}

// Prefetch looks for those of the profiles and books that are not remembered, so that Profiles
// and Books find them remembered later; ids may come several times. It returns how many it looked
// for, with one query each. What is remembered it does not displace: without room for all it
// looks for none. One call at a time is at work, the others wait. After an error some may be
// remembered. Safe to repeat.
func (c *Catalogue) Prefetch(ctx context.Context, profiles, books []int64) (int, error) {
	select {
	case c.prefetching <- struct{}{}:
		defer func() { <-c.prefetching }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	n, err := c.profiles.prefetch(ctx, profiles)
	if err != nil {
		return n, fmt.Errorf("reading child profiles: %w", err)
	}
	m, err := c.books.prefetch(ctx, books)
	if err != nil {
		return n + m, fmt.Errorf("reading books: %w", err)
	}
	return n + m, nil
}

// Forget drops a profile, so that it is looked for again.
func (c *Catalogue) Forget(profileID int64) { c.profiles.forget(profileID) }

// The types of a book are in the order of their ids: the first that is one counts, if there are several.
const booksSQL = `
SELECT b.id, coalesce(b.genre_id, 0), b.genre_id IS NOT NULL,
       array(SELECT DISTINCT t.topic_id FROM book_topic t WHERE t.book_id = b.id AND t.topic_id IS NOT NULL ORDER BY 1),
       array(SELECT m.mbti::text FROM book_mbti bm JOIN mbti m ON m.id = bm.mbti_id
             WHERE bm.book_id = b.id AND m.mbti IS NOT NULL ORDER BY m.id)
FROM book b WHERE b.id = ANY($1::bigint[])`

func (c *Catalogue) loadBooks(ctx context.Context, ids []int64) (map[int64]Book, error) {
	rows, err := c.pool.Query(ctx, booksSQL, ids)
	if err != nil {
		return nil, err
	}
	found := make(map[int64]Book, len(ids))
	var id int64
	var book Book
	var types []string
	_, err = pgx.ForEachRow(rows, []any{&id, &book.GenreID, &book.HasGenre, &book.Topics, &types}, func() error {
		book.Letters = 0
		for _, mbti := range types {
			letters, err := ParseType(mbti)
			if err != nil {
				c.log.Warn("ignoring the invalid MBTI type of a book", "book_id", id, "error", err)
				continue
			}
			book.Letters = letters
			break
		}
		found[id] = book
		book.Topics = nil // the next row must not overwrite it
		return nil
	})
	return found, err
}

func (c *Catalogue) loadProfiles(ctx context.Context, ids []int64) (map[int64]struct{}, error) {
	rows, err := c.pool.Query(ctx, `SELECT id FROM child_profile WHERE id = ANY($1::bigint[])`, ids)
	if err != nil {
		return nil, err
	}
	found := make(map[int64]struct{}, len(ids))
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		found[id] = struct{}{}
		return nil
	})
	return found, err
}

// Watch forgets what changes in the catalogue, as the triggers of our migration tell
// (NOTIFY aggregator_catalogue), until the context ends. After every connect it forgets
// all, for it may have missed a word. When it cannot connect it tries again; until then
// entries expire by age alone. So they do behind a pooler, where no connection can listen, and on
// Citus, where there are no such triggers.
func (c *Catalogue) Watch(ctx context.Context) {
	if cfg := c.pool.Config().ConnConfig; postgres.Pooled(cfg) || postgres.OnCitus(cfg) {
		<-ctx.Done()
		return
	}
	const retryAfter = 5 * time.Second
	for ctx.Err() == nil {
		if err := c.listen(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("not listening for changes of books and profiles", "error", err, "retry_after", retryAfter)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
}

func (c *Catalogue) listen(ctx context.Context) error {
	conn, err := postgres.Connect(ctx, c.pool.Config())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `LISTEN aggregator_catalogue`); err != nil {
		return err
	}
	c.books.forgetAll()
	c.profiles.forgetAll()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if n.Payload == "child_profile" {
			c.profiles.forgetAll()
		} else {
			c.books.forgetAll()
		}
	}
}
