package main

import (
	"io"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/results"
)

// tiny is enough for a part to do what it does.
var tiny = plan{
	runs: 1, events: 400, warmUp: 100,
	rates: []float64{200, 400}, offer: 200 * time.Millisecond, bisect: 1,
	histories: []int64{200, 2000}, removals: []int64{20, 200},
	thinned: []int64{1000}, timelines: 1,
}

// The parts that compare with others check themselves what they end in: all contenders
// must leave the same behind, and the daemon what an independent sum says.
func TestPartsMeasureTheRealDaemon(t *testing.T) {
	dir := t.TempDir()
	b := &bench{plan: tiny, binary: filepath.Join(dir, "aggregator"), kept: filepath.Join(dir, "results.json"), out: io.Discard, progress: t.Output()}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", b.binary, "aggregator/cmd/aggregator")
	said, err := build.CombinedOutput()
	require.NoError(t, err, string(said))
	chosen, err := choose("A,service,purge,timeline")
	require.NoError(t, err)
	require.NoError(t, b.measure(t.Context(), chosen))

	r, err := results.Read(b.kept)
	require.NoError(t, err)
	require.NotEmpty(t, r.Environment.Postgres)
	a := r.Comparisons["A"]
	require.Len(t, a.Series, 3)
	for _, s := range a.Series {
		require.Len(t, s.Runs, 1)
		run := s.Runs[0]
		require.Equal(t, int64(400), run.Events)
		require.Positive(t, run.Seconds)
		require.Positive(t, run.WAL)
		require.Positive(t, run.Updates)
		require.LessOrEqual(t, run.HeapOnly, run.Updates)
	}
	drained, found := a.Find(report.ByDefault)
	require.True(t, found)
	require.Positive(t, drained.Runs[0].Peak)
	require.Positive(t, drained.Runs[0].Profiles)
	require.NotEmpty(t, r.Service.Ladder)
	require.Equal(t, int64(40), r.Service.Ladder[0].Events)
	require.Len(t, r.Purge.Removals, 4)
	require.EqualValues(t, 200, r.Purge.Removals[3].Runs[0].Events)
	require.Contains(t, r.Purge.Plan, "Index Scan using child_personality_history_deleted on child_personality_history")
	require.Len(t, r.Purge.Thinnings, 1)
	require.EqualValues(t, 500, r.Purge.Thinnings[0].Runs[0].Events)
	require.Len(t, r.Purge.Thinnings[0].Again, 1)
	require.Len(t, r.Timeline.Looks, 3)
	require.NoError(t, report.Write(r, filepath.Join(dir, "benchmarks.md"), dir))
}

func TestResultsOfAnotherEnvironmentAreNotKept(t *testing.T) {
	r := results.Results{Environment: results.Environment{Aggregator: "v1"}, Comparisons: map[string]results.Comparison{"A": {}}}
	path := filepath.Join(t.TempDir(), "results.json")
	require.NoError(t, r.Write(path))
	b := &bench{kept: path}
	same, err := b.before(r.Environment)
	require.NoError(t, err)
	require.Contains(t, same.Comparisons, "A")
	other, err := b.before(results.Environment{Aggregator: "v2"})
	require.NoError(t, err)
	require.Empty(t, other.Comparisons)
}

func TestGapIsAboveTheHighestRateSustained(t *testing.T) {
	offers := func(sustained ...bool) (list []results.Offer) {
		for i, s := range sustained {
			list = append(list, results.Offer{Rate: float64(100 * (i + 1)), Sustained: s})
		}
		return list
	}
	for name, c := range map[string]struct {
		ladder          []results.Offer
		capacity, above float64
	}{
		"none":          {nil, 0, 0},
		"all":           {offers(true, true), 200, 0},
		"not the last":  {offers(true, true, false, false), 200, 300},
		"one disturbed": {offers(true, false, true, false), 300, 400},
		"not even one":  {offers(false, false), 0, 100},
	} {
		t.Run(name, func(t *testing.T) {
			capacity, above := gap(c.ladder)
			require.Equal(t, c.capacity, capacity)
			require.Equal(t, c.above, above)
		})
	}
}

func TestChoose(t *testing.T) {
	all, err := choose("")
	require.NoError(t, err)
	require.Len(t, all, len(parts))
	some, err := choose("d,A")
	require.NoError(t, err)
	require.Equal(t, "D", some[0].name)
	require.Equal(t, "A", some[1].name)
	_, err = choose("A,Z")
	require.Error(t, err)
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{{"-no-such-flag"}, {"-only", "Z"}, {"stray"}, {"render", "stray"}} {
		require.ErrorAs(t, run(t.Context(), args), new(usageError))
	}
	t.Chdir(t.TempDir()) // no aggregator here
	require.Error(t, run(t.Context(), []string{"-only", "A"}))
}
