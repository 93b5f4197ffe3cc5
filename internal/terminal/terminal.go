// Package terminal lays out text for people: tables that fit the window, colors where they are
// wanted, and lines that are broken at words. What goes to a file or a pipe is neither cut nor
// colored.
//
// Widths are counted in columns of the terminal, of which a letter of Korean takes two. Nothing
// here knows what the texts mean.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Terminal is what a text is written to. The zero value is a file or a pipe.
type Terminal struct {
	Width  int  // in columns; 0: no limit
	Height int  // in lines; 0: no limit
	Color  bool // colors are shown
}

// Of looks at what a command writes to, as it is now: a window may change. Nothing is colored if the
// variable NO_COLOR is set to anything (no-color.org), or TERM is dumb.
func Of(w io.Writer) Terminal {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return Terminal{}
	}
	t := Terminal{Color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	if width, height, err := term.GetSize(int(f.Fd())); err == nil {
		t.Width, t.Height = width, height
	}
	return t
}

// Color is how a text looks. Plain is as the terminal has it.
type Color string

// The colors, by their codes (ECMA-48, SGR).
const (
	Plain  Color = ""
	Bold   Color = "1"
	Dim    Color = "2"
	Red    Color = "31"
	Green  Color = "32"
	Yellow Color = "33"
)

// Paint returns the text in a color, where colors are shown.
func (t Terminal) Paint(text string, c Color) string {
	if !t.Color || c == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// cells counts columns as terminals do. What is ambiguous (box drawings, the ellipsis) takes one,
// whatever the language: nearly all terminals show it so.
var cells = &runewidth.Condition{StrictEmojiNeutral: true}

// Width is how many columns a text without colors takes.
func Width(text string) int { return cells.StringWidth(text) }

// Cut returns the beginning of a text that takes so many columns at most, with an ellipsis if
// something is missing. 0: all of it.
func Cut(text string, width int) string {
	if width <= 0 {
		return text
	}
	return cells.Truncate(text, width, "…")
}

// cutLeft returns the end of a text, as Cut does its beginning.
func cutLeft(text string, width int) string {
	if over := Width(text) - width; over > 0 {
		return cells.TruncateLeft(text, over+1, "…")
	}
	return text
}

// Clean returns a text that neither breaks a line nor moves the cursor: with a space in place of each
// line break and tab, and a question mark in place of every other control character.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r):
			return '?'
		}
		return r
	}, text)
}

// Wrap breaks a text at its spaces into lines that fit. All lines but the first begin with indent.
// A word that is too long has a line of its own, and is not broken.
func (t Terminal) Wrap(text, indent string) string {
	return strings.Join(wrap(text, t.Width, Width(indent)), "\n"+indent)
}

// wrap breaks a text into lines of so many columns, of which all but the first have fewer by indent.
func wrap(text string, width, indent int) []string {
	if width <= 0 || Width(text) <= width {
		return []string{text}
	}
	words := strings.Split(text, " ")
	var lines []string
	line := words[0]
	for _, word := range words[1:] {
		switch {
		case Width(line)+1+Width(word) > width && strings.TrimSpace(line) != "":
			if len(lines) == 0 {
				width -= indent
			}
			lines, line = append(lines, line), word
		case line == "" && len(lines) > 0:
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// bars are the heights that a character can show.
var bars = []rune("▁▂▃▄▅▆▇█")

// Spark draws the latest of some values, which are not below zero, as bars of a character each: the
// highest is that of the greatest value. It takes width columns, and begins with spaces if there are
// fewer values.
func Spark(values []float64, width int) string {
	values = values[max(0, len(values)-width):]
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	text := strings.Repeat(" ", width-len(values))
	for _, v := range values {
		height := 0
		if v > 0 {
			height = max(1, min(len(bars)-1, int(v/most*float64(len(bars)-1)+0.5)))
		}
		text += string(bars[height])
	}
	return text
}

// Count is as in "1 entry", "2 entries", "1,234 entries". The plural is that of the singular with an
// s, if none is given.
func Count(n int64, singular string, plural ...string) string {
	if n == 1 || n == -1 {
		return fmt.Sprintf("%d %s", n, singular)
	}
	word := singular + "s"
	if len(plural) > 0 {
		word = plural[0]
	}
	return Grouped(n) + " " + word
}

// Grouped writes 1234567 as 1,234,567.
func Grouped(n int64) string { return message.NewPrinter(language.English).Sprint(n) }
