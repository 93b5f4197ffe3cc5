package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

func TestConfigCheck(t *testing.T) {
	ok := program(t, nil, "config", "check")
	ok.requireDone(t)
	require.Equal(t, "ok\n", ok.stdout)

	for name, tc := range map[string]struct {
		env, args string
		want      string
	}{
		"wrong setting": {
			"AGGREGATOR_APPLY_WORKERS=0", "",
			`apply.workers = "0" (env AGGREGATOR_APPLY_WORKERS): want a whole number, 1 to 64`,
		},
		"unknown variable": {
			"AGGREGATOR_APPLY_WORKER=4", "",
			"AGGREGATOR_APPLY_WORKER: no such setting; did you mean AGGREGATOR_APPLY_WORKERS?",
		},
		"wrong flag":   {"", "--chunk-max-wait=5", "has no unit: write 5s"},
		"missing file": {"", "--config=nowhere.yaml", `--config = "nowhere.yaml": no such file or directory`},
		"wrong Redis":  {"REDIS_URL=redis://u:hunter2@h:port", "", "redis.url (env REDIS_URL): not a valid Redis URL"},
		"wrong PostgreSQL": {
			"DATABASE_URL=postgres://u:hunter2@h:port", "",
			"postgres.url (env DATABASE_URL): not a valid PostgreSQL URL: invalid port",
		},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"config", "check"}, strings.Fields(tc.args)...)
			program(t, []string{tc.env}, args...).requireFailure(t, 78, tc.want)
		})
	}
}

// With --servers both are asked, and what is wrong with each is said.
func TestConfigCheckServers(t *testing.T) {
	s := newPair(t)
	ok := s.program("config", "check", "--servers")
	ok.requireDone(t)
	require.Regexp(t, `^ok  settings    valid; no settings file is used
ok  Redis       \d+\.\S+ at 127.0.0.1:\d+; stream book-like-events
ok  PostgreSQL  \d+\.\S+ at `+regexp.QuoteMeta(postgres.Describe(s.db.Config().ConnString()))+
		`; schema: version \d+\n$`, ok.stdout)
	many := program(t, append(s.env, "AGGREGATOR_SOURCE_PARTITIONS=16"), "config", "check", "--servers")
	require.Contains(t, many.stdout, "; stream book-like-events:{0} to book-like-events:{15}\n")

	half := program(t, append(s.env, "AGGREGATOR_REDIS_URL=redis://u:hunter2@127.0.0.1:1"), "config", "check", "--servers")
	require.Equal(t, exitUnreachable, half.code)
	require.Equal(t, "aggregator: Redis at 127.0.0.1:1 is not reachable: connection refused\n", half.stderr)
	require.Contains(t, half.stdout, "ok  PostgreSQL  ")
	require.NotContains(t, half.stdout, "Redis")

	none := program(t, []string{
		"AGGREGATOR_REDIS_URL=redis://127.0.0.1:1", "AGGREGATOR_POSTGRES_URL=postgres://u:hunter2@127.0.0.1:1/d",
	}, "config",
		"check", "--servers")
	require.Equal(t, exitUnreachable, none.code)
	require.Equal(t, 2, strings.Count(none.stderr, "is not reachable: connection refused\n"), none.stderr)

	s.exec(`ALTER TABLE genre_score RENAME TO other_scores`)
	tables := s.program("config", "check", "--servers")
	require.Equal(t, exitFailed, tables.code)
	require.Contains(t, tables.stderr, "genre_score")
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

	r = program(t, env, "config", "print", "-o", "json")
	r.requireDone(t)
	require.NotContains(t, r.stdout, "hunter2")
	var document struct{ Settings []config.Shown }
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &document))
	require.Contains(t, document.Settings, config.Shown{Key: "apply.workers", Value: "7", Origin: file + ":3"})
	require.Contains(t, document.Settings,
		config.Shown{Key: "redis.url", Value: "redis://u:xxxxx@h:1", Origin: file + ":2"})
	require.Contains(t, document.Settings, config.Shown{Key: "source.kind", Value: "stream", Origin: "default"})
}

// A PostgreSQL that takes no writes is none that the service can work with.
func TestConfigCheckReadOnly(t *testing.T) {
	s := newPair(t)
	where := postgres.Describe(s.db.Config().ConnString())
	s.env[0] += "&options=-c%20default_transaction_read_only%3Don"
	r := s.program("config", "check", "--servers")
	require.Equal(t, exitConfig, r.code)
	require.NotContains(t, r.stdout, "PostgreSQL")
	require.Equal(t, "aggregator: PostgreSQL at "+where+": its transactions are read-only: set "+
		"default_transaction_read_only to off for the database and the role, and in postgres.url\n", r.stderr)
}

func TestConfigCheckStandby(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	primary := testenv.NewPostgres(t)
	program(t, []string{"AGGREGATOR_POSTGRES_URL=" + primary.URL("postgres")}, "migrate", "up").requireDone(t)
	standby := testenv.NewStandby(t, primary, "s1")
	s.env[0] = "AGGREGATOR_POSTGRES_URL=" + standby.URL("postgres")
	r := s.program("config", "check", "--servers")
	require.Equal(t, exitConfig, r.code)
	require.Equal(t, "aggregator: PostgreSQL at "+postgres.Describe(standby.URL("postgres"))+" is a standby: point "+
		"postgres.url at the primary, or add target_session_attrs=read-write to it\n", r.stderr)
}
