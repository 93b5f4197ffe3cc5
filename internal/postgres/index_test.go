package postgres_test

import (
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// A migration makes the index if the table is ours, also anew if it was left half built.
func TestIndexes(t *testing.T) {
	t.Parallel()
	u := testenv.Database(t)
	pool := openPool(t, u)
	for _, i := range postgres.Indexes {
		require.NoError(t, i.Check(t.Context(), pool))
	}
	mustExec(t, pool, `UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'child_personality_history_deleted'::regclass`)
	require.ErrorIs(t, postgres.DeletedHistory.Check(t.Context(), pool), postgres.ErrIndex)
	require.NoError(t, postgres.Migrate(t.Context(), u))
	require.NoError(t, postgres.DeletedHistory.Check(t.Context(), pool))
	mustExec(t, pool, `DROP INDEX child_personality_history_deleted`)
	require.NoError(t, errors.Join(postgres.Migrate(t.Context(), u), postgres.Migrate(t.Context(), u)))
	require.NoError(t, postgres.DeletedHistory.Check(t.Context(), pool))
}

// A transaction that somebody has left open holds an index up, and nobody else.
func TestIndexIsBuiltBesideTheApplication(t *testing.T) {
	t.Parallel()
	for index, insert := range map[string]string{
		"child_personality_history_deleted": `INSERT INTO child_personality_history (child_profile_id) VALUES (1)`,
		"book_search_text_trgm":             `INSERT INTO book (title) VALUES ('a')`,
	} {
		t.Run(index, func(t *testing.T) {
			t.Parallel()
			u := testenv.Database(t)
			pool := openPool(t, u)
			mustExec(t, pool, `DROP INDEX `+index)
			open, err := pool.Begin(t.Context())
			require.NoError(t, err)
			_, err = open.Exec(t.Context(), insert)
			require.NoError(t, err)
			migrated := make(chan error)
			go func() { migrated <- postgres.Migrate(t.Context(), u) }()
			for waits := false; !waits; {
				require.NoError(t, pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
					WHERE datname = current_database() AND query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock')`).Scan(&waits))
			}
			mustExec(t, pool, `SET lock_timeout = '5s'; `+insert)
			require.NoError(t, open.Commit(t.Context()))
			require.NoError(t, <-migrated)
			require.True(t, valid(t, pool, index))
		})
	}
}

func valid(t *testing.T, pool *pgxpool.Pool, index string) (valid bool) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT coalesce(bool_or(indisvalid), false) FROM pg_index WHERE indexrelid = to_regclass($1)`, index).Scan(&valid))
	return valid
}

// On a table of the application's the migration leaves it to the owner, who is told what to do.
func TestIndexOnATableOfTheApplication(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t)
	u := newDatabase(t, server, "app")
	mustExec(t, openPool(t, u), `CREATE ROLE app LOGIN CREATEROLE; ALTER DATABASE app OWNER TO app; ALTER SCHEMA public OWNER TO app`)
	app := openPool(t, testenv.As(t, u, "app"))
	tables, err := os.ReadFile("migrations/00001_application_tables.sql")
	require.NoError(t, err)
	mustExec(t, app, string(tables))
	require.NoError(t, testenv.Grant(t.Context(), testenv.As(t, u, "app")))
	require.NoError(t, postgres.Migrate(t.Context(), testenv.As(t, u, "aggregator_migrate")))
	require.NoError(t, testenv.Grant(t.Context(), testenv.As(t, u, "app")))
	purge := openPool(t, testenv.As(t, u, "aggregator_purge"))
	require.ErrorIs(t, postgres.DeletedHistory.Check(t.Context(), purge), postgres.ErrIndex)
	mustExec(t, app, postgres.DeletedHistory.Create())
	require.NoError(t, postgres.DeletedHistory.Check(t.Context(), purge))
}
