package history_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/history"
	"aggregator/internal/postgres"
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

// snapshot writes a history row of what stands.
func snapshot(t *testing.T, pool *pgxpool.Pool, profile int64) {
	t.Helper()
	types, err := history.ReadTypes(t.Context(), pool)
	require.NoError(t, err)
	exec(t, pool, `SELECT aggregator.apply($1, 's', 0, 0, 0, NULL, NULL, 0, true, false, $2, false, false,
		0, 0, 0, 0, 0, 0, 0, 0, '{}', '{}', '{}', '{}')`, profile, types[:])
}
