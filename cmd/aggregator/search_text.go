package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/searchtext"
)

func newSearchText(a *app) *cobra.Command {
	var o searchtext.Options
	cmd := &cobra.Command{
		Use:   "search-text",
		Short: "Bring the texts up to date that books are searched in",
		Long: `Derives book.search_text from title, author, publisher and topics of each book: in lower case,
normalised Unicode (NFKC), topics in order. It looks at all books and writes where the text
is another, so it may be stopped and repeated at any time, and books may be edited
meanwhile: it waits for no lock on a book, and overwrites nothing that has changed since it
looked.

Exits with 75 when --max-duration ended it, or when somebody else had books locked all the
while; with 1 when PostgreSQL refused a text, having done all the others.`,
		Example: `  aggregator search-text
  aggregator search-text --dry-run
  aggregator search-text --max-duration 1m -o json`,
	}
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "count the texts that are not up to date, and write nothing")
	cmd.Flags().DurationVar(&o.MaxDuration, "max-duration", 0, "stop after so long; 0: no limit. With a limit it begins with a book chosen by chance")
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		if o.MaxDuration < 0 {
			return usageError("--max-duration cannot be negative")
		}
		pool, err := a.openPostgres(cmd.Context(), 1)
		if err != nil {
			return err
		}
		defer pool.Close()
		began := time.Now()
		done, err := searchtext.Refresh(cmd.Context(), pool, o)
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
			return tag(errEventsLeft, fmt.Errorf("somebody else had %s books locked; run it again", grouped(done.Busy)))
		}
		return nil
	})
	return cmd
}

func (a *app) printSearchText(out *output, dry bool, done searchtext.Result, took time.Duration) error {
	if out.json() {
		return writeJSON(a.stdout, done)
	}
	verb := "wrote"
	if dry {
		verb = "would write"
	}
	_, err := fmt.Fprintf(a.stdout, "looked at %s books in %s, %s %s search texts\n",
		grouped(done.Books), took.Round(time.Millisecond), verb, grouped(done.Changed))
	return err
}
