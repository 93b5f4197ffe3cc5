package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aggregator/scripts/loadgen/catalogue"
)

func seedCommand(g *global) *cobra.Command {
	shape, reset := catalogue.Default(), false
	command := &cobra.Command{
		Use:   "seed",
		Short: "Fill a migrated database with books, profiles and scores of 0",
		Long: `Fill a migrated database with a catalogue, child profiles and their scores, all at 0.
The rows depend on the flags alone. A share of the score rows is left out, to show
that the aggregator creates what it does not find.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return g.seed(command, shape, reset)
		},
	}
	flags := command.Flags()
	shapeFlags(flags, &shape)
	flags.Int64Var(&shape.Books, "books", shape.Books, "books")
	flags.Int64Var(&shape.Profiles, "profiles", shape.Profiles, "child profiles")
	flags.Uint64Var(&shape.Seed, "seed", shape.Seed, "seed of all that is chosen at random")
	resetFlag(flags, &reset)
	return command
}

// shapeFlags are those that seed and replay have in common.
func shapeFlags(flags *pflag.FlagSet, shape *catalogue.Shape) {
	flags.Int64Var(&shape.Genres, "genres", shape.Genres, "genres")
	flags.Int64Var(&shape.Topics, "topics", shape.Topics, "topics")
	missingFlag(flags, shape)
}

func missingFlag(flags *pflag.FlagSet, shape *catalogue.Shape) {
	flags.Float64Var(&shape.Missing, "missing", shape.Missing, "share of score rows that seeding leaves out")
}

func resetFlag(flags *pflag.FlagSet, reset *bool) {
	flags.BoolVar(reset, "reset", false,
		"empty catalogue, profiles, scores, history, marks, checkpoints and dead letters first")
}

func (g *global) seed(command *cobra.Command, shape catalogue.Shape, reset bool) error {
	if err := shape.Check(); err != nil {
		return usageError{err}
	}
	ctx := command.Context()
	db, err := g.openPostgres(ctx)
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	start := time.Now()
	filled, err := catalogue.FillTables(ctx, db, g.tables, shape, reset)
	if err != nil {
		return err
	}
	took := time.Since(start)
	return g.print(struct {
		catalogue.Filled
		Seconds float64 `json:"seconds"`
	}{filled, took.Seconds()}, func(out io.Writer) {
		fmt.Fprintf(out, "seeded %d genres, %d topics, %d books (%d topics, %d types), %d profiles, %d score rows in %s\n",
			filled.Genres, filled.Topics, filled.Books, filled.BookTopics, filled.BookTypes, filled.Profiles, filled.ScoreRows,
			took.Round(time.Millisecond))
	})
}
