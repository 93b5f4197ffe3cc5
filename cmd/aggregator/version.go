package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = "unknown"

func newVersion(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of the program",
		Example: `  aggregator version
  aggregator version -o json`,
	}
	out := addOutput(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		platform := runtime.GOOS + "/" + runtime.GOARCH
		if out.json() {
			return writeJSON(a.stdout, map[string]string{"version": version, "go": runtime.Version(), "platform": platform})
		}
		_, err := fmt.Fprintf(a.stdout, "aggregator %s (%s, %s)\n", version, runtime.Version(), platform)
		return err
	}
	return cmd
}
