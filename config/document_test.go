package config_test

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/config"
)

var update = flag.Bool("update", false,
	"write aggregator.yaml, and the table in docs/settings.md, from the table of settings")

func TestSampleIsUpToDate(t *testing.T) {
	if *update {
		writeFile(t, "aggregator.yaml", config.Sample())
	}
	file, err := os.ReadFile("aggregator.yaml")
	require.NoError(t, err)
	require.Equal(t, config.Sample(), string(file), "run: go test ./config -update")
}

func TestSampleLoads(t *testing.T) {
	commented := config.Sample()
	uncommented := regexp.MustCompile(`(?m)^  # (  [A-Z]+: .*|[a-z_]+:( \S+)?)$`).ReplaceAllStringFunc(
		commented, func(line string) string {
			if strings.Contains(line, "_file: ") || strings.Contains(line, "tls_") {
				return line // examples of files that are not there, in place of other settings
			}
			return "  " + strings.TrimPrefix(line, "  # ")
		})
	for name, text := range map[string]string{"as it is": commented, "without the comments": uncommented} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			writeFile(t, "aggregator.yaml", text)
			c, err := load(t)
			require.NoError(t, err)
			// These have an example, not a default.
			h := config.Default().HTTP
			require.Equal(t, h.Addr, c.HTTP.Addr)
			c.HTTP = h
			c.Postgres.URL, c.Postgres.Schema, c.Postgres.Tables, c.Postgres.TimeZone, c.Lease.Name = "", "", nil, "", ""
			var got, want strings.Builder
			require.NoError(t, c.Print(&got, false))
			require.NoError(t, config.Default().Print(&want, false))
			require.Equal(t, want.String(), got.String())
		})
	}
	require.NotEqual(t, commented, uncommented)
}

func TestSettingsTable(t *testing.T) {
	table := config.SettingsTable()
	lines := strings.Split(strings.TrimSpace(table), "\n")
	for _, line := range lines {
		require.Equal(t, 6, strings.Count(line, "|"), line)
	}
	require.Contains(t, table, "| `chunk.max_events` | AGGREGATOR_CHUNK_MAX_EVENTS | `1000000` | 1 to 1000000 |")
	require.Contains(t, table, "| `postgres.url` | AGGREGATOR_POSTGRES_URL, else DATABASE_URL |")
}

func TestDocumentIsUpToDate(t *testing.T) {
	const path, begin, end = "../docs/settings.md", "<!-- settings -->\n", "<!-- /settings -->"
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(file), begin)
	require.True(t, found)
	_, after, found := strings.Cut(rest, end)
	require.True(t, found)
	want := before + begin + strings.TrimSpace(config.SettingsTable()) + "\n" + end + after
	if *update {
		writeFile(t, path, want)
		return
	}
	require.Equal(t, want, string(file), "run: go test ./config -update")
}
