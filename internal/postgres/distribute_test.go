package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// What needs Citus is in TestCitus of internal/faults.
func TestWithoutCitus(t *testing.T) {
	t.Parallel()
	u := testenv.EmptyDatabase(t)
	plan, err := postgres.PlanDistribution(t.Context(), postgres.Options{URL: u})
	require.NoError(t, err)
	require.Len(t, plan.Problems, 1)
	require.Contains(t, plan.Problems[0], "CREATE EXTENSION citus")
	require.Empty(t, plan.Statements)
	require.ErrorIs(t, plan.Check(), postgres.ErrDistribute)
	said := func(statement string) { t.Error("it ran", statement) }
	require.ErrorIs(t, postgres.Distribute(t.Context(), postgres.Options{URL: u}, said), postgres.ErrDistribute)

	u = testenv.Database(t)
	_, err = postgres.Open(t.Context(), postgres.Options{URL: u, Kind: postgres.Citus})
	require.ErrorIs(t, err, postgres.ErrKind)
	for _, kind := range []postgres.Kind{"", postgres.Auto, postgres.PostgreSQL} {
		pool, err := postgres.Open(t.Context(), postgres.Options{URL: u, Kind: kind})
		require.NoError(t, err, kind)
		require.False(t, postgres.OnCitus(pool.Config().ConnConfig), kind)
		pool.Close()
	}
}

// The text for Citus is made of that of migration 11, and PostgreSQL takes it.
func TestApplyOnCitus(t *testing.T) {
	t.Parallel()
	statement, err := postgres.ApplyOnCitus()
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), testenv.Database(t))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	const source = `SELECT prosrc FROM pg_proc WHERE pronamespace = 'aggregator'::regnamespace AND proname = 'apply'`
	var before, after string
	require.NoError(t, conn.QueryRow(t.Context(), source).Scan(&before))
	_, err = conn.Exec(t.Context(), statement)
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(t.Context(), source).Scan(&after))
	require.NotEqual(t, before, after)
	require.NotContains(t, after, "FROM child_profile c")
	require.Equal(t, 4, strings.Count(after, "VALUES (profile, history, updated)"))
}
