package main

import (
	"context"
	"fmt"
	"time"

	"aggregator/scripts/bench/daemon"
	"aggregator/scripts/bench/meter"
	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/results"
	"aggregator/scripts/bench/servers"
)

// contender settles the events of a state in its database.
type contender struct {
	name  string
	x     float64 // what it varies, on a ladder
	from  servers.State
	run   func(ctx context.Context, url string) (results.Run, error)
	check func(ctx context.Context, url string) error // looks at the database after the first run; may be nil
}

// compare runs the contenders in turn, round after round, each from the state that it
// starts from, and keeps and prints what came of it under the name.
func (b *bench) compare(ctx context.Context, name string, rounds int, contenders []contender) error {
	c := results.Comparison{When: now(), Series: make([]results.Series, len(contenders))}
	for i, contender := range contenders {
		c.Series[i].Contender, c.Series[i].X = contender.name, contender.x
	}
	for round := range rounds {
		for i, contender := range contenders {
			run, err := b.once(ctx, contender, round == 0)
			if err != nil {
				return fmt.Errorf("%s: %w", contender.name, err)
			}
			c.Series[i].Runs = append(c.Series[i].Runs, run)
			b.log("  %d/%d  %-45s %8.2f s %10.0f events/s%s", round+1, rounds, contender.name,
				run.Seconds, results.PerSecond(run), disturbed(results.Others(run)))
		}
	}
	b.results.Comparisons[name] = c
	fmt.Fprintf(b.out, "\n%s, %s\n", name, c.When.Format(time.DateTime))
	report.Comparison(c).WriteText(b.out)
	return nil
}

func (b *bench) once(ctx context.Context, c contender, check bool) (results.Run, error) {
	url, err := c.from.Servers.Restore(ctx, c.from)
	if err != nil {
		return results.Run{}, err
	}
	run, err := c.run(ctx, url)
	if err != nil {
		return results.Run{}, err
	}
	run.Events = c.from.Events
	if run.Updates, run.HeapOnly, err = meter.Updates(ctx, url); err != nil {
		return results.Run{}, err
	}
	if check && c.check != nil {
		err = c.check(ctx, url)
	}
	return run, err
}

// disturbed warns of a run beside which the machine was busy with something else.
func disturbed(others float64) string {
	if others > 0.1 {
		return fmt.Sprintf("  (others took %.1f cores)", others)
	}
	return ""
}

// drain is a contender: the real daemon, with settings (as variables) that differ from the
// defaults.
func (b *bench) drain(name string, from servers.State, settings ...string) contender {
	return contender{name: name, from: from, run: func(ctx context.Context, url string) (results.Run, error) {
		var drained daemon.Drained
		run, err := meter.Measure(ctx, from.Servers, func() (err error) {
			drained, err = b.daemon(from.Servers, url, settings...).Drain(ctx)
			return err
		})
		if err == nil && drained.Applied != from.Events {
			err = fmt.Errorf("%d of %d events were applied", drained.Applied, from.Events)
		}
		run.Seconds, run.CPU.Contender = drained.Took.Seconds(), drained.CPU.Seconds()
		run.Peak, run.Profiles, run.Chunks = drained.Peak, drained.Profiles, drained.Chunks
		return run, err
	}}
}

func (b *bench) daemon(on *servers.Servers, url string, settings ...string) daemon.Daemon {
	return daemon.Daemon{Binary: b.binary, RedisURL: on.Redis.URL(), PostgresURL: url, Settings: settings}
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
