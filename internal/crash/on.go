//go:build faults

package crash

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// At is where tests interfere: after_read, mid_pipeline, before_checkpoint, after_checkpoint, before_trim,
// after_trim; before_reset, rewound, after_reset. At the point that CRASH_AT names the process kills itself.
// At the one that PAUSE_AT names it makes the file PAUSE_FILE and goes on once that file is removed.
// "mid_pipeline:3" is the third time the point is reached.
func At(point string) {
	passed.Lock()
	passed.times[point]++
	times := passed.times[point]
	passed.Unlock()
	if named("CRASH_AT", point, times) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal arrives
	}
	if named("PAUSE_AT", point, times) {
		pause(os.Getenv("PAUSE_FILE"))
	}
}

var passed = struct {
	sync.Mutex
	times map[string]int
}{times: map[string]int{}}

func named(variable, point string, times int) bool {
	name, nth, counted := strings.Cut(os.Getenv(variable), ":")
	if name != point {
		return false
	}
	n, err := strconv.Atoi(nth)
	return (!counted && times == 1) || (err == nil && times == n)
}

func pause(file string) {
	_ = os.WriteFile(file, nil, 0o644)
	for {
		if _, err := os.Stat(file); err != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
