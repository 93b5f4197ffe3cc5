// Loadgen fills a database with a catalogue, pushes likes and dislikes into Redis, and
// verifies afterwards, from its own settings and independently of the aggregator, that
// the database holds exactly what they add up to.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes, those of the aggregator.
const (
	exitFailed      = 1
	exitUsage       = 64
	exitUnreachable = 69
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], streams{out: os.Stdout, err: os.Stderr}))
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	command, started := newCommand(s)
	command.SetArgs(args)
	command.SetOut(s.out)
	command.SetErr(s.err)
	err := command.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(s.err, "loadgen:", err)
	var unreachable unreachableError
	switch {
	case errors.As(err, &unreachable):
		return exitUnreachable
	case errors.As(err, new(usageError)), !*started:
		return exitUsage
	}
	return exitFailed
}

// usageError is a wrong flag or argument.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
