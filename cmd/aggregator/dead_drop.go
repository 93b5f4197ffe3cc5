package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"aggregator/internal/deadletter"
	"aggregator/internal/service"
)

func newDeadDrop(a *app) *cobra.Command {
	var all, yes bool
	cmd := &cobra.Command{
		Use:   "drop [SOURCE POSITION]",
		Short: "Settle dead letters without applying them",
		Long: `Marks dead letters as dropped: one, named as dead list does, or all that the flags choose.
They are kept, but no longer listed or retried. What flags choose it drops only with --yes;
without it, it says how many these are, and exits with 64.`,
		Example: `  aggregator dead drop book-like-events 1761985000123-0
  aggregator dead drop --reason malformed --older-than 720h --yes`,
		Args:              oneOrChosen,
		ValidArgsFunction: a.completeFrom(offerLetters),
	}
	flags := a.addLetterFlags(cmd, 0)
	cmd.Flags().BoolVar(&all, "all-unsettled", false, "all that are not settled")
	cmd.Flags().BoolVar(&yes, "yes", false, "drop what the flags choose")
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
		dropped, err := a.dropLetters(cmd.Context(), pool, chosen, yes)
		if err != nil {
			return err
		}
		if out.json() {
			return writeJSON(a.stdout, map[string]int64{"dropped": dropped})
		}
		_, err = fmt.Fprintf(a.stdout, "dropped %s\n", letterCount(dropped))
		return err
	})
	return cmd
}

// dropLetters drops what is chosen. Without a yes it drops only what was named.
func (a *app) dropLetters(ctx context.Context, pool *pgxpool.Pool, chosen deadletter.Choice, yes bool) (int64, error) {
	if chosen.One == nil && !yes {
		total, err := deadletter.Count(ctx, pool, chosen.Filter)
		if chosen.Limit > 0 {
			total = min(total, int64(chosen.Limit))
		}
		if err == nil && total > 0 {
			err = usageError("this would drop %s for good; pass --yes to confirm", letterCount(total))
		}
		return 0, err
	}
	return a.DropLetters(ctx, pool, chosen, service.Asked{By: userName()})
}

// userName is who runs the command, for records.
func userName() string {
	if who, err := user.Current(); err == nil {
		return who.Username
	}
	return "user " + strconv.Itoa(os.Getuid())
}
