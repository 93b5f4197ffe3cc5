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
			"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off", "row_security": "off",
			"timezone": "UTC", "application_name": "test",
		}},
		"the URL wins": {
			url.Values{"lock_timeout": {"7s"}, "TimeZone": {"Asia/Seoul"}, "application_name": {"mine"}},
			map[string]string{"lock_timeout": "7s", "timezone": "Asia/Seoul", "application_name": "mine", "synchronous_commit": "off"},
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

// Whatever is set for the database, a session of ours reads and writes as ever, and stays.
func TestOpenWithSettingsOfTheDatabase(t *testing.T) {
	base := testenv.EmptyDatabase(t)
	ours := openPool(t, base)
	require.NoError(t, postgres.Migrate(t.Context(), base))
	for setting, value := range map[string]string{
		"datestyle": "German", "intervalstyle": "sql_standard", "timezone": "Asia/Seoul", "bytea_output": "escape", "extra_float_digits": "-15",
		"standard_conforming_strings": "off", "client_encoding": "LATIN1", "lc_monetary": "C", "lc_messages": "C", "default_transaction_isolation": "serializable",
		"idle_session_timeout": "1h", "transform_null_equals": "on", "array_nulls": "off",
	} {
		_, err := ours.Exec(t.Context(), fmt.Sprintf(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET %s = %%L', current_database(), '%s'); END $$`, setting, value))
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
	}
	migrations, err := postgres.MigrationStatus(t.Context(), base)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), migrations[0].AppliedAt, time.Hour)
	require.NoError(t, postgres.Migrate(t.Context(), base))
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
