package results

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSummarize(t *testing.T) {
	figures := []float64{5, 1, 3}
	require.Equal(t, Summary{Median: 3, Min: 1, Max: 5}, Summarize(figures))
	require.Equal(t, []float64{5, 1, 3}, figures)
	require.Equal(t, Summary{Median: 2, Min: 1, Max: 5}, Summarize([]float64{5, 1, 3, 1}))
	require.Equal(t, Summary{Median: 7, Min: 7, Max: 7}, Summarize([]float64{7}))
}

func TestAgainstComparesWithinARound(t *testing.T) {
	// The machine was slow in the second round, for both.
	one := Series{Runs: []Run{{Seconds: 2}, {Seconds: 20}, {Seconds: 3}}}
	two := Series{Runs: []Run{{Seconds: 4}, {Seconds: 40}, {Seconds: 4}}}
	require.Equal(t, Summary{Median: 0.5, Min: 0.5, Max: 0.75}, one.Against(two, Seconds))
}

func TestFiguresOfARun(t *testing.T) {
	r := Run{Events: 1000, Seconds: 2, Updates: 200, HeapOnly: 150, Profiles: 250, Peak: 3 << 20}
	require.Equal(t, 500.0, PerSecond(r))
	require.Equal(t, 0.002, PerEvent(r))
	require.Equal(t, 0.75, HeapOnly(r))
	require.Equal(t, 4.0, Coalescing(r))
	require.Equal(t, 3.0, Peak(r))
}

func TestResultsAreReadAsTheyWereWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "results.json")
	none, err := Read(path)
	require.NoError(t, err)
	require.Zero(t, none)
	r := Results{Environment: Environment{Cores: 2}, Comparisons: map[string]Comparison{"A": {Series: []Series{{Contender: "x", X: 3, Runs: []Run{{Events: 1}}}}}}}
	require.NoError(t, r.Write(path))
	again, err := Read(path)
	require.NoError(t, err)
	require.Equal(t, r, again)
}
