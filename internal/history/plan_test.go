package history

import (
	"strconv"
	"strings"
	"testing"
	"time"

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
			SELECT 1 + i % {profiles}, '2026-01-01T00:00:00Z'::timestamptz + i * interval '1 minute', 1 + i % 16
				FROM generate_series(0, 10000 * {profiles} - 1) i`,
		`INSERT INTO favorite_genre SELECT child_profile_id, id, 1 + (id + k) % 10 FROM child_personality_history, ` +
			`generate_series(1, 3) k`,
		`INSERT INTO favorite_topic SELECT child_profile_id, id, 1 + (id + k) % 25 FROM child_personality_history, ` +
			`generate_series(1, 5) k`,
		`VACUUM ANALYZE`,
	} {
		_, err := pool.Exec(t.Context(), strings.ReplaceAll(statement, "{profiles}", strconv.Itoa(profiles)))
		require.NoError(t, err)
	}
	return pool
}

// Of a long history no more is read than a few hundred rows, whatever is asked for.
func TestCostOfTimeline(t *testing.T) {
	t.Parallel()
	pool := longHistory(t, 2)
	_, err := pool.Exec(t.Context(),
		`UPDATE child_personality_history SET is_deleted = true, deleted_at = now() WHERE id % 10 >= 2`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `VACUUM child_personality_history`)
	require.NoError(t, err)
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const look, deletedOnes = 2*(outOfOrder+1) + 64, 5 // a row of five is not deleted
	for name, c := range map[string]struct {
		selected     Selection
		found, reads int
	}{
		"the latest":               {Selection{Limit: 10, Deleted: true}, 11, 11},
		"not deleted":              {Selection{Limit: 10}, 11, 11 * deletedOnes},
		"at the end":               {Selection{Limit: 1, Deleted: true, Before: begin.AddDate(1, 0, 0)}, 2, look},
		"in the middle":            {Selection{Limit: 1, Deleted: true, Before: begin.AddDate(0, 0, 7)}, 2, look},
		"in the middle, and many":  {Selection{Limit: 50, Deleted: true, Before: begin.AddDate(0, 0, 7)}, 51, look + 50},
		"in the middle, and lived": {Selection{Limit: 10, Before: begin.AddDate(0, 0, 7)}, 11, look + 11*deletedOnes},
		"at the begin":             {Selection{Limit: 1, Deleted: true, Before: begin.Add(time.Hour)}, 2, look},
		"before the begin":         {Selection{Limit: 1, Before: begin}, 0, look},
	} {
		t.Run(name, func(t *testing.T) {
			var plans []struct{ Plan node }
			require.NoError(t, pool.QueryRow(
				t.Context(), `EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) `+timelineSQL, c.selected.args(1)...).Scan(
				&plans))
			top := plans[0].Plan
			require.InDelta(t, c.found, top.Rows, 0)
			rows, pages := top.ofHistory()
			require.LessOrEqual(t, rows, float64(c.reads))
			require.Less(t, pages, 1000)
		})
	}
}

// node is one of a plan.
type node struct {
	Relation string  `json:"Relation Name"`
	Rows     float64 `json:"Actual Rows"` // of a loop, as Removed
	Removed  float64 `json:"Rows Removed by Filter"`
	Loops    float64 `json:"Actual Loops"`
	Hit      int     `json:"Shared Hit Blocks"` // with those of all below, as Read
	Read     int     `json:"Shared Read Blocks"`
	Plans    []node
}

// ofHistory is what of the table of history is read.
func (n node) ofHistory() (rows float64, pages int) {
	if n.Relation == "child_personality_history" {
		rows, pages = (n.Rows+n.Removed)*n.Loops, n.Hit+n.Read
	}
	for _, below := range n.Plans {
		r, p := below.ofHistory()
		rows, pages = rows+r, pages+p
	}
	return rows, pages
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
