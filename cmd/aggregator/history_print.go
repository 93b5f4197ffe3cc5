package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"aggregator/internal/history"
	"aggregator/internal/terminal"
)

// scale is two letters, and what each has scored. The first one wins a tie.
type scale struct {
	letters     string
	left, right float64
}

// finite says whether the two can be compared.
func (s scale) finite() bool { return !math.IsInf(s.left-s.right, 0) && !math.IsNaN(s.left-s.right) }

// scoreText is the number, or a dash for Infinity and NaN, which the application must have written.
func scoreText(f float64) string {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return "-"
	}
	return fmt.Sprintf("%g", f)
}

func scales(m history.Scores) [4]scale {
	return [4]scale{{"IE", m.I, m.E}, {"NS", m.N, m.S}, {"TF", m.T, m.F}, {"JP", m.J, m.P}}
}

// printTimeline shows snapshots with bars that can be compared with each other, in
// characters that any file may hold, or in better ones on a terminal. Lists that are too long for the
// terminal are broken between names.
func printTimeline(w io.Writer, to terminal.Terminal, lines []snapshotLine) error {
	full, middle := "#", "|"
	if to.Width > 0 {
		full, middle = "█", "│"
	}
	furthest := 0.0
	for _, l := range lines {
		for _, s := range scales(l.Scores) {
			if s.finite() {
				furthest = max(furthest, math.Abs(s.left-s.right))
			}
		}
	}
	var text strings.Builder
	for _, l := range lines {
		fmt.Fprintln(&text, to.Paint(to.Wrap(headline(l), "  "), terminal.Bold))
		for _, s := range scales(l.Scores) {
			left, right := 0, 0
			if s.finite() {
				left, right = bars(s.left-s.right, furthest)
			}
			fmt.Fprintf(&text, "  %c %7s  %s%s%s%s%s  %-7s %c\n", s.letters[0], scoreText(s.left),
				strings.Repeat(" ", barWidth-left), strings.Repeat(full, left), middle, strings.Repeat(full, right),
				strings.Repeat(" ", barWidth-right),
				scoreText(s.right), s.letters[1])
		}
		genres, topics := "", ""
		if c := l.Change; c != nil {
			genres, topics = gainedAndLost(c.GenresGained, c.GenresLost), gainedAndLost(c.TopicsGained, c.TopicsLost)
		}
		list := func(what string, names []string, change string) {
			fmt.Fprintln(&text, to.Wrap(
				terminal.Clean("  "+what+"  "+orDash(strings.Join(names, ", "))+change), strings.Repeat(" ", 10)))
		}
		list("genres", l.Genres, genres)
		list("topics", l.Topics, topics)
	}
	_, err := io.WriteString(w, text.String())
	return err
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

const barWidth = 12 // to each side

// bars are how long the bars to the left and to the right are. At least one of them is empty, and a bar that
// stands for something is not.
func bars(ahead, furthest float64) (left, right int) {
	if ahead == 0 {
		return 0, 0
	}
	length := max(1, int(math.Round(math.Abs(ahead)/furthest*barWidth)))
	if ahead > 0 {
		return length, 0
	}
	return 0, length
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
