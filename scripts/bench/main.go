// Bench measures how fast the aggregator is, on private servers with durable settings, and
// writes the document of it.
//
//	go run ./scripts/bench                      every part
//	go run ./scripts/bench -only A,C            some parts
//	go run ./scripts/bench -quick               every part, small
//	go run ./scripts/bench render               the document, from results kept before
//
// Progress goes to stderr, tables to stdout. Results are kept in the file -results, after
// each part; parts that are not run stay as they are in it if it is of the same version and
// environment. `render` makes docs/benchmarks.md and its plots of such a file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/results"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	if errors.As(err, new(usageError)) {
		os.Exit(64)
	}
	os.Exit(1)
}

// usageError is a wrong flag or argument.
type usageError struct{ error }

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "render" {
		return render(args[1:])
	}
	b := &bench{plan: full, out: os.Stdout, progress: os.Stderr}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() { usage(flags) }
	flags.StringVar(&b.binary, "aggregator", "bin/aggregator", "the aggregator to measure")
	flags.StringVar(&b.replay, "replay", "", "a file of ratings for part B (User-ID;ISBN;Book-Rating, may be compressed)")
	flags.StringVar(&b.kept, "results", "", "keep results in this file")
	only := flags.String("only", "", "run these parts only, as in A,C")
	quick := flags.Bool("quick", false, "everything small: a look, not a measurement")
	runs := flags.Int("runs", 0, "runs of each contender, in place of five, or of one with -quick")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *quick {
		b.plan = small
	}
	if *runs > 0 {
		b.runs = *runs
	}
	chosen, err := choose(*only)
	if err != nil {
		return usageError{err}
	}
	return b.measure(ctx, chosen)
}

// render writes the document from results that were kept.
func render(args []string) error {
	flags := flag.NewFlagSet("bench render", flag.ContinueOnError)
	kept := flags.String("results", "docs/benchmarks/results.json", "the file with the results; plots go beside it")
	document := flags.String("document", "docs/benchmarks.md", "the file to write")
	if err := parse(flags, args); err != nil {
		return err
	}
	measured, err := results.Read(*kept)
	if err != nil {
		return err
	}
	return report.Write(measured, *document, filepath.Dir(*kept))
}

func parse(flags *flag.FlagSet, args []string) error {
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		err = usageError{err}
	}
	return err
}

func usage(flags *flag.FlagSet) {
	fmt.Fprintln(flags.Output(), "usage: bench [flags]\n       bench render [flags]\n\nparts:")
	for _, p := range parts {
		fmt.Fprintf(flags.Output(), "  %-9s %s\n", p.name, p.about)
	}
	fmt.Fprintln(flags.Output(), "\nflags:")
	flags.PrintDefaults()
}
