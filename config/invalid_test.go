package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/config"
)

func TestInvalidValues(t *testing.T) {
	for name, tc := range map[string]struct {
		variable, value string
		want            string
	}{
		"kind": {
			"SOURCE_KIND", "queue",
			`source.kind = "queue" (env AGGREGATOR_SOURCE_KIND): want one of stream, list`,
		},
		"case": {
			"SOURCE_PUSH_SIDE", "Left",
			`source.push_side = "Left" (env AGGREGATOR_SOURCE_PUSH_SIDE): want one of left, right`,
		},
		"key":           {"SOURCE_KEY", "a\tb", "want a key without control characters"},
		"key put aside": {"SOURCE_KEY", "likes@12", "want a key that does not end with @ and a number"},
		"invalid UTF-8": {"SOURCE_KEY", "a\xff", "want a key without control characters"},
		"partitions":    {"SOURCE_PARTITIONS", "0", "want a whole number, 1 to 16384"},
		"coalesce":      {"EVENTS_COALESCE", "first", "want one of none, last"},
		"chunk zero": {
			"CHUNK_MAX_EVENTS", "0",
			`chunk.max_events = "0" (env AGGREGATOR_CHUNK_MAX_EVENTS): want a whole number, 1 to 1000000`,
		},
		"chunk too big": {"CHUNK_MAX_EVENTS", "1000001", "want a whole number, 1 to 1000000"},
		"overflow":      {"CHUNK_MAX_EVENTS", "99999999999999999999", "want a whole number"},
		"fraction":      {"APPLY_WORKERS", "2.5", "want a whole number, 1 to 64"},
		"words":         {"APPLY_WORKERS", "many", "want a whole number, 1 to 64"},
		"group":         {"APPLY_PROFILES_PER_TRANSACTION", "2001", "want auto, or 1 to 2000"},
		"no unit": {
			"SHUTDOWN_GRACE", "5",
			`shutdown.grace = "5" (env AGGREGATOR_SHUTDOWN_GRACE): has no unit: write 5s`,
		},
		"fraction unit": {"SHUTDOWN_GRACE", "1.5", "write 1.5s"},
		"no duration":   {"CHUNK_MAX_WAIT", "soon", "want a duration such as 20ms, 5s or 1h30m, 0s to 1m"},
		"negative":      {"TRIM_RETAIN", "-1s", "0s or more"},
		"too long":      {"CHUNK_MAX_WAIT", "61s", "0s to 1m"},
		"share": {
			"DEAD_MAX_SHARE", "1.01",
			`dead.max_share = "1.01" (env AGGREGATOR_DEAD_MAX_SHARE): want a number, 0 to 1`,
		},
		"share percent":   {"DEAD_MAX_SHARE", "50%", "want a number, 0 to 1"},
		"share NaN":       {"DEAD_MAX_SHARE", "NaN", "want a number, 0 to 1"},
		"dead window":     {"DEAD_WINDOW", "0", "want a whole number, 1 to 10000000"},
		"retry too often": {"DEAD_RETRY_EVERY", "1ms", "1s to 1h"},
		"age of a purge": {
			"PURGE_OLDER_THAN", "-1h",
			`purge.older_than = "-1h" (env AGGREGATOR_PURGE_OLDER_THAN): want a duration such as 20ms, 5s or 1h30m, 0s or more`,
		},
		"retention": {"RETENTION_ALL_DAYS", "-1", "want a whole number, 0 to 36500"},
		"retention days": {
			"RETENTION_ALL_DAYS", "366",
			`retention.daily_days = "365": want at least retention.all_days, 366`,
		},
		"short lease": {"LEASE_TTL", "1ms", "want a duration such as 20ms, 5s or 1h30m, 0s, or 1s to 1h"},
		"long lease":  {"LEASE_TTL", "2h", "0s, or 1s to 1h"},
		"cache ttl":   {"CACHE_TTL", "0s", "1s or more"},
		"cache books": {"CACHE_BOOKS", "-1", "want a whole number, 1 to 1000000000"},
		"listen nowhere": {
			"HTTP_ADDR", "localhost",
			`http.addr = "localhost" (env AGGREGATOR_HTTP_ADDR): want host:port, such as 127.0.0.1:9464, or nothing`,
		},
		"listen port":    {"HTTP_ADDR", ":65536", "want host:port"},
		"listen by name": {"HTTP_ADDR", "127.0.0.1:http", "want host:port"},
		"never due": {
			"SCHEDULE_DRAIN", "0 0 30 2 *",
			`schedule.drain = "0 0 30 2 *" (env AGGREGATOR_SCHEDULE_DRAIN): it is never due: there is no such day`,
		},
		"no schedule": {"SCHEDULE_DRAIN", "nightly", "want five fields such as"},
		"every":       {"SCHEDULE_DRAIN", "@every 5m", "want five fields such as"},
		"zone in it":  {"SCHEDULE_DRAIN", "CRON_TZ=Berlin 0 2 * * *", `"Berlin": want the name of a time zone`},
		"zone": {
			"SCHEDULE_TIME_ZONE", "Berlin",
			`schedule.time_zone = "Berlin" (env AGGREGATOR_SCHEDULE_TIME_ZONE): "Berlin": want the name of a time zone, such ` +
				`as Europe/Berlin, UTC or Local`,
		},
		"session zone": {
			"POSTGRES_TIME_ZONE", "Seoul",
			`postgres.time_zone = "Seoul" (env AGGREGATOR_POSTGRES_TIME_ZONE): "Seoul": want the name of a time zone, such as ` +
				`Asia/Seoul or UTC, or nothing`,
		},
		"our own zone":    {"POSTGRES_TIME_ZONE", "Local", "want the name of a time zone"},
		"favorites":       {"HISTORY_PREFERRED", "mean", "want one of mean_of_positive, above_mean_of_nonnegative"},
		"keep no runs":    {"RUNS_KEEP", "0", "want a whole number, 1 to 100000"},
		"level":           {"LOG_LEVEL", "trace", "want one of debug, info, warn, error"},
		"format":          {"LOG_FORMAT", "xml", "want one of auto, text, json"},
		"weight form":     {"EVENTS_WEIGHTS", "LIKE", `"LIKE": want ACTION=number`},
		"weight name":     {"EVENTS_WEIGHTS", "like=2", `action "like": want capital letters`},
		"weight digit":    {"EVENTS_WEIGHTS", "1LIKE=2", `action "1LIKE"`},
		"no group":        {"APPLY_PROFILES_PER_TRANSACTION", "0", "want auto, or 1 to 2000"},
		"weight no name":  {"EVENTS_WEIGHTS", "=2", `action ""`},
		"weight text":     {"EVENTS_WEIGHTS", "LIKE=big", "weight of LIKE: want a finite number"},
		"weight infinite": {"EVENTS_WEIGHTS", "LIKE=inf", "weight of LIKE: want a finite number"},
		"weight NaN":      {"EVENTS_WEIGHTS", "LIKE=NaN", "weight of LIKE: want a finite number"},
		"weight overflow": {"EVENTS_WEIGHTS", "LIKE=1e999", "weight of LIKE: want a finite number"},
		"weight twice":    {"EVENTS_WEIGHTS", "LIKE=1,LIKE=2", "action LIKE is given twice"},
		"trailing comma":  {"EVENTS_WEIGHTS", "LIKE=1,", `"": want ACTION=number`},
		"redis":           {"REDIS_URL", "localhost", "redis.url (env AGGREGATOR_REDIS_URL): not a valid Redis URL"},
		"redis fragment":  {"REDIS_URL", "redis://u:12#x@h:1", "redis.url (env AGGREGATOR_REDIS_URL): not a valid Redis URL"},
		"postgres": {
			"POSTGRES_URL", "localhost",
			"postgres.url (env AGGREGATOR_POSTGRES_URL): not a valid PostgreSQL URL",
		},
		"unknown": {"NO_SUCH_THING", "x", "environment variable AGGREGATOR_NO_SUCH_THING: no such setting"},
		"misspelt": {
			"APPLY_WORKER", "4",
			"AGGREGATOR_APPLY_WORKER: no such setting; did you mean AGGREGATOR_APPLY_WORKERS?",
		},
		"empty unknown": {"NOTHING", "", "environment variable AGGREGATOR_NOTHING: no such setting"},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			t.Setenv("AGGREGATOR_"+tc.variable, tc.value)
			_, err := load(t)
			requireOneLine(t, err, tc.want)
		})
	}
}

func TestInvalidFiles(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown setting":  {"redis:\n  ulr: x", "redis.ulr (aggregator.yaml:2): no such setting; did you mean redis.url?"},
		"unknown section":  {"kafka:\n  brokers: x", "kafka.brokers (aggregator.yaml:2): no such setting"},
		"empty unknown":    {"kafka:", "kafka (aggregator.yaml:1): no such setting"},
		"section as value": {"redis: localhost", "redis (aggregator.yaml:1): want a section with settings, not a value"},
		"value as section": {"apply:\n  workers:\n    count: 4", "apply.workers"},
		"list":             {"apply:\n  workers: [4]", "want a single value"},
		"no unit":          {"shutdown:\n  grace: 5", `shutdown.grace = "5" (aggregator.yaml:2): has no unit: write 5s`},
		"action":           {"events:\n  weights:\n    a-b: 1", `action "A-B": want capital letters`},
		"dotted action":    {"events:\n  weights:\n    A.B: 1", `events.weights`},
		"weight list":      {"events:\n  weights:\n    LIKE: [1]", "weight of LIKE: want a finite number"},
		"not a number":     {"events:\n  weights:\n    LIKE: .nan", "weight of LIKE: want a finite number"},
		"twice":            {"apply:\n  workers: 4\n  workers: 5", `"aggregator.yaml": yaml`},
		"tab":              {"apply:\n\tworkers: 4", `"aggregator.yaml": yaml`},
		"no sections":      {"postgres://u:hunter2@h/db", `"aggregator.yaml": want sections with settings`},
		"a list of things": {"- hunter2", `"aggregator.yaml": want sections with settings`},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			writeFile(t, "aggregator.yaml", tc.text)
			_, err := load(t)
			requireOneLine(t, err, tc.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestNamedFileMustExist(t *testing.T) {
	isolate(t)
	_, err := load(t, "--config=nowhere.yaml")
	requireOneLine(t, err, `--config = "nowhere.yaml": no such file or directory`)
	_, err = load(t, "--config=")
	requireOneLine(t, err, `--config = ""`)
	t.Setenv("AGGREGATOR_CONFIG", "nowhere.yaml")
	_, err = load(t)
	requireOneLine(t, err, `AGGREGATOR_CONFIG = "nowhere.yaml": no such file or directory`)
}

func TestUnreadableFileIsAnError(t *testing.T) {
	isolate(t)
	require.NoError(t, os.Mkdir("aggregator.yaml", 0o700))
	_, err := load(t)
	requireOneLine(t, err, `"aggregator.yaml"`)
}

func TestAllErrorsAtOnce(t *testing.T) {
	isolate(t)
	writeFile(t, "aggregator.yaml", "apply: {workers: 0}\nnothing: 1\n")
	t.Setenv("AGGREGATOR_WHAT", "x")
	_, err := load(t, "--log-level=loud")
	require.ErrorIs(t, err, config.ErrInvalid)
	require.Len(t, strings.Split(err.Error(), "\n"), 4)
	for _, part := range []string{
		"AGGREGATOR_WHAT", "nothing", "apply.workers", "log.level = \"loud\" (flag --log-level)",
	} {
		require.ErrorContains(t, err, part)
	}
}

func TestBracesInKeys(t *testing.T) {
	isolate(t)
	_, err := load(t, "--source-key={app}:events")
	require.NoError(t, err)
	_, err = load(t, "--source-key={app}:events", "--source-partitions=2")
	requireOneLine(t, err, "braces are allowed only")
	_, err = load(t, "--source-key={app}:events", "--source-kind=list")
	require.NoError(t, err)
}

func TestValidate(t *testing.T) {
	c := config.Default()
	require.NoError(t, c.Validate())
	c.Apply.Workers = 0
	c.Redis.URL = "http://u:hunter2@h"
	c.Events.Weights = map[string]float64{"lower": 1}
	err := c.Validate()
	require.ErrorIs(t, err, config.ErrInvalid)
	require.ErrorContains(t, err, `apply.workers = "0": want a whole number, 1 to 64`)
	require.ErrorContains(t, err, "redis.url: not a valid Redis URL")
	require.ErrorContains(t, err, `action "lower"`)
	require.NotContains(t, err.Error(), "hunter2")
}

func requireOneLine(t *testing.T, err error, want string) {
	t.Helper()
	require.ErrorIs(t, err, config.ErrInvalid)
	require.ErrorContains(t, err, want)
	require.NotContains(t, err.Error(), "\n")
}
