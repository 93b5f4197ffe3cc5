package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// requireNoSecret finds neither server's password, nor a wrong one, in a text.
func requireNoSecret(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{"hunter2", testenv.RedisPassword} {
		require.NotContains(t, text, secret)
	}
}

// commandLines are all commands with arguments that they take, but for run, which does not
// end by itself.
func commandLines(t *testing.T) [][]string {
	t.Helper()
	arguments := map[string][]string{"history": {"1"}, "show": {"1"}}
	var lines [][]string
	var walk func(cmd *cobra.Command, path []string)
	walk = func(cmd *cobra.Command, path []string) {
		for _, sub := range cmd.Commands() {
			path := append(slices.Clone(path), sub.Name())
			switch {
			case sub.Name() == "run", sub.Name() == "completion", sub.Name() == "help":
			case sub.HasSubCommands():
				walk(sub, path)
			case strings.HasPrefix(sub.Use, sub.Name()+" ") && arguments[sub.Name()] != nil:
				lines = append(lines, append(path, arguments[sub.Name()]...))
			default:
				lines = append(lines, path)
			}
		}
	}
	walk(newRoot(&app{}), nil)
	require.Greater(t, len(lines), 8)
	return append(lines, []string{"config", "print", "--show-origin"}, []string{"drain", "--dry-run"},
		[]string{"drain", "-o", "json"})
}

// Whatever a command does, and however it fails, it tells nobody a password.
func TestNoCommandTellsPasswords(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	s := newSecured(t, valid)
	ca := s.authority.File()
	cert, key := s.clientFiles(t)
	tls := []string{
		"AGGREGATOR_LOG_LEVEL=debug", "AGGREGATOR_REDIS_TLS_CA_FILE=" + ca,
		"AGGREGATOR_REDIS_TLS_CERT_FILE=" + cert, "AGGREGATOR_REDIS_TLS_KEY_FILE=" + key,
	}
	redisURL, postgresURL := s.redisURL, s.trusting(ca)
	secret := func(name, content string) string {
		file := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		return file
	}
	credentials := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(credentials, "redis-url"), []byte(redisURL), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(credentials, "postgres-url"), []byte(postgresURL), 0o600))

	situations := map[string][]string{
		"all is well": {"AGGREGATOR_REDIS_URL=" + redisURL, "AGGREGATOR_POSTGRES_URL=" + postgresURL},
		"from files": {
			"AGGREGATOR_REDIS_URL_FILE=" + secret("r", redisURL),
			"AGGREGATOR_POSTGRES_URL_FILE=" + secret("p", postgresURL),
		},
		"from credentials": {"CREDENTIALS_DIRECTORY=" + credentials},
		"wrong Redis": {
			"AGGREGATOR_REDIS_URL=" + strings.Replace(redisURL, testenv.RedisPassword, "hunter2", 1),
			"AGGREGATOR_POSTGRES_URL=" + postgresURL,
		},
		"wrong PostgreSQL": {
			"AGGREGATOR_REDIS_URL=" + redisURL,
			"AGGREGATOR_POSTGRES_URL=" + strings.Replace(postgresURL, "hunter2", "wronghunter2", 1),
		},
		"nobody there": {
			"AGGREGATOR_REDIS_URL=rediss://u:hunter2@127.0.0.1:1",
			"AGGREGATOR_POSTGRES_URL=postgres://u:hunter2@127.0.0.1:1/app",
		},
		"no such host": {
			"AGGREGATOR_REDIS_URL=rediss://u:hunter2@nowhere.invalid:1",
			"AGGREGATOR_POSTGRES_URL=postgres://u:hunter2@nowhere.invalid/app",
		},
		"malformed": {
			"AGGREGATOR_REDIS_URL=rediss://u:hunter2%zz@h",
			"AGGREGATOR_POSTGRES_URL=postgres://u:hunter2@h:port/app",
		},
		"malformed in a file": {
			"AGGREGATOR_REDIS_URL_FILE=" + secret("r", "hunter2"),
			"AGGREGATOR_POSTGRES_URL_FILE=" + secret("p", "hunter2"),
		},
		"both": {"AGGREGATOR_REDIS_URL=" + redisURL, "AGGREGATOR_REDIS_URL_FILE=" + secret("r", redisURL)},
	}
	for _, name := range slices.Sorted(maps.Keys(situations)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := commandLines(t)
			if strings.HasPrefix(name, "from ") { // from there on it is as if all were well
				lines = [][]string{{"config", "print", "--show-origin"}, {"drain"}}
			}
			for _, line := range lines {
				r := program(t, append(slices.Clone(tls), situations[name]...), line...)
				requireNoSecret(t, r.stdout+r.stderr)
				if strings.HasPrefix(name, "malformed") &&
					!slices.Contains([]string{"version", "completion", "settings"}, line[0]) {
					require.Contains(t, []int{exitConfig, exitUsage}, r.code, "%v: %s", line, r.stderr)
				}
			}
		})
	}
}

// Nor does the daemon while it runs, nor do its arguments, nor what the servers know of it,
// nor the log when it is turned away in the middle of its work.
func TestDaemonTellsNoPasswords(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	s := newSecured(t, valid)
	ca := s.authority.File()
	cert, key := s.clientFiles(t)
	dir := t.TempDir()
	config := fmt.Sprintf("redis:\n  url: %s\n  tls_ca_file: %s\n  tls_cert_file: %s\n  tls_key_file: %s\npostgres:\n  "+
		"url: %s\n",
		s.redisURL, ca, cert, key, s.trusting(ca))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "aggregator.yaml"), []byte(config), 0o600))
	cmd := exec.CommandContext(
		t.Context(), binary, "run", "--log-level=debug", "--lease-ttl=0s", "--http-addr=127.0.0.1:0")
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	var said bytes.Buffer
	lines := bufio.NewReader(io.TeeReader(stderr, &said))
	until := func(word string) {
		t.Helper()
		for {
			line, err := lines.ReadString('\n')
			require.NoError(t, err, "the daemon ended: %s", said.String())
			if strings.Contains(line, word) {
				return
			}
		}
	}
	until("draining")
	push(t, s, "1:1:LIKE", "1:1:LIKE")
	until("processed a chunk")

	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
	require.NoError(t, err)
	requireNoSecret(t, string(arguments))
	clients, err := s.redis.ClientList(t.Context()).Result()
	require.NoError(t, err)
	require.Contains(t, clients, "user=aggregator_stream")
	requireNoSecret(t, clients)
	var activity string
	require.NoError(t, s.admin.QueryRow(
		t.Context(), `SELECT string_agg(a::text, E'\n') FROM pg_stat_activity a WHERE pid <> pg_backend_pid()`).Scan(
		&activity))
	require.Contains(t, activity, "aggregator_daemon")
	requireNoSecret(t, activity)

	// PostgreSQL lets it in no more.
	_, err = s.admin.PgConn().Exec(t.Context(), `ALTER ROLE aggregator_daemon PASSWORD 'changed';
		SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'aggregator_daemon'`).ReadAll()
	require.NoError(t, err)
	push(t, s, "1:1:LIKE")
	until("28P01")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_, _ = io.Copy(io.Discard, lines)
	_ = cmd.Wait()
	requireNoSecret(t, said.String())
}
