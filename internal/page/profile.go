package page

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"aggregator/internal/history"
	"aggregator/internal/terminal"
)

const snapshotsShown = 100

type profileBody struct {
	ID         int64
	Snapshots  []history.Snapshot // newest first
	Dimensions []chart
	Genres     []band
	Topics     []band
	From, To   stamp
	Scale      string // time: drawings have the scale of time; else each snapshot has the same width
	Before     string // only those before that time are shown; empty: this is the first page
	Next       string // the page of older ones; empty: there are none
}

// bandsBody is the drawing of the favorites of one kind.
type bandsBody struct {
	Title    string
	Bands    []band
	From, To stamp
}

func newBands(title string, all []band, from, to stamp) bandsBody {
	return bandsBody{title, all, from, to}
}

// changesBody is the favorites of a snapshot, and those that came and went.
type changesBody struct{ Names, Gained, Lost []string }

func newChanges(names []string, change *history.Change, kind string) changesBody {
	b := changesBody{Names: names}
	switch {
	case change == nil:
	case kind == "genres":
		b.Gained, b.Lost = change.GenresGained, change.GenresLost
	default:
		b.Gained, b.Lost = change.TopicsGained, change.TopicsLost
	}
	return b
}

// band is when something was a favorite, in the time that is shown.
type band struct {
	Name  string
	Spans []span
	Now   bool // at the end of that time
	Text  string
}

// span is part of a drawing, in its own units.
type span struct{ X, Width string }

func (p *Page) profile(v *view) error {
	if v.r.Form.Get("id") == "" {
		return v.show("profile", "profile", "Profile", profileBody{ID: -1})
	}
	id, err := profileID(v.r.Form.Get("id"))
	if err != nil {
		return err
	}
	selection := history.Selection{Limit: snapshotsShown + 1}
	if text := v.r.Form.Get("before"); text != "" {
		if selection.Before, err = time.Parse(time.RFC3339Nano, text); err != nil || selection.Before.IsZero() {
			return badRequest("%q is not a time: want one such as 2026-10-31T12:00:00Z.", text)
		}
	}
	snapshots, err := history.Timeline(v.r.Context(), p.Pool, id, selection)
	if errors.Is(err, history.ErrNoProfile) {
		return &problem{http.StatusNotFound, fmt.Sprintf("There is no child profile %d.", id), ""}
	}
	if err != nil {
		return err
	}
	b := profileBody{ID: id, Scale: v.r.Form.Get("scale"), Before: v.r.Form.Get("before")}
	if len(snapshots) > snapshotsShown {
		snapshots = snapshots[:fullMoments(snapshots)]
		last := snapshots[len(snapshots)-1].Created.UTC().Format(time.RFC3339Nano)
		b.Next = link("profile", "id", id, "scale", b.Scale, "before", last)
	}
	b.Snapshots = snapshots
	if len(snapshots) > 0 {
		places := evenly(len(snapshots))
		from, to := snapshots[len(snapshots)-1].Created, snapshots[0].Created
		if b.ByTime() {
			if b.Before == "" && v.Now.After(to) {
				to = v.Now
			}
			places = byTime(snapshots, from, to)
		}
		b.From, b.To = v.At(from), v.At(to)
		b.Dimensions = dimensionCharts(v, snapshots, places)
		for i := range b.Dimensions {
			b.Dimensions[i].Left, b.Dimensions[i].Right = b.From, b.To
		}
		b.Genres = bands(snapshots, places, func(s history.Snapshot) []string { return s.Genres })
		b.Topics = bands(snapshots, places, func(s history.Snapshot) []string { return s.Topics })
	}
	return v.show("profile", "profile", "Profile "+strconv.FormatInt(id, 10), b)
}

// ByTime says whether drawings have the scale of time.
func (b profileBody) ByTime() bool { return b.Scale == "time" }

// fullMoments is how many of these snapshots to show, all but the last at most: the next page begins before a moment,
// so that it must not be the moment of one that is not shown. If all are of one moment, the others of it cannot be.
func fullMoments(newestFirst []history.Snapshot) int {
	for n := len(newestFirst) - 1; n > 0; n-- {
		if !newestFirst[n].Created.Equal(newestFirst[n-1].Created) {
			return n
		}
	}
	return len(newestFirst) - 1
}

// evenly are the places of the beginnings of so many snapshots, oldest first, each of the same width.
func evenly(n int) []float64 {
	places := make([]float64, n)
	for i := range places {
		places[i] = chartWidth * float64(i) / float64(n)
	}
	return places
}

// byTime are the places of snapshots, oldest first, by when they were written. A clock that was set back does not
// lead back.
func byTime(newestFirst []history.Snapshot, from, to time.Time) []float64 {
	places := make([]float64, 0, len(newestFirst))
	last := 0.0
	for _, s := range slices.Backward(newestFirst) {
		if to.After(from) {
			last = min(chartWidth, max(last, chartWidth*float64(s.Created.Sub(from))/float64(to.Sub(from))))
		}
		places = append(places, last)
	}
	return places
}

// dimension is two letters. The first one wins a tie.
type dimension struct {
	left, right string
	of          func(history.Scores) (left, right float64)
}

var dimensions = []dimension{
	{"I", "E", func(s history.Scores) (float64, float64) { return s.I, s.E }},
	{"N", "S", func(s history.Scores) (float64, float64) { return s.N, s.S }},
	{"T", "F", func(s history.Scores) (float64, float64) { return s.T, s.F }},
	{"J", "P", func(s history.Scores) (float64, float64) { return s.J, s.P }},
}

// dimensionCharts draw how far one letter of each pair was ahead of the other, in points, all to the same scale.
// Scores stay as they are until the next snapshot: there are steps, no slopes.
func dimensionCharts(v *view, newestFirst []history.Snapshot, places []float64) []chart {
	furthest := 0.0
	lead := func(d dimension, s history.Snapshot) (float64, bool) {
		left, right := d.of(s.Scores)
		ahead := left - right
		return ahead, !math.IsNaN(ahead) && !math.IsInf(ahead, 0)
	}
	for _, s := range newestFirst {
		for _, d := range dimensions {
			if ahead, known := lead(d, s); known {
				furthest = max(furthest, math.Abs(ahead))
			}
		}
	}
	edge := terminal.ScaleTo(furthest, 0).Edge
	charts := make([]chart, len(dimensions))
	for i, d := range dimensions {
		c := chart{
			ID: "dimension-" + d.left + d.right, Title: d.left + "/" + d.right,
			Top: "+" + score(edge) + " " + d.left, Bottom: "+" + score(edge) + " " + d.right, Middle: true,
			Columns: [2]string{"Time", "Points"},
		}
		var line []string
		last := ""
		y := func(ahead float64) float64 { return chartHeight / 2 * (1 - ahead/edge) }
		for n, s := range slices.Backward(newestFirst) {
			x := places[len(places)-1-n]
			ahead, known := lead(d, s)
			left, right := d.of(s.Scores)
			text := fmt.Sprintf("%s %s, %s %s", d.left, score(left), d.right, score(right))
			c.Rows = append(c.Rows, chartRow{v.At(s.Created), text})
			c.Desc = "At last " + text + "."
			if !known {
				if len(line) > 0 {
					c.Lines = append(c.Lines, strings.Join(line, " "))
				}
				line, last = nil, ""
				continue
			}
			here := fmt.Sprintf("%.1f", y(ahead))
			if last != "" {
				line = append(line, fmt.Sprintf("%.1f,%s", x, last))
			}
			line, last = append(line, fmt.Sprintf("%.1f,%s", x, here)), here
		}
		if last != "" {
			line = append(line, fmt.Sprintf("%.1f,%s", chartWidth, last))
		}
		if len(line) > 0 {
			c.Lines = append(c.Lines, strings.Join(line, " "))
		}
		charts[i] = c
	}
	return charts
}

// bands are the favorites, those of the end first, then in the order in which they came.
func bands(newestFirst []history.Snapshot, places []float64, of func(history.Snapshot) []string) []band {
	var all []band
	index := make(map[string]int)
	since := make(map[string]float64) // of those that are favorites, from where on
	end := func(name string, x float64) {
		b := &all[index[name]]
		b.Spans = append(b.Spans, span{fmt.Sprintf("%.1f", since[name]), fmt.Sprintf("%.1f", max(1, x-since[name]))})
		delete(since, name)
	}
	for n, s := range slices.Backward(newestFirst) {
		x := places[len(places)-1-n]
		now := of(s)
		for _, name := range now {
			if _, found := index[name]; !found {
				index[name] = len(all)
				all = append(all, band{Name: name})
			}
			if _, is := since[name]; !is {
				since[name] = x
			}
		}
		for name := range since {
			if !slices.Contains(now, name) {
				end(name, x)
			}
		}
	}
	for name := range since {
		all[index[name]].Now = true
		end(name, chartWidth)
	}
	for i := range all {
		b := &all[i]
		b.Text = fmt.Sprintf("%s: not a favorite at the end, and %s before", b.Name, times(len(b.Spans)))
		if b.Now {
			b.Text = fmt.Sprintf("%s: a favorite at the end", b.Name)
		}
	}
	slices.SortStableFunc(all, func(a, b band) int {
		switch {
		case a.Now == b.Now:
			return 0
		case a.Now:
			return -1
		}
		return 1
	})
	return all
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

type explainBody struct {
	history.Explanation
	Rest  string // what is not explained; empty if nothing
	Lacks bool   // a turn has no event
}

// TitleOf is the title of a book among the events; empty if it is not known.
func (b explainBody) TitleOf(id *int64) string {
	for _, e := range b.Events {
		if e.BookID == *id && e.Title != nil {
			return *e.Title
		}
	}
	return ""
}

func (p *Page) explain(v *view) error {
	profile, err := profileID(v.r.Form.Get("profile"))
	if err != nil {
		return err
	}
	var snapshot int64 // the latest
	if text := v.r.Form.Get("history"); text != "" {
		if snapshot, err = strconv.ParseInt(text, 10, 64); err != nil || snapshot < 1 {
			return badRequest("%q is not the id of a snapshot: want a whole number.", text)
		}
	}
	e, err := history.Explain(v.r.Context(), p.Pool, p.Catalogue, p.Preferred(), profile, snapshot, time.Time{})
	switch {
	case errors.Is(err, history.ErrNoProfile):
		return &problem{http.StatusNotFound, fmt.Sprintf("There is no child profile %d.", profile), ""}
	case errors.Is(err, history.ErrNoHistory):
		return &problem{http.StatusNotFound, fmt.Sprintf("Profile %d has no such snapshot.", profile), ""}
	case errors.Is(err, history.ErrNoJournal):
		return &problem{
			http.StatusNotFound, fmt.Sprintf("The journal does not say which events made this snapshot of profile %d.", profile),
			"It was not kept when the snapshot was written (journal.keep), was removed since, or the snapshot is not of events.",
		}
	case err != nil:
		return err
	}
	b := explainBody{Explanation: e, Rest: e.Unexplained.Changes()}
	b.Lacks = !e.Explained && b.Rest == ""
	return v.show("explain", "profile", fmt.Sprintf("Why: profile %d, snapshot %d", profile, e.HistoryID), b)
}
