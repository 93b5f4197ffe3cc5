// Command aggregator drains like and dislike events from Redis and applies their sums to
// PostgreSQL, each event exactly once. See aggregator help.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program except the exit. The first SIGINT or SIGTERM cancels the context of the command,
// with an error of type stopSignal; the second ends the process. A pipe that has no reader any more ends
// nothing: the service goes on without its log.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		said := <-signals
		signal.Stop(signals)
		cancel(stopSignal{said})
	}()

	a := &app{stdout: pipe{stdout}, stderr: stderr}
	root := newRoot(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	err = stopped(ctx, err)
	a.reportFailure(cmd, err)
	return exitCode(err)
}
