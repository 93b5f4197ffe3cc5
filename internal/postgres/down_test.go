package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3/lock"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// fixed is the newest migration that cannot be undone.
func fixed(t *testing.T, url string) (version int64, name string) {
	t.Helper()
	list, err := postgres.MigrationStatus(t.Context(), postgres.Options{URL: url})
	require.NoError(t, err)
	for _, m := range list {
		if m.Down == "" && m.Name != "" {
			version, name = m.Version, m.Name
		}
	}
	return version, name
}

// catalogOf is all that the schemas hold, but for the order in which migrations were applied.
func catalogOf(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var text string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
    SELECT format('%s.%s %s %s %s', c.relnamespace::regnamespace, c.relname, a.attname, format_type(a.atttypid,
	a.atttypmod), a.attnotnull)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace IN ('aggregator'::regnamespace, 'public'::regnamespace)
    UNION ALL SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
        WHERE connamespace IN ('aggregator'::regnamespace, 'public'::regnamespace)
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname IN ('aggregator', 'public')
    UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'aggregator'::regnamespace
    UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT format('%s may %s on %s', grantee, privilege_type, table_name)
	FROM information_schema.table_privileges
        WHERE table_schema = 'aggregator'
    UNION ALL SELECT format('version %s', version_id) FROM aggregator.schema_migrations) all_of_it(line)`).Scan(&text))
	return text
}

const ledgerRows = `INSERT INTO aggregator.mark VALUES (1, 's', 5, 0, 3);
	INSERT INTO aggregator.checkpoint (source, position_ms, position_seq, base, entries, epoch)
		VALUES ('s', 5, 0, 0, 4, 2);
	INSERT INTO aggregator.dead_letter (source, position_ms, position_seq, reason, payload, payload_form, created_at)
		VALUES ('s', 4, 0, 'malformed', 'x', 'event', '2026-01-01');
	INSERT INTO genre_score VALUES (1, 1, 6)`

// ledgerOf is what the rows of ledgerRows say, by the columns that there always are.
func ledgerOf(t *testing.T, pool *pgxpool.Pool) (text string) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT concat_ws(E'\n',
    (SELECT string_agg(concat_ws(' ', child_profile_id, source, position_ms, position_seq, applied), E'\n')
	FROM aggregator.mark),
    (SELECT string_agg(concat_ws(' ', source, position_ms, position_seq, base, entries, epoch), E'\n')
	FROM aggregator.checkpoint),
    (SELECT string_agg(concat_ws(' ', source, position_ms, reason, payload, created_at), E'\n')
	FROM aggregator.dead_letter),
    (SELECT string_agg(g::text, E'\n') FROM genre_score g))`).Scan(&text))
	return text
}

// Down and up again is as before, with the ledger in place and the application at work.
func TestMigrateDown(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	u := testenv.Database(t)
	pool := openPool(t, u)
	u = testenv.As(t, u, "aggregator_migrate")
	mustExec(t, pool, catalogue)
	mustExec(t, pool, ledgerRows)
	schema, rows := catalogOf(t, pool), ledgerOf(t, pool)
	known := newest(t, pool)
	floor, _ := fixed(t, u)
	require.Less(t, floor, known)

	ctx, stop := context.WithCancel(t.Context())
	writing := make(chan error)
	go func() { writing <- asTheApplication(ctx, t, pool) }()
	for range 2 {
		for at := known; at > floor; at-- {
			plan, err := postgres.PlanDown(t.Context(), postgres.Options{URL: u}, -1)
			require.NoError(t, err)
			require.Equal(t, at, plan.From)
			require.Equal(t, at-1, plan.To)
			require.Len(t, plan.Migrations, 1)
			require.Equal(t, at, plan.Migrations[0].Version)
			require.NoError(t, postgres.MigrateDown(t.Context(), postgres.Options{URL: u}, plan.To))
			found, err := postgres.CheckSchema(t.Context(), pool)
			require.ErrorIs(t, err, postgres.ErrSchema)
			require.ErrorContains(t, err, "run: aggregator migrate up")
			require.Equal(t, at-1, found.Version)
			require.NoError(t, postgres.MigrateDown(t.Context(), postgres.Options{URL: u}, plan.To), "again")
		}
		require.NotContains(t, catalogOf(t, pool), "aggregator.schema_compatibility")
		require.Equal(t, rows, ledgerOf(t, pool))
		require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}))
		require.Equal(t, schema, catalogOf(t, pool))
		require.Equal(t, rows, ledgerOf(t, pool))

		require.NoError(t, postgres.MigrateDown(t.Context(), postgres.Options{URL: u}, floor), "all at once")
		require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}))
		require.Equal(t, schema, catalogOf(t, pool))
	}
	stop()
	require.NoError(t, <-writing)
}

// asTheApplication writes to the application's tables until ctx ends, with pauses that leave the processor to others.
func asTheApplication(ctx context.Context, t *testing.T, pool *pgxpool.Pool) error {
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for n := 2; ctx.Err() == nil; n++ {
		<-pause.C
		_, err := pool.Exec(t.Context(), fmt.Sprintf(`
			INSERT INTO child_profile (id, name) VALUES (%d, 'n'); INSERT INTO book (id, title) VALUES (%[1]d, 'b');
			INSERT INTO child_personality_history (child_profile_id) VALUES (%[1]d);
			UPDATE book SET genre_id = 1 WHERE id = %[1]d; DELETE FROM child_profile WHERE id = %[1]d`, n))
		if err != nil {
			return err
		}
	}
	return nil
}

func TestMigrateDownRefused(t *testing.T) {
	t.Parallel()
	u := testenv.Database(t)
	pool := openPool(t, u)
	floor, name := fixed(t, u)
	known := newest(t, pool)
	before := catalogOf(t, pool)
	refused := func(to int64, sentinel error, want string) {
		t.Helper()
		_, err := postgres.PlanDown(t.Context(), postgres.Options{URL: u}, to)
		require.ErrorIs(t, err, sentinel)
		require.ErrorContains(t, err, want)
		err = postgres.MigrateDown(t.Context(), postgres.Options{URL: u}, max(to, 0))
		require.ErrorIs(t, err, sentinel)
		require.Equal(t, before, catalogOf(t, pool), "something was changed")
	}
	for _, to := range []int64{floor - 1, 1, 0} {
		refused(to, postgres.ErrUndo, fmt.Sprintf("%d %s", floor, name))
	}
	refused(known+1, postgres.ErrSchema, fmt.Sprintf("is at version %d, before %d", known, known+1))

	applied(t, pool, known+7, known) // compatible or not
	before = catalogOf(t, pool)
	for _, to := range []int64{-1, known, floor} {
		refused(to, postgres.ErrUndo, fmt.Sprintf("%d is of a newer program, and this one was built for %d", known+7, known))
	}

	empty := testenv.EmptyDatabase(t)
	_, err := postgres.PlanDown(t.Context(), postgres.Options{URL: empty}, -1)
	require.ErrorIs(t, err, postgres.ErrSchema)
	require.ErrorIs(t, postgres.MigrateDown(t.Context(), postgres.Options{URL: empty}, 0), postgres.ErrSchema)
}

// A newer program that migrates while this one waits for the lock wins: nothing is undone.
func TestMigrateDownWaits(t *testing.T) {
	t.Parallel()
	u := testenv.Database(t)
	pool := openPool(t, u)
	known := newest(t, pool)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, lock.DefaultLockID)
	require.NoError(t, err)
	undone := make(chan error)
	go func() { undone <- postgres.MigrateDown(t.Context(), postgres.Options{URL: u}, known-1) }()
	require.Eventually(t, func() bool {
		var waits bool
		err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'aggregator migrate'
				AND query LIKE '%advisory_lock%')`).Scan(&waits)
		return err == nil && waits
	}, time.Minute, 10*time.Millisecond)
	applied(t, pool, known+1, known)
	before := catalogOf(t, pool)
	_, err = conn.Exec(t.Context(), `SELECT pg_advisory_unlock($1)`, lock.DefaultLockID)
	require.NoError(t, err)
	require.ErrorContains(t, <-undone, "undo migrations")
	require.Equal(t, before, catalogOf(t, pool))
}

// Up and down at once end in one of the two, whole.
func TestMigrateDownRacing(t *testing.T) {
	t.Parallel()
	u := testenv.Database(t)
	pool := openPool(t, u)
	u = testenv.As(t, u, "aggregator_migrate")
	floor, _ := fixed(t, u)
	above := catalogOf(t, pool)
	require.NoError(t, postgres.MigrateDown(t.Context(), postgres.Options{URL: u}, floor))
	below := catalogOf(t, pool)
	results := make(chan error)
	const racers = 4
	for i := range racers {
		go func() {
			if i%2 == 0 {
				results <- postgres.MigrateDown(t.Context(), postgres.Options{URL: u}, floor)
				return
			}
			// It may be undone before it looks whether it is there.
			if err := postgres.Migrate(t.Context(), postgres.Options{URL: u}); !errors.Is(err, postgres.ErrSchema) {
				results <- err
				return
			}
			results <- nil
		}()
	}
	for range racers {
		require.NoError(t, <-results)
	}
	if after := catalogOf(t, pool); after != below {
		require.Equal(t, above, after)
	}
}
