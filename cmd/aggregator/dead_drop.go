package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"aggregator/internal/deadletter"
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
		pool, err := a.OpenPostgres(cmd.Context(), 1)
		if err != nil {
			return err
		}
		defer pool.Close()
		dropped, err := dropLetters(cmd.Context(), pool, chosen, yes)
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

// dropLetters drops what is chosen, a page at a time. Without a yes it drops only what was named.
func dropLetters(ctx context.Context, pool *pgxpool.Pool, chosen selection, yes bool) (dropped int64, err error) {
	if chosen.one != nil {
		return dropOne(ctx, pool, *chosen.one)
	}
	if !yes {
		total, err := deadletter.Count(ctx, pool, chosen.filter)
		if chosen.limit > 0 {
			total = min(total, int64(chosen.limit))
		}
		if err == nil && total > 0 {
			err = usageError("this would drop %s for good; pass --yes to confirm", letterCount(total))
		}
		return 0, err
	}
	pages := deadletter.Pages(ctx, pool, chosen.filter, letterPage)
	for letters, err := range limited(pages, chosen.limit) {
		if err != nil {
			return dropped, err
		}
		ids := make([]deadletter.ID, len(letters))
		for i, l := range letters {
			ids[i] = l.ID()
		}
		n, err := deadletter.Drop(ctx, pool, ids)
		dropped += n
		if err != nil {
			return dropped, fmt.Errorf("after %s: %w", letterCount(dropped), err)
		}
	}
	return dropped, nil
}

func dropOne(ctx context.Context, pool *pgxpool.Pool, id deadletter.ID) (int64, error) {
	if _, err := findUnsettled(ctx, pool, id); err != nil {
		return 0, err
	}
	dropped, err := deadletter.Drop(ctx, pool, []deadletter.ID{id})
	if err == nil && dropped == 0 {
		err = fmt.Errorf("%s: %w", id, deadletter.ErrSettled)
	}
	return dropped, err
}
