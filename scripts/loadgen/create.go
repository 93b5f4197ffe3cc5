package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"aggregator/scripts/loadgen/tables"
)

func createCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "create-tables --tables origin",
		Short: "Create the tables of an application in an empty database",
		Long: `Create the tables of the application that the aggregator was made for, and the sixteen
personality types, in the first schema of the search path. "aggregator migrate up" comes
after that: it leaves these tables as they are and adds what it needs beside them. Our own
tables are not made here, but by "aggregator migrate up" in an empty database.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return g.create(command) },
	}
}

func (g *global) create(command *cobra.Command) error {
	if g.tables != tables.Origin {
		return usage("create-tables is for --tables %s; `aggregator migrate up` makes the others", tables.Origin)
	}
	ctx := command.Context()
	db, err := g.openPostgres(ctx)
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	if err := tables.Create(ctx, db); err != nil {
		return err
	}
	created := append(g.tables.Filled(), "mbti")
	return g.print(struct {
		Tables []string `json:"tables"`
	}{created}, func(out io.Writer) {
		fmt.Fprintf(out, "created %d tables of the application, with the personality types\n", len(created))
	})
}
