package main

import (
	"context"
	"fmt"

	"aggregator/scripts/bench/baseline"
	"aggregator/scripts/bench/meter"
	"aggregator/scripts/bench/results"
	"aggregator/scripts/bench/servers"
	"aggregator/scripts/loadgen/catalogue"
	"aggregator/scripts/loadgen/workload"
)

// The names of contenders, by which they are found again.
const (
	byDefault = "aggregator"
	together  = "aggregator, 200 profiles per transaction"
	pureSQL   = "pure SQL"
)

const together200 = "AGGREGATOR_APPLY_PROFILES_PER_TRANSACTION=200"

// partA compares the daemon with the yardstick.
func (b *bench) partA(ctx context.Context, s *servers.Servers) error {
	shape, settings := catalogue.Default(), workload.Defaults()
	settings.Count = 100_000
	return b.againstSQL(ctx, s, "A", shape, settings)
}

func (b *bench) againstSQL(ctx context.Context, s *servers.Servers, name string, shape catalogue.Shape, settings workload.Settings) error {
	const seeded = "seeded"
	if err := s.Seed(ctx, seeded, shape); err != nil {
		return err
	}
	count, err := s.Push(ctx, settings)
	if err != nil {
		return err
	}
	events, err := workload.Open(settings)
	if err != nil {
		return err
	}
	rows := baseline.Rows(events)
	var states []string // of the databases afterwards: all must be the same
	same := func(ctx context.Context, url string) error {
		state, err := baseline.State(ctx, url)
		if states = append(states, state); err == nil && state != states[0] {
			err = fmt.Errorf("scores, latest history or favourites differ from those of %s", byDefault)
		}
		return err
	}
	from := contender{seeded: seeded, events: settings}
	contenders := []contender{from, from, from}
	contenders[0].name, contenders[0].run = byDefault, b.drain(count)
	contenders[1].name, contenders[1].run = together, b.drain(count, together200)
	contenders[2].name, contenders[2].run = pureSQL, func(ctx context.Context, s *servers.Servers, url string) (results.Run, error) {
		run, err := meter.Measure(ctx, s, func() error { return baseline.Yardstick(ctx, url, rows) })
		run.Events = count
		return run, err
	}
	for i := range contenders {
		contenders[i].check = same
	}
	return b.compare(ctx, s, name, pureSQL, b.runs, contenders)
}
