package main

import (
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/ledger"
	"aggregator/internal/terminal"
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
	Source    string    `json:"source"`
	Position  string    `json:"position"`
	Pushed    time.Time `json:"pushed_at"` // when the entry there was added
	Processed int64     `json:"settled"`   // entries since the first checkpoint, or the last reset
	Epoch     int64     `json:"epoch"`     // how often it was reset
	Updated   time.Time `json:"updated_at"`
}

func newCheckpointShow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "List the checkpoints",
		Long:  `Lists for each source the position up to which every entry is processed. It changes nothing.`,
		Example: `  aggregator checkpoint show
  aggregator checkpoint show -o json`,
	}
	out := addTableOutput(cmd)
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
			states[i] = checkpointState{
				c.Source, c.Position.String(), c.Position.Time(), c.Entries - c.Base, c.Epoch, c.Updated.UTC(),
			}
		}
		if out.json() {
			return writeJSON(a.stdout, map[string]any{"checkpoints": states})
		}
		table := &terminal.Table{Wide: out.wide(), Columns: []terminal.Column{
			{Name: "SOURCE", Least: 10, Tail: true},
			{Name: "POSITION"},
			{Name: "PUSHED AT", Drop: 1},
			{Name: "PROCESSED", Right: true},
			{Name: "UPDATED AT"},
		}}
		for _, s := range states {
			position, pushed := s.Position, s.Pushed.Format(time.RFC3339)
			if s.Pushed.UnixMilli() == 0 { // nothing was read yet
				position, pushed = "-", "-"
			}
			table.Add(s.Source, position, pushed, grouped(s.Processed), s.Updated.Format(time.RFC3339))
		}
		return table.Write(a.stdout, a.terminal())
	})
	return cmd
}
