package history

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

func openPurged(t *testing.T, rows int) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Database(t), MaxConns: 2})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	for _, statement := range []string{
		`INSERT INTO child_personality_history (child_profile_id, created_at, is_deleted, deleted_at)
			SELECT i % 100, now() - i * interval '1 minute', i % 4 = 0, CASE WHEN i % 4 = 0 THEN now() - interval '40 days' END
				FROM generate_series(1, {rows}) i`,
		`INSERT INTO favorite_genre SELECT child_profile_id, id, 1 FROM child_personality_history`,
		`INSERT INTO favorite_topic SELECT child_profile_id, id, 1 FROM child_personality_history`,
		`VACUUM ANALYZE child_personality_history, favorite_genre, favorite_topic`,
	} {
		_, err := pool.Exec(t.Context(), strings.ReplaceAll(statement, "{rows}", fmt.Sprint(rows)))
		require.NoError(t, err)
	}
	return pool
}

// The statements of a purge reach the rows by index, however small or large the tables are.
func TestPurgePlans(t *testing.T) {
	t.Parallel()
	plans := func(rows int) map[string]string {
		pool := openPurged(t, rows)
		found := map[string]string{}
		for name, s := range map[string]struct{ statement, args string }{
			"purge":        {purgeDeleted, `now(), '-infinity', 0, 0, 1000`},
			"dry run":      {countDeleted, `now(), '-infinity', 0, 0, 1000`},
			"thinning":     {thin, `0, 2000, now(), now(), now(), now()`},
			"dry thinning": {countThin, `0, 2000, now(), now()`},
		} {
			lines := explainPlan(t, pool, s.statement, s.args)
			found[name] = strings.Join(lines, "\n")
		}
		return found
	}
	small, large := plans(100), plans(50_000)
	for name, plan := range small {
		assert.Equal(t, plan, large[name], name)
		assert.NotContains(t, plan, "Seq Scan", name)
	}
	for name, index := range map[string]string{
		"purge": "child_personality_history_deleted on", "dry run": "child_personality_history_deleted on",
		"thinning": "child_personality_history_pkey on", "dry thinning": "child_personality_history_pkey on",
	} {
		assert.Contains(t, small[name], "using "+index, name)
		assert.Contains(t, small[name], "using favorite_genre_pkey on", name)
		assert.Contains(t, small[name], "using favorite_topic_pkey on", name)
	}
	assert.Contains(t, small["purge"],
		"Index Cond: ((deleted_at < $1) AND (ROW(deleted_at, child_profile_id, id) > ROW($2, $3, $4)))")
	// The second condition is that of reach.
	assert.Contains(t, small["thinning"], "Index Cond: ((child_profile_id > $1) AND (child_profile_id <= $1))")
}

func explainPlan(t *testing.T, pool *pgxpool.Pool, statement, args string) []string {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for _, sql := range []string{`DEALLOCATE ALL`, `PREPARE s AS ` + statement} {
		_, err = conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	}
	rows, err := conn.Query(t.Context(), `EXPLAIN (COSTS OFF) EXECUTE s(`+args+`)`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return lines
}

// Each entry of the index is read once, also while an old transaction keeps the dead ones from
// being forgotten, and with ten times the rows it is ten times as many.
func TestPurgeReadsEachRowOnce(t *testing.T) {
	t.Parallel()
	for _, deleted := range []int{1000, 10_000} {
		t.Run(fmt.Sprint(deleted), func(t *testing.T) {
			pool := openPurged(t, 4*deleted)
			old, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
			require.NoError(t, err)
			_, err = old.Exec(t.Context(), `SELECT FROM child_personality_history LIMIT 1`)
			require.NoError(t, err)
			read := func() (n int64) {
				rows, err := old.Query(t.Context(),
					`SELECT pg_stat_clear_snapshot(), idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = `+
						`'child_personality_history_deleted'`)
				require.NoError(t, err)
				_, err = pgx.ForEachRow(rows, []any{nil, &n}, func() error { return nil })
				require.NoError(t, err)
				return n
			}
			before := read()
			purging, err := postgres.Open(t.Context(), postgres.Options{URL: pool.Config().ConnString(), MaxConns: 1})
			require.NoError(t, err)
			done, err := Purge(t.Context(), purging, PurgeOptions{OlderThan: 24 * time.Hour})
			require.NoError(t, err)
			require.EqualValues(t, deleted, done.Deleted)
			var session int
			require.NoError(t, purging.QueryRow(t.Context(), `SELECT pg_backend_pid()`).Scan(&session))
			purging.Close() // a session has told all that it has read when it is gone
			require.Eventually(t, func() (gone bool) {
				require.NoError(t, pool.QueryRow(
					t.Context(), `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)`, session).Scan(&gone))
				return gone
			}, time.Minute, 10*time.Millisecond)
			assert.EqualValues(t, deleted, read()-before)
			require.NoError(t, old.Rollback(t.Context()))
		})
	}
}
