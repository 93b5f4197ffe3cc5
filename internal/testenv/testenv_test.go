package testenv_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(ownerVariable) != "" {
		ownServers()
	}
	testenv.Main(m)
}

func TestDatabasesAreIndependent(t *testing.T) {
	t.Parallel()
	first, second := connect(t, testenv.Database(t)), connect(t, testenv.Database(t))

	execute(t, first, "INSERT INTO child_profile (id, name) VALUES (1, 'Bori')")

	require.Equal(t, 1, count(t, first, "child_profile"))
	require.Equal(t, 0, count(t, second, "child_profile"))
	require.Equal(t, 16, count(t, second, "mbti"), "the other is migrated as well")
}

func TestEmptyDatabaseIsNotMigrated(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.EmptyDatabase(t))

	require.Equal(t, 0, count(t, conn, "pg_tables WHERE schemaname = 'public'"))
}

func TestDatabaseIsDroppedAfterItsTest(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("user", func(t *testing.T) { url = testenv.Database(t) })

	_, err := pgx.Connect(t.Context(), url)

	require.ErrorContains(t, err, "does not exist")
}

func TestRedisServersAreIndependent(t *testing.T) {
	t.Parallel()
	first, second := dial(t, testenv.Redis(t)), dial(t, testenv.Redis(t))

	require.NoError(t, first.Set(t.Context(), "key", "value", 0).Err())

	require.Equal(t, int64(0), second.Exists(t.Context(), "key").Val())
}

func TestPostgresKeepsCommittedDataThroughCrash(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t, testenv.Durable(), testenv.Setting("wal_writer_delay", "10s"))
	url, pid := server.URL("postgres"), server.PID()
	conn := connect(t, url)
	require.Equal(t, "10s", show(t, conn, "wal_writer_delay"))
	require.Equal(t, "on", show(t, conn, "fsync"))
	execute(t, conn, "CREATE TABLE kept AS SELECT 1")

	require.NoError(t, server.Crash())
	requireGone(t, pid)
	require.Zero(t, server.PID())
	require.NoError(t, server.Start(t.Context()))

	require.Equal(t, url, server.URL("postgres"))
	require.Equal(t, 1, count(t, connect(t, url), "kept"))
}

func TestPostgresStopsWithClientsConnected(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t)
	connect(t, server.URL("postgres"))
	pid := server.PID()

	require.NoError(t, server.Stop())
	require.NoError(t, server.Stop(), "again")

	requireGone(t, pid)
	require.NoError(t, server.Start(t.Context()))
	require.NoError(t, server.Start(t.Context()), "again")
	require.Equal(t, 1, count(t, connect(t, server.URL("postgres")), "pg_database WHERE datname = 'postgres'"))
}

func TestRedisKeepsAcknowledgedDataThroughKill(t *testing.T) {
	t.Parallel()
	server := testenv.NewRedis(t, testenv.AppendOnly())
	pid := server.PID()
	require.NoError(t, dial(t, server.URL()).Set(t.Context(), "key", "value", 0).Err())

	require.NoError(t, server.Kill())
	requireGone(t, pid)
	require.NoError(t, server.Start(t.Context()))

	require.Equal(t, "value", dial(t, server.URL()).Get(t.Context(), "key").Val())
}

func TestFrozenServersCanBeEnded(t *testing.T) {
	t.Parallel()
	redis, postgres := testenv.NewRedis(t), testenv.NewPostgres(t)
	require.NoError(t, syscall.Kill(redis.PID(), syscall.SIGSTOP))
	require.NoError(t, syscall.Kill(postgres.PID(), syscall.SIGSTOP))
	start := time.Now()

	require.NoError(t, redis.Stop())
	require.NoError(t, postgres.Stop())

	require.Less(t, time.Since(start), 20*time.Second, "without force")
}

func TestCloseLeavesNothing(t *testing.T) {
	// Not parallel, for it changes where folders are made.
	temporary := visibleToAll(t)
	t.Setenv("TMPDIR", temporary)
	postgres, err := testenv.StartPostgres(t.Context())
	require.NoError(t, err)
	redis, err := testenv.StartRedis(t.Context())
	require.NoError(t, err)
	pids := []int{postgres.PID(), redis.PID()}
	require.Len(t, entries(t, temporary), 2)

	require.NoError(t, postgres.Close())
	require.NoError(t, redis.Close())

	requireGone(t, pids...)
	require.Empty(t, entries(t, temporary))
	require.NoError(t, postgres.Close(), "again")
	require.NoError(t, redis.Close(), "again")
}

func TestFailedStartLeavesNothing(t *testing.T) {
	temporary := visibleToAll(t)
	t.Setenv("TMPDIR", temporary)

	_, err := testenv.StartPostgres(t.Context(), testenv.Setting("no_such_setting", "1"))
	require.ErrorContains(t, err, "no_such_setting")
	_, err = testenv.StartRedis(t.Context(), testenv.RedisArgs("--no-such-setting", "1"))
	require.ErrorContains(t, err, "no-such-setting")

	require.Empty(t, entries(t, temporary))
}

func TestMissingServerNamesTheRemedy(t *testing.T) {
	t.Setenv("PATH", t.TempDir())

	_, err := testenv.StartRedis(t.Context())

	require.ErrorContains(t, err, "scripts/provision")
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), statement)
	require.NoError(t, err)
}

func count(t *testing.T, conn *pgx.Conn, from string) int {
	t.Helper()
	var n int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+from).Scan(&n))
	return n
}

func show(t *testing.T, conn *pgx.Conn, setting string) string {
	t.Helper()
	var value string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting($1)", setting).Scan(&value))
	return value
}

func dial(t *testing.T, url string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(url)
	require.NoError(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// visibleToAll makes a folder that the servers' user may enter: t.TempDir keeps its own
// inside one that is private.
func visibleToAll(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	return dir
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	return names
}

func requireGone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
			require.Contains(t, string(stat), ") Z ", "process %d has not ended", pid) // init waits for it later
		}
	}
}
