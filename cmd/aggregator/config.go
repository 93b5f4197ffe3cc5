package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check or show the settings",
		Example: `  aggregator config check --config /etc/aggregator/aggregator.yaml
  aggregator config print --show-origin`,
	}
	cmd.AddCommand(newConfigCheck(a), newConfigPrint(a))
	return cmd
}

func newConfigCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check whether the settings are valid",
		Long: `Prints ok, or a line for each error in the settings, and then exits with 78. It connects to
nothing.`,
		Example: `  aggregator config check`,
		RunE: a.configured(func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.stdout, "ok")
			return err
		}),
	}
}

func newConfigPrint(a *app) *cobra.Command {
	var origins bool
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Show the settings in force, without passwords",
		Long: `Shows all settings as YAML, in the form of the settings file. Passwords are shown as xxxxx.
With --show-origin each line ends with where its value is from: a flag, a variable, the
line of a file, a file that holds a URL, or the default.`,
		Example: `  aggregator config print
  aggregator config print --show-origin`,
		RunE: a.configured(func(*cobra.Command, []string) error {
			return a.cfg.Print(a.stdout, origins)
		}),
	}
	cmd.Flags().BoolVar(&origins, "show-origin", false, "show where each value comes from")
	return cmd
}
