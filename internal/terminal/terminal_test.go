package terminal

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestWidthOfKorean(t *testing.T) {
	require.Equal(t, 13, Width("별주부전 tale"))
	require.Equal(t, "별주부…", Cut("별주부전 tale", 8)) // seven columns: half a letter is none
	require.Equal(t, "별주부전 tale", Cut("별주부전 tale", 13))
	require.Equal(t, "anything", Cut("anything", 0))
	require.Equal(t, "…ts:{12}", cutLeft("book-like-events:{12}", 8))
	require.LessOrEqual(t, Width(cutLeft("별주부전", 4)), 4)
	require.Equal(t, "별주부전", cutLeft("별주부전", 8))
	require.Equal(t, 1, Width("█"))
	require.Equal(t, 1, Width("…"))
}

func TestClean(t *testing.T) {
	require.Equal(t, "two  lines ?[31m", Clean("two\r\nlines\t\x1b[31m"))
}

func TestPaint(t *testing.T) {
	require.Equal(t, "\x1b[31mhalted\x1b[0m", Terminal{Color: true}.Paint("halted", Red))
	require.Equal(t, "halted", Terminal{}.Paint("halted", Red))
	require.Equal(t, "halted", Terminal{Color: true}.Paint("halted", Plain))
}

// A file is no terminal, whatever the variables say.
func TestOfFile(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/out")
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, Terminal{}, Of(f))
	require.Equal(t, Terminal{}, Of(&strings.Builder{}))
}

func TestWrap(t *testing.T) {
	to := Terminal{Width: 20}
	require.Equal(t, "short", to.Wrap("short", "  "))
	require.Equal(t, "  genres  Adventure,\n    Biography,\n    그림책, Verse",
		to.Wrap("  genres  Adventure, Biography, 그림책, Verse", "    "))
	require.Equal(t, "a\n  wordthatistoolongforanyline\n  b", to.Wrap("a wordthatistoolongforanyline b", "  "))
	require.Equal(t, strings.Repeat("word ", 100), Terminal{}.Wrap(strings.Repeat("word ", 100), ""))
}

func TestSpark(t *testing.T) {
	require.Equal(t, "    ", Spark(nil, 4))
	require.Equal(t, "  ▁▁", Spark([]float64{0, 0}, 4))
	require.Equal(t, "▁▂▅█", Spark([]float64{1000, 0, 0.001, 2, 4}, 4)) // the scale is that of what is shown
}

func TestCount(t *testing.T) {
	require.Equal(t, "0 entries", Count(0, "entry", "entries"))
	require.Equal(t, "1 entry", Count(1, "entry", "entries"))
	require.Equal(t, "1,234,567 events", Count(1234567, "event"))
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234",
	} {
		require.Equal(t, want, Grouped(n))
	}
}

func example() *Table {
	table := &Table{Columns: []Column{
		{Name: "SOURCE", Least: 6},
		{Name: "KEY", Drop: 2},
		{Name: "WAITING", Right: true},
		{Name: "CHECKPOINT", Drop: 1},
		{Name: "HOST", Wide: true},
		{Name: "SERVICE", Least: 10, Color: func(cell string) Color {
			if strings.HasPrefix(cell, "halted") {
				return Red
			}
			return Plain
		}},
	}}
	table.Add("likes", "likes-key", "12,345", "1000-0", "h1", "working")
	table.Add("좋아요이벤트", "another-key", "1", "20000000-17", "h2", "halted: the role may not write")
	return table
}

func (t *Table) text(test *testing.T, to Terminal) string {
	test.Helper()
	var text strings.Builder
	require.NoError(test, t.Write(&text, to))
	return "\n" + text.String()
}

func TestTable(t *testing.T) {
	require.Equal(t, `
SOURCE        KEY          WAITING  CHECKPOINT   SERVICE
likes         likes-key     12,345  1000-0       working
좋아요이벤트  another-key        1  20000000-17  halted: the role may not write
`, example().text(t, Terminal{}))
	require.Equal(t, `
SOURCE       KEY          WAITING  SERVICE
likes        likes-key     12,345  working
좋아요이벤…  another-key        1  halted: t…
`, example().text(t, Terminal{Width: 45}), "the checkpoint first")
	require.Equal(t, `
SOURCE        WAITING  SERVICE
likes          12,345  working
좋아요이벤트        1  halted: the …
`, example().text(t, Terminal{Width: 36}))
	require.Equal(t, `
SOURCE  WAIT…
likes   12,3…
좋아…       1
`, example().text(t, Terminal{Width: 13}), "what may neither go nor be cut")

	wide := example()
	wide.Wide = true
	require.Equal(t, `
SOURCE        KEY          WAITING  CHECKPOINT   HOST  SERVICE
likes         likes-key     12,345  1000-0       h1    working
좋아요이벤트  another-key        1  20000000-17  h2    halted: the role may not write
`, wide.text(t, Terminal{Width: 30}))

	painted := example().text(t, Terminal{Width: 36, Color: true})
	require.Contains(t, painted, "\x1b[1mSOURCE\x1b[0m")
	require.Contains(t, painted, "\x1b[31mhalted: the …\x1b[0m\n")
	require.Contains(t, painted, "  working\n")
}

func TestTableFlows(t *testing.T) {
	table := &Table{Bare: true, Columns: []Column{{}, {Least: 10, Flow: true}}}
	table.Add("ok", "one two three four")
	table.Add("", "-> five six seven")
	require.Equal(t, `
ok  one two three
    four
    -> five six
    seven
`, table.text(t, Terminal{Width: 17}))
	require.Equal(t, "\nok  one two three four\n    -> five six seven\n", table.text(t, Terminal{}))
}

// Whatever is in a table, and however narrow the window: no line is wider, and there is one a row.
func TestTableFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := &Table{}
		columns := rapid.IntRange(1, 6).Draw(t, "columns")
		for i := range columns {
			table.Columns = append(table.Columns, Column{
				Name:  fmt.Sprintf("C%d", i),
				Right: rapid.Bool().Draw(t, "right"),
				Drop:  rapid.IntRange(0, 3).Draw(t, "drop"),
				Least: rapid.IntRange(0, 12).Draw(t, "least"),
				Tail:  rapid.Bool().Draw(t, "tail"),
			})
		}
		cell := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("가나다\n\t\x1b ab"))))
		rows := rapid.SliceOfN(rapid.SliceOfN(cell, columns, columns), 0, 5).Draw(t, "rows")
		for _, row := range rows {
			table.Add(row...)
		}
		width := rapid.IntRange(1, 120).Draw(t, "width")
		var text strings.Builder
		if err := table.Write(&text, Terminal{Width: width}); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
		if len(lines) != len(rows)+1 {
			t.Fatalf("%d lines of %d rows", len(lines), len(rows))
		}
		for _, line := range lines {
			if Width(line) > width {
				t.Fatalf("%q has %d columns of %d", line, Width(line), width)
			}
		}
	})
}

func TestScale(t *testing.T) {
	for greatest, edge := range map[float64]float64{
		0: 1, 0.03: 0.05, 0.5: 0.5, 1: 1, 1.5: 2, -3: 5, 5: 5, 5.1: 10, 10: 10, 37: 50, 1000: 1000, 1001: 2000,
		math.MaxFloat64: math.MaxFloat64,
	} {
		require.InEpsilon(t, edge, ScaleTo(greatest, 10).Edge, 1e-12, greatest)
	}
	s := ScaleTo(37, 10)
	require.InDelta(t, 5, s.Each(), 0)
	for value, length := range map[float64]int{0: 0, 0.001: 1, -7.4: 1, 7.5: 2, 37: 7, -50: 10} {
		require.Equal(t, length, s.Length(value), value)
	}
}
