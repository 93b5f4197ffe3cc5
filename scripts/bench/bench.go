package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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

	servers       *servers.Servers
	results       results.Results
	out, progress io.Writer
}

// part is something to measure.
type part struct {
	name, about string
	run         func(*bench, context.Context) error
}

var parts = []part{
	{"A", "events over a tenth as many profiles, against pure SQL", (*bench).partA},
	{"B", "real ratings, against pure SQL (needs -replay)", (*bench).partB},
	{"C", "ten times the events over ten times the profiles, zipf", (*bench).partC},
	{"D", "one profile", (*bench).partD},
	{"old", "the way of the job that the aggregator replaces, step by step", (*bench).partOld},
	{"chunk", "sizes of a chunk", (*bench).partChunk},
	{"workers", "numbers of workers", (*bench).partWorkers},
	{"together", "numbers of profiles in a transaction", (*bench).partTogether},
	{"settings", "settings of the servers", (*bench).partSettings},
	{"backlog", "lengths of the backlog", (*bench).partBacklog},
	{"service", "latency from push to commit, by offered load", (*bench).partService},
	{"idle", "what a service costs that has nothing to do", (*bench).partIdle},
	{"search", "the texts that books are searched in, with the index and without", (*bench).partSearch},
	{"purge", "removing rows of history from ever larger tables, and thinning them out", (*bench).partPurge},
	{"timeline", "reading from the history of profiles with 10,000 rows", (*bench).partTimeline},
	{"micro", "the daemon's own work on an event, without PostgreSQL", (*bench).partMicro},
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

// measure runs the parts on one pair of servers, and keeps the results after each.
func (b *bench) measure(ctx context.Context, chosen []part) (err error) {
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	if b.servers, err = servers.Start(ctx, servers.Settings{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.servers.Close(ctx)) }()
	current, err := environment.Read(ctx, b.binary, b.servers)
	if err != nil {
		return err
	}
	if b.results, err = b.before(current); err != nil {
		return err
	}
	for _, p := range chosen {
		began := time.Now()
		b.log("%s: %s", p.name, p.about)
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("part %s: %w", p.name, err)
		}
		b.log("%s took %s", p.name, time.Since(began).Round(time.Second))
		if err := b.servers.Forget(ctx); err != nil {
			return err
		}
		if b.kept == "" {
			continue
		}
		if err := b.results.Write(b.kept); err != nil {
			return err
		}
	}
	return nil
}

// before are the results of earlier sessions that may stay beside those to come.
func (b *bench) before(current results.Environment) (results.Results, error) {
	fresh := results.Results{Environment: current, Comparisons: map[string]results.Comparison{}}
	if b.kept == "" {
		return fresh, nil
	}
	earlier, err := results.Read(b.kept)
	if err != nil || earlier.Environment != current {
		return fresh, err
	}
	return earlier, nil
}

func (b *bench) log(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }
