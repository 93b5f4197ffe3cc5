package history

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// longHistory is a database of so many profiles with 10,000 rows each, written in turn.
func longHistory(t testing.TB, profiles int) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Database(t), MaxConns: 1})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	for _, statement := range []string{
		`INSERT INTO genre (id, name) SELECT i, 'g' || i FROM generate_series(1, 10) i`,
		`INSERT INTO topic (id, name) SELECT i, 't' || i FROM generate_series(1, 25) i`,
		`INSERT INTO child_profile (id, name) SELECT i, 'c' FROM generate_series(1, {profiles}) i`,
		`INSERT INTO child_personality_history (child_profile_id, created_at, mbti_id)
			SELECT 1 + i % {profiles}, '2026-01-01T00:00:00Z'::timestamptz + i * interval '1 minute', 1 + i % 16 FROM generate_series(0, 10000 * {profiles} - 1) i`,
		`INSERT INTO favorite_genre SELECT child_profile_id, id, 1 + (id + k) % 10 FROM child_personality_history, generate_series(1, 3) k`,
		`INSERT INTO favorite_topic SELECT child_profile_id, id, 1 + (id + k) % 25 FROM child_personality_history, generate_series(1, 5) k`,
		`VACUUM ANALYZE`,
	} {
		_, err := pool.Exec(t.Context(), strings.ReplaceAll(statement, "{profiles}", strconv.Itoa(profiles)))
		require.NoError(t, err)
	}
	return pool
}

// Of a long history the end is read, and no more of it.
func TestPlanOfTimeline(t *testing.T) {
	t.Parallel()
	pool := longHistory(t, 2)
	rows, err := pool.Query(t.Context(), `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) `+timelineSQL, Selection{Limit: 10}.args(1)...)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	plan := strings.Join(lines, "\n")
	require.Contains(t, plan, "Index Scan Backward using child_personality_history_pkey on child_personality_history h (actual rows=11 loops=1)")
	require.NotContains(t, plan, "Seq Scan")
	require.NotContains(t, plan, "Removed by Filter")
}

// A profile with 10,000 rows: the latest ten, and the one of a moment in between.
func BenchmarkTimeline(b *testing.B) {
	pool := longHistory(b, 20)
	for name, s := range map[string]Selection{
		"Latest10": {Limit: 10},
		"Middle":   {Limit: 1, Before: time.Date(2026, 3, 11, 0, 0, 0, 0, time.UTC)}, // of 139 days
		"Oldest":   {Limit: 1, Before: time.Date(2026, 1, 1, 1, 0, 0, 0, time.UTC)},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				snapshots, err := Timeline(b.Context(), pool, 1, s)
				if err != nil || len(snapshots) == 0 {
					b.Fatal(len(snapshots), err)
				}
			}
		})
	}
}
