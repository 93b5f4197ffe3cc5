package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"aggregator/config"
)

const longHelp = `aggregator drains like and dislike events from Redis in chunks, adds up what they mean for
each child profile, applies the sums to PostgreSQL, each event exactly once, and removes
processed entries from Redis.

It needs two addresses: AGGREGATOR_REDIS_URL and AGGREGATOR_POSTGRES_URL. All other settings
have defaults: aggregator help settings.

Results go to stdout, logs and progress to stderr.

` + exitCodesHelp

const settingsHelp = `Every setting may come from a flag, else from an AGGREGATOR_* variable (--chunk-max-events
is AGGREGATOR_CHUNK_MAX_EVENTS), else from the file, else it has a default. The addresses of
the servers have no flags, because everyone on a machine can read its command lines: set
AGGREGATOR_REDIS_URL (else REDIS_URL) and AGGREGATOR_POSTGRES_URL (else DATABASE_URL, else
libpq's PG* variables), or redis.url and postgres.url in the file; or name a file that holds
nothing but the URL, by --redis-url-file and --postgres-url-file.

"aggregator config print --show-origin" shows the settings in force and where each is from.

Flags of all commands:
`

// groups are the headings of the commands in the help, and the commands under each.
var groups = []struct{ id, title string }{
	{"run", "Run:"}, {"look", "Look:"}, {"repair", "Repair and maintain:"}, {"setup", "Set up:"},
}

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
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
	}
	addTo(root, "run", newRun(a), newDrain(a), newPush(a))
	addTo(root, "look", newStatus(a), newDoctor(a), newVerify(a), newHistory(a), newExplain(a), newRuns(a), newMembers(a))
	addTo(root, "repair", newDead(a), newCheckpoint(a), newSearchText(a), newPurge(a), newErase(a))
	addTo(root, "setup", newMigrate(a), newConfig(a), newVersion(a))
	root.SetHelpCommandGroupID("setup")
	root.SetCompletionCommandGroupID("setup")
	root.AddCommand(&cobra.Command{
		Use: "settings", Short: "The settings: flags, variables and the file",
		Long: settingsHelp + strings.TrimRight(root.PersistentFlags().FlagUsagesWrapped(100), "\n"),
	})
	root.SetHelpCommand(newHelp(root))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetUsageTemplate(usageTemplate)
	completeSettings(root)
	completeFlags(root)
	strictUsage(root)
	return root
}

func addTo(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, cmd := range commands {
		cmd.GroupID = group
		root.AddCommand(cmd)
	}
}

// newHelp is cobra's help, except that it fails for a command that does not exist.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help COMMAND",
		Short: "Show the help of a command, or of the settings",
		Example: `  aggregator help drain
  aggregator help settings`,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			cmd, _, err := root.Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return commandNames(cmd), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = noneOf(cmd, rest)
			}
			if err != nil {
				return usageError("%w; see aggregator --help", err)
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// completeSettings completes the values of the settings that have a few.
func completeSettings(root *cobra.Command) {
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		words := strings.Split(f.Value.Type(), "|")
		few := slices.DeleteFunc(slices.Clone(words), func(word string) bool { return word == "number" })
		if len(words) > 1 {
			_ = root.RegisterFlagCompletionFunc(f.Name, // fails only for a flag that is not there
				cobra.FixedCompletions(few, cobra.ShellCompDirectiveNoFileComp))
		}
	})
}

// usageTemplate is cobra's, with the flags of the settings left to "aggregator help settings".
const usageTemplate = `Usage:{{if .HasAvailableSubCommands}}{{if .Annotations.works_alone}}
  {{.CommandPath}} [flags]{{end}}
  {{.CommandPath}} COMMAND{{else}}
  {{.UseLine}}{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}{{$commands := .Commands}}{{if .Groups}}{{range $group := .Groups}}

{{.Title}}{{range $commands}}{{if and (eq .GroupID $group.ID) .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{else}}

Commands:{{range $commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{end}}{{if and .HasParent .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsagesWrapped 100 | trimTrailingWhitespaces}}{{end}}

Each setting has a flag too: aggregator help settings{{if .HasAvailableSubCommands}}
More on a command: {{.CommandPath}} COMMAND --help{{end}}
`
