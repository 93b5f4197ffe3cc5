// Package environment says what a benchmark runs on.
package environment

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"aggregator/scripts/bench/results"
	"aggregator/scripts/bench/servers"
)

// Read reads the environment of this machine, and asks the binary and the servers for
// their versions.
func Read(ctx context.Context, binary string, s *servers.Servers) (results.Environment, error) {
	e := results.Environment{Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: processor(), Memory: memory(), Kernel: kernel()}
	version, err := exec.CommandContext(ctx, binary, "version").Output()
	if err != nil {
		return e, fmt.Errorf("%s version: %w (make build makes the aggregator)", binary, err)
	}
	e.Aggregator = firstLine(version)
	e.Redis, e.Postgres, err = s.Versions(ctx)
	return e, err
}

func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return string(bytes.TrimSpace(line))
}

// processor is what the first core says it is.
func processor() string { return valueIn("/proc/cpuinfo", "model name") }

func memory() int64 {
	kib, _ := strconv.ParseInt(strings.TrimSuffix(valueIn("/proc/meminfo", "MemTotal"), " kB"), 10, 64)
	return kib << 10
}

// valueIn is what stands behind the first `name:` in a file of /proc; empty if nothing does.
func valueIn(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func kernel() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
}
