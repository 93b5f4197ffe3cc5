package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"aggregator/scripts/bench/baseline"
	"aggregator/scripts/bench/meter"
	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/results"
	"aggregator/scripts/bench/servers"
	"aggregator/scripts/loadgen/catalogue"
	"aggregator/scripts/loadgen/journal"
	"aggregator/scripts/loadgen/oracle"
	"aggregator/scripts/loadgen/workload"
)

const together200 = "AGGREGATOR_APPLY_PROFILES_PER_TRANSACTION=200"

// workloadOf has so many events, and a tenth as many profiles.
func workloadOf(events int64) (catalogue.Shape, workload.Settings) {
	shape, settings := catalogue.Default(), workload.Defaults()
	settings.Count = events
	shape.Profiles = max(events/10, 1)
	settings.Profiles = shape.Profiles
	return shape, settings
}

// stateA is what A and the ladders start from.
func (b *bench) stateA(ctx context.Context) (servers.State, error) {
	shape, settings := workloadOf(b.events)
	return b.servers.Prepare(ctx, shape, settings)
}

func (b *bench) partA(ctx context.Context) error {
	shape, settings := workloadOf(b.events)
	return b.againstSQL(ctx, "A", shape, settings)
}

func (b *bench) partB(ctx context.Context) error {
	if b.replay == "" {
		b.log("  left out: no file of ratings is given")
		return nil
	}
	ratings, err := workload.ReadRatings(b.replay)
	if err != nil {
		return err
	}
	shape, settings := catalogue.Default(), workload.Defaults()
	shape.Profiles, shape.Books = ratings.Profiles, ratings.Books
	settings.Replay = b.replay
	return b.againstSQL(ctx, "B", shape, settings)
}

// againstSQL compares the daemon with the yardstick. The states that they end in must be
// the same, and what an independent sum of the events says.
func (b *bench) againstSQL(ctx context.Context, name string, shape catalogue.Shape, settings workload.Settings) error {
	from, err := b.servers.Prepare(ctx, shape, settings)
	if err != nil {
		return err
	}
	events, err := workload.Open(settings)
	if err != nil {
		return err
	}
	contenders := []contender{
		b.drain(report.ByDefault, from),
		b.drain(report.Together, from, together200),
		b.yardstick(from, events),
	}
	same, verify := agree(), verified(shape, settings)
	for i := range contenders {
		contenders[i].check = same
	}
	contenders[0].check = func(ctx context.Context, url string) error { return errors.Join(verify(ctx, url), same(ctx, url)) }
	return b.compare(ctx, name, b.runs, contenders)
}

// yardstick is a contender: pure SQL.
func (b *bench) yardstick(from servers.State, events workload.Source) contender {
	rows := baseline.Rows(events)
	return contender{name: report.PureSQL, from: from, run: func(ctx context.Context, url string) (results.Run, error) {
		return meter.Measure(ctx, b.servers, func() error { return baseline.Yardstick(ctx, url, rows) })
	}}
}

// agree is a check of several contenders: all must leave the same behind.
func agree() func(context.Context, string) error {
	var first string
	return func(ctx context.Context, url string) error {
		state, err := baseline.State(ctx, url)
		if first == "" {
			first = state
		}
		if err == nil && state != first {
			err = errors.New("scores, latest history or favourites are not those of the contender before")
		}
		return err
	}
}

func (b *bench) partC(ctx context.Context) error {
	var contenders []contender
	for _, count := range []int64{b.many, b.many / 10} {
		shape, settings := workloadOf(count)
		settings.ProfileDist = workload.Zipf
		from, err := b.servers.Prepare(ctx, shape, settings)
		if err != nil {
			return err
		}
		c := b.drain(report.Zipf(count), from)
		c.x, c.check = float64(count), verified(shape, settings)
		contenders = append(contenders, c)
	}
	return b.compare(ctx, "C", b.runs, contenders)
}

func (b *bench) partD(ctx context.Context) error {
	shape, settings := workloadOf(b.many)
	shape.Profiles, settings.Profiles = 1, 1
	from, err := b.servers.Prepare(ctx, shape, settings)
	if err != nil {
		return err
	}
	c := b.drain(report.ByDefault, from)
	c.check = verified(shape, settings)
	return b.compare(ctx, "D", b.runs, []contender{c})
}

// verified compares every row with an independent sum of the events.
func verified(shape catalogue.Shape, settings workload.Settings) func(context.Context, string) error {
	return func(ctx context.Context, url string) error {
		db, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer db.Close(ctx)
		options := oracle.Options{Weights: oracle.Weights{Like: 2, Dislike: -2}, Seeded: &shape}
		verdict, err := oracle.Verify(ctx, db, []*journal.Run{journal.Complete(settings)}, options)
		if err == nil && !verdict.OK() {
			err = fmt.Errorf("wrong: %d lost, %d doubled, %d mismatches, the first %v",
				verdict.Lost, verdict.Doubled, verdict.Mismatches, verdict.First)
		}
		return err
	}
}
