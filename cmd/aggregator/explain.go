package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/history"
	"aggregator/internal/terminal"
)

func newExplain(a *app) *cobra.Command {
	var at, dimension, genre string
	var id int64
	var ranks bool
	cmd := &cobra.Command{
		Use:   "explain PROFILE",
		Short: "Show which events made a snapshot of a profile's personality",
		Long: `Shows what each event added to the scores of a child profile between a snapshot and the one
before, and which event turned a letter, or made a genre or topic a favorite or no favorite any
more. It needs the journal, which is kept if journal.keep is set.

It checks itself: what the events added must be the difference between the two snapshots. If it
is not, it says how much of each score is unexplained. Then the application has changed a score
or the catalogue since, a book is gone, or a snapshot between the two was removed. Without a
snapshot before, scores of zero are taken for it. Books, genres and topics are those of now.

LEADS is which letters lead after each event, and by how many points, counted on from the snapshot
before; with --dimension a bar shows the lead, as history does. With --scores the scores of the
genres and topics follow, as they are now, as history --scores shows them.

A profile or snapshot that does not exist, and one of which there is no journal, are errors
(exit code 1).`,
		Example: `  aggregator explain 10008
  aggregator explain 10008 --dimension I/E
  aggregator explain 10008 --scores
  aggregator explain 10008 --at 2026-10-31 -o json`,
		Args: exactly("PROFILE"),
	}
	cmd.Flags().StringVar(&at, "at", "",
		"the snapshot that stood then: at the end of a day (2026-10-31, in UTC), or of a second (2026-10-31T12:00:00Z)")
	cmd.Flags().Int64Var(&id, "history", 0, "the snapshot of this id, as history -o json shows it")
	cmd.Flags().StringVar(&dimension, "dimension", "", "only what concerns these letters: I/E, N/S, T/F or J/P")
	cmd.Flags().StringVar(&genre, "genre", "", "only what concerns the genre of this name")
	_ = cmd.RegisterFlagCompletionFunc("dimension",
		cobra.FixedCompletions(dimensionNames(), cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVar(&ranks, "scores", false, scoresUsage)
	out := addTableOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, args []string) error {
		profile, err := profileID(args[0])
		if err != nil {
			return err
		}
		given := cmd.Flags().Changed
		var before time.Time
		switch {
		case given("at") && given("history"):
			return usageError("want --at or --history, not both")
		case given("history") && id < 1:
			return usageError("--history = %d: want the id of a snapshot", id)
		case given("dimension") && !slices.Contains(dimensionNames(), dimension):
			return usageError("--dimension = %q: want %s", dimension, alternatives(dimensionNames()))
		case given("at"):
			if before, err = endOf(at); err != nil {
				return err
			}
		}
		pool, err := a.OpenPostgres(cmd.Context(), 1)
		if err != nil {
			return err
		}
		defer pool.Close()
		e, err := history.Explain(cmd.Context(), pool, a.SmallCatalogue(pool), a.cfg.History.Preferred, profile, id, before)
		if err != nil {
			return err
		}
		now, err := a.scoresNow(cmd.Context(), pool, profile, ranks)
		if err != nil {
			return err
		}
		e = concerning(e, dimension, genre)
		if out.json() {
			return writeJSON(a.stdout, struct {
				history.Explanation
				withScores
			}{e, now})
		}
		var text strings.Builder
		if err := writeExplanation(&text, a.terminal(), e, dimension, out.wide()); err != nil {
			return err
		}
		return a.print(&text, now)
	})
	return cmd
}

// profileID reads the argument PROFILE.
func profileID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 0 {
		return 0, usageError("PROFILE = %q: want the id of a child profile, a whole number", text)
	}
	return id, nil
}

// concerning leaves out the events and turns that do not concern a dimension or a genre, if there is one.
func concerning(e history.Explanation, dimension, genre string) history.Explanation {
	if dimension == "" && genre == "" {
		return e
	}
	e.Events = slices.DeleteFunc(slices.Clone(e.Events), func(added history.Added) bool {
		return dimension != "" && added.MBTI == "" || genre != "" && (added.Genre == nil || *added.Genre != genre)
	})
	e.Turned = slices.DeleteFunc(slices.Clone(e.Turned), func(t history.Turn) bool {
		byLetter, byGenre := t.Kind == "dimension" && t.Name == dimension, t.Kind == "genre" && t.Name == genre
		return !byLetter && !byGenre
	})
	return e
}

func writeExplanation(
	text *strings.Builder, to terminal.Terminal, e history.Explanation, dimension string, wide bool,
) error {
	headline := fmt.Sprintf("%s  %s", e.Created.Format(time.RFC3339), orDash(e.Type))
	if e.TypeBefore != e.Type {
		headline += ", was " + orDash(e.TypeBefore)
	}
	headline += fmt.Sprintf("  snapshot %d", e.HistoryID)
	if e.Before != nil {
		headline += fmt.Sprintf(", after %d", *e.Before)
	} else {
		headline += ", the first one that is there"
	}
	fmt.Fprintln(text, to.Paint(headline, terminal.Bold))
	for _, t := range e.Turned {
		fmt.Fprintln(text, to.Wrap(terminal.Clean("  "+turnText(t)), "    "))
	}
	rest := e.Unexplained.Changes()
	switch {
	case rest != "":
		rest = "not explained by these events: " + rest
	case e.Explained:
		rest = "explained to the last point"
	default:
		rest = "the scores are explained, not all favorites"
	}
	fmt.Fprintln(text, to.Wrap("  "+rest, "    "))
	if len(e.Events) == 0 {
		fmt.Fprintln(text, "  none of its events is of that genre or dimension")
		return nil
	}
	leads := newLeads(to, e.Events, dimension)
	table := &terminal.Table{Wide: wide, Columns: []terminal.Column{
		{Name: "POSITION", Drop: 4},
		{Name: "BOOK", Right: true},
		{Name: "TITLE", Least: 12},
		{Name: "ADDED", Right: true},
		{Name: "MBTI"},
		leads.column,
		{Name: "GENRE", Least: 8, Drop: 3},
		{Name: "TOPICS", Least: 8, Drop: 1},
	}}
	for i, added := range e.Events {
		title, genre := "(gone)", "-"
		if added.Title != nil {
			title = orDash(*added.Title)
		}
		if added.Genre != nil {
			genre = *added.Genre
		}
		table.Add(added.Position, fmt.Sprint(added.BookID), terminal.Clean(title), fmt.Sprintf("%+g", added.Weight),
			orDash(added.MBTI), leads.cells[i], terminal.Clean(genre), terminal.Clean(orDash(strings.Join(added.Topics, ", "))))
	}
	if err := table.Write(text, to); err != nil {
		return err
	}
	if leads.legend != "" {
		fmt.Fprintln(text, to.Wrap("  "+leads.legend, "    "))
	}
	return nil
}

// leads is the column that shows which letters lead after each event, and by how much.
type leads struct {
	column terminal.Column
	cells  []string
	legend string
}

// newLeads shows all four dimensions as numbers, or the one that is chosen with a bar, too.
func newLeads(to terminal.Terminal, events []history.Added, chosen string) leads {
	l := leads{column: terminal.Column{Name: "LEADS", Drop: 2}, cells: make([]string, len(events))}
	var of []dimension
	for n, name := range dimensionNames() {
		if chosen != "" && name != chosen {
			continue
		}
		widest, first := 0, len(of)
		for _, added := range events {
			d := dimensions(added.After)[n]
			of, widest = append(of, d), max(widest, len(d.lead()))
		}
		for i := range events {
			l.cells[i] += fmt.Sprintf("%-*s  ", widest, of[first+i].lead())
		}
	}
	if chosen == "" {
		for i := range l.cells {
			l.cells[i] = strings.TrimSpace(l.cells[i])
		}
		return l
	}
	l.column.Drop = 0
	scale, ink := leadScale(of), inkFor(to)
	for i, d := range of {
		l.cells[i] += ink.lead(scale, d.ahead())
	}
	l.legend = ink.legend(scale, "lead")
	return l
}

// turnText is as in "I became E by 1761985000123-0 on book 7", "Art became a favorite by ...".
func turnText(t history.Turn) string {
	what := t.From + " became " + t.To
	switch {
	case t.To == history.Favorite:
		what = t.Kind + " " + t.Name + " became a favorite"
	case t.From == history.Favorite:
		what = t.Kind + " " + t.Name + " is no favorite any more"
	}
	if t.Position == nil {
		return what + ", by none of these events alone"
	}
	return fmt.Sprintf("%s by %s on book %d", what, *t.Position, *t.BookID)
}
