package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/runs"
	"aggregator/internal/terminal"
)

func newRuns(a *app) *cobra.Command {
	var kind string
	var last int
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "Show past runs: when, how many, how fast, how they ended",
		Long: `Lists the latest runs, newest first: drains, processes of the service (service), and other
jobs, by schedule or by hand (purge, search_text, retry, drop, reset, accept, erase). A run is
running, or it ended as done, limited (a limit ended it with work left), stopped (by a signal) or failed, or it was
interrupted: no heartbeat reached PostgreSQL for 45 seconds, as after kill -9. The latest runs
of each kind (runs.keep) are kept.

A run counts what it processed itself, up to its last heartbeat. That of an interrupted run is
up to ten seconds older than its end. Only this list relies on these counts.

A line is cut to the width of the terminal: aggregator runs show ID has all of a run, with its
whole error, and -o wide all columns of the list.`,
		Example: `  aggregator runs
  aggregator runs --kind drain --last 5
  aggregator runs -o wide
  aggregator runs show 17`,
		Annotations: worksAlone,
	}
	cmd.AddCommand(newRunsShow(a))
	kinds := []string{"drain", "service", "purge", "search_text", "retry", "drop", "reset", "accept", "erase"}
	cmd.Flags().StringVar(&kind, "kind", "", "only runs of this kind: "+strings.Join(kinds, ", "))
	_ = cmd.RegisterFlagCompletionFunc("kind", // fails only for a flag that is not there
		cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().IntVar(&last, "last", 20, "show at most this many runs")
	out := addTableOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		if last < 1 {
			return usageError("--last = %d: want at least 1", last)
		}
		if kind != "" && !slices.Contains(kinds, kind) {
			return usageError("--kind = %q: want one of %s", kind, strings.Join(kinds, ", "))
		}
		pool, err := a.OpenPostgres(cmd.Context(), 1)
		if err != nil {
			return err
		}
		defer pool.Close()
		latest, err := runs.Latest(cmd.Context(), pool, kind, last)
		if err != nil {
			return err
		}
		lines := make([]runLine, len(latest))
		for i, r := range latest {
			lines[i] = newRunLine(r)
		}
		if out.json() {
			return writeJSON(a.stdout, map[string]any{"runs": lines})
		}
		if len(lines) == 0 {
			_, err := fmt.Fprintln(a.stdout, noRuns(kind))
			return err
		}
		return runTable(lines, out.wide()).Write(a.stdout, a.terminal())
	})
	return cmd
}

func noRuns(kind string) string {
	if kind == "" {
		return "no runs yet"
	}
	return "no runs of this kind yet: " + kind
}

// runLine is one line of the list. Its names are those of the JSON form.
type runLine struct {
	ID             int64        `json:"id"`
	Kind           string       `json:"kind"`
	Due            *time.Time   `json:"due_at"` // when the schedule wanted it
	Started        time.Time    `json:"started_at"`
	Seen           time.Time    `json:"seen_at"` // its last sign of life
	Finished       *time.Time   `json:"finished_at"`
	ElapsedSeconds float64      `json:"elapsed_seconds"`
	Outcome        runs.Outcome `json:"outcome"`
	Error          string       `json:"error,omitempty"`
	Note           string       `json:"note,omitempty"` // what it did, if the counts do not say it
	runs.Counts
	Rate    float64 `json:"read_per_second"`
	Host    string  `json:"host"`
	Version string  `json:"version"`
}

func newRunLine(r runs.Run) runLine {
	line := runLine{
		ID: r.ID, Kind: r.Kind, Due: inUTC(r.Due), Started: r.Started.UTC(), Seen: r.Seen.UTC(), Finished: inUTC(r.Ended),
		Outcome: r.Outcome, Error: r.Error, Note: r.Note, Counts: r.Counts,
		Rate: r.Rate, Host: r.Host, Version: r.Version,
	}
	last := r.Seen
	if r.Ended != nil {
		last = *r.Ended
	}
	line.ElapsedSeconds = last.Sub(r.Started).Seconds()
	return line
}

// String is a line about a run, and why it failed: "done after 1.2s at 2026-11-22T02:30:01Z, read 12,345, dead 1".
func (l runLine) String() string {
	last, word := l.Seen, "since"
	switch l.Outcome {
	case runs.Running:
		last = l.Started
	case runs.Interrupted:
		word = "after " + l.took() + ", last seen"
	default:
		last, word = *l.Finished, "after "+l.took()+" at"
	}
	text := fmt.Sprintf("%s %s %s, read %s, dead %s", l.Outcome, word, last.Format(time.RFC3339), grouped(l.Read),
		grouped(l.Dead))
	if l.Error != "" {
		text += ": " + strings.Join(strings.Fields(l.Error), " ")
	}
	return text
}

func (l runLine) took() string {
	took := time.Duration(l.ElapsedSeconds * float64(time.Second))
	if took < time.Minute {
		return took.Round(time.Millisecond).String()
	}
	return took.Round(time.Second).String()
}

// runTable has a row for each run, and what matters of it first.
func runTable(lines []runLine, wide bool) *terminal.Table {
	table := &terminal.Table{Wide: wide, Columns: []terminal.Column{
		{Name: "ID", Right: true},
		{Name: "KIND", Least: 7},
		{Name: "STARTED"},
		{Name: "TOOK", Right: true, Drop: 5},
		{Name: "OUTCOME", Color: outcomeColor},
		{Name: "READ", Right: true, Drop: 4},
		{Name: "APPLIED", Right: true, Drop: 3},
		{Name: "DEAD", Right: true, Drop: 2},
		{Name: "PROFILES", Right: true, Wide: true},
		{Name: "CHUNKS", Right: true, Wide: true},
		{Name: "RATE", Right: true, Drop: 1},
		{Name: "HOST", Wide: true},
		{Name: "VERSION", Wide: true},
		{Name: "ERROR OR NOTE", Least: 13},
	}}
	for _, l := range lines {
		table.Add(fmt.Sprint(l.ID), l.Kind, l.Started.Format(time.RFC3339), l.took(), string(l.Outcome), grouped(l.Read),
			grouped(l.Applied),
			grouped(l.Dead), grouped(l.Profiles), grouped(l.Chunks), grouped(int64(l.Rate+0.5))+"/s", l.Host, l.Version,
			orDash(l.errorOrNote()))
	}
	return table
}

// errorOrNote is the error and then the note, in one line.
func (l runLine) errorOrNote() string {
	var parts []string
	for _, part := range []string{l.Error, l.Note} {
		if words := strings.Fields(part); len(words) > 0 {
			parts = append(parts, strings.Join(words, " "))
		}
	}
	return strings.Join(parts, "; ")
}

func outcomeColor(outcome string) terminal.Color {
	switch runs.Outcome(outcome) {
	case runs.Failed:
		return terminal.Red
	case runs.Interrupted, runs.Limited:
		return terminal.Yellow
	case runs.Running:
		return terminal.Green
	}
	return terminal.Plain
}
