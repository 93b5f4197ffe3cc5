package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"aggregator/internal/runs"
	"aggregator/internal/searchtext"
	"aggregator/internal/service"
	"aggregator/internal/terminal"
)

func newSearchText(a *app) *cobra.Command {
	var o searchtext.Options
	cmd := &cobra.Command{
		Use:   "search-text",
		Short: "Bring the search texts of books up to date",
		Long: `Derives book.search_text from title, author, publisher and topics of each book: in lower case,
normalized Unicode (NFKC), topics in order. It reads all books and writes those whose text
differs, so it may be stopped and repeated at any time, and books may be edited meanwhile: it
waits for no lock on a book, and overwrites nothing that has changed since it was read.

It exits with 75 if --max-duration ended it, if another session kept books locked, or while it
is running elsewhere: by hand, or by schedule in the service (schedule.search_text). It exits
with 1 if PostgreSQL refused a text, after it has done all the others.`,
		Example: `  aggregator search-text
  aggregator search-text --dry-run
  aggregator search-text --max-duration 1m -o json`,
	}
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "count the texts that are not up to date, and write nothing")
	cmd.Flags().DurationVar(&o.MaxDuration, "max-duration", 0,
		"stop after this time; 0: no limit. With a limit it starts at a random book")
	out := addOutput(cmd)
	cmd.RunE = a.resumable(func(cmd *cobra.Command, _ []string) error {
		if err := notBelow0("max-duration", o.MaxDuration); err != nil {
			return err
		}
		pool, err := a.OpenPostgres(cmd.Context(), 2)
		if err != nil {
			return err
		}
		defer pool.Close()
		began := time.Now()
		done, err := a.searchText(cmd.Context(), pool, o, out.json())
		if err != nil && done.Refused == 0 {
			return err
		}
		if said := a.printSearchText(out, o.DryRun, done, time.Since(began)); said != nil {
			return said
		}
		switch {
		case err != nil:
			return err
		case done.Left:
			return tag(errEventsLeft, fmt.Errorf("stopped by --max-duration with books left"))
		case done.Busy > 0:
			return tag(errEventsLeft,
				fmt.Errorf("another session had %s locked; run it again", terminal.Count(done.Busy, "book")))
		}
		return nil
	})
	return cmd
}

// searchText refreshes the texts: alone and with a record of it, if it writes.
func (a *app) searchText(ctx context.Context, pool *pgxpool.Pool, o searchtext.Options, quiet bool) (
	done searchtext.Result, err error,
) {
	r := service.NewTextRefresh(pool, o)
	do := func(ctx context.Context) (runs.Outcome, error) {
		total, err := searchtext.Count(ctx, pool)
		if err != nil {
			a.log.Debug("how many books there are is not known", "error", err)
		}
		defer a.showProgress("refreshing search texts", "books", total, func() int64 { return r.Counts().Read }, quiet).end()
		return r.Do(ctx)
	}
	if o.DryRun {
		_, err = do(ctx)
	} else {
		err = a.ByHand(ctx, pool, runs.Job{Kind: service.KindSearchText, Counts: r.Counts}, do)
	}
	return r.Result(), err
}

func (a *app) printSearchText(out *output, dry bool, done searchtext.Result, took time.Duration) error {
	if out.json() {
		return writeJSON(a.stdout, struct {
			searchtext.Result
			ElapsedSeconds float64 `json:"elapsed_seconds"`
		}{done, took.Seconds()})
	}
	verb := "wrote"
	if dry {
		verb = "would write"
	}
	_, err := fmt.Fprintf(a.stdout, "looked at %s in %s, %s %s\n",
		terminal.Count(done.Books, "book"), took.Round(time.Millisecond), verb, terminal.Count(done.Changed, "search text"))
	return err
}
