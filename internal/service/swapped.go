package service

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/redis/go-redis/v9"

	"aggregator/internal/postgres"
)

// isPostgres says whether a server that hung up on Redis' client is a PostgreSQL. It asks the server, for a
// second at most.
func (s *Redis) isPostgres(err error) bool {
	client, single := s.Client.(*redis.Client)
	if !single || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return false
	}
	o := client.Options()
	return postgres.IsPostgres(context.Background(), o.Network, o.Addr)
}
