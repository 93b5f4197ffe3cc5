// Package report makes tables, plots and the document of what a benchmark measured.
package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table has a head and rows of as many cells each. All but the first column are numbers.
type Table struct {
	Head []string
	Rows [][]string
}

// Add adds a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// WriteText writes the table for a terminal.
func (t Table) WriteText(w io.Writer) {
	widths := t.widths()
	for _, row := range append([][]string{t.Head}, t.Rows...) {
		for i, cell := range row {
			fill := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				fmt.Fprint(w, cell, fill)
			} else {
				fmt.Fprint(w, "  ", fill, cell)
			}
		}
		fmt.Fprintln(w)
	}
}

func (t Table) widths() []int {
	widths := make([]int, len(t.Head))
	for _, row := range append([][]string{t.Head}, t.Rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// Markdown is the table for a document.
func (t Table) Markdown() string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.Head)
	rule := make([]string, len(t.Head))
	for i := range rule {
		rule[i] = "---:"
	}
	rule[0] = "---"
	line(rule)
	for _, row := range t.Rows {
		line(row)
	}
	return b.String()
}
