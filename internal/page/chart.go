package page

import (
	"fmt"
	"strings"
	"time"

	"aggregator/internal/terminal"
)

// The size of a drawing, in units of its own: the page stretches it.
const (
	chartWidth  = 600.0
	chartHeight = 100.0
)

// chart is a curve, and what it says in words and figures.
type chart struct {
	ID, Title, Desc    string
	Lines              []string // the points of each unbroken part
	Top, Bottom        string   // what the upper and the lower edge stand for
	Left, Right        stamp    // when the edges are
	LeftText, RightEnd string   // instead of the moments, if there is a text
	Middle             bool     // there is a line in the middle: zero
	Rows               []chartRow
	Columns            [2]string
}

type chartRow struct {
	At   stamp
	Text string
}

// leastSpan is what a drawing shows at least, so that a service that has just begun does not seem to stand still.
const leastSpan = 5 * time.Minute

// hourChart draws the last hour, or what is known of it. text says a value.
func (v *view) hourChart(id, title string, dots []dot, text func(float64) string) chart {
	span := leastSpan
	if len(dots) > 0 {
		span = min(remembered, max(span, v.Now.Sub(dots[0].at)))
	}
	c := chart{
		ID: id, Title: title, Columns: [2]string{"Time", title},
		Bottom: text(0), LeftText: age(span) + " ago", RightEnd: "now",
	}
	top, latest := 0.0, -1.0
	var when time.Time
	for _, d := range dots {
		if d.value >= 0 {
			latest = d.value
		}
		if d.value > top {
			top, when = d.value, d.at
		}
	}
	edge := terminal.ScaleTo(max(1, top), 0).Edge
	c.Top = text(edge)
	var line []string
	end := func() {
		if len(line) == 1 {
			line = append(line, line[0]) // a point is a line without length, and is drawn
		}
		if len(line) > 0 {
			c.Lines = append(c.Lines, strings.Join(line, " "))
		}
		line = nil
	}
	for n, d := range dots {
		x := chartWidth * (1 - v.Now.Sub(d.at).Seconds()/span.Seconds())
		switch {
		case x < 0:
			continue
		case d.value < 0:
			end()
			continue
		}
		line = append(line, fmt.Sprintf("%.1f,%.1f", x, chartHeight*(1-d.value/edge)))
		if n%30 == len(dots)%30 { // a row for five minutes
			c.Rows = append(c.Rows, chartRow{v.At(d.at), text(d.value)})
		}
	}
	end()
	switch {
	case latest < 0:
		c.Desc = "Nothing is known of the last hour."
	case top == 0:
		c.Desc = "0 all the time, as far as is known."
	default:
		c.Desc = fmt.Sprintf("%s at last, at most %s, at %s.", text(latest), text(top), v.At(when).Text)
	}
	return c
}
