// Package meter measures what a run costs: processor time by process, peak memory, bytes
// of log, and updates that were heap-only.
package meter

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The kernel tells processor times in ticks of this length, on every architecture of Linux
// that Go supports.
const tick = 10 * time.Millisecond

// CPU is the processor time of a process so far, with that of its children that are alive
// or were waited for: a PostgreSQL server is its postmaster and all backends there ever
// were. A process that is gone has none.
func CPU(pid int) time.Duration {
	all := map[int][]int{}
	ticks := map[int]int64{}
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range names {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // ended meanwhile
		}
		id, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			continue
		}
		parent, used := parseStat(stat)
		all[parent] = append(all[parent], id)
		ticks[id] = used
	}
	sum, queue := int64(0), []int{pid}
	for len(queue) > 0 {
		sum += ticks[queue[0]]
		queue = append(queue[1:], all[queue[0]]...)
	}
	return time.Duration(sum) * tick
}

// parseStat takes from a line of /proc/PID/stat the parent, and the time that the process
// and those children of it that it waited for have used.
func parseStat(stat []byte) (parent int, ticks int64) {
	// pid (name) state parent ..., where the name may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 15 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(fields[1])
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		n, _ := strconv.ParseInt(field, 10, 64)
		ticks += n
	}
	return parent, ticks
}

// Busy is the processor time that the whole machine has used so far.
func Busy() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("unexpected /proc/stat: %q", line)
	}
	var ticks int64
	for i, field := range fields[1:9] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		if i != 3 && i != 4 {
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}

// PeakMemory is the most memory, in bytes, that a process has had resident so far, or 0 if
// it is gone. What wait4 tells of a child would include what we had when we started it.
func PeakMemory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}
