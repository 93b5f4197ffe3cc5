package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"time"

	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/rig"
)

// bench is one session.
type bench struct {
	plan
	binary string // of the aggregator
	replay string // a file of ratings; empty: none
	micro  string // packages with Go benchmarks; empty: none
	kept   string // where results are kept; empty: nowhere

	servers       *rig.Servers
	results       report.Results
	out, progress io.Writer
}

// measure runs the parts on one pair of servers, and keeps the results after each.
func (b *bench) measure(ctx context.Context, chosen []part) (err error) {
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	b.servers, err = rig.Start(ctx, b.binary)
	defer func() { err = errors.Join(err, b.servers.Close(ctx)) }()
	if err != nil {
		return err
	}
	current, err := b.servers.Environment(ctx)
	if err != nil {
		return err
	}
	if b.results, err = report.Continue(b.kept, current); err != nil {
		return err
	}
	for _, p := range chosen {
		began := time.Now()
		b.log("%s: %s", p.name, p.about)
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("part %s: %w", p.name, err)
		}
		b.log("%s took %s", p.name, time.Since(began).Round(time.Second))
		if err := errors.Join(b.servers.Forget(ctx), b.results.Write(b.kept)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) log(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

// contender does some work from a state, for compare.
type contender struct {
	name  string
	from  rig.State
	run   func(ctx context.Context, url string) (rig.Figures, error)
	check func(ctx context.Context, url string) error // looks at the database after the first run; may be nil
}

// compare runs the contenders in turn, round after round, each from a new copy of its state, and keeps and prints
// what came of it under the name of the part.
func (b *bench) compare(ctx context.Context, name string, contenders ...contender) error {
	p := report.Part{When: time.Now().UTC().Truncate(time.Second), Series: make([]report.Series, len(contenders))}
	for round := range b.runs {
		for i, c := range contenders {
			f, err := c.once(ctx, round == 0)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			p.Series[i].Contender, p.Series[i].Runs = c.name, append(p.Series[i].Runs, f)
			disturbed := ""
			if others := f["cpu_others"] / f["seconds"]; others > 0.1 {
				disturbed = fmt.Sprintf("  (others took %.1f cores)", others)
			}
			b.log("  %d/%d  %-45s %s%s", round+1, b.runs, c.name, report.Headline(f), disturbed)
		}
	}
	b.keep(name, p)
	return nil
}

func (b *bench) keep(name string, p report.Part) {
	b.results.Parts[name] = p
	fmt.Fprintf(b.out, "\n%s, %s\n\n%s", name, p.When.Format(time.DateTime), p.Table())
}

// once runs the contender and works out what follows from its figures.
func (c contender) once(ctx context.Context, first bool) (rig.Figures, error) {
	url, err := c.from.Restore(ctx)
	if err != nil {
		return nil, err
	}
	f, err := c.run(ctx, url)
	if err != nil {
		return nil, err
	}
	heapOnly, err := rig.HeapOnly(ctx, url)
	if err != nil {
		return nil, err
	}
	if !math.IsNaN(heapOnly) {
		f["heap_only_percent"] = heapOnly
	}
	events, tx := float64(c.from.Events), f["transactions"]
	if f["seconds"] > 0 && events > 0 {
		f["events_per_second"], f["us_per_event"] = events/f["seconds"], 1e6*f["seconds"]/events
	}
	if tx > 0 {
		f["tx_per_core_second"], f["us_daemon_per_tx"] = tx/max(f["cpu_postgres"], 0.01), 1e6*f["cpu_daemon"]/tx
	}
	if tx > 0 && events > 0 {
		f["events_per_tx"] = events / tx
	}
	if first && c.check != nil {
		err = c.check(ctx, url)
	}
	return f, err
}
