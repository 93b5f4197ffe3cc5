package report

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/scripts/bench/results"
)

// fixture are results that nobody measured.
func fixture(t *testing.T) results.Results {
	t.Helper()
	r, err := results.Read("testdata/results.json")
	require.NoError(t, err)
	require.NotEmpty(t, r.Comparisons)
	return r
}

func write(t *testing.T, r results.Results) (document, folder string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "benchmarks.md")
	require.NoError(t, Write(r, path, filepath.Join(dir, "benchmarks")))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text), dir
}

func TestDocumentHasAllThatWasMeasured(t *testing.T) {
	document, dir := write(t, fixture(t))
	has := func(line string) {
		if !strings.Contains(document, line+"\n") {
			t.Error("no line", line)
		}
	}
	// What was asked for, with a verdict each.
	has("| A | 200 profiles per transaction, time against pure SQL | at most 0.5 × | 0.505 | 0.487..0.521 | **falls short** |")
	has("| D | one profile | at least 150,000 events/s | 188,041 | 186,986..192,123 | holds |")
	require.Equal(t, len(targets), strings.Count(document, "| holds |")+strings.Count(document, "| **falls short** |"))
	// B, the settings of the servers and the search texts are not among the fixture.
	require.Equal(t, 3, strings.Count(document, "Not measured."))
	has("| 500 | sustained | 19.3 | 30.8 | 46.2 | 57.8 | 77.0 | 0.0 % | 0.200 | 0.0500 | 0.600 | 0.200 |")
	has("ladder that ends with two in a row that are not: 14,375 events/s. A rate is tried once, so that a bad moment of the machine")
	has("| 10,000 | 1,000 | 3 | 0.0300 | 30.0 | 25.0..50.0 | 20.0 | 1,000 |")
	has("| 10,000 | 5,000 | 3 | 0.250 | 20,000 | 10,000..25,000 | 20.0 | 1,000 | 0.0200 | 4.00 |")
	has("| the latest ten | 20 | 10,000 | 3 | 2.00 | 1.00..4.00 |")
	has("| timeline | timeline of a profile with 10,000 rows, the slowest | at most 5 ms | 2.00 | 1.00..4.00 | holds |")
	// Each plot is there, beside the document.
	links := regexp.MustCompile(`!\[[^]]+\]\(([^)]+)\)`).FindAllStringSubmatch(document, -1)
	require.Len(t, links, 7)
	for _, link := range links {
		svg, err := os.ReadFile(filepath.Join(dir, link[1]))
		require.NoError(t, err)
		require.True(t, strings.Contains(string(svg), "</svg>") && !strings.Contains(string(svg), "NaN"), link[1])
	}
	require.False(t, strings.Contains(document, "<no value>") || strings.Contains(document, "NaN"))
}

func TestSearch(t *testing.T) {
	r := fixture(t)
	r.Search = &results.Search{Rows: []results.SearchRow{
		{Books: 10_000, Index: true, Fill: 2, Look: 0.25, Again: 0.5, Edit: 0.001, Find: []float64{0.001, 0.002, 0.003}, Size: 5_000_000},
		{Books: 10_000, Fill: 1, Look: 0.25, Again: 0.5, Edit: 0.001, Find: []float64{0.02}},
	}}
	document, _ := write(t, r)
	require.Contains(t, document, "| 10,000 | yes | 2.00 | 0.250 | 0.500 | 2.00 | 1.00..3.00 | 1.00 | 5.00 |\n| 10,000 | no | 1.00 |")
}

func TestDocumentOfNothingSaysSo(t *testing.T) {
	document, dir := write(t, results.Results{})
	require.Equal(t, len(targets), strings.Count(document, "| not measured |"))
	require.NotContains(t, document, "![")
	left, err := filepath.Glob(filepath.Join(dir, "benchmarks", "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestVerdictIsThatOfTheMedian(t *testing.T) {
	verdict := func(most bool, median float64) string {
		c := target{most: most, limit: 10, measured: func(results.Results) (results.Summary, bool) {
			return results.Summary{Median: median, Min: 1, Max: 100}, true
		}}
		row := c.row(results.Results{})
		return row[len(row)-1]
	}
	for _, most := range []bool{true, false} {
		require.Equal(t, "holds", verdict(most, 10))
	}
	require.Equal(t, "holds", verdict(true, 9.9))
	require.Equal(t, "**falls short**", verdict(true, 10.1))
	require.Equal(t, "holds", verdict(false, 10.1))
	require.Equal(t, "**falls short**", verdict(false, 9.9))
}

func TestNumber(t *testing.T) {
	for want, x := range map[string]float64{
		"0": 0, "1.00": 1, "16.0": 16, "1,234,567": 1234567.2, "0.505": 0.50499, "12.3": 12.34, "-1,235": -1234.6, "0.0123": 0.01234,
	} {
		require.Equal(t, want, Number(x))
	}
	for want, x := range map[string]float64{"0.5": 0.5, "1": 1, "100,000": 1e5} {
		require.Equal(t, want, Exact(x))
	}
}

func TestTableForATerminal(t *testing.T) {
	table := Table{Head: []string{"", "a", "long"}}
	table.Add("first", "1 ×", "2")
	table.Add("é", "100", "3")
	var out strings.Builder
	table.WriteText(&out)
	require.Equal(t, "         a  long\nfirst  1 ×     2\né      100     3\n", out.String())
}
