package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"aggregator/internal/history"
	"aggregator/internal/runs"
	"aggregator/internal/terminal"
)

// kindErase is the kind of the record.
const kindErase = "erase"

func newErase(a *app) *cobra.Command {
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use:   "erase PROFILE",
		Short: "Remove what the aggregator keeps of a child",
		Long: `Removes what the aggregator's own tables say of a child profile: the journal, and of its dead
letters the profile, the book, the payload and the detail. A dead letter that is not settled is
dropped. Entries that are no events belong to the profile if they begin with its id. Marks stay:
a mark says only up to where events of a profile were counted, and without it they would count
again.

It does not touch the application's tables, and not Redis: entries that wait there are applied,
and those that trim.retain keeps are removed in time. Erase after the application has removed
the child and no more events come. With --dry-run it counts and changes nothing; without either
flag it does the same and exits with 64. It needs only PostgreSQL, and the role
aggregator_purge. Safe to repeat.`,
		Example: `  aggregator erase 10008 --dry-run
  aggregator erase 10008 --yes`,
		Args: exactly("PROFILE"),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "confirm that it is to be removed")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "count, and change nothing")
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, args []string) error {
		profile, err := profileID(args[0])
		if err != nil {
			return err
		}
		if yes && dryRun {
			return usageError("want --yes or --dry-run, not both")
		}
		pool, err := a.OpenPostgres(cmd.Context(), 3)
		if err != nil {
			return err
		}
		defer pool.Close()
		var done history.Erased
		erase := func(ctx context.Context) (err error) {
			done, err = history.Erase(ctx, pool, profile, !yes)
			return err
		}
		if yes {
			err = a.Recorder(pool).Record(cmd.Context(), runs.Job{Kind: kindErase}, func() (runs.Outcome, error) {
				return runs.Done, erase(cmd.Context())
			})
		} else {
			err = erase(cmd.Context())
		}
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%s of the journal, and empty %s, of which %s not settled", terminal.Count(done.Journal, "row"),
			letterCount(done.Letters.Emptied), terminal.Count(done.Letters.Dropped, "is", "are"))
		switch {
		case !yes && !dryRun:
			return usageError("this would remove %s; pass --yes to confirm", what)
		case out.json():
			return writeJSON(a.stdout, eraseReport{
				ProfileID: profile, DryRun: dryRun, Journal: done.Journal,
				Emptied: done.Letters.Emptied, Dropped: done.Letters.Dropped,
			})
		case dryRun:
			_, err = fmt.Fprintf(a.stdout, "would remove %s\n", what)
		default:
			_, err = fmt.Fprintf(a.stdout, "removed %s of the journal, and emptied %s, of which %s not settled\n",
				terminal.Count(done.Journal, "row"), letterCount(done.Letters.Emptied),
				terminal.Count(done.Letters.Dropped, "was", "were"))
		}
		return err
	})
	return cmd
}

// eraseReport is what was removed. Its names are those of the JSON form.
type eraseReport struct {
	ProfileID int64 `json:"child_profile_id"`
	DryRun    bool  `json:"dry_run"`
	Journal   int64 `json:"journal"`      // rows removed
	Emptied   int64 `json:"dead_letters"` // that say nothing of the child any more
	Dropped   int64 `json:"dropped"`      // of these: they were not settled
}
