package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/config"
)

func TestReload(t *testing.T) {
	isolate(t)
	writeFile(t, "aggregator.yaml", "source: {kind: stream}\nchunk: {max_events: 10}\nevents: {weights: {like: 3}}\n")
	before, err := load(t)
	require.NoError(t, err)
	same, applied, pending := before.Reload(before)
	require.Empty(t, applied)
	require.Empty(t, pending)
	require.Equal(t, before, same)

	writeFile(t, "aggregator.yaml", `
redis: {url: "redis://u:hunter2@elsewhere:1"}
postgres: {url: "postgres://elsewhere/app", time_zone: Asia/Seoul}
history: {preferred: above_mean_of_nonnegative}
source: {kind: list, partitions: 2}
events: {weights: {like: 3, read: 1}}
chunk: {max_events: 20}
apply: {workers: 8, profiles_per_transaction: 2}
http: {addr: ""}
log: {level: debug, format: text}
`)
	next, err := load(t)
	require.NoError(t, err)
	now, applied, pending := before.Reload(next)
	require.Equal(t, []string{
		"events.weights", "chunk.max_events", "apply.profiles_per_transaction", "history.preferred", "log.level",
	}, applied)
	require.Equal(t, []string{
		"redis.url", "postgres.url", "postgres.time_zone", "source.kind", "source.key", "source.partitions", "apply.workers",
		"http.addr", "log.format",
	}, pending)
	require.NoError(t, now.Validate())
	require.Equal(t, map[string]float64{"LIKE": 3, "DISLIKE": -2, "READ": 1}, now.Events.Weights)
	require.Equal(t, before.Source, now.Source)
	require.Equal(t, before.Postgres.URL, now.Postgres.URL)
	require.Equal(t, 20, now.Chunk.MaxEvents)
	var printed strings.Builder
	require.NoError(t, now.Print(&printed, true))
	require.Contains(t, printed.String(), "kind: stream  # aggregator.yaml:1\n")
	require.Contains(t, printed.String(), "addr: 127.0.0.1:9464  # default")

	// What is pending stays so until the restart.
	_, applied, pending = now.Reload(next)
	require.Empty(t, applied)
	require.Len(t, pending, 9)
}

// Settings may be built by hand, and reloaded.
func TestReloadOfDefaults(t *testing.T) {
	next := config.Default()
	next.Chunk.MaxEvents, next.Apply.Workers = 20, 8
	now, applied, pending := config.Default().Reload(next)
	require.Equal(t, []string{"chunk.max_events"}, applied)
	require.Equal(t, []string{"apply.workers"}, pending)
	require.Equal(t, 20, now.Chunk.MaxEvents)
	require.Equal(t, config.Default().Apply, now.Apply)
}
