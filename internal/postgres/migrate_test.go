package postgres_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

func TestMigrateRacing(t *testing.T) {
	testenv.Long(t)
	u := testenv.EmptyDatabase(t)
	results := make(chan error)
	const racers = 4
	for range racers {
		go func() { results <- postgres.Migrate(t.Context(), postgres.Options{URL: u}) }()
	}
	var errs []error
	for range racers {
		errs = append(errs, <-results)
	}
	require.NoError(t, errors.Join(errs...))

	pool := openPool(t, u)
	_, err := postgres.CheckSchema(t.Context(), pool)
	require.NoError(t, err)
	var types int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM mbti`).Scan(&types))
	require.Equal(t, 16, types)
}

// One that waited finds the schema that the other one has made meanwhile.
func TestMigrateWaitsForAnother(t *testing.T) {
	t.Parallel()
	u := testenv.EmptyDatabase(t)
	pool := openPool(t, u)
	first, err := pool.Begin(t.Context())
	require.NoError(t, err)
	for _, sql := range []string{
		`SELECT pg_advisory_xact_lock(hashtextextended('aggregator.schema', 0))`, `CREATE SCHEMA aggregator`,
	} {
		_, err = first.Exec(t.Context(), sql)
		require.NoError(t, err)
	}

	second := make(chan error, 1)
	go func() { second <- postgres.Migrate(t.Context(), postgres.Options{URL: u}) }()
	require.Eventually(t, func() bool {
		var waits bool
		const find = `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE d.datname = current_database() AND locktype = 'advisory' AND NOT granted)`
		return pool.QueryRow(t.Context(), find).Scan(&waits) == nil && waits
	}, time.Minute, time.Millisecond)
	require.NoError(t, first.Commit(t.Context()))
	require.NoError(t, <-second)
}

func TestMigrateKeepsWhatIsThere(t *testing.T) {
	u := testenv.Database(t)
	pool := openPool(t, u)
	_, err := pool.Exec(t.Context(), `INSERT INTO child_profile (id, name) VALUES (1, 'a')`)
	require.NoError(t, err)

	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}))
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM child_profile`).Scan(&n))
	require.Equal(t, 1, n)
}

// Books can be searched by an index wherever we may make one, and only one is made.
func TestMigrateMakesSearchIndex(t *testing.T) {
	t.Parallel()
	require.Equal(t, 1, searchIndexes(t, openPool(t, testenv.Database(t))))
	for name, before := range map[string]string{
		"in another schema": `CREATE SCHEMA "Else where"; CREATE EXTENSION pg_trgm SCHEMA "Else where"`,
		"the application's": `CREATE EXTENSION pg_trgm; CREATE TABLE book (id bigint PRIMARY KEY, title text, genre_id bigint,
			search_text text);
			CREATE INDEX theirs ON book USING gin (search_text gin_trgm_ops)`,
	} {
		t.Run(name, func(t *testing.T) {
			u := testenv.EmptyDatabase(t)
			pool := openPool(t, u)
			mustExec(t, pool, before)
			require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}))
			require.Equal(t, 1, searchIndexes(t, pool))
		})
	}
}

// A migration that finds nothing to apply makes the index all the same, if it is not there, or
// was left half built, or could not be made before; and leaves one that is right.
func TestMigrateMakesSearchIndexLater(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before  string
		indexes int
	}{
		"made by an earlier version": {
			`DROP INDEX book_search_text_trgm; CREATE INDEX book_search_text_trgm ON book USING gin (search_text gin_trgm_ops)`,
			1,
		},
		"half built": {
			`UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'book_search_text_trgm'::regclass`,
			1,
		},
		"pg_trgm came later": {`DROP EXTENSION pg_trgm CASCADE; CREATE EXTENSION pg_trgm`, 1},
		"no pg_trgm":         {`DROP EXTENSION pg_trgm CASCADE`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := testenv.Database(t)
			pool := openPool(t, u)
			mustExec(t, pool, c.before)
			require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}))
			require.Equal(t, c.indexes, searchIndexes(t, pool))
			require.Equal(t, c.indexes == 1, valid(t, pool, "book_search_text_trgm"))
		})
	}
}

// Repeating a migration must not ask for rights that only the first one needs.
func TestMigrateAgainWithoutTheRightToCreate(t *testing.T) {
	u := testenv.Database(t)
	parsed, err := url.Parse(u)
	require.NoError(t, err)
	role := "reader_of_" + strings.TrimPrefix(parsed.Path, "/") // roles belong to the server, not to the database
	_, err = openPool(t, u).Exec(t.Context(), strings.ReplaceAll(`
		CREATE ROLE reader LOGIN;
		GRANT USAGE ON SCHEMA aggregator TO reader;
		GRANT SELECT ON aggregator.schema_migrations TO reader`, "reader", role))
	require.NoError(t, err)
	parsed.User = url.User(role)
	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: parsed.String()}))
}

func TestMigrationStatus(t *testing.T) {
	u := testenv.EmptyDatabase(t)
	before, err := postgres.MigrationStatus(t.Context(), postgres.Options{URL: u})
	require.NoError(t, err)
	require.NotEmpty(t, before)
	for i, m := range before {
		require.EqualValues(t, i+1, m.Version)
		require.True(t, m.AppliedAt.IsZero())
	}
	require.Equal(t, "application_tables", before[0].Name)

	var schemas int // asking changes nothing
	require.NoError(t, openPool(t, u).QueryRow(t.Context(),
		`SELECT count(*) FROM pg_namespace WHERE nspname = 'aggregator'`).Scan(&schemas))
	require.Zero(t, schemas)

	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}))
	after, err := postgres.MigrationStatus(t.Context(), postgres.Options{URL: u})
	require.NoError(t, err)
	require.Len(t, after, len(before))
	for _, m := range after {
		require.False(t, m.AppliedAt.IsZero())
	}
}

func TestCheckSchema(t *testing.T) {
	const record = `INSERT INTO aggregator.schema_migrations (version_id, is_applied) VALUES (999, true)`
	const forget = `DELETE FROM aggregator.schema_migrations
		WHERE version_id = (SELECT max(version_id) FROM aggregator.schema_migrations)`
	for name, tc := range map[string]struct {
		url, change, want string
	}{
		"no schema": {testenv.EmptyDatabase(t), ``, "has not been created; run: aggregator migrate up"},
		"no table": {
			testenv.EmptyDatabase(t), `CREATE SCHEMA aggregator`,
			"has not been created; run: aggregator migrate up",
		},
		"older":       {testenv.Database(t), forget, "is needed; run: aggregator migrate up"},
		"newer":       {testenv.Database(t), record, "is at version 999"},
		"not started": {testenv.Database(t), `TRUNCATE aggregator.schema_migrations`, "has not been created"},
	} {
		t.Run(name, func(t *testing.T) {
			pool := openPool(t, tc.url)
			_, err := pool.Exec(t.Context(), tc.change)
			require.NoError(t, err)
			_, err = postgres.CheckSchema(t.Context(), pool)
			require.ErrorIs(t, err, postgres.ErrSchema)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "that of PostgreSQL at "+postgres.Describe(tc.url)+" ")
		})
	}
	t.Run("migrating a newer one", func(t *testing.T) {
		u := testenv.Database(t)
		_, err := openPool(t, u).Exec(t.Context(), record)
		require.NoError(t, err)
		require.ErrorIs(t, postgres.Migrate(t.Context(), postgres.Options{URL: u}), postgres.ErrSchema)
		list, err := postgres.MigrationStatus(t.Context(), postgres.Options{URL: u})
		require.NoError(t, err)
		last := list[len(list)-1]
		require.EqualValues(t, 999, last.Version)
		require.Empty(t, last.Name)
	})
}

func TestCheckSchemaWithoutServer(t *testing.T) {
	server := testenv.NewPostgres(t)
	pool := openPool(t, server.URL("postgres"))
	require.NoError(t, server.Stop())
	pool.Reset()
	_, err := postgres.CheckSchema(t.Context(), pool)
	require.ErrorIs(t, err, postgres.ErrUnreachable)
	require.NotErrorIs(t, err, postgres.ErrSchema)
}
