package history_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/history"
	"aggregator/internal/postgres"
	"aggregator/internal/scores"
	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func connect(t *testing.T) *pgxpool.Pool {
	t.Helper()
	t.Parallel()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Database(t), MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	exec(t, pool, `INSERT INTO genre (id, name) SELECT i, 'g' || i FROM generate_series(1, 5) i`)
	exec(t, pool, `INSERT INTO topic (id, name) SELECT i, 't' || i FROM generate_series(1, 5) i`)
	exec(t, pool, `INSERT INTO child_profile (id, name) SELECT i, 'c' FROM generate_series(1, 9) i`)
	return pool
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func snapshot(t *testing.T, pool *pgxpool.Pool, profiles ...int64) error {
	t.Helper()
	var batch pgx.Batch
	var deltas []scores.Delta
	for _, id := range profiles {
		deltas = append(deltas, scores.Delta{ProfileID: id})
	}
	history.Queue(&batch, deltas, types(t, pool), false)
	return pool.SendBatch(t.Context(), &batch).Close()
}

func types(t *testing.T, pool *pgxpool.Pool) history.Types {
	t.Helper()
	types, err := history.ReadTypes(t.Context(), pool)
	require.NoError(t, err)
	return types
}

func latest(t *testing.T, pool *pgxpool.Pool, profile int64) history.Snapshot {
	t.Helper()
	timeline, err := history.Timeline(t.Context(), pool, profile, history.Selection{Limit: 1})
	require.NoError(t, err)
	require.Len(t, timeline, 1)
	return timeline[0]
}

// Of two transactions on a profile the one that comes second writes the later row, also if
// it began first.
func TestRowsAreInTheOrderOfTheirStates(t *testing.T) {
	pool := connect(t)
	early, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = early.Exec(t.Context(), `SELECT now()`)
	require.NoError(t, err)
	require.NoError(t, snapshot(t, pool, 1))
	var batch pgx.Batch
	history.Queue(&batch, []scores.Delta{{ProfileID: 1}}, types(t, pool), false)
	require.NoError(t, early.SendBatch(t.Context(), &batch).Close())
	require.NoError(t, early.Commit(t.Context()))
	var inOrder bool
	require.NoError(t, pool.QueryRow(t.Context(),
		`SELECT (array_agg(created_at ORDER BY id))[1] < (array_agg(created_at ORDER BY id))[2] FROM child_personality_history`).Scan(&inOrder))
	assert.True(t, inOrder)
}

func TestType(t *testing.T) {
	pool := connect(t)
	cases := []struct {
		name   string
		scores []any // I E S N T F J P
		want   string
	}{
		{"the first letter wins a tie, N before S", []any{0, 0, 0, 0, 0, 0, 0, 0}, "INTJ"},
		{"each second letter", []any{0, 1, 1, 0, 0, 1, 0, 1}, "ESFP"},
		{"below nothing", []any{-4, -2, -2, -4, -4, -2, -4, -2}, "ESFP"},
		{"mixed", []any{3, 2, 5, 1, 2, 2, -1, 0}, "ISTP"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			exec(t, pool, `DELETE FROM cumulative_mbti_score`)
			exec(t, pool, `INSERT INTO cumulative_mbti_score VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8)`, c.scores...)
			require.NoError(t, snapshot(t, pool, 1))
			assert.Equal(t, c.want, latest(t, pool, 1).Type)
		})
	}
	require.NoError(t, snapshot(t, pool, 2))
	assert.Equal(t, "INTJ", latest(t, pool, 2).Type, "no row counts as nothing scored")
	assert.Equal(t, history.Scores{}, latest(t, pool, 2).Scores)
}

func TestPreferred(t *testing.T) {
	pool := connect(t)
	cases := []struct {
		name   string
		scores []float64 // of genres and topics 1, 2, ...
		want   []string
	}{
		{"no rows", nil, []string{}},
		{"nothing positive", []float64{0, -2, -4}, []string{}},
		{"one", []float64{0.5, 0, -9}, []string{"1"}},
		{"at least the mean of the positive ones", []float64{1, 2, 3, -100, 0}, []string{"2", "3"}},
		{"all equal", []float64{2, 2, 2}, []string{"1", "2", "3"}},
		{"all equal, and their mean is not exact", []float64{0.1, 0.1, 0.1}, []string{"1", "2", "3"}},
		{"one far ahead", []float64{1, 1, 1, 1, 1000}, []string{"5"}},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			profile := int64(i + 1)
			for id, score := range c.scores {
				exec(t, pool, `INSERT INTO genre_score VALUES ($1, $2, $3)`, profile, id+1, score)
				exec(t, pool, `INSERT INTO topic_score VALUES ($1, $2, $3)`, profile, id+1, score)
			}
			require.NoError(t, snapshot(t, pool, profile))
			genres, topics := []string{}, []string{}
			for _, id := range c.want {
				genres, topics = append(genres, "g"+id), append(topics, "t"+id)
			}
			got := latest(t, pool, profile)
			assert.Equal(t, genres, got.Genres)
			assert.Equal(t, topics, got.Topics)
		})
	}
}

// Several profiles at once give a row each; one that is gone refuses them all.
func TestQueue(t *testing.T) {
	pool := connect(t)
	exec(t, pool, `INSERT INTO genre_score VALUES (1, 1, 5), (2, 2, 5), (2, 3, 1), (3, 4, 5)`)
	require.NoError(t, snapshot(t, pool, 1, 2))
	assert.Equal(t, []string{"g1"}, latest(t, pool, 1).Genres)
	assert.Equal(t, []string{"g2"}, latest(t, pool, 2).Genres)

	var refused *pgconn.PgError
	require.ErrorAs(t, snapshot(t, pool, 3, 77), &refused)
	assert.Equal(t, history.ProfileGone, refused.Code)
	timeline, err := history.Timeline(t.Context(), pool, 3, history.Selection{Limit: 10})
	require.NoError(t, err)
	assert.Empty(t, timeline)
}
