package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"aggregator/internal/apply"
	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/scores"
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
		pool, err := a.OpenPostgres(cmd.Context(), 2)
		if err != nil {
			return err
		}
		defer pool.Close()
		if err := a.CheckTables(cmd.Context(), pool); err != nil {
			return err
		}
		if chosen.one != nil {
			return a.retryOne(cmd.Context(), pool, *chosen.one, out)
		}
		began := time.Now()
		done, err := a.retryChosen(cmd.Context(), pool, chosen)
		if reportErr := a.reportRetry(done, time.Since(began), out); err == nil {
			err = reportErr
		}
		if dead := done.StillDead(); err == nil && dead > 0 {
			err = fmt.Errorf("%s of %s still cannot be applied", grouped(dead), letterCount(done.Tried()))
		}
		return err
	})
	return cmd
}

func (a *app) retrier(pool *pgxpool.Pool) *apply.Retrier {
	return &apply.Retrier{
		Pool: pool,
		Catalogue: scores.NewCatalogue(pool, a.log, scores.CatalogueOptions{
			Books: 100 * apply.RetryPage, Profiles: 100 * apply.RetryPage, TTL: time.Minute,
		}),
		Decoder:   events.NewDecoder(a.cfg.Events.Weights),
		Preferred: a.cfg.History.Preferred,
		Journal:   a.cfg.Journal.Keep > 0,
		Durable:   true,
	}
}

func (a *app) retryChosen(ctx context.Context, pool *pgxpool.Pool, chosen selection) (done apply.Retried, err error) {
	retrier := a.retrier(pool)
	for letters, err := range limited(deadletter.Pages(ctx, pool, chosen.filter, apply.RetryPage), chosen.limit) {
		if err != nil {
			return done, err
		}
		page, err := retrier.Retry(ctx, letters)
		done.Add(page)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// retryOne fails unless it is this command that applies the dead letter.
func (a *app) retryOne(ctx context.Context, pool *pgxpool.Pool, id deadletter.ID, out *output) error {
	letter, err := findUnsettled(ctx, pool, id)
	if err != nil {
		return err
	}
	began := time.Now()
	done, err := a.retrier(pool).Retry(ctx, []deadletter.Letter{letter})
	switch {
	case err != nil:
		return err
	case done.Before > 0:
		return fmt.Errorf("%s: %w", id, deadletter.ErrSettled)
	}
	for why := range done.Failed {
		return fmt.Errorf("%s still cannot be applied: %s", id, why)
	}
	return a.reportRetry(done, time.Since(began), out)
}

// findUnsettled is deadletter.Find for callers that want to settle it.
func findUnsettled(ctx context.Context, pool *pgxpool.Pool, id deadletter.ID) (deadletter.Letter, error) {
	letter, err := deadletter.Find(ctx, pool, id)
	if err == nil && letter.Settled != nil {
		err = fmt.Errorf("%s: %w: %s", id, deadletter.ErrSettled, settlement(letter))
	}
	return letter, err
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
