package postgres_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/appschema"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

const originTables = "../../scripts/loadgen/tables/origin.sql"

// createShape makes the tables of an application; "origin" are those of the load generator.
func createShape(t *testing.T, url, shape string) {
	t.Helper()
	if shape != "origin" {
		require.NoError(t, testenv.CreateShape(t.Context(), url, shape))
		return
	}
	text, err := os.ReadFile(originTables)
	require.NoError(t, err)
	mustExec(t, openPool(t, url), string(text))
}

// A migration makes each shape fit for a drain, changes nothing that was there, and is then done. A plan says before
// what it does, and its script does the same.
func TestMigrateShapes(t *testing.T) {
	t.Parallel()
	for _, shape := range append(slices.Clone(testenv.Shapes), "origin") {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			byMigration, byScript := testenv.EmptyDatabase(t), testenv.EmptyDatabase(t)
			var before []string
			for _, u := range []string{byMigration, byScript} {
				createShape(t, u, shape)
				before = applicationOf(t, openPool(t, u))
			}
			o := postgres.Options{URL: byMigration}
			_, _, script := planOf(t, postgres.Options{URL: byScript})
			psql(t, byScript, script)

			require.NoError(t, postgres.Migrate(t.Context(), o))
			after := applicationOf(t, openPool(t, byMigration))
			require.Subset(t, after, before)
			require.Equal(t, after, applicationOf(t, openPool(t, byScript)))
			views := viewsOf(t, openPool(t, byMigration))
			require.Equal(t, shape == "monthly", len(views) == 0, "all its names and forms are ours")
			require.Equal(t, views, viewsOf(t, openPool(t, byScript)))

			for _, u := range []string{byMigration, byScript} {
				require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}))
				plan, printed, _ := planOf(t, postgres.Options{URL: u})
				require.Empty(t, plan.Parts, printed)
				require.Empty(t, plan.Schema.Missing())
				require.NoError(t, plan.Schema.Check(true))
			}
			require.Equal(t, after, applicationOf(t, openPool(t, byMigration)))
		})
	}
}

// applicationOf is all that is in the schemas of the application.
func applicationOf(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pool.Config().ConnString())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `SET search_path = pg_catalog`) // names with their schemas
	require.NoError(t, err)
	rows, err := conn.Query(t.Context(), `
WITH theirs AS (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'app'))
SELECT format('%s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod)) || ' ' || attnotnull || ' ' || attidentity::text
    || coalesce(' ' || pg_get_expr(adbin, adrelid), '')
FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef d ON d.adrelid = attrelid AND d.adnum = attnum
WHERE c.relnamespace IN (TABLE theirs) AND c.relkind IN ('r', 'p', 'v') AND NOT attisdropped AND attnum > 0
UNION ALL SELECT pg_get_indexdef(i.indexrelid) || ' ' || i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace IN (TABLE theirs)
UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0 AND connamespace IN (TABLE theirs)
UNION ALL SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT tgisinternal AND c.relnamespace IN (TABLE theirs)
ORDER BY 1`)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return slices.DeleteFunc(all, func(s string) bool { return strings.Contains(s, "book_search_text_trgm") })
}

func viewsOf(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT c.relname || ' ' || pg_get_viewdef(c.oid) || obj_description(c.oid) FROM pg_class c
WHERE c.relnamespace = to_regnamespace('aggregator_views') AND c.relkind = 'v' ORDER BY 1`)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}

// What the owner alone may do is printed for the owner; once that is done, the rest goes on, with the rights of config/roles.sql.
func TestMigrateShapesAsAnotherRole(t *testing.T) {
	t.Parallel()
	for _, shape := range append(slices.Clone(testenv.Shapes), "origin") {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			u := testenv.EmptyDatabase(t)
			createShape(t, u, shape)
			require.NoError(t, testenv.Grant(t.Context(), u))
			o := postgres.Options{URL: testenv.As(t, u, "aggregator_migrate")}
			err := postgres.Migrate(t.Context(), o)
			require.ErrorIs(t, err, appschema.ErrTables)
			_, statements, found := strings.Cut(err.Error(), "the owners of the tables must run this before: ")
			require.True(t, found, err)
			statements, _, _ = strings.Cut(statements, " (PostgreSQL at")
			for statement := range strings.SplitSeq(statements, "; ") {
				mustExec(t, openPool(t, u), statement)
			}
			require.NoError(t, postgres.Migrate(t.Context(), o))
			require.NoError(t, testenv.Grant(t.Context(), u))
			for _, role := range []string{"aggregator_daemon", "aggregator_purge", "aggregator_reader"} {
				pool, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.As(t, u, role)})
				require.NoError(t, err)
				defer pool.Close()
				tables := appschema.Tables()
				if role == "aggregator_purge" {
					tables = tables[10:] // the history and its favorites
				}
				for _, table := range slices.DeleteFunc(tables, func(name string) bool { return name == "child_profile" }) {
					_, err := pool.Exec(t.Context(), "SELECT * FROM "+table)
					require.NoError(t, err, "%s as %s", table, role)
				}
			}
		})
	}
}
