package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// worksAlone marks a command that has commands below it, and does something without one.
var worksAlone = map[string]string{"works_alone": "true"}

// strictUsage makes every wrong argument or flag below cmd an error with errUsage, also of the commands that
// cobra adds. A command that only groups others requires one of them: cobra would show its help and report
// success, also for a misspelled one.
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
	if !cmd.HasSubCommands() && cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		if err := args(cmd, given); err != nil {
			return usageError("%w; see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w; see %s --help", plainFlagError(err), cmd.CommandPath())
	})
	for _, sub := range cmd.Commands() {
		strictUsage(sub)
	}
}

// plainFlagError says what a flag wants, where the error is what Go's parser says.
func plainFlagError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	want := map[string]string{
		"int": "a whole number", "int64": "a whole number", "uint64": "a whole number", "float64": "a number",
		"bool": "true or false", "duration": "a duration, such as 90s or 5m",
	}[invalid.GetFlag().Value.Type()]
	if want == "" {
		return err
	}
	return fmt.Errorf("--%s = %q: want %s", invalid.GetFlag().Name, invalid.GetValue(), want)
}

// exactly requires these arguments.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return fmt.Errorf("unexpected argument %q", args[len(names)])
		}
		if len(args) < len(names) {
			return fmt.Errorf("want %s", strings.Join(names[len(args):], " "))
		}
		return nil
	}
}

// notBelow0 is an error of usage if the value of a flag is.
func notBelow0(name string, d time.Duration) error {
	if d < 0 {
		return usageError("--%s = %s: want 0s or more", name, d)
	}
	return nil
}

func usageError(format string, args ...any) error {
	return tag(errUsage, fmt.Errorf(format, args...))
}

// noneOf refuses what is no subcommand, and names those that may have been meant.
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

func nothing(cmd *cobra.Command, args []string) (err error) {
	if len(args) == 0 {
		return nil
	}
	err = fmt.Errorf("unexpected argument %q", args[0])
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.NoOptDefVal != "" && f.Value.Type() != "bool" { // its value is optional
			err = fmt.Errorf("%w; its value belongs to the flag: --%s=%s", err, f.Name, args[0])
		}
	})
	return err
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
