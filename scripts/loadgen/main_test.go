package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/oracle"
	"aggregator/scripts/loadgen/push"
	"aggregator/scripts/loadgen/workload"
)

func TestMain(m *testing.M) {
	for _, name := range []string{"AGGREGATOR_REDIS_URL", "REDIS_URL", "AGGREGATOR_POSTGRES_URL", "DATABASE_URL"} {
		os.Unsetenv(name)
	}
	testenv.Main(m)
}

// loadgen runs the program.
func loadgen(t *testing.T, args ...string) (code int, out, err string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, streams{&stdout, &stderr})
	return code, stdout.String(), stderr.String()
}

func TestUsageErrors(t *testing.T) {
	cases := map[string][]string{
		"unknown command":     {"bogus"},
		"unknown flag":        {"push", "--bogus"},
		"unknown output":      {"push", "--count", "1", "-o", "xml"},
		"argument":            {"push", "x"},
		"no size":             {"push", "--redis-url", "redis://127.0.0.1:1"},
		"no Redis":            {"push", "--count", "1"},
		"count and duration":  {"push", "--count", "1", "--duration", "1s", "--rate", "1"},
		"duration alone":      {"push", "--duration", "1s"},
		"setting":             {"push", "--count", "1", "--like-ratio", "2"},
		"list of fields":      {"push", "--count", "1", "--kind", "list", "--wire", "fields"},
		"no client":           {"push", "--count", "1", "--clients", "0"},
		"shape":               {"seed", "--books", "0"},
		"replay of nothing":   {"replay"},
		"seed is no number":   {"verify", "--count", "1", "--seed", "1,x"},
		"verify of what":      {"verify"},
		"unknown tables":      {"verify", "--count", "1", "--tables", "mine"},
		"unknown rule":        {"verify", "--count", "1", "--preferred", "best"},
		"tables of our own":   {"create-tables", "--postgres-url", "postgres://u:hidden@127.0.0.1:1/x"},
		"verify of a setting": {"verify", "--count", "1", "--kind", "set"},
		"Redis URL":           {"push", "--count", "1", "--redis-url", "redis://:hidden@h:port"},
		"PostgreSQL URL":      {"seed", "--postgres-url", "postgres://u:hidden@h:port/x"},
	}
	for name, args := range cases {
		t.Run(name, func(t *testing.T) {
			code, out, err := loadgen(t, args...)
			require.Equal(t, exitUsage, code, err)
			require.Empty(t, out)
			require.NotContains(t, err, "hidden")
		})
	}
}

func TestUnreachableServers(t *testing.T) {
	cases := map[string][]string{
		"create": {"create-tables", "--tables", "origin", "--postgres-url", "postgres://u:hidden@127.0.0.1:1/x"},
		"seed":   {"seed", "--postgres-url", "postgres://u:hidden@127.0.0.1:1/x"},
		"push":   {"push", "--count", "1", "--redis-url", "redis://u:hidden@127.0.0.1:1"},
		"verify": {"verify", "--count", "1", "--postgres-url", "postgres://u:hidden@127.0.0.1:1/x"},
	}
	for name, args := range cases {
		t.Run(name, func(t *testing.T) {
			code, _, err := loadgen(t, args...)
			require.Equal(t, exitUnreachable, code)
			require.Contains(t, err, "127.0.0.1:1 is not reachable")
			require.Contains(t, err, "connection refused")
			require.NotContains(t, err, "hidden")
		})
	}
}

func TestHelpMentionsEveryCommand(t *testing.T) {
	code, out, _ := loadgen(t, "--help")
	require.Zero(t, code)
	for _, name := range []string{"create-tables", "seed", "push", "replay", "verify"} {
		require.Contains(t, out, "\n  "+name)
	}
}

func TestSeedPushVerify(t *testing.T) {
	servers := []string{"--redis-url", testenv.Redis(t), "--postgres-url", testenv.Database(t), "-o", "json"}
	with := func(args ...string) []string { return append(args, servers...) }

	code, out, err := loadgen(t, with("seed", "--profiles", "100", "--books", "50")...)
	require.Zero(t, code, err)
	require.Contains(t, out, `"profiles": 100`)
	code, _, err = loadgen(t, with("seed")...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, err, "--reset")

	code, out, err = loadgen(t, with("verify", "--count", "1", "--malformed", "0", "--skip-redis")...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, err, "does not hold what was pushed")
	require.Contains(t, out, `"lost": 1`)

	acked := filepath.Join(t.TempDir(), "acked")
	events := []string{"--count", "500", "--profiles", "100", "--books", "50", "--malformed", "0.1"}
	code, out, err = loadgen(t, with(append([]string{"push", "--acked-file", acked}, events...)...)...)
	require.Zero(t, code, err)
	var pushed push.Report
	require.NoError(t, json.Unmarshal([]byte(out), &pushed))
	require.Equal(t, int64(500), pushed.Acknowledged)

	// Nobody has drained: all is lost, and still in Redis.
	for _, args := range [][]string{append([]string{"verify"}, events...), {"verify", "--acked-file", acked}} {
		code, out, err = loadgen(t, with(args...)...)
		require.Equal(t, exitFailed, code, err)
		var report oracle.Report
		require.NoError(t, json.Unmarshal([]byte(out), &report))
		require.Equal(t, int64(500), report.Pushed)
		require.Equal(t, int64(500), report.Lost)
		require.Equal(t, []oracle.Leftover{{Key: "book-like-events", Entries: 500}}, report.Leftovers)
		require.Len(t, report.First, 10)
	}

	code, out, err = loadgen(
		t, append([]string{"verify", "--redis-url", servers[1], "--postgres-url", servers[3]}, events...)...)
	require.Equal(t, exitFailed, code, err)
	require.Contains(t, out, "lost              500\n")
	require.Contains(t, out, "left in Redis     500 in book-like-events\n")
}

// ledgerOnly returns the URL of a database that has what is in schema aggregator, and no table of an application.
func ledgerOnly(t *testing.T) string {
	t.Helper()
	url := testenv.Database(t)
	db, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	require.NoError(t, err)
	require.NoError(t, db.Close(t.Context()))
	return url
}

func TestTheOriginsTables(t *testing.T) {
	servers := []string{"--tables", "origin", "--redis-url", testenv.Redis(t), "--postgres-url", ledgerOnly(t)}
	with := func(args ...string) []string { return append(args, servers...) }

	code, _, err := loadgen(t, with("seed")...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, err, "create-tables")
	code, out, err := loadgen(t, with("create-tables")...)
	require.Zero(t, code, err)
	require.Equal(t, "created 14 tables of the application, with the personality types\n", out)
	code, _, err = loadgen(t, with("create-tables")...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, err, "already has tables")

	events := []string{"--count", "200", "--profiles", "100", "--books", "50"}
	code, _, err = loadgen(t, with("seed", "--profiles", "100", "--books", "50")...)
	require.Zero(t, code, err)
	code, _, err = loadgen(t, with(append([]string{"push"}, events...)...)...)
	require.Zero(t, code, err)
	code, out, err = loadgen(t, with(append([]string{"verify"}, events...)...)...)
	require.Equal(t, exitFailed, code, err)
	require.Contains(t, out, "lost              200\n")
	require.Contains(t, out, "child_personality_history: expected a row, found no row\n")
	nothing := []string{"verify", "--acked-file", noPush(t), "--skip-redis", "--preferred", "above_mean_of_nonnegative"}
	code, out, err = loadgen(t, with(nothing...)...)
	require.Zero(t, code, "%s%s", out, err)
	require.Contains(t, out, "mismatches        0\n")

	// The tables are there, and are not ours.
	code, _, err = loadgen(t, append([]string{"verify", "--tables", "own"}, append(events, servers[2:]...)...)...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, err, "book_mbti")

	path := filepath.Join(t.TempDir(), "ratings.csv")
	require.NoError(t, os.WriteFile(path, []byte("User-ID;ISBN;Book-Rating\n7;a;0\n8;b;3\n"), 0o600))
	code, _, err = loadgen(t, with("replay", path, "--reset")...)
	require.Zero(t, code, err)
	require.Contains(t, err, "seeded 2 books, 2 profiles")
}

// noPush is the journal of a push of nothing.
func noPush(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "acked")
	w, err := journal.Append(path, workload.Defaults())
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return path
}

func TestVerifyTakesTheFlagsOfPush(t *testing.T) {
	database, redis := testenv.Database(t), testenv.Redis(t)
	code, _, err := loadgen(t, "seed", "--profiles", "10", "--books", "10", "--postgres-url", database)
	require.Zero(t, code, err)
	code, out, err := loadgen(
		t, "verify", "--rate", "50", "--duration", "2s", "--pipeline", "7", "--clients", "1", "--quiet",
		"--timeout", "1s", "--late-after", "1s", "--continue-on-error", "--postgres-url", database, "--redis-url", redis)
	require.Equal(t, exitFailed, code, err)
	require.Contains(t, out, "pushed            100\n")
}

func TestReplay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ratings.csv")
	require.NoError(t, os.WriteFile(path, []byte("User-ID;ISBN;Book-Rating\n7;a;0\n8;b;3\nbad\n7;b;9\n"), 0o600))
	servers := []string{"--redis-url", testenv.Redis(t), "--postgres-url", testenv.Database(t)}
	with := func(args ...string) []string { return append(args, servers...) }
	code, out, err := loadgen(t, with("replay", path)...)
	require.Zero(t, code, err)
	require.Contains(t, out, "acknowledged     3 of 3 events")
	require.Contains(t, err, "3 ratings of 2 books by 2 readers, 1 bad lines left out")
	code, _, err = loadgen(t, with("replay", path)...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, err, "--reset")
	code, _, err = loadgen(t, with("replay", path, "--seed-catalogue=false", "--count", "2")...)
	require.Zero(t, code, err)
	code, out, _ = loadgen(t, with("verify", "--replay", path)...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "lost              3\n")
	require.Contains(t, out, "left in Redis     5 in book-like-events\n")
}

func TestCountOf(t *testing.T) {
	require.Equal(t, int64(60_000), countOf(20_000, 3*time.Second))
	require.Equal(t, int64(1), countOf(0.1, time.Second))
	require.Equal(t, int64(3), countOf(0.29, 10*time.Second))
}
