package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"aggregator/config"
	"aggregator/internal/aggregator"
	"aggregator/internal/events"
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
	pool  *pgxpool.Pool
	redis *redis.Client
}

// openEngine connects to both servers. The caller closes the engine.
func (a *app) openEngine(ctx context.Context) (*engine, error) {
	cfg := a.cfg
	pool, err := a.openPostgres(ctx, aggregator.Connections(cfg.Apply.Workers, cfg.Source.Partitions))
	if err != nil {
		return nil, err
	}
	client, err := a.openRedis(ctx, 2*cfg.Source.Partitions+2) // each partition waits and trims
	if err != nil {
		pool.Close()
		return nil, err
	}
	sources, err := a.sources(client)
	if err != nil {
		pool.Close()
		_ = client.Close()
		return nil, err
	}
	catalogue := scores.NewCatalogue(pool, a.log, scores.CatalogueOptions{
		Books: cfg.Cache.Books, Profiles: cfg.Cache.Profiles, TTL: cfg.Cache.TTL,
	})
	options := aggregator.Options{
		ChunkMaxEvents:         cfg.Chunk.MaxEvents,
		ChunkMaxWait:           cfg.Chunk.MaxWait,
		Workers:                cfg.Apply.Workers,
		ProfilesPerTransaction: cfg.Apply.ProfilesPerTransaction,
		Coalesce:               cfg.Events.Coalesce == "last",
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
	}
	return &engine{aggregator.New(pool, sources, catalogue, options, a.log), pool, client}, nil
}

// instanceName tells this process from all others: host, process, and a random part, for
// processes in containers are often called alike.
func instanceName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d/%04x", host, os.Getpid(), rand.Uint32()&0xffff)
}

func (a *app) sources(client redis.UniversalClient) ([]*events.Source, error) {
	sources, err := events.Sources(client, events.Options{
		Kind:       a.cfg.Source.Kind,
		Key:        a.cfg.Source.Key,
		PushSide:   a.cfg.Source.PushSide,
		Partitions: a.cfg.Source.Partitions,
		Weights:    a.cfg.Events.Weights,
	})
	if err != nil {
		return nil, tag(config.ErrInvalid, err)
	}
	return sources, nil
}

// close does not wait for a server that stands still: the pool would, for 15 s and more
// beyond the grace, and nothing is to be written any more.
func (e *engine) close() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		e.pool.Close()
	}()
	_ = e.redis.Close()
	select {
	case <-closed:
	case <-time.After(time.Second):
	}
}
