// Bench measures how fast the aggregator is, on private servers with durable settings, and writes the document of
// it.
//
//	bin/bench                   every part
//	bin/bench -only A,service   some parts
//	bin/bench -quick -only A    small: a look, not a measurement
//	bin/bench -render           the document, from the results kept before
//
// Progress goes to stderr, tables to stdout. Results are kept in the file -results, after each part; parts that
// are not run stay as they are in it if it is of the same version and environment.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"aggregator/scripts/bench/report"
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
	b := &bench{plan: full, out: os.Stdout, progress: os.Stderr}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&b.binary, "aggregator", "bin/aggregator", "the aggregator to measure")
	flags.StringVar(&b.replay, "replay", "", "a file of ratings for B (User-ID;ISBN;Book-Rating, may be compressed)")
	flags.StringVar(&b.micro, "micro", "", "packages with Go benchmarks for part micro, separated by blanks")
	flags.StringVar(&b.kept, "results", "", "keep results in this file")
	about := "run these parts only, as in A,C:"
	for _, p := range parts {
		about += fmt.Sprintf("\n%-13s %s", p.name, p.about)
	}
	only := flags.String("only", "", about)
	quick := flags.Bool("quick", false, "everything small: a look, not a measurement")
	runs := flags.Int("runs", 0, "runs of each contender, in place of five, or of one with -quick")
	render := flags.Bool("render", false, "measure nothing: write the document of -results, with its chart beside that")
	document := flags.String("document", "docs/benchmarks.md", "the document to write")
	if err := flags.Parse(args); err != nil {
		return wrongUsage(err)
	}
	chosen, err := choose(*only)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if err != nil {
		return wrongUsage(err)
	}
	if *render {
		return report.Render(b.kept, *document)
	}
	if *quick {
		b.plan = small
	}
	if *runs > 0 {
		b.runs = *runs
	}
	return b.measure(ctx, chosen)
}

func wrongUsage(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return usageError{err}
}

// choose returns the parts named, or all.
func choose(names string) ([]part, error) {
	if names == "" {
		return parts, nil
	}
	var chosen []part
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(parts, func(p part) bool { return strings.EqualFold(p.name, name) })
		if i < 0 {
			return nil, fmt.Errorf("there is no part %q", name)
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}
