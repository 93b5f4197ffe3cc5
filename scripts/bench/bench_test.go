package main

import (
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv/build"
	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/rig"
)

// The parts that compare with others check themselves what they end in: all contenders must leave the same behind,
// and the daemon what an independent sum says.
func TestPartsMeasureTheRealDaemon(t *testing.T) {
	dir := t.TempDir()
	b := &bench{
		plan: plan{runs: 1, events: 400, old: 50, chunks: []int{100, 400}, offer: 200 * time.Millisecond},
		kept: filepath.Join(dir, "results.json"), out: io.Discard, progress: t.Output(),
	}
	var err error
	b.binary, err = build.Program(t.Context(), "../..", "./cmd/aggregator")
	require.NoError(t, err)
	chosen, err := choose("A,old,chunk,service")
	require.NoError(t, err)
	require.NoError(t, b.measure(t.Context(), chosen))

	r, err := report.Continue(b.kept, b.results.Environment)
	require.NoError(t, err)
	require.Equal(t, b.results, r)
	figures := func(part, contender string) rig.Figures {
		s := r.Parts[part].Find(contender)
		require.Len(t, s.Runs, 1, "%s, %s", part, contender)
		return s.Runs[0]
	}
	for _, figure := range []string{"seconds", "events_per_second", "us_daemon_per_tx", "tx_per_core_second"} {
		require.Positive(t, figures("A", report.ByDefault)[figure], figure)
	}
	require.InDelta(t, 100, figures("A", report.ByDefault)["heap_only_percent"], 20)
	require.EqualValues(t, 40, figures("A", report.Together)["transactions"])
	require.Positive(t, figures("A", report.PureSQL)["events_per_second"])
	require.EqualValues(t, 40, figures("A", report.TPCB)["transactions"])
	require.Positive(t, figures("old", report.OldJob)["events_per_second"])
	require.Greater(t, figures("chunk", "100")["transactions"], figures("chunk", "400")["transactions"])
	service := figures("service", report.ByDefault)
	for _, figure := range []string{"capacity", "p50_ms", "p99_ms", "us_daemon_per_event", "us_postgres_per_event"} {
		require.Positive(t, service[figure], figure)
	}
	require.NoError(t, report.Render(b.kept, filepath.Join(dir, "benchmarks.md")))
}

func TestSearchFindsTheHighestRateThatIsSustained(t *testing.T) {
	for _, limit := range []float64{30, 999, 1000, 5432} {
		capacity, at, err := search(1000, func(rate float64) (rig.Figures, error) {
			if rate > limit {
				return nil, nil
			}
			return rig.Figures{"at": rate}, nil
		})
		require.NoError(t, err)
		require.LessOrEqual(t, capacity, limit)
		require.Greater(t, 1.05*capacity, limit)
		require.Equal(t, capacity, at["at"])
	}
	_, _, err := search(1000, func(float64) (rig.Figures, error) { return nil, nil })
	require.Error(t, err)
}

func TestQueueThatGrowsIsNotSustained(t *testing.T) {
	took := func(of func(i float64) float64) (list []float64) {
		for i := range 3000 {
			list = append(list, of(float64(i)))
		}
		return list
	}
	require.True(t, sustained(took(func(float64) float64 { return 900 })))
	require.False(t, sustained(took(func(float64) float64 { return 1100 })))
	require.True(t, sustained(took(func(i float64) float64 { return i / 40 })), "grows, and is small yet")
	require.False(t, sustained(took(func(i float64) float64 { return i / 4 })))
	require.True(t, sustained(took(func(i float64) float64 { return 2 + 2000*math.Floor(i/2999) })), "one is late")
}

func TestQuantile(t *testing.T) {
	figures := []float64{4, 1, 3, 2}
	for share, want := range map[float64]float64{0.25: 1, 0.5: 2, 0.51: 3, 0.99: 4, 1: 4} {
		require.Equal(t, want, quantile(figures, share))
	}
	require.Equal(t, []float64{4, 1, 3, 2}, figures)
}

func TestEventsOfOneProfileAfterTheOther(t *testing.T) {
	all := oneEach{first: 7, count: 100, profiles: 100, books: 30}
	seen := map[int64]bool{}
	for i := range all.Len() {
		e := all.At(i)
		seen[e.Profile] = true
		require.True(t, 1 <= e.Profile && e.Profile <= 100 && 1 <= e.Book && e.Book <= 30)
	}
	require.Len(t, seen, 100)
}

func TestInstructionsOfAllProcesses(t *testing.T) {
	dir := t.TempDir()
	_, err := counted(dir)
	require.Error(t, err)
	for name, text := range map[string]string{
		"1": "events: Ir\nfn=(1) ExecuteCallStmt\n16 400\nsummary: 1000\n", "2": "fn=(1) ExecuteCallStmt\n\ntotals: 234\n",
		"3": "summary: 0\n", "4": "",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	sum, err := counted(dir)
	require.NoError(t, err)
	require.InDelta(t, 1234, sum, 0)
}

func TestGoBenchmarks(t *testing.T) {
	all, err := benchmarks("goos: linux\nBenchmarkParse-2   \t 100\t 89.9 ns/op\t 0 B/op\n" +
		"BenchmarkRead/text-2 \t 10\t 2000 ns/op\t 1.84 allocs/event\nBenchmarkRead/text-2 \t 10\t 3000 ns/op\nPASS\n")
	require.NoError(t, err)
	require.Equal(t, []report.Series{
		{Contender: "Parse", Runs: []map[string]float64{{"ns/op": 89.9, "B/op": 0}}},
		{Contender: "Read/text", Runs: []map[string]float64{{"ns/op": 2000, "allocs/event": 1.84}, {"ns/op": 3000}}},
	}, all)
	_, err = benchmarks("PASS\n")
	require.Error(t, err)
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{{"-no-such-flag"}, {"-only", "A,Z"}, {"stray"}} {
		require.ErrorAs(t, run(t.Context(), args), new(usageError))
	}
	chosen, err := choose("d,A")
	require.NoError(t, err)
	require.Equal(t, "D", chosen[0].name)
	require.Equal(t, "A", chosen[1].name)
}
