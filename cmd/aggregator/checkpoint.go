package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/ledger"
)

func newCheckpoint(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Show up to which position each source is processed, or reset it",
		Example: `  aggregator checkpoint show
  aggregator checkpoint reset`,
	}
	cmd.AddCommand(newCheckpointShow(a), newCheckpointReset(a))
	return cmd
}

// checkpointState is one line of the list. Its names are those of the JSON form.
type checkpointState struct {
	Source   string    `json:"source"`
	Position string    `json:"position"`
	Pushed   time.Time `json:"pushed_at"` // when the entry there was added
	Settled  int64     `json:"settled"`   // entries since the first checkpoint, or the last reset
	Epoch    int64     `json:"epoch"`     // how often it was reset
	Updated  time.Time `json:"updated_at"`
}

func newCheckpointShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "List the checkpoints",
		Long:  `Lists for each source the position up to which every entry is processed. It changes nothing.`,
		Example: `  aggregator checkpoint show
  aggregator checkpoint show -o json`,
	}
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		pool, err := a.OpenPostgres(cmd.Context(), 1)
		if err != nil {
			return err
		}
		defer pool.Close()
		checkpoints, err := ledger.Checkpoints(cmd.Context(), pool)
		if err != nil {
			return err
		}
		states := make([]checkpointState, len(checkpoints))
		for i, c := range checkpoints {
			states[i] = checkpointState{c.Source, c.Position.String(), c.Position.Time(), c.Entries - c.Base, c.Epoch, c.Updated.UTC()}
		}
		if out.json() {
			return writeJSON(a.stdout, map[string]any{"checkpoints": states})
		}
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SOURCE\tPOSITION\tPUSHED AT\tPROCESSED\tUPDATED AT")
		for _, s := range states {
			position, pushed := s.Position, s.Pushed.Format(time.RFC3339)
			if s.Pushed.UnixMilli() == 0 { // nothing was read yet
				position, pushed = "-", "-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Source, position, pushed, grouped(s.Settled), s.Updated.Format(time.RFC3339))
		}
		return w.Flush()
	})
	return cmd
}
