package postgres_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/appschema"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// schemaOf is all that is in the schemas of a database, but when migrations were applied.
func schemaOf(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
SELECT format('%s %s %s', attrelid::regclass, attname, format_type(atttypid,
	atttypmod)) || ' ' || attnotnull || ' ' || attidentity::text
    || coalesce(' ' || pg_get_expr(adbin, adrelid), '')
FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef d ON d.adrelid = attrelid
	AND d.adnum = attnum
WHERE c.relnamespace IN ('public'::regnamespace, to_regnamespace('aggregator')) AND NOT attisdropped AND attnum > 0
UNION ALL SELECT pg_get_indexdef(i.indexrelid) || ' ' || i.indisvalid FROM pg_index i
	JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace IN ('public'::regnamespace, to_regnamespace('aggregator'))
UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0
	AND connamespace IN ('public'::regnamespace, to_regnamespace('aggregator'))
UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = to_regnamespace('aggregator')
UNION ALL SELECT relname || ' ' || coalesce(reloptions::text, '') FROM pg_class
	WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT version_id || ' ' || is_applied FROM aggregator.schema_migrations
UNION ALL SELECT 'type ' || mbti FROM mbti
ORDER BY 1`)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}

func planOf(t *testing.T, o postgres.Options) (plan postgres.Plan, printed, script string) {
	t.Helper()
	plan, err := postgres.PlanUp(t.Context(), o)
	require.NoError(t, err)
	var text, sql bytes.Buffer
	require.NoError(t, plan.Print(&text))
	require.NoError(t, plan.Script(&sql))
	return plan, text.String(), sql.String()
}

// psql runs a script as an owner does.
func psql(t *testing.T, url, script string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "psql", "-X", "-q", "-o", "/dev/null", url)
	cmd.Stdin = strings.NewReader(script)
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, string(output))
}

// A plan writes nothing, and its script makes what a migration makes, from whatever was there.
func TestPlanUp(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	for name, prepare := range map[string]string{
		"nothing":    ``,
		"our schema": `CREATE SCHEMA aggregator`,
		"their books": `CREATE TABLE genre (id int PRIMARY KEY, name text); CREATE TABLE book (id int PRIMARY KEY, title ` +
			`text, genre_id int, search_text text)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			byScript, byMigration := testenv.EmptyDatabase(t), testenv.EmptyDatabase(t)
			for _, u := range []string{byScript, byMigration} {
				mustExec(t, openPool(t, u), prepare)
			}
			plan, printed, script := planOf(t, postgres.Options{URL: byScript})
			var tables int
			require.NoError(t, openPool(t, byScript).QueryRow(t.Context(), `SELECT count(*) FROM pg_class
				WHERE relnamespace IN ('public'::regnamespace, to_regnamespace('aggregator')) AND relname <> ALL ('{genre,book}')
					AND relkind = 'r'`).Scan(&tables))
			require.Zero(t, tables)
			require.Contains(t, printed, "migration 2 ledger; one transaction; cannot be undone\n")
			require.Contains(t, printed, "-- locks SHARE ROW EXCLUSIVE on book for a moment: writes wait, reads do not\n")
			require.Contains(t, printed,
				"migration 9 compatibility; one transaction; undone by: aggregator migrate down --to 8 --yes\n")
			require.Contains(t, printed,
				"index child_personality_history_deleted; outside of a transaction; undone by: DROP INDEX CONCURRENTLY "+
					"child_personality_history_deleted\n")
			require.Greater(t, len(plan.Parts), 10)

			psql(t, byScript, script)
			require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: byMigration}))
			if name != "nothing" { // of pg_trgm a script knows only if it is there already
				require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: byScript}))
			}
			want := schemaOf(t, openPool(t, byMigration))
			got := schemaOf(t, openPool(t, byScript))
			if name == "nothing" {
				want = slices.DeleteFunc(want, func(s string) bool { return strings.Contains(s, "book_search_text_trgm") })
			}
			require.Equal(t, want, got)

			require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: byScript}))
			plan, printed, _ = planOf(t, postgres.Options{URL: byScript})
			require.Empty(t, plan.Parts, printed)
			require.Equal(t, "13 of 13 tables of the application are in schema public\n", printed)
		})
	}
}

// TestPlanLocks compares what a plan says of locks with those that PostgreSQL has given, statement by statement.
func TestPlanLocks(t *testing.T) {
	t.Parallel()
	u := testenv.EmptyDatabase(t)
	theirs := testenv.EmptyDatabase(t)
	tables, _, _ := planOf(t, postgres.Options{URL: theirs})
	pool := openPool(t, u)
	application := tables.Parts[slices.IndexFunc(tables.Parts, func(p postgres.Part) bool { return p.Version == 1 })]
	for _, s := range application.Steps {
		mustExec(t, pool, s.Statement)
	}
	plan, _, _ := planOf(t, postgres.Options{URL: u})
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	seen := 0
	for _, part := range plan.Parts {
		for _, s := range part.Steps {
			if strings.Contains(s.Statement, "CONCURRENTLY") {
				continue // not in a transaction
			}
			tx, err := conn.Begin(t.Context())
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), s.Statement)
			require.NoError(t, err, s.Statement)
			// The tables of the application that anybody has to wait for.
			rows, err := tx.Query(t.Context(),
				`SELECT regexp_replace(regexp_replace(replace(mode, 'Lock', ''), '([a-z])([A-Z])', '\1 \2', 'g'), '$',
					'') || ' on ' || c.relname
				FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
				WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
					AND mode NOT IN ('AccessShareLock', 'RowShareLock')
				ORDER BY 1`)
			require.NoError(t, err)
			locks, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			for _, lock := range locks {
				seen++
				mode, table, _ := strings.Cut(lock, " on ")
				require.Contains(t, s.Locks, fmt.Sprintf("%s on %s", strings.ToUpper(mode), table), s.Statement)
			}
			require.NoError(t, tx.Commit(t.Context()))
		}
	}
	require.GreaterOrEqual(t, seen, 4) // the triggers
}

// Tables that no event can be applied to are refused, by a plan and by a migration, and nothing is written.
func TestMigrateRefusesTables(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	server := testenv.NewPostgres(t)
	admin := openPool(t, server.URL("postgres"))
	mustExec(t, admin, `CREATE ROLE app LOGIN`)
	for name, tc := range map[string]struct {
		prepare string
		want    []string
	}{
		"a view": {`CREATE VIEW genre AS SELECT 1 AS id`, []string{"genre is a view"}},
		"uuids": {
			`CREATE TABLE child_profile (id uuid PRIMARY KEY); CREATE TABLE book (id uuid)`,
			[]string{"child_profile.id is of type uuid", "book.id is of type uuid", "book.genre_id is not there"},
		},
		"their shapes": {`CREATE TABLE bookmbti (id bigint PRIMARY KEY)`, []string{"book_mbti.book_id is not there"}},
		"no right to create": {
			`CREATE TABLE child_profile (id bigint PRIMARY KEY); CREATE TABLE mbti (id bigint PRIMARY KEY, mbti text); GRANT ` +
				`SELECT ON child_profile, mbti TO app`,
			[]string{
				"may not create the schema aggregator", "may not create tables in schema public",
				"may not create a trigger on child_profile",
				"may not SELECT and INSERT on mbti",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			database := "d" + strings.ReplaceAll(name, " ", "_")
			u := newDatabase(t, server, database)
			mustExec(t, openPool(t, u), tc.prepare)
			o := postgres.Options{URL: u}
			if name == "no right to create" {
				o.URL = testenv.As(t, u, "app")
			}
			_, planned := postgres.PlanUp(t.Context(), o)
			for _, err := range []error{planned, postgres.Migrate(t.Context(), o)} {
				require.ErrorIs(t, err, appschema.ErrTables)
				for _, want := range tc.want {
					require.ErrorContains(t, err, want)
				}
				require.NotContains(t, err.Error(), "\n")
			}
			var schemas int
			require.NoError(t, openPool(t, u).QueryRow(
				t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname = 'aggregator'`).Scan(&schemas))
			require.Zero(t, schemas)
		})
	}
}

// A migration that waits for a table lets go of its place in the queue, so that others pass, and gets it in the end.
func TestMigrateGivesWay(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	u := testenv.EmptyDatabase(t)
	pool := openPool(t, u)
	mustExec(t, pool, `CREATE TABLE book (id bigint PRIMARY KEY, title text, genre_id bigint, search_text text)`)
	open, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = open.Exec(t.Context(), `INSERT INTO book VALUES (1, 'open')`)
	require.NoError(t, err)
	migrated := make(chan error, 1)
	go func() { migrated <- postgres.Migrate(t.Context(), postgres.Options{URL: u}) }()
	waits := func() bool {
		return testenv.Query[bool](t, pool, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted
			AND relation = 'public.book'::regclass AND mode = 'ShareRowExclusiveLock')`)
	}
	for round := range 2 { // it waits, gives up, and waits again
		require.Eventually(t, func() bool { return waits() || len(migrated) > 0 }, time.Minute, 10*time.Millisecond)
		require.Empty(t, migrated)
		mustExec(t, pool, fmt.Sprintf(`SET lock_timeout = '1min'; INSERT INTO public.book VALUES (%d, 'passes')`, 10+round))
		require.Eventually(t, func() bool { return !waits() }, time.Minute, 10*time.Millisecond)
		require.Empty(t, migrated)
	}
	require.NoError(t, open.Commit(t.Context()))
	require.NoError(t, <-migrated)
}
