package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// columns are the figures that tables show, each where it was measured, and their headings; those with a star are
// shown with their ends. That against pure SQL comes from another figure.
var columns = [][2]string{
	{"seconds", "seconds*"},
	{"events_per_second", "events/s"},
	{"us_per_event", "× pure SQL*"},
	{"capacity", "capacity, events/s*"},
	{"p50_ms", "p50 ms*"},
	{"p99_ms", "p99 ms*"},
	{"max_ms", "max ms"},
	{"late_percent", "sent late %"},
	{"us_daemon_per_event", "daemon, µs per event"},
	{"us_postgres_per_event", "PostgreSQL, µs per event"},
	{"idle_percent", "idle, % of a core"},
	{"cpu_daemon", "CPU s: itself"},
	{"cpu_redis", "Redis"},
	{"cpu_postgres", "PostgreSQL"},
	{"us_daemon_per_tx", "itself, µs per transaction"},
	{"tx_per_core_second", "transactions per core-second of PostgreSQL*"},
	{"events_per_tx", "events per transaction"},
	{"gc_percent", "garbage collection, % of its CPU"},
	{"peak_mib", "peak MiB"},
	{"wal_mib", "WAL MiB"},
	{"heap_only_percent", "heap-only %"},
	{"kilo_instructions_per_tx", "thousand instructions per transaction"},
	{"ns/op", "ns/op*"},
	{"B/op", "B/op"},
	{"allocs/op", "allocs/op"},
	{"ns/event", "ns/event"},
	{"allocs/event", "allocs/event"},
}

// Table is a part as Markdown: a line for each contender, with medians.
func (p Part) Table() string {
	rows := [][]string{{"", "runs"}}
	for _, s := range p.Series {
		rows = append(rows, []string{s.Contender, fmt.Sprint(len(s.Runs))})
	}
	for _, c := range columns {
		heading, ends := strings.CutSuffix(c[1], "*")
		var against []Series
		if c[0] == "us_per_event" {
			against = []Series{p.Find(PureSQL)}
		}
		column, measured := [][]string{{heading, "min..max"}}, false
		for _, s := range p.Series {
			cells := []string{"–", "–"}
			if summary, found := s.Of(c[0], against...); found {
				cells, measured = []string{Number(summary.Median), spread(summary)}, true
			}
			column = append(column, cells)
		}
		for i := range column {
			if measured && ends {
				rows[i] = append(rows[i], column[i]...)
			} else if measured {
				rows[i] = append(rows[i], column[i][0])
			}
		}
	}
	return markdown(rows)
}

// Headline is the first of the figures of a run that a table would show.
func Headline(run map[string]float64) string {
	for _, c := range columns {
		if f, found := run[c[0]]; found {
			return Number(f) + " " + strings.TrimSuffix(c[1], "*")
		}
	}
	return ""
}

// markdown writes rows of as many cells each, the first of which is the head, so that they can be read as they are.
func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], 3, utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		rule := ""
		for i, cell := range row {
			fill := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString("| " + cell + fill + " |")
				rule += "| " + strings.Repeat("-", widths[i]) + " |"
			} else { // numbers, to the right
				b.WriteString(" " + fill + cell + " |")
				rule += " " + strings.Repeat("-", widths[i]-1) + ": |"
			}
		}
		b.WriteString("\n")
		if n == 0 {
			b.WriteString(rule + "\n")
		}
	}
	return b.String()
}

// Exact writes a number that was chosen, not measured.
func Exact(x float64) string { return grouped(strconv.FormatFloat(x, 'f', -1, 64)) }

// Number writes a figure with three digits, or with all before the point, in groups.
func Number(x float64) string {
	digits := 0
	if x != 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(math.Abs(x)))))
	}
	return grouped(strconv.FormatFloat(x, 'f', min(digits, 4), 64))
}

// grouped writes 1234567.8 as 1,234,567.8.
func grouped(text string) string {
	whole, fraction, found := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if found {
		return whole + "." + fraction
	}
	return whole
}

// spread is the ends of several figures.
func spread(s Summary) string { return Number(s.Min) + ".." + Number(s.Max) }
