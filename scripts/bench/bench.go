package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aggregator/scripts/bench/environment"
	"aggregator/scripts/bench/results"
	"aggregator/scripts/bench/servers"
)

// bench is one session.
type bench struct {
	plan
	binary string // of the aggregator
	replay string // a file of ratings; empty: none
	kept   string // where results are kept; empty: nowhere

	results results.Results
	out     io.Writer
}

// part is something to measure.
type part struct {
	name, about string
	run         func(*bench, context.Context, *servers.Servers) error
}

var parts = []part{
	{"A", "100,000 events over 10,000 profiles, against pure SQL", (*bench).partA},
}

func run(ctx context.Context, args []string) error {
	b := &bench{out: os.Stdout}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() { usage(flags) }
	flags.StringVar(&b.binary, "aggregator", "bin/aggregator", "the aggregator to measure")
	flags.StringVar(&b.replay, "replay", "", "a file of ratings for part B (User-ID;ISBN;Book-Rating, may be compressed)")
	flags.StringVar(&b.kept, "results", "", "keep results in this file")
	only := flags.String("only", "", "run these parts only, as in A,C")
	quick := flags.Bool("quick", false, "everything small: a look, not a measurement")
	runs := flags.Int("runs", 0, "runs of each contender, in place of what each part takes")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return usageError{err}
	}
	b.plan = full
	if *quick {
		b.plan = small
	}
	if *runs > 0 {
		b.plan = b.withRuns(*runs)
	}
	chosen, err := choose(*only)
	if err != nil {
		return usageError{err}
	}
	return b.measure(ctx, chosen)
}

func usage(flags *flag.FlagSet) {
	fmt.Fprintln(flags.Output(), "usage: bench [flags]\n\nparts:")
	for _, p := range parts {
		fmt.Fprintf(flags.Output(), "  %-9s %s\n", p.name, p.about)
	}
	fmt.Fprintln(flags.Output(), "\nflags:")
	flags.PrintDefaults()
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

// measure runs the parts, each on servers of its own, and keeps the results after each.
func (b *bench) measure(ctx context.Context, chosen []part) error {
	var err error
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	current, err := b.environment(ctx)
	if err != nil {
		return err
	}
	if b.results, err = b.before(current); err != nil {
		return err
	}
	for _, p := range chosen {
		began := time.Now()
		b.log("%s: %s", p.name, p.about)
		if err := onServers(ctx, func(s *servers.Servers) error { return p.run(b, ctx, s) }); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		b.log("%s took %s", p.name, time.Since(began).Round(time.Second))
		if b.kept == "" {
			continue
		}
		if err := b.results.Write(b.kept); err != nil {
			return err
		}
	}
	return nil
}

// environment is that of this session. Servers are started to be asked for their version.
func (b *bench) environment(ctx context.Context) (results.Environment, error) {
	e, err := environment.Read(ctx, b.binary)
	if err != nil {
		return e, err
	}
	err = onServers(ctx, func(s *servers.Servers) error {
		e.Redis, e.Postgres, err = s.Versions(ctx)
		return err
	})
	return e, err
}

// before are the results of earlier sessions that may stay beside those to come.
func (b *bench) before(current results.Environment) (results.Results, error) {
	fresh := results.Results{Environment: current, Comparisons: map[string]results.Comparison{}}
	if b.kept == "" {
		return fresh, nil
	}
	before, err := results.Read(b.kept)
	if err != nil || before.Environment != current {
		return fresh, err
	}
	return before, nil
}

// onServers does something on servers of its own.
func onServers(ctx context.Context, do func(*servers.Servers) error) (err error) {
	s, err := servers.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(ctx)) }()
	return do(s)
}

func (b *bench) log(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
