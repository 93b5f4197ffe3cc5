package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/runs"
	"aggregator/internal/terminal"
)

func newRunsShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show all of one run",
		Long: `Shows all that is known of a run, named by its id in aggregator runs: its counts, its host and
version, and its whole error or note. The JSON form is that of the list.`,
		Example: `  aggregator runs show 17
  aggregator runs show 17 -o json`,
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeFrom(offerRuns),
	}
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, args []string) error {
		id, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return usageError("ID = %q: want the one that aggregator runs shows, a whole number", args[0])
		}
		pool, err := a.OpenPostgres(cmd.Context(), 1)
		if err != nil {
			return err
		}
		defer pool.Close()
		run, err := runs.Find(cmd.Context(), pool, id)
		if err != nil {
			return err
		}
		line := newRunLine(run)
		if out.json() {
			return writeJSON(a.stdout, line)
		}
		return line.print(a.stdout, a.terminal())
	})
	return cmd
}

// print writes a line for each thing that is known.
func (l runLine) print(w io.Writer, to terminal.Terminal) error {
	table := propertyTable()
	table.Add("id", fmt.Sprint(l.ID))
	table.Add("kind", l.Kind)
	table.Add("outcome", string(l.Outcome))
	if l.Due != nil {
		table.Add("due", l.Due.Format(time.RFC3339))
	}
	table.Add("started", l.Started.Format(time.RFC3339))
	ended := "-"
	if l.Finished != nil {
		ended = l.Finished.Format(time.RFC3339)
	}
	table.Add("last seen", l.Seen.Format(time.RFC3339))
	table.Add("ended", ended)
	table.Add("took", l.took())
	table.Add("read", grouped(l.Read)+", "+grouped(int64(l.Rate+0.5))+" a second")
	table.Add("applied", grouped(l.Applied))
	table.Add("dead", grouped(l.Dead))
	table.Add("profiles", grouped(l.Profiles))
	table.Add("chunks", grouped(l.Chunks))
	table.Add("host", l.Host)
	table.Add("version", l.Version)
	table.Add("note", orDash(l.Note))
	table.Add("error", orDash(l.Error))
	return table.Write(w, to)
}

// propertyTable is a table of names and values, which are not cut.
func propertyTable() *terminal.Table {
	return &terminal.Table{Bare: true, Columns: []terminal.Column{{}, {Least: 20, Flow: true}}}
}
