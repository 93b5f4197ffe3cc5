// Bench measures how fast the aggregator is, on private servers with durable settings, and
// writes the document of it.
//
//	go run ./scripts/bench                      every part
//	go run ./scripts/bench -only A,C            some parts
//	go run ./scripts/bench -quick               every part, small
//	go run ./scripts/bench render               the document, from results kept before
//
// Progress goes to stderr, tables to stdout. Results are kept with -results, after each
// part; parts that are not run stay as they are in the file if it is of the same version
// and environment. -document writes the document and its plots from them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.As(err, new(usageError)):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(64)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// usageError is a wrong flag or argument.
type usageError struct{ error }
