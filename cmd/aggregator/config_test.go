package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConfigCheck(t *testing.T) {
	ok := program(t, nil, "config", "check")
	ok.requireDone(t)
	require.Equal(t, "ok\n", ok.stdout)

	for name, tc := range map[string]struct {
		env, args string
		want      string
	}{
		"wrong setting":    {"AGGREGATOR_APPLY_WORKERS=0", "", `apply.workers = "0" (env AGGREGATOR_APPLY_WORKERS): want a whole number, 1 to 64`},
		"unknown variable": {"AGGREGATOR_APPLY_WORKER=4", "", "AGGREGATOR_APPLY_WORKER: no such setting; did you mean AGGREGATOR_APPLY_WORKERS?"},
		"wrong flag":       {"", "--chunk-max-wait=5", "has no unit: write 5s"},
		"missing file":     {"", "--config=nowhere.yaml", `--config = "nowhere.yaml": no such file or directory`},
		"wrong Redis":      {"REDIS_URL=redis://u:hunter2@h:port", "", "redis.url (env REDIS_URL): not a valid Redis URL"},
		"wrong PostgreSQL": {"DATABASE_URL=postgres://u:hunter2@h:port", "", "postgres.url (env DATABASE_URL): not a valid PostgreSQL URL: invalid port"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"config", "check"}, strings.Fields(tc.args)...)
			program(t, []string{tc.env}, args...).requireFailure(t, 78, tc.want)
		})
	}
}

func TestConfigCheckReportsEverything(t *testing.T) {
	r := program(t, []string{"AGGREGATOR_APPLY_WORKERS=0", "AGGREGATOR_LOG_LEVEL=loud"}, "config", "check")
	require.Equal(t, 78, r.code)
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	require.Len(t, lines, 2)
	for _, line := range lines {
		require.True(t, strings.HasPrefix(line, "aggregator: "), line)
	}
}

// Every command that reads the settings refuses wrong ones the same way.
func TestWrongConfigurationStopsEveryCommand(t *testing.T) {
	for _, args := range []string{"config print", "migrate up", "migrate status"} {
		program(t, []string{"AGGREGATOR_NOTHING=1"}, strings.Fields(args)...).
			requireFailure(t, 78, "environment variable AGGREGATOR_NOTHING: no such setting")
	}
}

func TestConfigPrint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.yaml")
	require.NoError(t, os.WriteFile(file, []byte("redis:\n  url: redis://u:hunter2@h:1\napply: {workers: 7}\n"), 0o600))
	env := []string{"AGGREGATOR_CONFIG=" + file, "DATABASE_URL=postgres://u:hunter2@h/db?password=hunter2"}

	r := program(t, env, "config", "print")
	r.requireDone(t)
	require.NotContains(t, r.stdout, "hunter2")
	require.Contains(t, r.stdout, "url: redis://u:xxxxx@h:1\n")
	require.Contains(t, r.stdout, "url: postgres://u:xxxxx@h/db?password=xxxxx\n")

	r = program(t, env, "config", "print", "--show-origin", "--log-level", "debug")
	r.requireDone(t)
	require.NotContains(t, r.stdout, "hunter2")
	for _, want := range []string{
		"workers: 7  # " + file + ":3\n", "# env DATABASE_URL", "level: debug  # flag --log-level", "kind: stream  # default",
	} {
		require.Contains(t, r.stdout, want)
	}
}
