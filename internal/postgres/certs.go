package postgres

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/certs"
)

// Connect opens a connection as those of a pool with this configuration are, but of the caller's own, who
// closes it. Errors are those of pgx.ConnectConfig.
func Connect(ctx context.Context, cfg *pgxpool.Config) (*pgx.Conn, error) {
	own := cfg.ConnConfig.Copy()
	if cfg.BeforeConnect != nil {
		if err := cfg.BeforeConnect(ctx, own); err != nil {
			return nil, err
		}
	}
	conn, err := pgx.ConnectConfig(ctx, own)
	if err != nil || cfg.AfterConnect == nil {
		return conn, err
	}
	if err := cfg.AfterConnect(ctx, conn); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	return conn, nil
}

// renewCertificates lets each new connection of a pool use the certificates that the URL, or libpq's
// variables, name as their files are at that moment.
func renewCertificates(cfg *pgxpool.Config, url string, log *certs.Log) {
	before := targets(cfg.ConnConfig)
	if !slices.ContainsFunc(before, func(t *pgconn.FallbackConfig) bool { return t.TLSConfig != nil }) {
		return
	}
	read := func() ([]*pgconn.FallbackConfig, error) {
		now, err := parse(url)
		if err != nil {
			return nil, err
		}
		all := targets(now.ConnConfig)
		if !slices.EqualFunc(before, all, sameTarget) {
			return nil, fmt.Errorf("%w: the servers that libpq's variables and files name have changed", ErrURL)
		}
		return all, nil
	}
	same := func(a, b []*pgconn.FallbackConfig) bool {
		return slices.EqualFunc(a, b, func(a, b *pgconn.FallbackConfig) bool { return certs.Same(a.TLSConfig, b.TLSConfig) })
	}
	files := certs.New("PostgreSQL", before, read, same, log)
	other := cfg.BeforeConnect
	cfg.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		now := files.Now()
		c.TLSConfig = clone(now[0].TLSConfig)
		for i, f := range c.Fallbacks {
			f.TLSConfig = clone(now[i+1].TLSConfig)
		}
		if other != nil {
			return other(ctx, c)
		}
		return nil
	}
}

// targets are all that a configuration may connect to, in its order.
func targets(cfg *pgx.ConnConfig) []*pgconn.FallbackConfig {
	first := &pgconn.FallbackConfig{Host: cfg.Host, Port: cfg.Port, TLSConfig: cfg.TLSConfig}
	return append([]*pgconn.FallbackConfig{first}, cfg.Fallbacks...)
}

func sameTarget(a, b *pgconn.FallbackConfig) bool {
	return a.Host == b.Host && a.Port == b.Port && (a.TLSConfig == nil) == (b.TLSConfig == nil)
}

func clone(t *tls.Config) *tls.Config {
	if t == nil {
		return nil
	}
	return t.Clone()
}
