package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"aggregator/scripts/bench/baseline"
	"aggregator/scripts/bench/meter"
	"aggregator/scripts/bench/report"
	"aggregator/scripts/bench/results"
	"aggregator/scripts/bench/servers"
	"aggregator/scripts/loadgen/workload"
)

func (b *bench) partChunk(ctx context.Context) error {
	return b.ladder(ctx, "chunk", "AGGREGATOR_CHUNK_MAX_EVENTS", b.chunks)
}

func (b *bench) partWorkers(ctx context.Context) error {
	return b.ladder(ctx, "workers", "AGGREGATOR_APPLY_WORKERS", b.workers)
}

func (b *bench) partTogether(ctx context.Context) error {
	return b.ladder(ctx, "together", "AGGREGATOR_APPLY_PROFILES_PER_TRANSACTION", b.together)
}

// ladder drains A with each value of a setting.
func (b *bench) ladder(ctx context.Context, name, setting string, values []int) error {
	from, err := b.stateA(ctx)
	if err != nil {
		return err
	}
	var contenders []contender
	for _, value := range values {
		c := b.drain(report.Exact(float64(value)), from, fmt.Sprintf("%s=%d", setting, value))
		c.x = float64(value)
		contenders = append(contenders, c)
	}
	return b.compare(ctx, name, b.runs, contenders)
}

// differing are settings of the servers to look at, one at a time. Without flushing no event
// would be safe: those are here to show what it costs.
var differing = []difference{
	{"as in all other parts", servers.Settings{}},
	{"PostgreSQL: shared_buffers = 128MB, max_wal_size = 1GB", postgresSettings("shared_buffers", "128MB", "max_wal_size", "1GB")},
	{"PostgreSQL: wal_compression = lz4", postgresSettings("wal_compression", "lz4")},
	{"PostgreSQL: full_page_writes = off (unsafe)", postgresSettings("full_page_writes", "off")},
	{"PostgreSQL: fsync = off (unsafe)", postgresSettings("fsync", "off")},
	{"Redis: appendfsync always", redisSettings("appendfsync", "always")},
	{"Redis: appendonly no (unsafe)", redisSettings("appendonly", "no")},
}

type difference struct {
	name string
	servers.Settings
}

func postgresSettings(namesAndValues ...string) servers.Settings {
	return servers.Settings{Postgres: pairs(namesAndValues)}
}

func redisSettings(namesAndValues ...string) servers.Settings {
	return servers.Settings{Redis: pairs(namesAndValues)}
}

func pairs(list []string) (pairs [][2]string) {
	for pair := range slices.Chunk(list, 2) {
		pairs = append(pairs, [2]string(pair))
	}
	return pairs
}

// partSettings drains A on servers of other settings, each running from the begin to the end.
func (b *bench) partSettings(ctx context.Context) (err error) {
	shape, settings := workloadOf(b.events)
	var started []*servers.Servers
	defer func() {
		for _, s := range started {
			err = errors.Join(err, s.Close(ctx))
		}
	}()
	var contenders []contender
	for _, d := range b.differing {
		on, err := servers.Start(ctx, d.Settings)
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		started = append(started, on)
		from, err := on.Prepare(ctx, shape, settings)
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		contenders = append(contenders, b.drain(d.name, from))
	}
	if len(contenders) == 0 {
		b.log("  left out")
		return nil
	}
	return b.compare(ctx, "settings", b.runs, contenders)
}

// partBacklog drains ever longer backlogs of the profiles of A.
func (b *bench) partBacklog(ctx context.Context) error {
	var contenders []contender
	for _, count := range b.backlogs {
		shape, settings := workloadOf(b.events)
		settings.Count = count
		from, err := b.servers.Prepare(ctx, shape, settings)
		if err != nil {
			return err
		}
		c := b.drain(report.Exact(float64(count)), from)
		c.x = float64(count)
		contenders = append(contenders, c)
	}
	return b.compare(ctx, "backlog", b.runs, contenders)
}

// partOld climbs from the old job's way to ours. The old ways are given only so many of
// the events of A.
func (b *bench) partOld(ctx context.Context) error {
	shape, settings := workloadOf(b.events)
	from, err := b.servers.Prepare(ctx, shape, settings)
	if err != nil {
		return err
	}
	events, err := workload.Open(settings)
	if err != nil {
		return err
	}
	settings.Count, settings.Kind = b.old, workload.List
	list, err := b.servers.Prepare(ctx, shape, settings)
	if err != nil {
		return err
	}
	var contenders []contender
	same := agree()
	for _, step := range baseline.Ladder {
		contenders = append(contenders, contender{name: step.Name, from: list, check: same, run: func(ctx context.Context, url string) (results.Run, error) {
			return meter.Measure(ctx, b.servers, func() error {
				return step.Run(ctx, b.servers.Client, workload.DefaultKey(workload.List), url)
			})
		}})
	}
	contenders = append(contenders, b.yardstick(from, events), b.drain(report.ByDefault, from), b.drain(report.Together, from, together200))
	return b.compare(ctx, "old", b.runs, contenders)
}
