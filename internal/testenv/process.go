package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 2 * time.Minute // before it recovers, PostgreSQL syncs every file, twice
	stopTimeout  = 30 * time.Second
	pollInterval = 5 * time.Millisecond
)

// process is a running server. Its output goes to a file, not a pipe, so that waiting for
// it never means waiting for whichever of its children holds the pipe.
type process struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
	leaves bool // its children leave its process group, as those of PostgreSQL do
}

// startProcess runs a server in folder dir under the unprivileged user of that folder. The
// kernel sends it onOrphaned when we die, in whatever way.
func startProcess(ctx context.Context, dir folder, onOrphaned syscall.Signal, bin string, args ...string) (
	*process, error,
) {
	p := &process{log: filepath.Join(dir.path, filepath.Base(bin)+".log"), exited: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open server log: %w", err)
	}
	defer func() { _ = log.Close() }() // the server has its own

	// ctx bounds the start; the server lives until it is stopped.
	p.cmd = dir.command(context.WithoutCancel(ctx), bin, args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr.Pdeathsig = onOrphaned
	// Ctrl-C is for us: we stop the servers after whatever is still using them.
	p.cmd.SysProcAttr.Setpgid = true
	if err := onSpawner(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", bin, err)
	}
	go func() {
		_ = p.cmd.Wait() // how a server ends is in its log
		close(p.exited)
	}()
	return p, nil
}

// ready waits until the server answers as check sees it. If it ends instead, the error
// carries the tail of its log.
func (p *process) ready(ctx context.Context, check func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended at start:\n%s", filepath.Base(p.cmd.Path), p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w\n%s", filepath.Base(p.cmd.Path), ctx.Err(), p.tail())
		case <-tick.C:
			if check(ctx) {
				return nil
			}
		}
	}
}

// end signals the server and returns when it and its children are gone, using force when
// the signal does not do it. Ending a server that has ended is nothing.
func (p *process) end(sig syscall.Signal) error {
	gone := []int{-p.cmd.Process.Pid} // the group; to look for children takes some 20 ms of processor time
	if p.leaves {
		gone = append(gone, childrenOf(p.cmd.Process.Pid)...)
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.cmd.Path, err)
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGCONT) // a test may have frozen it
	if p.leaves {
		_ = p.signalAll(syscall.SIGCONT)
	}
	select {
	case <-p.exited:
	case <-time.After(stopTimeout):
		gone = append(gone, childrenOf(p.cmd.Process.Pid)...)
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	return awaitGone(gone)
}

// signalAll signals the server, and then its children: who stops it first sees all that it has.
func (p *process) signalAll(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	for _, child := range childrenOf(p.cmd.Process.Pid) {
		_ = syscall.Kill(child, sig) // it may have ended meanwhile
	}
	return nil
}

// cutOff kills the server and its children, calls signalled, and returns when they are gone. A
// server that stands still makes no more children while we look for them.
func (p *process) cutOff(signalled func()) error {
	pid := p.cmd.Process.Pid
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	for s := stat(pid).state; s == "R" || s == "S"; s = stat(pid).state {
		time.Sleep(time.Millisecond)
	}
	children := childrenOf(pid)
	_ = p.cmd.Process.Kill()
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	signalled()
	return awaitGone(append(children, pid))
}

func (p *process) tail() string {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(log[max(0, len(log)-2000):]))
}

// onSpawner runs a start on a thread that lives as long as the process does: the kernel
// takes the end of the thread that started a child for the end of its parent.
func onSpawner(start func() error) error {
	done := make(chan error)
	spawner() <- func() { done <- start() }
	return <-done
}

var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// childrenOf lists the direct children of a process: those of a server that is killed
// outright need a moment more than it does.
func childrenOf(pid int) (children []int) {
	for child := range processes() {
		if stat(child).parent == pid {
			children = append(children, child)
		}
	}
	return children
}

// processes are the ids of all that there are.
func processes() iter.Seq[int] {
	return func(yield func(int) bool) {
		folders, _ := filepath.Glob("/proc/[0-9]*")
		for _, folder := range folders {
			if pid, err := strconv.Atoi(filepath.Base(folder)); err == nil && !yield(pid) {
				return
			}
		}
	}
}

// status is what the kernel says of a process; the zero value if it was waited for.
type status struct {
	state         string // as in ps
	parent, group int
}

// stat reads the status of a process, which need not be ours.
func stat(pid int) (s status) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s
	}
	// pid (name) state ppid pgrp ..., where the name may hold anything.
	if fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]); len(fields) > 2 {
		s.state = string(fields[0])
		s.parent, _ = strconv.Atoi(string(fields[1]))
		s.group, _ = strconv.Atoi(string(fields[2]))
	}
	return s
}

// ended says whether the process has, which init may be slow to wait for.
func (s status) ended() bool { return s.state == "" || s.state == "Z" }

// awaitGone waits until processes have ended that are not ours to wait for; a negative one is a group.
func awaitGone(pids []int) error {
	deadline := time.Now().Add(stopTimeout)
	for _, pid := range pids {
		for !gone(pid) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d does not end", pid)
			}
			time.Sleep(pollInterval)
		}
	}
	return nil
}

// gone says whether a process has ended, or each of a group.
func gone(pid int) bool {
	switch {
	case syscall.Kill(pid, 0) == syscall.ESRCH:
		return true
	case pid > 0:
		return stat(pid).ended()
	}
	for member := range processes() {
		if s := stat(member); s.group == -pid && !s.ended() {
			return false
		}
	}
	return true
}
