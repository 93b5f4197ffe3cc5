package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/config"
	"aggregator/internal/events"
)

// servers are connections to both, and the sources that the settings name.
type servers struct {
	pool    *pgxpool.Pool
	redis   *redisServer
	sources []*events.Source
}

// connect opens so many connections to each server. Errors are those of openPostgres and
// openRedis, or have config.ErrInvalid. The caller closes the servers.
func (a *app) connect(ctx context.Context, postgresConns, redisConns int) (*servers, error) {
	pool, err := a.openPostgres(ctx, postgresConns)
	if err != nil {
		return nil, err
	}
	server, err := a.openRedis(ctx, redisConns)
	if err != nil {
		pool.Close()
		return nil, err
	}
	sources, err := a.sources(server)
	if err != nil {
		pool.Close()
		_ = server.client.Close()
		return nil, err
	}
	return &servers{pool, server, sources}, nil
}

func (a *app) sources(server *redisServer) ([]*events.Source, error) {
	sources, err := events.Sources(server.client, a.sourceOptions())
	if err != nil {
		return nil, tag(config.ErrInvalid, err)
	}
	return sources, nil
}

func (a *app) sourceOptions() events.Options {
	return events.Options{
		Kind:       a.cfg.Source.Kind,
		Key:        a.cfg.Source.Key,
		PushSide:   a.cfg.Source.PushSide,
		Partitions: a.cfg.Source.Partitions,
		Weights:    a.cfg.Events.Weights,
	}
}

// close does not wait for a server that stands still: the pool would, for 15 s and more
// beyond the grace, and nothing is to be written any more.
func (s *servers) close() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.pool.Close()
	}()
	_ = s.redis.client.Close()
	select {
	case <-closed:
	case <-time.After(time.Second):
	}
}
