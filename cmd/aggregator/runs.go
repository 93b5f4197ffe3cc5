package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/runs"
)

func newRuns(a *app) *cobra.Command {
	var kind string
	var last int
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "Show past runs: when, how many, how fast, how they ended",
		Long: `Lists the latest runs, newest first: drains, processes of the service (service), and other
jobs, by schedule or by hand (purge, search_text, reset, accept). A run is running, or it ended
as done, limited (a limit ended it with work left), stopped (by a signal) or failed, or it was
interrupted: no heartbeat reached PostgreSQL for 45 seconds, as after kill -9. The latest runs
of each kind (runs.keep) are kept.

A run counts what it processed itself, up to its last heartbeat. That of an interrupted run is
up to ten seconds older than its end. Only this list relies on these counts.`,
		Example: `  aggregator runs
  aggregator runs --kind drain --last 5
  aggregator runs -o json`,
	}
	kinds := []string{"drain", "service", "purge", "search_text", "reset", "accept"}
	cmd.Flags().StringVar(&kind, "kind", "", "only runs of this kind: "+strings.Join(kinds, ", "))
	_ = cmd.RegisterFlagCompletionFunc("kind", // fails only for a flag that is not there
		cobra.FixedCompletions(kinds, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().IntVar(&last, "last", 20, "show at most this many runs")
	out := addOutput(cmd)
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
			_, err := fmt.Fprintln(a.stdout, "no runs yet")
			return err
		}
		return printRuns(a.stdout, lines)
	})
	return cmd
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
	text := fmt.Sprintf("%s %s %s, read %s, dead %s", l.Outcome, word, last.Format(time.RFC3339), grouped(l.Read), grouped(l.Dead))
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

func printRuns(out io.Writer, lines []runLine) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tSTARTED\tTOOK\tOUTCOME\tREAD\tAPPLIED\tDEAD\tPROFILES\tCHUNKS\tRATE\tHOST\tVERSION\tERROR OR NOTE")
	for _, l := range lines {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s/s\t%s\t%s\t%s\n", l.ID, l.Kind, l.Started.Format(time.RFC3339),
			l.took(), l.Outcome, grouped(l.Read), grouped(l.Applied), grouped(l.Dead), grouped(l.Profiles),
			grouped(l.Chunks), grouped(int64(l.Rate+0.5)), l.Host, l.Version, orDash(strings.Join(strings.Fields(l.Error+" "+l.Note), " ")))
	}
	return w.Flush()
}
