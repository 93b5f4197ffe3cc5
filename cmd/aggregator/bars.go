package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/history"
	"aggregator/internal/scores"
	"aggregator/internal/terminal"
)

// barCells is how long a bar can be. So each character stands for a tenth of a round number.
const barCells = 10

// ink is what bars are drawn with: characters that any file may hold, or better ones on a terminal.
type ink struct{ full, axis, mean string }

func inkFor(to terminal.Terminal) ink {
	if to.Width > 0 {
		return ink{"█", "│", "┊"}
	}
	return ink{"#", "|", ":"}
}

// lead draws a bar from the axis in the middle to the letter that leads: to the left if ahead is above zero.
func (i ink) lead(scale terminal.Scale, ahead float64) string {
	left, right := scale.Length(max(ahead, 0)), scale.Length(min(ahead, 0))
	return strings.Repeat(" ", barCells-left) + strings.Repeat(i.full, left) + i.axis + strings.Repeat(i.full, right) +
		strings.Repeat(" ", barCells-right)
}

// legend says what the length of a bar means.
func (i ink) legend(scale terminal.Scale, what string) string {
	points := "points"
	if cmp.Compare(scale.Edge, 1) == 0 {
		points = "point"
	}
	return fmt.Sprintf("scale: a full bar is a %s of %s %s, each %s is %s", what, scoreText(scale.Edge), points, i.full,
		scoreText(scale.Each()))
}

// leadScale is the scale of bars for all these.
func leadScale(all []dimension) terminal.Scale {
	furthest := 0.0
	for _, d := range all {
		furthest = max(furthest, math.Abs(d.ahead()))
	}
	return terminal.ScaleTo(furthest, barCells)
}

// withScores adds the scores as they are now to what is shown as JSON, if they are asked for.
type withScores struct {
	ScoresNow *history.Current `json:"scores_now,omitempty"`
}

const scoresUsage = "also the scores of genres and topics as they are now, and the mean that makes a favorite"

// scoresNow are the scores of a profile, if they are asked for.
func (a *app) scoresNow(ctx context.Context, pool *pgxpool.Pool, profile int64, wanted bool) (w withScores, err error) {
	if wanted {
		var current history.Current
		current, err = history.CurrentScores(ctx, pool, a.cfg.History.Preferred, profile)
		w.ScoresNow = &current
	}
	return w, err
}

// print writes a text, and below it the scores that are asked for.
func (a *app) print(text *strings.Builder, now withScores) error {
	if now.ScoresNow != nil {
		if err := writeScores(text, a.terminal(), a.cfg.History.Preferred, *now.ScoresNow); err != nil {
			return err
		}
	}
	_, err := io.WriteString(a.stdout, text.String())
	return err
}

// mostRanked is how many scores of genres, and of topics, are shown as text.
const mostRanked = 10

// writeScores draws the scores as bars on one scale, from the axis of zero, with the mean across them.
func writeScores(text *strings.Builder, to terminal.Terminal, rule scores.Preference, current history.Current) error {
	genres, topics := current.Genres, current.Topics
	genres.Scores = genres.Scores[:min(len(genres.Scores), mostRanked)]
	topics.Scores = topics.Scores[:min(len(topics.Scores), mostRanked)]
	most, least := 0.0, 0.0
	for _, r := range append(genres.Scores[:len(genres.Scores):len(genres.Scores)], topics.Scores...) {
		if r.Score != nil {
			most, least = max(most, *r.Score), min(least, *r.Score)
		}
	}
	if len(genres.Scores)+len(topics.Scores) == 0 {
		fmt.Fprintln(text, "no scores of genres or topics now")
		return nil
	}
	scale, ink := terminal.ScaleTo(max(most, -least), barCells), inkFor(to)
	below := scale.Length(least) // the room for what is below zero
	for _, shown := range []struct {
		name string
		history.Ranking
		left int
	}{
		{"GENRE NOW", genres, len(current.Genres.Scores) - len(genres.Scores)},
		{"TOPIC NOW", topics, len(current.Topics.Scores) - len(topics.Scores)},
	} {
		if len(shown.Scores) == 0 {
			continue
		}
		if err := ranked(shown.name, shown.Ranking, ink, scale, below).Write(text, to); err != nil {
			return err
		}
		if shown.left > 0 {
			fmt.Fprintf(text, "  and %d more; -o json has all\n", shown.left)
		}
	}
	favorite := "a favorite has at least the mean of the scores above zero"
	if rule.AboveMean() {
		favorite = "a favorite has more than the mean of the scores that are not below zero"
	}
	fmt.Fprintln(text, to.Wrap("  "+ink.legend(scale, "score"), "    "))
	fmt.Fprintln(text, to.Wrap("  "+favorite, "    "))
	return nil
}

// ranked is a table of scores. The mean is drawn between two characters of a bar, and takes none away.
func ranked(name string, r history.Ranking, ink ink, scale terminal.Scale, below int) *terminal.Table {
	column, mark := "", -1
	if r.Mean != nil {
		mark = scale.Length(*r.Mean)
		column = strings.Repeat(" ", below+1+mark) + ink.mean + " mean " + fmt.Sprintf("%.4g", *r.Mean)
	}
	table := &terminal.Table{Columns: []terminal.Column{
		{Name: name, Least: 12},
		{Name: "SCORE", Right: true},
		{Name: "FAVORITE"},
		{Name: column, Drop: 1},
	}}
	for _, s := range r.Scores {
		value, favorite := math.NaN(), "-"
		left, right := 0, 0
		if s.Score != nil {
			value = *s.Score
			left, right = scale.Length(min(value, 0)), scale.Length(max(value, 0))
		}
		if s.Favorite {
			favorite = "yes"
		}
		bar := []rune(strings.Repeat(ink.full, right) + strings.Repeat(" ", barCells-right))
		drawn := string(bar)
		if mark >= 0 {
			drawn = string(bar[:mark]) + ink.mean + string(bar[mark:])
		}
		table.Add(terminal.Clean(s.Name), scoreText(value), favorite, strings.TrimRight(
			strings.Repeat(" ", below-left)+strings.Repeat(ink.full, left)+ink.axis+drawn, " "))
	}
	return table
}
