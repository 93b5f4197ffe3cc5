package service

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/aggregator"
	"aggregator/internal/events"
	"aggregator/internal/limits"
	"aggregator/internal/postgres"
	"aggregator/internal/runs"
	"aggregator/internal/scores"
)

// serverTimeout is how long a server may take to answer before it is given up. It is longer than the
// statement and lock time-outs of our connections.
const serverTimeout = 45 * time.Second

// trimEvery is how long a processed entry may stay in Redis after the last other consumer group has let go of it.
const trimEvery = 10 * time.Second

// Engine is an aggregator with its connections. It drains former sources, too.
type Engine struct {
	*aggregator.Aggregator
	*Servers
	instance  *Instance // with the settings that the engine was made by
	former    *formerSources
	scheduled bool // it drains by schedule
}

// OpenEngine connects to both servers; errors as Connect and CheckTables. It calls observe, if there is one,
// with each chunk that is processed. The caller closes the engine.
func (i *Instance) OpenEngine(ctx context.Context, observe func(aggregator.Chunk)) (*Engine, error) {
	to, err := i.Connect(ctx, i.EngineConnections(),
		2*i.config.Source.Partitions+2) // each partition waits and trims
	if err != nil {
		return nil, err
	}
	var opened *Engine
	if err = i.CheckTables(ctx, to.Pool); err == nil {
		opened, err = i.newEngine(to, observe)
	}
	if err != nil {
		to.Close()
	}
	return opened, err
}

// EngineConnections are those of an engine to PostgreSQL, and what jobs and records of them need
// beside it.
func (i *Instance) EngineConnections() int {
	return aggregator.Connections(i.config.Apply.Workers, i.config.Source.Partitions) + 2
}

// newEngine is an engine on connections that there are already. Its error has config.ErrInvalid.
func (i *Instance) newEngine(to *Servers, observe func(aggregator.Chunk)) (*Engine, error) {
	sources, err := i.Sources(to.Redis)
	if err != nil {
		return nil, err
	}
	if n := i.config.Apply.ProfilesPerTransaction; n != 1 && postgres.OnCitus(to.Pool.Config().ConnConfig) {
		return nil, fmt.Errorf("%w: apply.profiles_per_transaction is not 1, and this is Citus, where each profile has a "+
			"transaction of its own on its worker: leave it out", postgres.ErrKind)
	}
	to = &Servers{to.Pool, to.Redis, sources}
	return &Engine{i.newAggregator(to.Pool, sources, observe), to, i, &formerSources{}, i.config.Schedule.Drain != ""}, nil
}

// newAggregator is one for the sources.
func (i *Instance) newAggregator(
	pool *pgxpool.Pool, sources []*events.Source, observe func(aggregator.Chunk),
) *aggregator.Aggregator {
	cfg := i.config
	memory := limits.Set(i.log)
	catalogue := scores.NewCatalogue(pool, i.log, scores.CatalogueOptions{
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
		Journal:                cfg.Journal.Keep > 0,
		Retain:                 cfg.Trim.Retain,
		TrimEvery:              trimEvery,
		Grace:                  cfg.Shutdown.Grace,
		Timeout:                serverTimeout,
		DeadWindow:             cfg.Dead.Window,
		DeadMaxShare:           cfg.Dead.MaxShare,
		RetryUnknownFor:        cfg.Dead.RetryUnknownFor,
		RetryEvery:             cfg.Dead.RetryEvery,
		Observe:                observe,
		Schema:                 i.noteSchema,
	}
	return aggregator.New(pool, sources, catalogue, options, i.log)
}

// counts is what it has done, except drains that have a record of their own.
func (e *Engine) counts() runs.Counts {
	if e.scheduled {
		return runs.Counts{}
	}
	return e.Stats().Counts
}
