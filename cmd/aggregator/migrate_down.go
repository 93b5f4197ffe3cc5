package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/postgres"
	"aggregator/internal/runs"
	"aggregator/internal/service"
)

func newMigrateDown(a *app) *cobra.Command {
	var to int64
	var yes bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Undo the newest migration, or all after a version",
		Long: `Undoes the newest migration, or with --to all that are after that version, newest first, so
that an earlier program can be put back where the schema is not marked compatible with it.
Without --yes it changes nothing, shows the statements that it would run, and exits with 64.

A migration that is needed to count each event once cannot be undone; nor can one that only a
newer program knows: run this command with that program. If one of the migrations cannot be
undone, nothing is changed.

Stop the service first: while one of this version is running, or another command of it, it
exits with 75. Each migration is undone in a transaction of its own, and migrate up applies it
again. It needs a connection to PostgreSQL itself, not through a pooler.`,
		Example: `  aggregator migrate down
  aggregator migrate down --yes
  aggregator migrate down --to 9 --yes`,
	}
	cmd.Flags().Int64Var(&to, "to", 0, "undo all migrations after this version, not just the newest")
	cmd.Flags().BoolVar(&yes, "yes", false, "undo them")
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		switch {
		case !cmd.Flags().Changed("to"):
			to = -1 // the newest alone
		case to < 0:
			return usageError("--to=%d: want a version of the schema", to)
		}
		if err := a.direct(); err != nil {
			return err
		}
		o := a.PostgresOptions(0)
		plan, err := postgres.PlanDown(cmd.Context(), o, to)
		if err != nil {
			return err
		}
		if !yes && len(plan.Migrations) > 0 {
			if err := printPlan(a.stdout, plan); err != nil {
				return err
			}
			return usageError("nothing was changed; pass --yes to confirm")
		}
		if err := a.noneNeeds(cmd.Context(), plan); err != nil {
			return err
		}
		if err := postgres.MigrateDown(cmd.Context(), o, plan.To); err != nil {
			return err
		}
		for _, m := range plan.Migrations {
			fmt.Fprintf(a.stdout, "undid %d %s\n", m.Version, m.Name)
		}
		_, err = fmt.Fprintf(a.stdout, "the schema is at version %d\n", plan.To)
		return err
	})
	return cmd
}

func printPlan(w io.Writer, plan postgres.Rollback) error {
	for _, m := range plan.Migrations {
		fmt.Fprintf(w, "%d %s would be undone:\n    %s\n", m.Version, m.Name, strings.ReplaceAll(m.Down, "\n", "\n    "))
	}
	_, err := fmt.Fprintf(w, "the schema would be at version %d\n", plan.To)
	return err
}

// noneNeeds fails if something of this program's version is running, as far as is known, and warns about what
// another version runs.
func (a *app) noneNeeds(ctx context.Context, plan postgres.Rollback) error {
	if len(plan.Migrations) == 0 {
		return nil
	}
	pool, err := postgres.Open(ctx, a.PostgresOptions(2))
	if err != nil {
		return err
	}
	defer pool.Close()
	live, err := runs.Live(ctx, pool)
	if err != nil {
		return err
	}
	for _, r := range live {
		since := r.Started.UTC().Format(time.RFC3339)
		if r.Version == version {
			return tag(service.ErrElsewhere,
				fmt.Errorf("the %s on %s since %s is of this version and needs what would be undone, "+
					"or was killed within this minute; stop it first, and wait for its end", r.Kind, r.Host, since))
		}
		a.log.Warn("a run of another version is live: it halts if it needs what is undone", "kind", r.Kind, "host", r.Host,
			"version", r.Version, "since", since)
	}
	return nil
}
