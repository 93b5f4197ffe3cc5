package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// command is the aggregator in an environment that says no more than the settings, as variables, do.
func (s *Servers) command(ctx context.Context, url string, settings []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "AGGREGATOR_REDIS_URL=" + s.redis.URL(), "AGGREGATOR_POSTGRES_URL=" + url,
		"AGGREGATOR_CONFIG=" + os.DevNull,  // not the file of this machine
		"AGGREGATOR_HTTP_ADDR=127.0.0.1:0", // the usual port may be taken
		"GODEBUG=gctrace=1",                // a line for each collection of garbage
	}, settings...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

// Knows says whether the aggregator accepts a setting, as a variable.
func (s *Servers) Knows(ctx context.Context, setting string) bool {
	return s.command(ctx, "postgres://", []string{setting}, "config", "print").Run() == nil
}

// Ended is a command of the aggregator that has ended well.
type Ended struct {
	Stdout  []byte
	Took    time.Duration // from the start of the process to its end
	Garbage time.Duration // processor time that went into collecting garbage
	Peak    int64         // bytes of memory
}

// Run runs a command, as in "drain", "-o", "json", to its end. An error carries what it wrote to stderr.
func (s *Servers) Run(ctx context.Context, url string, settings []string, args ...string) (Ended, error) {
	var stdout, stderr bytes.Buffer
	cmd := s.command(ctx, url, settings, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return Ended{}, err
	}
	peak := s.watchMemory(cmd.Process.Pid)
	err := cmd.Wait()
	ended := Ended{Took: time.Since(began), Peak: peak(), Stdout: stdout.Bytes()}
	said, garbage := splitGarbage(stderr.String())
	ended.Garbage = garbage
	if err != nil {
		err = fmt.Errorf("aggregator %s: %w\n%s", strings.Join(args, " "), err, said)
	}
	return ended, err
}

// splitGarbage takes what Go says of its collections of garbage out of a text, and adds up the processor time of
// these but for what was idle anyway:
//
//	gc 1 @0.01s 2%: 0.02+1.3+0.08 ms clock, 0.04+0.3/1.2/0.9+0.15 ms cpu, 4->4->2 MB, ...
//
// is 0.04 of the sweep's end, 0.3 of assists, 1.2 of background work, 0.9 idle, and 0.15 of the mark's end.
func splitGarbage(text string) (rest string, used time.Duration) {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		_, cpu, found := strings.Cut(line, " ms clock, ")
		times, _, whole := strings.Cut(cpu, " ms cpu")
		if !found || !whole || !strings.HasPrefix(line, "gc ") {
			kept.WriteString(line)
			continue
		}
		for i, figure := range strings.FieldsFunc(times, func(r rune) bool { return r == '+' || r == '/' }) {
			if ms, err := strconv.ParseFloat(figure, 64); err == nil && i != 3 {
				used += time.Duration(ms * float64(time.Millisecond))
			}
		}
	}
	return kept.String(), used
}

// Serve does something while `aggregator run` runs, whose process it is given. The context ends when the service
// does, which is an error unless we stopped it.
func (s *Servers) Serve(ctx context.Context, url string, settings []string, do func(context.Context, int) error) error {
	var stderr bytes.Buffer
	cmd := s.command(ctx, url, settings, "run")
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	running, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		ended <- err
		cancel(fmt.Errorf("aggregator run ended: %w", err))
	}()
	err := do(running, cmd.Process.Pid)
	if cause := context.Cause(running); cause != nil {
		err = errors.Join(err, cause)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	if err = errors.Join(err, <-ended); err != nil {
		said, _ := splitGarbage(stderr.String())
		err = fmt.Errorf("%w\n%s", err, said)
	}
	return err
}
