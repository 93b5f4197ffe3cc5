package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// However a drain ends, its file says so; what is no drain leaves it alone.
func TestDrainTextfile(t *testing.T) {
	s := newPair(t)
	file := filepath.Join(t.TempDir(), "aggregator.prom")
	drain := func(env []string, args ...string) (result, string) {
		r := program(t, env, append([]string{"drain", "--metrics-textfile", file}, args...)...)
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return r, string(text)
	}
	s.push("1:1:LIKE", "junk", "1:1:LIKE")
	r, said := drain(s.env, "--max-events=2")
	require.Equal(t, exitEventsLeft, r.code, r.stderr)
	for _, want := range []string{
		`aggregator_drain_exit_code 75`, `aggregator_drain_left_events 1`, `aggregator_drain_events{result="applied"} 1`,
		`aggregator_drain_events{result="dead"} 1`, `aggregator_drain_timestamp_seconds 1.`,
		`aggregator_drain_duration_seconds `,
	} {
		require.Contains(t, said, "\n"+want)
	}

	r, said = drain(s.env)
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, said, "\naggregator_drain_exit_code 0\n")
	require.Contains(t, said, "\naggregator_drain_left_events 0\n")

	r, said = drain([]string{"AGGREGATOR_POSTGRES_URL=postgres://127.0.0.1:1/app"})
	r.requireFailure(t, exitUnreachable, "127.0.0.1:1")
	require.Contains(t, said, "\naggregator_drain_exit_code 69\n")
	require.NotContains(t, said, "left_events")
	_, said = drain([]string{"AGGREGATOR_CHUNK_MAX_EVENTS=0"})
	require.Contains(t, said, "\naggregator_drain_exit_code 78\n")

	r, after := drain(s.env, "--dry-run")
	r.requireFailure(t, exitUsage, "--metrics-textfile: not with --dry-run")
	require.Equal(t, said, after)

	// A drain that went well and cannot tell has failed.
	lost := filepath.Join(t.TempDir(), "nowhere", "x.prom")
	r = s.program("drain", "--metrics-textfile", lost)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.said(), "aggregator: --metrics-textfile: ")
	others, err := filepath.Glob(filepath.Dir(file) + "/*")
	require.NoError(t, err)
	require.Equal(t, []string{file}, others)
}
