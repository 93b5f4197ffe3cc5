package main

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aggregator/config"
	"aggregator/internal/deadletter"
	"aggregator/internal/ledger"
	"aggregator/internal/runs"
	"aggregator/internal/service"
)

// completeFlags offers files only for the flags below cmd that name one. Without a completion of
// their own, the shell would offer them for all.
func completeFlags(cmd *cobra.Command) {
	offer := func(f *pflag.Flag) {
		placeholder, _ := pflag.UnquoteUsage(f)
		if _, known := cmd.GetFlagCompletionFunc(f.Name); known || placeholder == "file" ||
			strings.HasSuffix(f.Name, "-file") {
			return
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions) // fails only for a flag that is not there
	}
	// Its own only: cobra's LocalFlags merges those of all above into each command, a fifth of the time of a start.
	cmd.Flags().VisitAll(offer)
	cmd.PersistentFlags().VisitAll(offer)
	for _, sub := range cmd.Commands() {
		completeFlags(sub)
	}
}

// completeFrom offers what PostgreSQL knows, as far as it answers at once. Where it does not, nothing
// is offered: there is nowhere to say why.
func (a *app) completeFrom(list func(context.Context, *pgxpool.Pool, []string) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		const nothing = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		cfg, err := config.Load(cmd.Flags())
		if err != nil {
			return nil, nothing
		}
		a.cfg = cfg
		a.Instance = service.New(cfg, slog.New(slog.DiscardHandler), programVersion())
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		pool, err := a.OpenPostgres(ctx, 1)
		if err != nil {
			return nil, nothing
		}
		defer pool.Close()
		offered, err := list(ctx, pool, args)
		if err != nil {
			return nil, nothing
		}
		return offered, nothing
	}
}

// offerSources are the sources that were drained.
func offerSources(ctx context.Context, pool *pgxpool.Pool, _ []string) (names []string, err error) {
	checkpoints, err := ledger.Checkpoints(ctx, pool)
	for _, c := range checkpoints {
		names = append(names, c.Source)
	}
	return names, err
}

// offerLetters are the arguments SOURCE POSITION, one by one: of dead letters that are not settled,
// each with its reason.
func offerLetters(ctx context.Context, pool *pgxpool.Pool, args []string) (positions []string, err error) {
	switch len(args) {
	case 0:
		return offerSources(ctx, pool, args)
	case 1:
		filter := deadletter.Filter{Sources: args, ByPosition: true}
		for page, err := range deadletter.Pages(ctx, pool, filter, letterPage) {
			for _, l := range page {
				positions = append(positions, cobra.CompletionWithDesc(l.Position.String(), string(l.Reason)))
			}
			return positions, err
		}
	}
	return nil, nil
}

// offerRuns are the ids of the latest runs, each with its kind and how it ended.
func offerRuns(ctx context.Context, pool *pgxpool.Pool, args []string) (ids []string, err error) {
	if len(args) > 0 {
		return nil, nil
	}
	latest, err := runs.Latest(ctx, pool, "", 20)
	for _, r := range latest {
		ids = append(ids, cobra.CompletionWithDesc(strconv.FormatInt(r.ID, 10), r.Kind+", "+string(r.Outcome)))
	}
	return ids, err
}
