package main

import (
	"os"
	"runtime/debug"
)

// memoryGoal is how much memory the collector tries to keep us below when chunks are as large
// as they can be; it works harder then, and is not noticed otherwise. GOMEMLIMIT overrides it.
const memoryGoal = 110 << 20

// limitMemory is for commands that drain.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryGoal)
	}
}
