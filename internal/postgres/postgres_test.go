package postgres_test

import (
	"fmt"
	"net/url"
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

func TestOpenSettings(t *testing.T) {
	base := testenv.EmptyDatabase(t)
	for name, tc := range map[string]struct {
		params url.Values
		want   map[string]string
	}{
		"ours": {nil, map[string]string{
			"synchronous_commit": "off", "lock_timeout": "5s", "statement_timeout": "30s",
			"idle_in_transaction_session_timeout": "1min", "plan_cache_mode": "force_generic_plan",
			"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
			"jit": "off", "row_security": "off",
			"application_name": "test",
		}},
		"the URL wins": {
			url.Values{"lock_timeout": {"7s"}, "TimeZone": {"Asia/Seoul"}, "application_name": {"mine"}},
			map[string]string{
				"lock_timeout": "7s", "timezone": "Asia/Seoul", "application_name": "mine",
				"synchronous_commit": "off",
			},
		},
		"its options win": {
			url.Values{"options": {"-c statement_timeout=9s"}},
			map[string]string{"statement_timeout": "9s", "lock_timeout": "5s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pool := openPool(t, with(t, base, tc.params))
			for setting, want := range tc.want {
				var got string
				require.NoError(t, pool.QueryRow(t.Context(), "SHOW "+setting).Scan(&got))
				require.Equal(t, want, got, setting)
			}
		})
	}
}

// A session has the time zone of the application's, which the server knows, unless it is told another one.
func TestOpenTimeZone(t *testing.T) {
	t.Parallel()
	base := testenv.EmptyDatabase(t)
	admin := openPool(t, base)
	zone := func(o postgres.Options) (zone string) {
		t.Helper()
		o.MaxConns = 1
		pool, err := postgres.Open(t.Context(), o)
		require.NoError(t, err)
		defer pool.Close()
		require.NoError(t, pool.QueryRow(t.Context(), `SHOW timezone`).Scan(&zone))
		return zone
	}
	_, err := admin.Exec(t.Context(),
		`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'Asia/Seoul'); END $$`)
	require.NoError(t, err)
	require.Equal(t, "Asia/Seoul", zone(postgres.Options{URL: base}))
	require.Equal(t, "Asia/Seoul", zone(postgres.Options{URL: base, Pooled: true}))
	require.Equal(t, "Europe/Berlin", zone(postgres.Options{URL: base, TimeZone: "Europe/Berlin"}))
	require.Equal(t, "Europe/Berlin", zone(postgres.Options{URL: base, TimeZone: "Europe/Berlin", Pooled: true}))
	given := with(t, base, url.Values{"timezone": {"America/Lima"}})
	require.Equal(t, "America/Lima", zone(postgres.Options{URL: given, TimeZone: "Europe/Berlin"}))

	pooler := testenv.NewPgBouncer(t, base).Before(t, base)
	require.Equal(t, "Asia/Seoul", zone(postgres.Options{URL: pooler, Pooled: true}))
	require.Equal(t, "Europe/Berlin", zone(postgres.Options{URL: pooler, TimeZone: "Europe/Berlin", Pooled: true}))
	require.Equal(t, "Asia/Seoul", zone(postgres.Options{URL: pooler, Pooled: true}), "not that of the session before")
}

// Whatever is set for the database, a session of ours reads and writes as ever, and stays.
func TestOpenWithSettingsOfTheDatabase(t *testing.T) {
	base := testenv.EmptyDatabase(t)
	ours := openPool(t, base)
	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: base}))
	for setting, value := range map[string]string{
		"datestyle": "German", "intervalstyle": "sql_standard", "timezone": "Asia/Seoul", "bytea_output": "escape",
		"extra_float_digits":          "-15",
		"standard_conforming_strings": "off", "client_encoding": "LATIN1", "lc_monetary": "C", "lc_messages": "C",
		"default_transaction_isolation": "serializable",
		"idle_session_timeout":          "1h", "transform_null_equals": "on", "array_nulls": "off",
	} {
		_, err := ours.Exec(t.Context(),
			fmt.Sprintf(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET %s = %%L', current_database(), '%s'); END $$`,
				setting, value))
		require.NoError(t, err, setting)
	}
	for name, pooled := range map[string]bool{"direct": false, "pooled": true} {
		t.Run(name, func(t *testing.T) {
			pool, err := postgres.Open(t.Context(), postgres.Options{URL: base, MaxConns: 1, Pooled: pooled})
			require.NoError(t, err)
			defer pool.Close()
			for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec} {
				var at time.Time
				require.NoError(t, pool.QueryRow(t.Context(), `SELECT $1::timestamptz`, mode, time.Unix(0, 0).UTC()).Scan(&at))
				require.True(t, at.Equal(time.Unix(0, 0)))
			}
		})
	}
	for want, params := range map[string]url.Values{"0": nil, "2h": {"idle_session_timeout": {"2h"}}} {
		var limit string
		require.NoError(t, openPool(t, with(t, base, params)).QueryRow(t.Context(), `SHOW idle_session_timeout`).Scan(&limit))
		require.Equal(t, want, limit)

		own, err := postgres.Connect(t.Context(), openPool(t, with(t, base, params)).Config())
		require.NoError(t, err)
		require.NoError(t, own.QueryRow(t.Context(), `SHOW idle_session_timeout`).Scan(&limit))
		require.Equal(t, want, limit)
		require.NoError(t, own.Close(t.Context()))
	}
	migrations, err := postgres.MigrationStatus(t.Context(), postgres.Options{URL: base})
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), migrations[0].AppliedAt, time.Hour)
	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: base}))
}

func TestOpenLimitsThePool(t *testing.T) {
	u := with(t, testenv.EmptyDatabase(t), url.Values{"pool_max_conns": {"9"}, "pool_min_conns": {"8"}})
	require.EqualValues(t, 9, openPool(t, u).Config().MaxConns)

	pool, err := postgres.Open(t.Context(), postgres.Options{URL: u, MaxConns: 3})
	require.NoError(t, err)
	defer pool.Close()
	require.EqualValues(t, 3, pool.Config().MaxConns)
	require.EqualValues(t, 3, pool.Config().MinConns)
}

func TestOpenRefused(t *testing.T) {
	u, err := url.Parse(testenv.EmptyDatabase(t))
	require.NoError(t, err)
	u.Path = "/nowhere"
	_, err = postgres.Open(t.Context(), postgres.Options{URL: u.String()})
	require.ErrorIs(t, err, postgres.ErrUnreachable)
	require.ErrorContains(t, err, `refused the connection: database "nowhere" does not exist (SQLSTATE 3D000)`)
}

func openPool(t *testing.T, u string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: u, ApplicationName: "test"})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// with adds parameters to a URL.
func with(t *testing.T, base string, params url.Values) string {
	t.Helper()
	u, err := url.Parse(base)
	require.NoError(t, err)
	query := u.Query()
	for name, values := range params {
		query[name] = values
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq knows no + for a space
	return u.String()
}

// All sessions look for names in the schema of the application's tables first, and never in ours.
func TestOpenPinsTheSchema(t *testing.T) {
	t.Parallel()
	const tables = `CREATE SCHEMA "My app"; CREATE TABLE "My app".child_profile (id bigint PRIMARY KEY); CREATE SCHEMA ` +
		`aggregator; CREATE SCHEMA later; `
	open := func(t *testing.T, base, wanted, prepare string, params url.Values) (*pgxpool.Pool, error) {
		t.Helper()
		mustExec(t, openPool(t, base), tables+prepare)
		pool, err := postgres.Open(t.Context(), postgres.Options{URL: with(t, base, params), Schema: wanted})
		if err == nil {
			t.Cleanup(pool.Close)
		}
		return pool, err
	}
	path := func(name string) url.Values { return url.Values{name: {`aggregator, later, "My app"`}} }
	for name, tc := range map[string]struct {
		wanted, prepare string
		params          url.Values
		path            string
	}{
		"by the URL": {"", ``, path("search_path"), `"aggregator_views", "My app", "later", "pg_temp"`},
		"by its options": {
			"", ``,
			url.Values{"options": {`-c search_path=aggregator,later,"My\ app"`}},
			`"aggregator_views", "My app", "later", "pg_temp"`,
		},
		"by the database": {"", `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = aggregator, later, "My ` +
			`app"', current_database()); END $$`, nil, `"aggregator_views", "My app", "later", "pg_temp"`},
		"by the setting": {"My app", ``, nil, `"aggregator_views", "My app", "public", "pg_temp"`},
		"not by ours": {
			"", `CREATE TABLE aggregator.book (id bigint)`, path("Search_Path"),
			`"aggregator_views", "My app", "later", "pg_temp"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, err := open(t, testenv.EmptyDatabase(t), tc.wanted, tc.prepare, tc.params)
			require.NoError(t, err)
			var got, encoding, policies, isolation string
			require.NoError(t, pool.QueryRow(
				t.Context(), `SELECT current_setting('search_path'), current_setting('client_encoding'),
				current_setting('row_security'), current_setting('transaction_isolation')`).Scan(
				&got, &encoding, &policies, &isolation))
			require.Equal(t, []string{tc.path, "UTF8", "off", "read committed"}, []string{got, encoding, policies, isolation})
		})
	}
	for name, tc := range map[string]struct {
		wanted, prepare string
		params          url.Values
		want            string
	}{
		"two": {
			"", `CREATE TABLE later.book (id bigint)`, path("search_path"),
			"tables of its names are in later (book) and My app (child_profile), all on the search_path; set postgres.schema",
		},
		"none of this name": {"my app", ``, nil, `there is no schema "my app"`},
		"not on the path":   {"", ``, nil, "in My app (child_profile), which is not on the search_path"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := testenv.EmptyDatabase(t)
			_, err := open(t, base, tc.wanted, tc.prepare, tc.params)
			require.ErrorIs(t, err, appschema.ErrChoice)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, postgres.Describe(base))
			require.ErrorIs(t, postgres.Migrate(t.Context(), postgres.Options{URL: with(t, base, tc.params), Schema: tc.wanted}),
				appschema.ErrChoice)
			conn, err := pgx.Connect(t.Context(), base)
			require.NoError(t, err)
			defer conn.Close(t.Context())
			var ours int
			require.NoError(t, conn.QueryRow(
				t.Context(), `SELECT count(*) FROM pg_class WHERE relnamespace = 'aggregator'::regnamespace`).Scan(&ours))
			require.Zero(t, ours, "nothing was written")
		})
	}
}

// A role that is called as our schema makes nothing of the application's in it.
func TestMigrateAsTheRoleAggregator(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	server := testenv.NewPostgres(t)
	u := newDatabase(t, server, "app")
	mustExec(t, openPool(t, u),
		`CREATE ROLE aggregator LOGIN; ALTER DATABASE app OWNER TO aggregator; ALTER SCHEMA public OWNER TO aggregator`)
	own := testenv.As(t, u, "aggregator")
	for range 2 {
		require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: own}))
		d, err := appschema.ReadCurrent(t.Context(), openPool(t, own), nil)
		require.NoError(t, err)
		require.Equal(t, "public", d.Schema)
		require.Empty(t, d.Elsewhere)
		require.NoError(t, d.Check(true))
	}
}
