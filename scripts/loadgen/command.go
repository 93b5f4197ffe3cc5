package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"aggregator/scripts/loadgen/tables"
)

// streams are where results (out) and everything else (err) go.
type streams struct{ out, err io.Writer }

// global are the flags of every command.
type global struct {
	streams
	redisURL, postgresURL string
	redisMode             string
	tables                tables.Kind
	output                string
}

// newCommand returns the command tree. Started becomes true once the flags of a
// subcommand have been understood; an error before that is one of usage.
func newCommand(s streams) (root *cobra.Command, started *bool) {
	g, started := &global{streams: s}, new(bool)
	root = &cobra.Command{
		Use:           "loadgen",
		Short:         "Load generator and independent oracle of the aggregator",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if g.output != "text" && g.output != "json" {
				return usage("unknown output %q: text or json", g.output)
			}
			if err := g.tables.Check(); err != nil {
				return usageError{err}
			}
			*started = true
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&g.redisURL, "redis-url", "", "Redis (default: AGGREGATOR_REDIS_URL, else REDIS_URL)")
	flags.StringVar(&g.redisMode, "redis-mode", "standalone",
		"what the URL leads to, as with the aggregator: standalone, sentinel or cluster")
	flags.StringVar(&g.postgresURL, "postgres-url", "",
		"PostgreSQL (default: AGGREGATOR_POSTGRES_URL, else DATABASE_URL, else the PG* variables)")
	flags.StringVar((*string)(&g.tables), "tables", string(tables.Own),
		"tables in PostgreSQL: own (made by aggregator migrate up) or origin (made by create-tables)")
	flags.StringVarP(&g.output, "output", "o", "text", "form of the result: text or json")
	root.AddCommand(createCommand(g), seedCommand(g), pushCommand(g), replayCommand(g), verifyCommand(g))
	return root, started
}

// print writes the result as one JSON document, or by text.
func (g *global) print(result any, text func(io.Writer)) error {
	if g.output != "json" {
		text(g.out)
		return nil
	}
	encoder := json.NewEncoder(g.out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(result)
}

// log writes a line of progress.
func (g *global) log(format string, args ...any) { fmt.Fprintf(g.err, format+"\n", args...) }
