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
	"aggregator/scripts/loadgen/workload"
)

// contender settles the events of a workload in a database.
type contender struct {
	name   string
	x      float64           // what it varies, on a ladder
	seeded string            // the database that it starts from
	events workload.Settings // what it settles
	run    func(ctx context.Context, s *servers.Servers, url string) (results.Run, error)
	check  func(ctx context.Context, url string) error // looks at the database after the first run; may be nil
}

// compare runs the contenders in turn, round after round, each from the state that it
// starts from, and keeps and prints what came of it under the name.
func (b *bench) compare(ctx context.Context, s *servers.Servers, name, to string, rounds int, contenders []contender) error {
	c := results.Comparison{When: time.Now().UTC().Truncate(time.Second), Series: make([]results.Series, len(contenders))}
	for i, contender := range contenders {
		c.Series[i].Contender, c.Series[i].X = contender.name, contender.x
	}
	for round := range rounds {
		for i, contender := range contenders {
			run, err := contender.once(ctx, s, round == 0)
			if err != nil {
				return fmt.Errorf("%s: %w", contender.name, err)
			}
			c.Series[i].Runs = append(c.Series[i].Runs, run)
			b.log("  %d/%d  %-50s %8.2f s %10.0f events/s%s", round+1, rounds, contender.name, run.Seconds, results.PerSecond(run), disturbed(run))
		}
	}
	b.results.Comparisons[name] = c
	fmt.Fprintf(b.out, "\n%s\n", name)
	report.Comparison(c, to).WriteText(b.out)
	return nil
}

func (c contender) once(ctx context.Context, s *servers.Servers, check bool) (results.Run, error) {
	url, err := s.Restore(ctx, c.seeded, c.events)
	if err != nil {
		return results.Run{}, err
	}
	run, err := c.run(ctx, s, url)
	if err != nil {
		return results.Run{}, err
	}
	if run.Updates, run.HeapOnly, err = meter.Updates(ctx, url); err != nil {
		return results.Run{}, err
	}
	if check && c.check != nil {
		err = c.check(ctx, url)
	}
	return run, err
}

// disturbed warns of a run beside which the machine was busy with something else.
func disturbed(r results.Run) string {
	if others := results.Others(r); others > 0.1 {
		return fmt.Sprintf("  (others took %.1f cores)", others)
	}
	return ""
}

// drain runs the real daemon, with settings (as variables) that differ from the defaults.
func (b *bench) drain(events int64, settings ...string) func(context.Context, *servers.Servers, string) (results.Run, error) {
	return func(ctx context.Context, s *servers.Servers, url string) (results.Run, error) {
		var drained daemon.Drained
		run, err := meter.Measure(ctx, s, func() (err error) {
			d := daemon.Daemon{Binary: b.binary, RedisURL: s.Redis.URL(), PostgresURL: url, Settings: settings}
			drained, err = d.Drain(ctx)
			return err
		})
		if err == nil && drained.Applied != events {
			err = fmt.Errorf("%d of %d events were applied", drained.Applied, events)
		}
		run.Events, run.Seconds, run.CPU.Contender = events, drained.Took.Seconds(), drained.CPU.Seconds()
		run.Peak, run.Profiles, run.Chunks = drained.Peak, drained.Profiles, drained.Chunks
		return run, err
	}
}
