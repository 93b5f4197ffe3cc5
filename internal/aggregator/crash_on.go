//go:build faults

package aggregator

import (
	"os"
	"syscall"
)

// crash kills the process when it comes to the point named by CRASH_AT, for tests:
// after_read, mid_pipeline, before_checkpoint, after_checkpoint, before_trim, after_trim.
func crash(point string) {
	if os.Getenv("CRASH_AT") == point {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal arrives
	}
}
