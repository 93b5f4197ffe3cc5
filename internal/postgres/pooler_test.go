package postgres_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/appschema"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

func TestPoolerInTheWay(t *testing.T) {
	t.Parallel()
	const ignoring = "ignore_startup_parameters = synchronous_commit, lock_timeout, statement_timeout, " +
		"idle_in_transaction_session_timeout, plan_cache_mode, " +
		"enable_seqscan, enable_bitmapscan, enable_hashjoin, enable_mergejoin, jit, row_security, search_path, " +
		"default_transaction_isolation"
	database := testenv.Database(t)
	for name, tc := range map[string]struct {
		settings []string
		want     string
	}{
		"as it comes": {nil, "refused the connection: unsupported startup parameter"},
		"told to ignore settings": {
			[]string{ignoring}, "refused the connection: unsupported startup parameter: aggregator.session",
		},
		"told to ignore ours": {[]string{ignoring + ", aggregator.session"}, "it dropped the settings of the session"},
	} {
		t.Run(name, func(t *testing.T) {
			u := testenv.NewPgBouncer(t, database, tc.settings...).Before(t, database)
			_, err := postgres.Open(t.Context(), postgres.Options{URL: u})
			require.ErrorIs(t, err, postgres.ErrPooler)
			require.NotErrorIs(t, err, postgres.ErrUnreachable)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "set postgres.pooler to transaction")
			err = postgres.Migrate(t.Context(), postgres.Options{URL: u})
			require.ErrorIs(t, err, postgres.ErrPooler)
			require.ErrorContains(t, err, "aggregator migrate needs PostgreSQL itself")
			migrations, err := postgres.MigrationStatus(t.Context(), postgres.Options{URL: u})
			require.NoError(t, err)
			require.False(t, migrations[0].AppliedAt.IsZero())
		})
	}
}

// Through a pooler the role has the settings that a session of our own would have.
func TestOpenPooled(t *testing.T) {
	t.Parallel()
	database := testenv.As(t, testenv.Database(t), "aggregator_daemon")
	direct := openPool(t, database)
	pooled, err := postgres.Open(t.Context(), postgres.Options{
		URL: testenv.NewPgBouncer(t, database).Before(t, database), MaxConns: 8, Pooled: true, ApplicationName: "test",
	})
	require.NoError(t, err)
	defer pooled.Close()
	require.True(t, postgres.Pooled(pooled.Config().ConnConfig))
	require.False(t, postgres.Pooled(direct.Config().ConnConfig))
	for _, setting := range []string{
		"synchronous_commit", "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "plan_cache_mode",
		"timezone",
		"enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "jit", "row_security",
		"default_transaction_isolation", "client_encoding",
	} {
		var want, got string
		require.NoError(t, direct.QueryRow(t.Context(), "SHOW "+setting).Scan(&want))
		require.NoError(t, pooled.QueryRow(t.Context(), "SHOW "+setting).Scan(&got))
		require.Equal(t, want, got, setting)
	}
}

// Queries, batches and transactions of many connections share three sessions.
func TestPooledConnectionsShare(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	pool, err := postgres.Open(t.Context(), postgres.Options{
		URL: testenv.NewPgBouncer(t, database).Before(t, database), MaxConns: 12, Pooled: true,
	})
	require.NoError(t, err)
	defer pool.Close()
	var all sync.WaitGroup
	errs := make(chan error, 12)
	for range 12 {
		all.Go(func() {
			for i := range 50 {
				batch := &pgx.Batch{}
				var a, b int
				batch.Queue(`SELECT $1::int + 1`, i).QueryRow(func(row pgx.Row) error { return row.Scan(&a) })
				batch.Queue(`SELECT $1::int + 2`, i).QueryRow(func(row pgx.Row) error { return row.Scan(&b) })
				err := pool.SendBatch(t.Context(), batch).Close()
				if err == nil && (a != i+1 || b != i+2) {
					err = errors.New("an answer of another connection")
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(errs)
	require.NoError(t, <-errs)
}

// Through a pooler the search path is that of the role.
func TestPooledSchema(t *testing.T) {
	t.Parallel()
	database := testenv.As(t, testenv.Database(t), "aggregator_daemon")
	u := testenv.NewPgBouncer(t, database).Before(t, database)
	open := func(schema string) error {
		pool, err := postgres.Open(t.Context(), postgres.Options{URL: u, Schema: schema, Pooled: true})
		if err == nil {
			pool.Close()
		}
		return err
	}
	require.NoError(t, open(""))
	require.NoError(t, open("public"))
	err := open("aggregator")
	require.ErrorIs(t, err, appschema.ErrChoice)
	require.ErrorContains(t, err,
		`through a pooler a session looks first in "public": ALTER ROLE "aggregator_daemon" IN DATABASE "test_`)
}
