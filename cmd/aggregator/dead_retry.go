package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/apply"
	"aggregator/internal/service"
)

func newDeadRetry(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "retry [SOURCE POSITION]",
		Short: "Apply dead letters that can be applied now",
		Long: `Applies dead letters from their rows: one, named as dead list does, or all that the flags
choose. The settings in force decide what an event is worth: give the command those of the
service. It may be repeated, stopped, and used while the service runs: each dead letter counts
once. Those that still cannot be applied stay, with the error, and make the command fail.`,
		Example: `  aggregator dead retry book-like-events 1761985000123-0
  aggregator dead retry --reason unknown_action --newer-than 24h
  aggregator dead retry --all-unsettled -o json`,
		Args:              oneOrChosen,
		ValidArgsFunction: a.completeFrom(offerLetters),
	}
	flags := a.addLetterFlags(cmd, 0)
	cmd.Flags().BoolVar(&all, "all-unsettled", false, "all that are not settled")
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, args []string) error {
		chosen, err := flags.selected(cmd, args, all)
		if err != nil {
			return err
		}
		pool, err := a.OpenPostgres(cmd.Context(), 3)
		if err != nil {
			return err
		}
		defer pool.Close()
		began := time.Now()
		done, err := a.RetryLetters(cmd.Context(), pool, chosen, service.Asked{By: userName()})
		if err != nil && (chosen.One != nil || done.Tried() == 0) {
			return err
		}
		return cmp.Or(err, a.reportRetry(done, time.Since(began), out))
	})
	return cmd
}

func (a *app) reportRetry(done apply.Retried, took time.Duration, out *output) error {
	report := retryReport{
		ElapsedSeconds: took.Seconds(), Tried: done.Tried(), Applied: int64(done.Applied),
		Before: int64(done.Before), StillDead: done.StillDead(), Why: done.Failed,
	}
	if report.Why == nil {
		report.Why = map[string]int64{}
	}
	if out.json() {
		return writeJSON(a.stdout, report)
	}
	return report.print(a.stdout)
}

// retryReport is the outcome of a retry. Its names are those of the JSON form.
type retryReport struct {
	Tried     int64            `json:"tried"`
	Applied   int64            `json:"applied"`
	Before    int64            `json:"settled_before"` // by another process, after they had been listed
	StillDead int64            `json:"still_dead"`
	Why       map[string]int64 `json:"why"` // how many for each error

	ElapsedSeconds float64 `json:"elapsed_seconds"`
}

func (r retryReport) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "applied %s of %s; %s settled before, %s still dead\n",
		grouped(r.Applied), letterCount(r.Tried), grouped(r.Before), grouped(r.StillDead))
	for _, why := range slices.Sorted(maps.Keys(r.Why)) {
		fmt.Fprintf(w, "  %s: %s\n", grouped(r.Why[why]), why)
	}
	return err
}
