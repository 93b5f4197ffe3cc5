package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes us the parent of what a command leaves running, so that descendants
// finds it.
func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// signalAll signals all descendants except those given and theirs.
func signalAll(except []int, sig syscall.Signal) {
	for _, pid := range descendants(os.Getpid(), except...) {
		_ = syscall.Kill(pid, sig)
	}
}

// endAll ends all descendants except those given and theirs: politely, then by force.
func endAll(except []int) {
	if reapAll(except) == 0 {
		return
	}
	signalAll(except, syscall.SIGTERM)
	deadline := time.Now().Add(graceAfterTerminate)
	for reapAll(except) > 0 {
		if time.Now().After(deadline) {
			signalAll(except, syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// reapAll lets the dead among the descendants go and returns how many are alive.
func reapAll(except []int) int {
	alive := 0
	for _, pid := range descendants(os.Getpid(), except...) {
		reaped, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		if reaped != pid && err == nil || err == syscall.ECHILD {
			alive++ // running, or the child of one that is
		}
	}
	return alive
}

// descendants lists the children of a process and theirs, leaving out some with theirs.
func descendants(root int, except ...int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // ended meanwhile
		}
		// pid (name) state parent ..., where the name may hold anything.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil || len(fields) < 2 || slices.Contains(except, pid) {
			continue
		}
		parent, err := strconv.Atoi(string(fields[1]))
		if err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	found := slices.Clone(children[root])
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found
}
