package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"aggregator/config"
)

// isolate hides the machine's own settings from a test.
func isolate(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "AGGREGATOR_") || strings.HasPrefix(name, "PG") || name == "REDIS_URL" ||
			name == "DATABASE_URL" || name == "CREDENTIALS_DIRECTORY" {
			t.Setenv(name, "") // so that it comes back
			require.NoError(t, os.Unsetenv(name))
		}
	}
}

func load(t *testing.T, args ...string) (config.Config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(flags)
	require.NoError(t, flags.Parse(args))
	return config.Load(flags)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}

func TestDefaults(t *testing.T) {
	isolate(t)
	c, err := load(t)
	require.NoError(t, err)
	require.NoError(t, c.Validate())
	require.EqualValues(t, "redis://127.0.0.1:6379/0", c.Redis.URL)
	require.Empty(t, c.Postgres.URL)
	require.Equal(t, "stream", c.Source.Kind)
	require.Equal(t, "book-like-events", c.Source.Key)
	require.Equal(t, "left", c.Source.PushSide)
	require.Equal(t, 1, c.Source.Partitions)
	require.Equal(t, map[string]float64{"LIKE": 2, "DISLIKE": -2}, c.Events.Weights)
	require.Equal(t, "none", c.Events.Coalesce)
	require.Equal(t, 1_000_000, c.Chunk.MaxEvents)
	require.Equal(t, 10*time.Millisecond, c.Chunk.MaxWait)
	require.Equal(t, 4, c.Apply.Workers)
	require.Equal(t, 1, c.Apply.ProfilesPerTransaction)
	require.Zero(t, c.Trim.Retain)
	require.Equal(t, 100_000, c.Cache.Books)
	require.Equal(t, 1_000_000, c.Cache.Profiles)
	require.Equal(t, 10*time.Minute, c.Cache.TTL)
	require.Equal(t, 30*time.Second, c.Shutdown.Grace)
	require.Equal(t, "info", c.Log.Level)
	require.Equal(t, "auto", c.Log.Format)
}

func TestDefaultIsWhatLoadReturns(t *testing.T) {
	isolate(t)
	c, err := config.Load(nil)
	require.NoError(t, err)
	var loaded, defaults strings.Builder
	require.NoError(t, c.Print(&loaded, true))
	require.NoError(t, config.Default().Print(&defaults, true))
	require.Equal(t, defaults.String(), loaded.String())
}

func TestPrecedence(t *testing.T) {
	isolate(t)
	writeFile(t, "aggregator.yaml", "chunk:\n  max_events: 10\napply:\n  workers: 11\ncache:\n  books: 12\n")
	t.Setenv("AGGREGATOR_CHUNK_MAX_EVENTS", "20")
	t.Setenv("AGGREGATOR_APPLY_WORKERS", "21")
	c, err := load(t, "--chunk-max-events=30")
	require.NoError(t, err)
	require.Equal(t, 30, c.Chunk.MaxEvents)
	require.Equal(t, 21, c.Apply.Workers)
	require.Equal(t, 12, c.Cache.Books)
	require.Equal(t, 1_000_000, c.Cache.Profiles)
}

func TestURLVariables(t *testing.T) {
	isolate(t)
	t.Setenv("REDIS_URL", "redis://other:1/2")
	t.Setenv("DATABASE_URL", "postgres://other/db")
	c, err := load(t)
	require.NoError(t, err)
	require.EqualValues(t, "redis://other:1/2", c.Redis.URL)
	require.EqualValues(t, "postgres://other/db", c.Postgres.URL)

	t.Setenv("AGGREGATOR_REDIS_URL", "redis://ours:1/2")
	t.Setenv("AGGREGATOR_POSTGRES_URL", "postgres://ours/db")
	c, err = load(t)
	require.NoError(t, err)
	require.EqualValues(t, "redis://ours:1/2", c.Redis.URL)
	require.EqualValues(t, "postgres://ours/db", c.Postgres.URL)
}

func TestSourceKeyFollowsTheKind(t *testing.T) {
	isolate(t)
	c, err := load(t, "--source-kind=list")
	require.NoError(t, err)
	require.Equal(t, "BookLikeEventList", c.Source.Key)
	c, err = load(t, "--source-kind=list", "--source-key=mine")
	require.NoError(t, err)
	require.Equal(t, "mine", c.Source.Key)
}

func TestWeights(t *testing.T) {
	for name, tc := range map[string]struct {
		file, env string
		want      map[string]float64
	}{
		"the file adds":    {file: "FINISHED: 3.5", want: map[string]float64{"LIKE": 2, "DISLIKE": -2, "FINISHED": 3.5}},
		"the file changes": {file: "LIKE: 1", want: map[string]float64{"LIKE": 1, "DISLIKE": -2}},
		"text in the file": {file: `LIKE: "1"`, want: map[string]float64{"LIKE": 1, "DISLIKE": -2}},
		"an empty mapping": {file: "{}", want: map[string]float64{"LIKE": 2, "DISLIKE": -2}},
		"variable": {
			env:  "LIKE=2, DISLIKE=-1 ,READ_1=1e2",
			want: map[string]float64{"LIKE": 2, "DISLIKE": -1, "READ_1": 100},
		},
		"variable over all": {file: "READ: 5", env: "LIKE=4", want: map[string]float64{"LIKE": 4, "DISLIKE": -2}},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			if tc.file != "" {
				writeFile(t, "aggregator.yaml", "events:\n  weights:\n    "+tc.file+"\n")
			}
			t.Setenv("AGGREGATOR_EVENTS_WEIGHTS", tc.env)
			c, err := load(t)
			require.NoError(t, err)
			require.Equal(t, tc.want, c.Events.Weights)
		})
	}
}

func TestFiles(t *testing.T) {
	isolate(t)
	other := filepath.Join(t.TempDir(), "other.yaml")
	writeFile(t, "aggregator.yaml", "apply: {workers: 5}")
	writeFile(t, other, "apply: {workers: 6}")
	workers := func(args ...string) int {
		c, err := load(t, args...)
		require.NoError(t, err)
		return c.Apply.Workers
	}
	require.Equal(t, 5, workers())
	t.Setenv("AGGREGATOR_CONFIG", other)
	require.Equal(t, 6, workers())
	require.Equal(t, 5, workers("--config=aggregator.yaml"))
}

func TestEmptyFiles(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":       "",
		"comments":      "# redis:\n",
		"empty section": "redis:\n",
		"empty setting": "redis:\n  url:\n",
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			writeFile(t, "aggregator.yaml", text)
			c, err := load(t)
			require.NoError(t, err)
			require.Equal(t, config.Default().Redis, c.Redis)
		})
	}
}

// Nothing is a value of http.addr like others, wherever it comes from.
func TestHTTPAddr(t *testing.T) {
	isolate(t)
	addr := func(args ...string) string {
		c, err := load(t, args...)
		require.NoError(t, err)
		return c.HTTP.Addr
	}
	require.Equal(t, "127.0.0.1:9464", addr())
	require.Empty(t, addr("--http-addr="))
	writeFile(t, "aggregator.yaml", "http:\n  addr: ''\n")
	require.Empty(t, addr())
	writeFile(t, "aggregator.yaml", "http:\n  addr: '[::1]:1'\n")
	require.Equal(t, "[::1]:1", addr())
	t.Setenv("AGGREGATOR_HTTP_ADDR", "")
	require.Empty(t, addr())
	t.Setenv("AGGREGATOR_HTTP_ADDR", ":0")
	require.Equal(t, ":0", addr())
	require.Equal(t, "localhost:1", addr("--http-addr=localhost:1"))
}

// The log has its form also when something else is wrong, and libpq's variables are, too.
func TestLogFormatWithWrongSettings(t *testing.T) {
	isolate(t)
	t.Setenv("PGSERVICE", "nowhere")
	require.Equal(t, "auto", config.LogFormat(nil))
	writeFile(t, "aggregator.yaml", "log: {format: text}\nnothing: 1\n")
	require.Equal(t, "text", config.LogFormat(nil))
	t.Setenv("AGGREGATOR_LOG_FORMAT", "json")
	require.Equal(t, "json", config.LogFormat(nil))
	t.Setenv("AGGREGATOR_LOG_FORMAT", "xml")
	require.Equal(t, "auto", config.LogFormat(nil))
}
