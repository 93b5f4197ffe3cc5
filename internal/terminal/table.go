package terminal

import (
	"io"
	"strings"
)

// gap is between two columns.
const gap = 2

// Column is a column of a table.
type Column struct {
	Name  string // a column without a name, and with empty cells only, is left out
	Right bool   // aligned at the right, as numbers are
	// Drop says in which order columns are left out where there is no room, 1 first. 0: never.
	Drop int
	// Least is to how many columns of the terminal its cells may be cut. 0: not at all.
	Least int
	// Tail says that they are cut at the beginning: what tells them apart is at their end.
	Tail bool
	// Flow says that its cells are broken at words instead. Of the last column only.
	Flow bool
	// Wide says that it is shown in a wide table only.
	Wide bool
	// Color is that of a cell. nil: plain.
	Color func(cell string) Color
}

// Table is rows under names of columns, in which no cell breaks a line by itself.
type Table struct {
	Columns []Column
	Rows    [][]string // the cells of a row are those of all columns
	Wide    bool       // show all columns, and all of each, however wide the terminal is
	Bare    bool       // without the names
}

// Add adds a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Write writes the table so that it fits, by leaving out columns and then by cutting cells. If even
// that does not help, lines are cut.
func (t *Table) Write(w io.Writer, to Terminal) error {
	if t.Wide {
		to.Width = 0
	}
	widths := t.layout(to.Width)
	var text strings.Builder
	if !t.Bare {
		names := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			names[i] = c.Name
		}
		t.line(&text, to, widths, names, true)
	}
	for _, row := range t.Rows {
		t.line(&text, to, widths, row, false)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// hidden is the width of a column that is left out.
const hidden = -1

// layout returns how wide each column is.
func (t *Table) layout(limit int) []int {
	natural := make([]int, len(t.Columns))
	widths := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		if !t.Bare {
			natural[i] = Width(c.Name)
		}
		for _, row := range t.Rows {
			natural[i] = max(natural[i], Width(Clean(row[i])))
		}
		switch widths[i] = natural[i]; {
		case c.Wide && !t.Wide, natural[i] == 0:
			widths[i] = hidden
		case limit > 0 && c.Least > 0:
			widths[i] = min(natural[i], c.Least)
		}
	}
	if limit == 0 {
		return widths
	}
	for total(widths) > limit && t.drop(widths) {
	}
	spare := limit - total(widths)
	for i := range widths {
		if widths[i] != hidden && spare > 0 {
			more := min(spare, natural[i]-widths[i])
			widths[i] += more
			spare -= more
		}
	}
	return widths
}

func total(widths []int) int {
	sum := -gap
	for _, width := range widths {
		if width != hidden {
			sum += width + gap
		}
	}
	return sum
}

// drop leaves out the next column; false: there is none that may be.
func (t *Table) drop(widths []int) bool {
	next := -1
	for i, c := range t.Columns {
		if widths[i] != hidden && c.Drop > 0 && (next < 0 || c.Drop < t.Columns[next].Drop) {
			next = i
		}
	}
	if next < 0 {
		return false
	}
	widths[next] = hidden
	return true
}

// line writes a row.
func (t *Table) line(text *strings.Builder, to Terminal, widths []int, row []string, names bool) {
	start, used := 0, 0 // where the column begins, and how far the line is
	for i, c := range t.Columns {
		if widths[i] == hidden {
			continue
		}
		width := widths[i]
		if to.Width > 0 {
			width = min(width, to.Width-start)
		}
		color := Bold
		if !names {
			if color = Plain; c.Color != nil {
				color = c.Color(row[i])
			}
		}
		for n, cell := range c.fit(row[i], to, width) {
			if n > 0 {
				text.WriteByte('\n')
				used = 0
			}
			from := start
			if c.Right {
				from += max(0, width-Width(cell))
			}
			if cell != "" {
				text.WriteString(strings.Repeat(" ", from-used) + to.Paint(cell, color))
				used = from + Width(cell)
			}
		}
		start += widths[i] + gap
	}
	text.WriteByte('\n')
}

// fit returns the lines of a cell: one, unless it flows.
func (c Column) fit(cell string, to Terminal, width int) []string {
	cell = Clean(cell)
	switch {
	case to.Width == 0:
		return []string{cell}
	case width <= 0:
		return nil
	case c.Flow:
		return wrap(cell, width, 0)
	}
	if c.Tail {
		return []string{cutLeft(cell, width)}
	}
	return []string{Cut(cell, width)}
}
