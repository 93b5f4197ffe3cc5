package main

import (
	"github.com/spf13/cobra"

	"aggregator/config"
)

const longHelp = `aggregator drains like and dislike events from Redis in chunks, adds up what they mean for
each child profile, applies the sums to PostgreSQL, each event exactly once, and removes
processed entries from Redis.

Every setting may come from a flag, else from an AGGREGATOR_* variable (--chunk-max-events
is AGGREGATOR_CHUNK_MAX_EVENTS), else from the file, else it has a default. The addresses of
the servers have no flags, because everyone on a machine can read its command lines: set
AGGREGATOR_REDIS_URL (else REDIS_URL) and AGGREGATOR_POSTGRES_URL (else DATABASE_URL, else
libpq's PG* variables), or redis.url and postgres.url in the file; or name a file that holds
nothing but the URL, by --redis-url-file and --postgres-url-file.

Results go to stdout, logs and progress to stderr.

` + exitCodesHelp

// newRoot puts the commands together.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "aggregator",
		Short: "Apply like and dislike events from Redis to PostgreSQL, exactly once",
		Long:  longHelp,
		Example: `  aggregator migrate up
  aggregator drain
  aggregator run`,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Version:       programVersion(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate(versionLine())
	config.AddFlags(root.PersistentFlags())
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.AddCommand(
		newRun(a),
		newDrain(a),
		newStatus(a),
		newDoctor(a),
		newVerify(a),
		newDead(a),
		newMigrate(a),
		newHistory(a),
		newRuns(a),
		newSearchText(a),
		newPurge(a),
		newCheckpoint(a),
		newConfig(a),
		newVersion(a),
	)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	strictUsage(root)
	return root
}
