package service

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"aggregator/config"
	"aggregator/internal/certs"
)

// dialFunc is how a client of Redis opens a connection.
type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// tlsDialer dials with the certificates as their files are at that moment, and otherwise as secure says. If
// secure is nil it returns nil, and the client dials in its own way.
func tlsDialer(cfg config.Config, secure *tls.Config, timeout time.Duration, log *certs.Log) dialFunc {
	if secure == nil {
		return nil
	}
	if timeout == 0 {
		timeout = 5 * time.Second // the client's own default
	}
	read := func() (*tls.Config, error) {
		now, err := cfg.RedisTLS()
		if err != nil {
			return nil, err
		}
		now.ServerName, now.InsecureSkipVerify = secure.ServerName, secure.InsecureSkipVerify
		return now, nil
	}
	files := certs.New("Redis", secure, read, certs.Same, log)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return redis.NewDialer(&redis.Options{DialTimeout: timeout, TLSConfig: files.Now()})(ctx, network, addr)
	}
}
