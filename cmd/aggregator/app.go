package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"aggregator/config"
	"aggregator/internal/appschema"
	"aggregator/internal/postgres"
	"aggregator/internal/verdict"
)

// app is what the commands share. The settings and the log are there once a command made
// with configured runs.
type app struct {
	stdout, stderr io.Writer

	cfg   config.Config
	log   *slog.Logger
	level slog.LevelVar // of the log

	schema atomic.Int64 // its version when it was last looked at
}

// configured is a command's RunE that first loads the settings. What PostgreSQL says is wrong
// is returned with which database it is.
func (a *app) configured(run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cfg, err := config.Load(cmd.Flags())
		if err != nil {
			return err
		}
		a.cfg = cfg
		a.level.Set(logLevel(cfg.Log.Level))
		a.log = newLog(a.stderr, &a.level, cfg.Log.Format)
		redis.SetLogger(redisLog{a.log})
		return a.located(run(cmd, args))
	}
}

// located adds to an error of PostgreSQL's which database it is, if nothing in it says so yet.
func (a *app) located(err error) error {
	var said *pgconn.PgError
	if !errors.As(err, &said) || errors.Is(err, postgres.ErrUnreachable) || errors.Is(err, postgres.ErrPooler) {
		return err
	}
	return fmt.Errorf("%w (PostgreSQL at %s)", err, postgres.Describe(string(a.cfg.Postgres.URL)))
}

// openPostgres opens a pool of so many connections to a database with our schema. Errors
// have postgres.ErrUnreachable, appschema.ErrChoice or postgres.ErrSchema. The caller closes the pool.
func (a *app) openPostgres(ctx context.Context, conns int) (*pgxpool.Pool, error) {
	pool, err := postgres.Open(ctx, a.postgresOptions(conns))
	if err != nil {
		return nil, wentAway(ctx, err)
	}
	schema, err := postgres.CheckSchema(ctx, pool)
	if err != nil {
		pool.Close()
		return nil, wentAway(ctx, err)
	}
	a.noteSchema(schema)
	return pool, nil
}

// checkTables fails, with appschema.ErrTables, if no event can be applied to the application's tables as they are.
func (a *app) checkTables(ctx context.Context, pool *pgxpool.Pool) error {
	found, err := appschema.ReadCurrent(ctx, pool, a.cfg.Postgres.Tables)
	if err != nil {
		return wentAway(ctx, err)
	}
	return found.Check(true)
}

// noteSchema says once of a schema that is newer than this program that it is.
func (a *app) noteSchema(schema postgres.Schema) {
	if a.schema.Swap(schema.Version) != schema.Version && schema.Newer() {
		a.log.Warn("the schema is newer than this program", "schema", schema)
	}
}

func (a *app) postgresOptions(conns int) postgres.Options {
	return postgres.Options{
		URL: string(a.cfg.Postgres.URL), Schema: a.cfg.Postgres.Schema, Tables: a.cfg.Postgres.Tables,
		MaxConns: conns, ApplicationName: "aggregator",
		TimeZone: a.cfg.Postgres.TimeZone, Pooled: a.cfg.Postgres.Pooler == "transaction", Log: a.log,
	}
}

// wentAway makes an error that a server which lets us in would not give one of a server
// that is not reachable: it went away in this very moment.
func wentAway(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, postgres.ErrURL) || errors.Is(err, postgres.ErrSchema) || errors.Is(err, postgres.ErrPooler) ||
		errors.Is(err, appschema.ErrChoice) || verdict.Of(err) != verdict.Retry {
		return err
	}
	return tag(postgres.ErrUnreachable, err)
}

// openRedis opens a client with so many connections. Errors have errRedisUnreachable. The
// caller closes the client.
func (a *app) openRedis(ctx context.Context, conns int) (*redisServer, error) {
	return dialRedis(ctx, a.cfg, conns, a.log)
}
