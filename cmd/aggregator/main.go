// Command aggregator drains like and dislike events from Redis and applies their sums to
// PostgreSQL, each event exactly once. See aggregator help.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program but for the exit. The first SIGINT or SIGTERM cancels the
// context of the command, the second ends the process.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRoot(&app{stdout: stdout, stderr: stderr})
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		prefix := "aggregator: "
		if isJournal(stderr) {
			prefix = "<3>" + prefix // the journal takes the line for an error: sd-daemon(3)
		}
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "%s%s\n", prefix, strings.TrimRight(line, "\n"))
		}
	}
	return exitCode(err)
}
