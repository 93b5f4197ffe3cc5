package scores_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
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

func apply(t *testing.T, pool *pgxpool.Pool, deltas ...scores.Delta) {
	t.Helper()
	var batch pgx.Batch
	scores.Queue(&batch, deltas, true)
	require.NoError(t, pool.SendBatch(t.Context(), &batch).Close())
}

type row struct {
	profile, id int64
	score       float64
}

func read(t *testing.T, pool *pgxpool.Pool, sql string) []row {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (x row, err error) {
		return x, r.Scan(&x.profile, &x.id, &x.score)
	})
	require.NoError(t, err)
	return list
}

// Rows that exist are added to, rows that do not are created, others are left alone.
func TestQueue(t *testing.T) {
	t.Parallel()
	pool := connect(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO genre_score VALUES (1, 1, 10), (1, 9, 90), (2, 1, 20), (3, 3, 30)`)
	require.NoError(t, err)
	apply(t, pool,
		scores.Delta{ProfileID: 1, Genres: []scores.Sum{{ID: 1, Value: 2}, {ID: 2, Value: -4}, {ID: 3, Value: 0}}, Topics: []scores.Sum{{ID: 5, Value: 1}}},
		scores.Delta{ProfileID: 2, Genres: []scores.Sum{{ID: 1, Value: -2}}, Typed: true, MBTI: [8]float64{1, 2, 3, 4, 5, 6, 7, 8}},
	)
	assert.Equal(t, []row{{1, 1, 12}, {1, 2, -4}, {1, 3, 0}, {1, 9, 90}, {2, 1, 18}, {3, 3, 30}},
		read(t, pool, `SELECT * FROM genre_score ORDER BY 1, 2`))
	assert.Equal(t, []row{{1, 5, 1}}, read(t, pool, `SELECT * FROM topic_score`))
	apply(t, pool, scores.Delta{ProfileID: 2, Typed: true, MBTI: [8]float64{1, 1, 1, 1, 1, 1, 1, 1}})
	var m [8]float64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score
		FROM cumulative_mbti_score WHERE child_profile_id = 2`).Scan(&m[0], &m[1], &m[2], &m[3], &m[4], &m[5], &m[6], &m[7]))
	assert.Equal(t, [8]float64{2, 3, 4, 5, 6, 7, 8, 9}, m)
}

// However many rows there are, each is added once.
func TestQueueSizes(t *testing.T) {
	t.Parallel()
	pool := connect(t)
	for _, n := range []int{1, 2, 3, 100, 2500} {
		_, err := pool.Exec(t.Context(), `TRUNCATE genre_score, topic_score, cumulative_mbti_score`)
		require.NoError(t, err)
		for range 2 {
			deltas := make([]scores.Delta, 0, n)
			for i := range n {
				d := scores.Delta{ProfileID: int64(i / 3), Genres: []scores.Sum{{ID: int64(i), Value: float64(i)}}}
				if i%3 == 0 {
					d.Typed, d.MBTI[7] = true, 1
				}
				deltas = append(deltas, d)
			}
			apply(t, pool, merged(deltas)...)
		}
		var rows, wrong, typed int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE score <> 2 * genre_id) FROM genre_score`).Scan(&rows, &wrong))
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM cumulative_mbti_score WHERE p_score = 2`).Scan(&typed))
		assert.Equal(t, n, rows)
		assert.Zero(t, wrong)
		assert.Equal(t, (n+2)/3, typed)
	}
}

func merged(deltas []scores.Delta) []scores.Delta {
	var list []scores.Delta
	for _, d := range deltas {
		if last := len(list) - 1; last >= 0 && list[last].ProfileID == d.ProfileID {
			list[last].Merge(d)
		} else {
			list = append(list, d)
		}
	}
	return list
}

// The application may create a row while we are about to.
func TestQueueMeetsAnInsert(t *testing.T) {
	t.Parallel()
	pool := connect(t)
	other, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = other.Exec(t.Context(), `INSERT INTO genre_score VALUES (1, 1, 100)`)
	require.NoError(t, err)
	done := make(chan error)
	go func() {
		var batch pgx.Batch
		deltas := []scores.Delta{{ProfileID: 1, Genres: []scores.Sum{{ID: 1, Value: 2}}}}
		scores.Queue(&batch, deltas, true)
		done <- pool.SendBatch(context.Background(), &batch).Close()
	}()
	require.Eventually(t, func() bool {
		var waiting int
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting))
		return waiting == 1
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, other.Commit(t.Context()))
	require.NoError(t, <-done)
	assert.Equal(t, []row{{1, 1, 102}}, read(t, pool, `SELECT * FROM genre_score`))
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
		assert.Equal(t, map[int64]scores.Book{1: {GenreID: 1, Topics: []int64{1, 2}, Letters: intj}, 2: {Topics: []int64{}}}, books)
		profiles, err := c.Profiles(ctx, []int64{1, 2})
		require.NoError(t, err)
		assert.Equal(t, map[int64]struct{}{1: {}}, profiles)
	}

	// What was missing is found as soon as it is there; what is known is not read again.
	_, err = pool.Exec(ctx, `INSERT INTO book (id, title) VALUES (3, 'new'); INSERT INTO child_profile (id, name) VALUES (2, 'new');
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
		{Name: "books", Capacity: 10, Hits: 2 + 1, Misses: 3 + 1 + 1}, {Name: "profiles", Capacity: 10, Hits: 1 + 1, Misses: 2 + 1 + 1},
	}, use)
}
