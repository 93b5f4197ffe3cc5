package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// unreachableError is a server that could not be talked to at all.
type unreachableError struct {
	server, host string
	cause        error
}

func (u unreachableError) Error() string {
	// pgx reports each address that it tried on a line of its own.
	cause := strings.Join(strings.FieldsFunc(u.cause.Error(), func(r rune) bool { return r == '\n' || r == '\t' }), " ")
	return fmt.Sprintf("%s at %s is not reachable: %s", u.server, u.host, cause)
}

func (u unreachableError) Unwrap() error { return u.cause }

// openRedis connects a client that never sends a command twice by itself. The caller
// closes it.
func (g *global) openRedis(ctx context.Context, connections int, timeout time.Duration) (redis.UniversalClient, error) {
	url := cmp.Or(g.redisURL, os.Getenv("AGGREGATOR_REDIS_URL"), os.Getenv("REDIS_URL"))
	if url == "" {
		return nil, usage("no Redis given: use --redis-url, AGGREGATOR_REDIS_URL or REDIS_URL")
	}
	o := &redis.UniversalOptions{
		MaxRetries: -1, MaxRedirects: -1,
		DialerRetries: 1,
		PoolSize:      connections + 1,
		ReadTimeout:   timeout, WriteTimeout: timeout,
		DialTimeout:              min(timeout, 5*time.Second),
		DisableIdentity:          true,
		Protocol:                 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if err := g.locate(o, url); err != nil {
		return nil, err
	}
	redis.SetLogger(quiet{})
	client := redis.NewUniversalClient(o)
	if err := client.Ping(ctx).Err(); err != nil {
		client.Close()
		return nil, unreachableError{"Redis", strings.Join(o.Addrs, ","), err}
	}
	return client, nil
}

// locate fills in where Redis is, and who we are to it.
func (g *global) locate(o *redis.UniversalOptions, url string) error {
	var err error
	switch g.redisMode {
	case "standalone":
		var at *redis.Options
		if at, err = redis.ParseURL(url); err == nil {
			o.Addrs, o.Username, o.Password, o.DB, o.TLSConfig = []string{at.Addr}, at.Username, at.Password, at.DB, at.TLSConfig
		}
	case "sentinel":
		var at *redis.FailoverOptions
		if at, err = redis.ParseFailoverURL(url); err == nil {
			o.MasterName, o.Addrs, o.SentinelUsername, o.SentinelPassword = at.MasterName, at.SentinelAddrs, at.SentinelUsername,
				at.SentinelPassword
			o.Username, o.Password, o.DB, o.TLSConfig = at.Username, at.Password, at.DB, at.TLSConfig
		}
	case "cluster":
		var at *redis.ClusterOptions
		if at, err = redis.ParseClusterURL(url); err == nil {
			o.IsClusterMode = true
			o.Addrs, o.Username, o.Password, o.TLSConfig = at.Addrs, at.Username, at.Password, at.TLSConfig
		}
	default:
		return usage("unknown --redis-mode %q: standalone, sentinel or cluster", g.redisMode)
	}
	if err != nil {
		// The error quotes the URL, password and all.
		return usage("the URL of Redis is not valid: want redis://[user:password@]host:port/number")
	}
	return nil
}

// quiet drops what go-redis would log: each error is also returned, and reported once.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// openPostgres connects to the database. The caller closes the connection.
func (g *global) openPostgres(ctx context.Context) (*pgx.Conn, error) {
	url := cmp.Or(g.postgresURL, os.Getenv("AGGREGATOR_POSTGRES_URL"), os.Getenv("DATABASE_URL"))
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, usage("the URL of PostgreSQL is not valid: want postgres://user:password@host:port/database")
	}
	config.ConnectTimeout = cmp.Or(config.ConnectTimeout, 5*time.Second)
	db, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, unreachableError{"PostgreSQL", fmt.Sprintf("%s:%d", config.Host, config.Port), err}
	}
	return db, nil
}
