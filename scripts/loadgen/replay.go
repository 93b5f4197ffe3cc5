package main

import (
	"context"

	"github.com/spf13/cobra"

	"aggregator/scripts/loadgen/catalogue"
	"aggregator/scripts/loadgen/workload"
)

func replayCommand(g *global) *cobra.Command {
	settings, p := workload.Defaults(), newPusher(g)
	shape, seed, reset := catalogue.Default(), true, false
	command := &cobra.Command{
		Use:   "replay FILE",
		Short: "Push real ratings of books into Redis",
		Long: `Push the ratings of a file, in their order, as likes and dislikes. The file has lines
"User-ID;ISBN;Book-Rating" after a header, and may be compressed (.gz): the form of
the Book-Crossing data set. Readers become child profiles and ISBNs books, both
numbered from 1 in the order in which they first appear. A rating of 0 or 6-10 is a
like, one of 1-5 a dislike. Genres, topics and types of the books are chosen by a
hash of their number. Bad lines are left out and counted.`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			settings.Replay = args[0]
			ratings, err := g.readRatings(args[0])
			if err != nil {
				return err
			}
			if seed {
				shape.Profiles, shape.Books = ratings.Profiles, ratings.Books
				if err := g.fill(command.Context(), shape, reset); err != nil {
					return err
				}
			}
			return p.push(command.Context(), settings)
		},
	}
	flags := command.Flags()
	keyFlags(flags, &settings)
	shapeFlags(flags, &shape)
	flags.Uint64Var(&shape.Seed, "catalogue-seed", shape.Seed, "seed of the catalogue")
	flags.Int64Var(&settings.Count, "count", 0, "push only so many ratings (default: all)")
	flags.BoolVar(&seed, "seed-catalogue", true, "make the catalogue and profiles first")
	resetFlag(flags, &reset)
	p.flags(flags)
	return command
}

// readRatings reads the file and says what was wrong with it.
func (g *global) readRatings(path string) (*workload.Ratings, error) {
	ratings, err := workload.ReadRatings(path)
	if err != nil {
		return nil, err
	}
	g.log("%s: %d ratings of %d books by %d readers, %d bad lines left out",
		path, ratings.Len(), ratings.Books, ratings.Profiles, len(ratings.Bad))
	for _, bad := range ratings.Bad[:min(5, len(ratings.Bad))] {
		g.log("  %s", bad)
	}
	return ratings, nil
}

func (g *global) fill(ctx context.Context, shape catalogue.Shape, reset bool) error {
	if err := shape.Check(); err != nil {
		return usageError{err}
	}
	db, err := g.openPostgres(ctx)
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	filled, err := catalogue.FillTables(ctx, db, g.tables, shape, reset)
	if err != nil {
		return err
	}
	g.log("seeded %d books, %d profiles, %d score rows", filled.Books, filled.Profiles, filled.ScoreRows)
	return nil
}
