package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/config"
	"aggregator/internal/aggregator"
	"aggregator/internal/events"
	"aggregator/internal/limits"
	"aggregator/internal/runs"
	"aggregator/internal/scores"
)

// serverTimeout is how long a server may take to answer before it is given up. It is
// longer than the statement and lock time-outs of our connections.
const serverTimeout = 45 * time.Second

// trimEvery is how long a settled entry may stay in Redis after the last other consumer
// group has let go of it.
const trimEvery = 10 * time.Second

// engine is an aggregator with its connections.
type engine struct {
	*aggregator.Aggregator
	*servers
	app       *app
	former    *formerSources
	scheduled bool // it drains by schedule
}

// openEngine connects to both servers; errors as connect and checkTables. It tells observe, if there is one,
// of each chunk that is settled. The caller closes the engine.
func (a *app) openEngine(ctx context.Context, observe func(aggregator.Chunk)) (*engine, error) {
	cfg := a.cfg
	to, err := a.connect(ctx, postgresConns(cfg),
		2*cfg.Source.Partitions+2) // each partition waits and trims
	if err != nil {
		return nil, err
	}
	var opened *engine
	if err = a.checkTables(ctx, to.pool); err == nil {
		opened, err = a.newEngine(to, observe)
	}
	if err != nil {
		to.close()
	}
	return opened, err
}

// postgresConns are those of an engine, and what jobs and records of them need beside it.
func postgresConns(cfg config.Config) int {
	return aggregator.Connections(cfg.Apply.Workers, cfg.Source.Partitions) + 2
}

// newEngine is an engine by the settings in force on connections that there are already.
// Its error has config.ErrInvalid.
func (a *app) newEngine(to *servers, observe func(aggregator.Chunk)) (*engine, error) {
	sources, err := a.sources(to.redis)
	if err != nil {
		return nil, err
	}
	to = &servers{to.pool, to.redis, sources}
	settings := &app{stdout: a.stdout, stderr: a.stderr, cfg: a.cfg, log: a.log} // those of a reload are another engine's
	return &engine{a.newAggregator(to.pool, sources, observe), to, settings, &formerSources{}, a.cfg.Schedule.Drain != ""}, nil
}

// newAggregator is one for the sources by the settings in force.
func (a *app) newAggregator(pool *pgxpool.Pool, sources []*events.Source, observe func(aggregator.Chunk)) *aggregator.Aggregator {
	cfg := a.cfg
	memory := limits.Set(a.log)
	catalogue := scores.NewCatalogue(pool, a.log, scores.CatalogueOptions{
		Books: memory.Books(cfg.Cache.Books), Profiles: memory.Profiles(cfg.Cache.Profiles), TTL: cfg.Cache.TTL,
	})
	options := aggregator.Options{
		ChunkMaxEvents:         cfg.Chunk.MaxEvents,
		ChunkMaxBytes:          memory.Chunk(len(sources)),
		ChunkMaxWait:           cfg.Chunk.MaxWait,
		Workers:                cfg.Apply.Workers,
		ProfilesPerTransaction: cfg.Apply.ProfilesPerTransaction,
		Coalesce:               cfg.Events.Coalesce == "last",
		Preferred:              cfg.History.Preferred,
		Retain:                 cfg.Trim.Retain,
		TrimEvery:              trimEvery,
		Grace:                  cfg.Shutdown.Grace,
		Timeout:                serverTimeout,
		DeadWindow:             cfg.Dead.Window,
		DeadMaxShare:           cfg.Dead.MaxShare,
		RetryUnknownFor:        cfg.Dead.RetryUnknownFor,
		RetryEvery:             cfg.Dead.RetryEvery,
		Lease:                  cfg.Lease.TTL,
		Holder:                 instanceName(),
		Observe:                observe,
		Schema:                 a.noteSchema,
	}
	return aggregator.New(pool, sources, catalogue, options, a.log)
}

// session is what it has done, but for drains that have a record of their own.
func (e *engine) session() runs.Counts {
	if e.scheduled {
		return runs.Counts{}
	}
	return counted(e.Stats())
}

// instanceName tells this process from all others: host, process, and a random part, for
// processes in containers are often called alike.
var instanceName = sync.OnceValue(func() string {
	return fmt.Sprintf("%s/%d/%04x", hostName(), os.Getpid(), rand.Uint32()&0xffff)
})

func hostName() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}
