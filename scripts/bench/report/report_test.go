package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// written are results that nobody measured: a file, and the document of it.
func written(t *testing.T, r Results) (kept, document string) {
	t.Helper()
	dir := t.TempDir()
	kept, document = filepath.Join(dir, "benchmarks", "results.json"), filepath.Join(dir, "benchmarks.md")
	require.NoError(t, r.Write(kept))
	require.NoError(t, Render(kept, document))
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	return kept, string(text)
}

func TestDocumentHasAllThatWasMeasured(t *testing.T) {
	run := func(seconds float64) map[string]float64 {
		return map[string]float64{
			"seconds": seconds, "us_per_event": 10 * seconds, "events_per_second": 1e5 / seconds, "cpu_others": 0.1,
		}
	}
	with := run(4)
	apply := map[string]any{"name": "apply", "p95": 2.5}
	AddPhases(with, map[string]any{"source": "s", "phases": []any{apply}, "restarts": 1.0})
	kept, document := written(t, Results{
		Environment: map[string]string{"processor": "fast"},
		Parts: map[string]Part{
			"A": {Series: []Series{
				{ByDefault, []map[string]float64{with, run(2), run(9)}},
				{PureSQL, []map[string]float64{run(2), run(4), run(3)}},
			}},
			"old": {Series: []Series{
				{OldJob, []map[string]float64{run(200)}}, {ByDefault, []map[string]float64{run(1)}},
			}},
		},
	})
	for _, want := range []string{
		"are applied in 4.00 s with one transaction per profile",
		"carries (not measured) events/s with the default settings",
		"| aggregator |    3 |    4.00 | 2.00..9.00 |   25,000 |       2.00 | 0.500..3.00 |",
		" at most 1 × |   2.00 | 0.500..3.00 | **falls short** |",
		" at least 100 × |    200 |    200..200 |           holds |",
		"| phases apply p95 |       2.50 |",
		"| restarts         |       1.00 |",
		"| processor  |",
		"took at most 0.10 of a core",
		"](benchmarks/bars.svg)",
		"Not measured.",
	} {
		require.Contains(t, document, want)
	}
	require.NotContains(t, document, "NaN")
	require.NotContains(t, document, "<no value>")
	chart, err := os.ReadFile(filepath.Join(filepath.Dir(kept), "bars.svg"))
	require.NoError(t, err)
	require.Contains(t, string(chart), `width="300"`)
	require.Contains(t, string(chart), `>200 s</text>`)
	require.Contains(t, string(chart), `width="6"`)
}

func TestDocumentOfNothingSaysSo(t *testing.T) {
	_, document := written(t, Results{})
	require.Equal(t, len(targets), strings.Count(document, "not measured |"))
}

func TestRatiosAreTakenWithinARound(t *testing.T) {
	// The machine was slow in the second round, for both.
	one := Series{Runs: []map[string]float64{{"seconds": 2}, {"seconds": 20}, {"seconds": 3}}}
	two := Series{Runs: []map[string]float64{{"seconds": 4}, {"seconds": 40}, {"seconds": 4}}}
	s, found := one.Of("seconds", two)
	require.True(t, found)
	require.Equal(t, Summary{Median: 0.5, Min: 0.5, Max: 0.75}, s)
	s, _ = one.Of("seconds")
	require.Equal(t, Summary{Median: 3, Min: 2, Max: 20}, s)
	_, found = one.Of("seconds", Series{})
	require.False(t, found)
}

func TestResultsOfAnotherEnvironmentAreNotKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "results.json")
	here, elsewhere := map[string]string{"aggregator": "v1"}, map[string]string{"aggregator": "v2"}
	r, err := Continue(path, here)
	require.NoError(t, err)
	r.Parts["A"] = Part{Series: []Series{{Contender: "x"}}}
	require.NoError(t, r.Write(path))
	same, err := Continue(path, here)
	require.NoError(t, err)
	require.Equal(t, r, same)
	other, err := Continue(path, elsewhere)
	require.NoError(t, err)
	require.Equal(t, Results{Environment: elsewhere, Parts: map[string]Part{}}, other)
	require.NoError(t, r.Write(""))
}

func TestVerdictIsThatOfTheMedian(t *testing.T) {
	for _, c := range []struct {
		most   bool
		median float64
		want   string
	}{
		{true, 10, "holds"},
		{true, 9.9, "holds"},
		{true, 10.1, "**falls short**"},
		{false, 10, "holds"},
		{false, 10.1, "holds"},
		{false, 9.9, "**falls short**"},
	} {
		require.Equal(t, c.want, target{most: c.most, limit: 10}.verdict(Summary{Median: c.median, Min: 1, Max: 100}))
	}
}

func TestNumber(t *testing.T) {
	for want, x := range map[string]float64{
		"0": 0, "1.00": 1, "16.0": 16, "1,234,567": 1234567.2, "0.505": 0.50499, "12.3": 12.34, "-1,235": -1234.6,
		"0.0123": 0.01234,
	} {
		require.Equal(t, want, Number(x))
	}
	for want, x := range map[string]float64{"0.5": 0.5, "1": 1, "100,000": 1e5} {
		require.Equal(t, want, Exact(x))
	}
}
