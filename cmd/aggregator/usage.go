package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// strictUsage makes every wrong argument or flag below cmd an error with errUsage, also of
// the commands that cobra adds. A command that only groups others wants one of them: cobra
// would show its help and report success, also for a misspelt one.
func strictUsage(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	args := cmd.Args
	switch {
	case cmd.HasSubCommands():
		args = noneOf
		if cmd.Run == nil && cmd.RunE == nil {
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				return usageError("%s: want one of %s", cmd.Name(), strings.Join(commandNames(cmd), ", "))
			}
		}
	case cmd.Name() == "help":
		args = cobra.ArbitraryArgs
	case args == nil:
		args = nothing
	}
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		if err := args(cmd, given); err != nil {
			return usageError("%w; see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w; see %s --help", err, cmd.CommandPath())
	})
	for _, sub := range cmd.Commands() {
		strictUsage(sub)
	}
}

func usageError(format string, args ...any) error {
	return tag(errUsage, fmt.Errorf(format, args...))
}

// noneOf refuses what is no subcommand, with those that it may have been meant to be.
func noneOf(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		hint = ", perhaps " + strings.Join(similar, " or ")
	}
	return fmt.Errorf("unknown command %q%s", args[0], hint)
}

func nothing(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}
