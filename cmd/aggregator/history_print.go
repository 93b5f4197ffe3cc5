package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"aggregator/internal/history"
	"aggregator/internal/terminal"
)

// dimension is two letters, and what each has scored. The first one wins a tie.
type dimension struct {
	letters     string
	left, right float64
}

func dimensionNames() []string { return []string{"I/E", "N/S", "T/F", "J/P"} }

func dimensions(m history.Scores) []dimension {
	return []dimension{{"IE", m.I, m.E}, {"NS", m.N, m.S}, {"TF", m.T, m.F}, {"JP", m.J, m.P}}
}

// ahead is how far the first letter leads; 0 if the two cannot be compared.
func (d dimension) ahead() float64 {
	if ahead := d.left - d.right; !math.IsInf(ahead, 0) && !math.IsNaN(ahead) {
		return ahead
	}
	return 0
}

// lead is the letter that leads, and by how much: "E 4".
func (d dimension) lead() string {
	letter := d.letters[0]
	if d.left < d.right {
		letter = d.letters[1]
	}
	return fmt.Sprintf("%c %s", letter, scoreText(math.Abs(d.left-d.right)))
}

// scoreText is the number, or a dash for Infinity and NaN, which the application must have written.
func scoreText(f float64) string {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return "-"
	}
	return fmt.Sprintf("%g", f)
}

// writeTimeline shows snapshots with bars of one scale. Lists that are too long for the terminal are broken between
// names.
func writeTimeline(text *strings.Builder, to terminal.Terminal, lines []snapshotLine) {
	var all []dimension
	for _, l := range lines {
		all = append(all, dimensions(l.Scores)...)
	}
	scale, ink := leadScale(all), inkFor(to)
	for _, l := range lines {
		fmt.Fprintln(text, to.Paint(to.Wrap(headline(l), "  "), terminal.Bold))
		for _, d := range dimensions(l.Scores) {
			fmt.Fprintf(text, "  %c %7s  %s  %-7s %c\n", d.letters[0], scoreText(d.left),
				ink.lead(scale, d.ahead()), scoreText(d.right), d.letters[1])
		}
		genres, topics := "", ""
		if c := l.Change; c != nil {
			genres, topics = gainedAndLost(c.GenresGained, c.GenresLost), gainedAndLost(c.TopicsGained, c.TopicsLost)
		}
		list := func(what string, names []string, change string) {
			fmt.Fprintln(text, to.Wrap(
				terminal.Clean("  "+what+"  "+orDash(strings.Join(names, ", "))+change), strings.Repeat(" ", 10)))
		}
		list("genres", l.Genres, genres)
		list("topics", l.Topics, topics)
	}
	fmt.Fprintln(text, to.Wrap("  "+ink.legend(scale, "lead"), "    "))
}

// headline is "2026-11-22T02:13:58Z  ISFJ, was INTJ  FEEDBACK  during drain 17".
func headline(l snapshotLine) string {
	text := l.Created.UTC().Format(time.RFC3339) + "  " + orDash(l.Type)
	if l.Change != nil && l.Change.Type != l.Type {
		text += ", was " + orDash(l.Change.Type)
	}
	text += "  " + l.Cause
	if l.Run != nil {
		text += fmt.Sprintf("  during %s %d", l.Run.Kind, l.Run.ID)
	}
	if l.Deleted != nil {
		text += "  deleted " + l.Deleted.UTC().Format(time.RFC3339)
	}
	return text
}

func gainedAndLost(gained, lost []string) string {
	var parts []string
	if len(gained) > 0 {
		parts = append(parts, "gained "+strings.Join(gained, ", "))
	}
	if len(lost) > 0 {
		parts = append(parts, "lost "+strings.Join(lost, ", "))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, "; ") + ")"
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
