package service

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/config"
	"aggregator/internal/events"
	"aggregator/internal/verdict"
)

// Servers are connections to both, and the sources that the settings name.
type Servers struct {
	Pool    *pgxpool.Pool
	Redis   *Redis
	Sources []*events.Source
}

// Connect opens so many connections to each server. Errors are those of OpenPostgres and
// OpenRedis, or have config.ErrInvalid. The caller closes the servers.
func (i *Instance) Connect(ctx context.Context, postgresConns, redisConns int) (*Servers, error) {
	pool, err := i.OpenPostgres(ctx, postgresConns)
	if err != nil {
		return nil, err
	}
	server, err := i.OpenRedis(ctx, redisConns)
	if err != nil {
		pool.Close()
		return nil, err
	}
	sources, err := i.Sources(server)
	if err != nil {
		pool.Close()
		_ = server.Client.Close()
		return nil, err
	}
	return &Servers{pool, server, sources}, nil
}

// Sources are those that the settings name. Errors have config.ErrInvalid.
func (i *Instance) Sources(server *Redis) ([]*events.Source, error) {
	sources, err := events.Sources(server.Client, i.sourceOptions())
	if err != nil {
		return nil, verdict.Tag(config.ErrInvalid, err)
	}
	return sources, nil
}

func (i *Instance) sourceOptions() events.Options {
	return events.Options{
		Kind:       i.config.Source.Kind,
		Key:        i.config.Source.Key,
		PushSide:   i.config.Source.PushSide,
		Partitions: i.config.Source.Partitions,
		Weights:    i.config.Events.Weights,
	}
}

// Close does not wait for a server that stands still: the pool would, for 15 s and more beyond the grace, and
// nothing is to be written any more.
func (s *Servers) Close() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.Pool.Close()
	}()
	_ = s.Redis.Client.Close()
	select {
	case <-closed:
	case <-time.After(time.Second):
	}
}
