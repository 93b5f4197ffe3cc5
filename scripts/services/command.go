package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	// What a command gets to finish by itself, before it is told and then made to.
	graceAfterInterrupt = 30 * time.Second
	graceAfterTerminate = 15 * time.Second
)

// command runs the command in the foreground and returns its exit code. When told to end
// it sees to it that the command ends first, and whatever that has started with it.
func command(args, env []string, signals <-chan os.Signal) int {
	// Not ended with a context: that would kill it and leave what it started.
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := adoptOrphans(); err != nil {
		fmt.Fprintln(os.Stderr, "services: adopt orphans:", err)
	}
	before := descendants(os.Getpid()) // the servers
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		if errors.Is(err, exec.ErrNotFound) {
			return 127
		}
		return 126
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its exit code says it all
		close(exited)
	}()

	var patience <-chan time.Time
	next := syscall.SIGTERM // what follows when patience ends
	for {
		select {
		case <-exited:
			endAll(before)
			return exitCode(cmd.ProcessState)
		case got := <-signals:
			// The terminal has sent Ctrl-C to the command as well: a second one from us would
			// cut its orderly end short.
			if got == syscall.SIGINT {
				if patience == nil {
					patience = time.After(graceAfterInterrupt)
				}
				continue
			}
			signalAll(before, syscall.SIGTERM)
			patience, next = time.After(graceAfterTerminate), syscall.SIGKILL
		case <-patience:
			signalAll(before, next)
			patience, next = time.After(graceAfterTerminate), syscall.SIGKILL
		}
	}
}

func exitCode(state *os.ProcessState) int {
	status := state.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
