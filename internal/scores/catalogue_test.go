package scores_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func connect(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Database(t), MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestCatalogue(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t)
	_, err := pool.Exec(ctx, `
		INSERT INTO genre (id, name) VALUES (1, 'g');
		INSERT INTO topic (id, name) VALUES (1, 'a'), (2, 'b');
		INSERT INTO book (id, title, genre_id) VALUES (1, 'full', 1), (2, 'bare', NULL);
		INSERT INTO book_topic VALUES (1, 2), (1, 1);
		INSERT INTO book_mbti SELECT 1, id FROM mbti WHERE mbti = 'INTJ';
		INSERT INTO child_profile (id, name) VALUES (1, 'child')`)
	require.NoError(t, err)
	c := scores.NewCatalogue(pool, slog.Default(), scores.CatalogueOptions{Books: 10, Profiles: 10, TTL: time.Minute})
	intj, err := scores.ParseType("INTJ")
	require.NoError(t, err)
	for range 2 {
		books, err := c.Books(ctx, []int64{1, 2, 3})
		require.NoError(t, err)
		assert.Equal(t, map[int64]scores.Book{
			1: {GenreID: 1, HasGenre: true, Topics: []int64{1, 2}, Letters: intj}, 2: {Topics: []int64{}},
		}, books)
		profiles, err := c.Profiles(ctx, []int64{1, 2})
		require.NoError(t, err)
		assert.Equal(t, map[int64]struct{}{1: {}}, profiles)
	}

	// What was missing is found as soon as it is there; what is known is not read again.
	_,
		err = pool.Exec(
		ctx, `INSERT INTO book (id, title) VALUES (3, 'new'); INSERT INTO child_profile (id, name) VALUES (2, 'new');
		ALTER TABLE book DISABLE TRIGGER ALL; UPDATE book SET genre_id = NULL WHERE id = 1`)
	require.NoError(t, err)
	books, err := c.Books(ctx, []int64{1, 3})
	require.NoError(t, err)
	assert.Len(t, books, 2)
	assert.EqualValues(t, 1, books[1].GenreID)
	profiles, err := c.Profiles(ctx, []int64{1, 2})
	require.NoError(t, err)
	assert.Len(t, profiles, 2)

	use := c.Use()
	use[0].Entries, use[1].Entries = 0, 0 // about
	assert.Equal(t, []scores.CacheUse{
		{Name: "books", Capacity: 10, Hits: 2 + 1, Misses: 3 + 1 + 1},
		{Name: "profiles", Capacity: 10, Hits: 1 + 1, Misses: 2 + 1 + 1},
	}, use)
}

// Tables as an object mapper makes them: nothing is unique, texts are padded, and 0 is an id.
func TestCatalogueOfOtherTables(t *testing.T) {
	t.Parallel()
	pool := connect(t)
	_, err := pool.Exec(t.Context(), `
		ALTER TABLE mbti DROP CONSTRAINT mbti_mbti_key;
		ALTER TABLE book_mbti DROP CONSTRAINT book_mbti_pkey;
		ALTER TABLE book_topic DROP CONSTRAINT book_topic_pkey;
		ALTER TABLE mbti ALTER mbti TYPE char(8), ALTER mbti DROP NOT NULL;
		DELETE FROM mbti;
		INSERT INTO mbti (id, mbti) VALUES (1, 'none'), (2, NULL), (3, ' enfp'), (4, 'INTJ'), (5, 'INTJ');
		INSERT INTO genre (id, name) VALUES (0, 'zero');
		INSERT INTO topic (id, name) VALUES (0, 'zero'), (1, 'one');
		INSERT INTO book (id, title, genre_id) VALUES (1, 'a', 0), (2, 'b', NULL), (3, 'c', NULL), (4, 'd', NULL);
		INSERT INTO book_topic VALUES (1, 1), (1, 0), (1, 1), (1, 0);
		INSERT INTO book_mbti VALUES (1, 5), (1, 3), (1, 4), (1, 1), (1, 2), (2, 5), (2, 4), (3, 1)`)
	require.NoError(t, err)
	c := scores.NewCatalogue(
		pool, slog.New(slog.DiscardHandler), scores.CatalogueOptions{Books: 10, Profiles: 10, TTL: time.Minute})
	books, err := c.Books(t.Context(), []int64{1, 2, 3, 4})
	require.NoError(t, err)
	enfp, err := scores.ParseType("ENFP")
	require.NoError(t, err)
	intj, err := scores.ParseType("INTJ")
	require.NoError(t, err)
	assert.Equal(t, map[int64]scores.Book{
		1: {HasGenre: true, Topics: []int64{0, 1}, Letters: enfp},
		2: {Topics: []int64{}, Letters: intj},
		3: {Topics: []int64{}},
		4: {Topics: []int64{}},
	}, books)
}

// What was asked for ahead is remembered, and forgotten when it changes.
func TestCataloguePrefetch(t *testing.T) {
	t.Parallel()
	pool := connect(t)
	_, err := pool.Exec(t.Context(), `
		INSERT INTO genre (id, name) VALUES (1, 'g'), (2, 'h');
		INSERT INTO book (id, title, genre_id) VALUES (1, 'b', 1);
		INSERT INTO child_profile (id, name) VALUES (1, 'child'), (2, 'child')`)
	require.NoError(t, err)
	c := scores.NewCatalogue(pool, slog.Default(), scores.CatalogueOptions{Books: 10, Profiles: 10, TTL: time.Minute})
	watch, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.Watch(watch)
	}()
	defer func() {
		stop()
		<-watched
	}()
	n, err := c.Prefetch(t.Context(), []int64{1, 3, 1, 2}, []int64{1, 9})
	require.NoError(t, err)
	assert.Equal(t, 5, n)
	require.Eventually(t, func() bool { // from when it is being listened on
		_, err := pool.Exec(t.Context(), `
			UPDATE book SET genre_id = 3 - genre_id;
			DELETE FROM child_profile WHERE id = 2`)
		require.NoError(t, err)
		_, err = c.Prefetch(t.Context(), []int64{1, 2}, []int64{1})
		require.NoError(t, err)
		var genre int64
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT genre_id FROM book`).Scan(&genre))
		books, err := c.Books(t.Context(), []int64{1})
		require.NoError(t, err)
		profiles, err := c.Profiles(t.Context(), []int64{1, 2})
		require.NoError(t, err)
		return books[1].GenreID == genre && len(profiles) == 1
	}, time.Minute, time.Millisecond)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Prefetch(ended, []int64{7}, nil)
	require.ErrorIs(t, err, context.Canceled)
}
