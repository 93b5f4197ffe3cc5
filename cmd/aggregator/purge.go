package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"aggregator/internal/history"
	"aggregator/internal/runs"
	"aggregator/internal/service"
	"aggregator/internal/terminal"
)

func newPurge(a *app) *cobra.Command {
	var o history.PurgeOptions
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Remove history that was deleted long ago",
		Long: `Removes for good the rows of history that the application deleted longer ago than
purge.older_than, with their favorites. If retention.all_days is set, it then thins out the
history: after that many days all but the last row of each day, and after retention.daily_days
all but the last row of each month, by UTC. The newest row of a profile and diagnoses stay.
What the journal has of a row goes with it. If journal.keep is set, so does what the journal has
from longer ago; if dead.keep is set, dead letters that were settled longer ago, whose number
aggregator verify still counts.

It works in small transactions and pauses after each, so that it may run beside the drain. It
may be stopped and repeated at any time, also with kill -9. If --max-duration ends it, it exits
with 75, and the next purge continues. It also exits with 75 while another purge is running: by
hand, or by schedule in the service (schedule.purge). It needs only PostgreSQL, and the role
aggregator_purge. With --dry-run it counts and removes nothing.`,
		Example: `  aggregator purge --dry-run
  aggregator purge --max-duration 1h
  aggregator purge --older-than 2160h -o json`,
	}
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "count, and remove nothing")
	cmd.Flags().DurationVar(&o.OlderThan, "older-than", 0, "in place of purge.older_than, such as 2160h")
	cmd.Flags().DurationVar(&o.MaxDuration, "max-duration", 0,
		"stop after this time, when the current batch is finished; 0: no limit")
	out := addOutput(cmd)
	cmd.RunE = a.resumable(func(cmd *cobra.Command, _ []string) error {
		if err := errors.Join(notBelow0("older-than", o.OlderThan), notBelow0("max-duration", o.MaxDuration)); err != nil {
			return err
		}
		configured := a.PurgeOptions()
		o.Retention, o.Tables = configured.Retention, configured.Tables
		o.JournalKeep, o.DeadKeep = configured.JournalKeep, configured.DeadKeep
		if !cmd.Flags().Changed("older-than") {
			o.OlderThan = configured.OlderThan
		}
		pool, err := a.OpenPostgres(cmd.Context(), 3)
		if err != nil {
			return err
		}
		defer pool.Close()
		return a.purge(cmd.Context(), pool, o, out)
	})
	return cmd
}

func (a *app) purge(ctx context.Context, pool *pgxpool.Pool, o history.PurgeOptions, out *output) error {
	r := service.NewPurge(pool, o)
	began := time.Now()
	do := func(ctx context.Context) (runs.Outcome, error) {
		total, err := history.CountDeleted(ctx, pool, o.OlderThan)
		if err != nil {
			a.log.Debug("how many rows there are to purge is not known", "error", err)
		}
		defer a.showProgress("purging", "rows", total, func() int64 { return r.Counts().Applied }, out.json()).end()
		began = time.Now()
		return r.Do(ctx)
	}
	var err error
	if o.DryRun {
		_, err = do(ctx)
	} else {
		err = a.ByHand(ctx, pool, runs.Job{Kind: service.KindPurge, Counts: r.Counts}, do)
	}
	if err != nil {
		return err
	}
	result := r.Result()
	report := newPurgeReport(o, result, time.Since(began))
	if out.json() {
		err = writeJSON(a.stdout, report)
	} else {
		err = report.print(a.stdout)
	}
	if result.Left && ctx.Err() == nil { // a signal is no limit
		err = errors.Join(tag(errEventsLeft, fmt.Errorf("stopped after %s, before the end", o.MaxDuration)), err)
	}
	return err
}

// purgeReport is the outcome of a purge. Its names are those of the JSON form.
type purgeReport struct {
	DryRun       bool    `json:"dry_run"`
	OlderThan    string  `json:"older_than"` // for people
	OlderSeconds float64 `json:"older_than_seconds"`
	history.PurgeResult
	Complete       bool    `json:"complete"`     // it came to the end
	BusySeconds    float64 `json:"busy_seconds"` // without the pauses
	ElapsedSeconds float64 `json:"elapsed_seconds"`
}

func newPurgeReport(o history.PurgeOptions, r history.PurgeResult, took time.Duration) purgeReport {
	return purgeReport{
		DryRun: o.DryRun, OlderThan: o.OlderThan.String(), OlderSeconds: o.OlderThan.Seconds(), PurgeResult: r,
		Complete: !r.Left, BusySeconds: r.Busy.Seconds(), ElapsedSeconds: took.Seconds(),
	}
}

func (r purgeReport) print(w io.Writer) error {
	verb, end := "purged", ""
	if r.DryRun {
		verb = "would purge"
	}
	if !r.Complete {
		end = "; stopped before the end"
	}
	took := time.Duration(r.ElapsedSeconds * float64(time.Second))
	_, err := fmt.Fprintf(w, `%s %s of history in %s%s
  deleted before  %12s
  thinned out     %12s
  favorites       %12s
  of the journal  %12s
  dead letters    %12s
`, verb, terminal.Count(r.Deleted+r.Thinned, "row"), took.Round(time.Millisecond), end, grouped(r.Deleted),
		grouped(r.Thinned), grouped(r.Genres+r.Topics), grouped(r.Journal), grouped(r.Dead))
	return err
}
