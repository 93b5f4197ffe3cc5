package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"aggregator/internal/admin"
)

// leavingMetrics is a drain's RunE that leaves in the file, if one is named, how the drain ended: the time
// and the exit code, and whatever figures the drain itself has noted. It is also an error if that fails.
func leavingMetrics(file *string, ended *admin.Drained, run func(*cobra.Command, []string) error) func(
	*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		began := time.Now()
		err := run(cmd, args)
		if *file == "" || errors.Is(err, errUsage) {
			return err
		}
		ended.At, ended.Took, ended.ExitCode = time.Now(), time.Since(began), exitCode(err)
		if failed := ended.WriteTextfile(*file); failed != nil {
			err = errors.Join(err, fmt.Errorf("--metrics-textfile: %w", failed))
		}
		return err
	}
}
