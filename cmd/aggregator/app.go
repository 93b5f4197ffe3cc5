package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"aggregator/config"
	"aggregator/internal/postgres"
	"aggregator/internal/service"
)

// app is what the commands share. The settings, the log and the instance are there once a command
// made with configured runs.
type app struct {
	stdout, stderr io.Writer

	cfg   config.Config
	log   *slog.Logger
	level slog.LevelVar // of the log

	*service.Instance // with these settings and this log
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
		a.Instance = service.New(cfg, a.log, programVersion())
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
	where := fmt.Sprintf("(PostgreSQL at %s)", postgres.Describe(string(a.cfg.Postgres.URL)))
	if strings.Contains(err.Error(), where) {
		return err
	}
	return fmt.Errorf("%w %s", err, where)
}
