package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by a build that names it: -ldflags "-X main.version=1.2.3".
var version string

// programVersion returns the version of the program: the one that its build named, else the one
// that the go command recorded of the module, by its tag or commit, else "unknown".
func programVersion() string {
	if version != "" {
		return version
	}
	info, _ := debug.ReadBuildInfo()
	return recordedVersion(info)
}

func recordedVersion(info *debug.BuildInfo) string {
	if info == nil || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "unknown"
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}

func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

// versionLine is what both `version` and `--version` print.
func versionLine() string {
	return fmt.Sprintf("aggregator %s (%s, %s)\n", programVersion(), runtime.Version(), platform())
}

func newVersion(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of the program",
		Example: `  aggregator version
  aggregator version -o json
  aggregator --version`,
	}
	out := addOutput(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		if out.json() {
			return writeJSON(a.stdout, map[string]string{
				"version": programVersion(), "go": runtime.Version(), "platform": platform(),
			})
		}
		_, err := fmt.Fprint(a.stdout, versionLine())
		return err
	}
	return cmd
}
