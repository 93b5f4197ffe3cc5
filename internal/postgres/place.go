package postgres

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/appschema"
)

// resolve finds the schema of the application's tables, and whether Citus has distributed them, on a connection
// of its own with the search path that the role, the database and the URL make.
func resolve(ctx context.Context, cfg *pgxpool.Config, o Options) (place appschema.Place, citus bool, err error) {
	conn, err := connectTo(ctx, plain(cfg.ConnConfig))
	if err != nil {
		return place, false, reachable(cfg.ConnConfig, err)
	}
	defer conn.Close(ctx)
	if place, err = resolveOn(ctx, conn, o); err == nil {
		citus, err = o.onCitus(ctx, conn, place.Schema)
	}
	return place, citus, err
}

func resolveOn(ctx context.Context, conn *pgx.Conn, o Options) (appschema.Place, error) {
	cfg := conn.Config()
	place, err := appschema.Resolve(ctx, conn, o.Schema, o.Tables)
	if err != nil {
		return place, fmt.Errorf("%w (PostgreSQL at %s)", err, describe(cfg))
	}
	if o.Pooled && (place.First != place.Schema || !place.Views) {
		return place, fmt.Errorf(
			"%w: it is %s, and through a pooler a session looks first in %q: ALTER ROLE %s IN DATABASE %s SET "+
				"search_path = %s, "+
				"which new connections of the pooler then have (PostgreSQL at %s)", appschema.ErrChoice, place.Schema, place.First,
			pgx.Identifier{cfg.User}.Sanitize(), pgx.Identifier{cfg.Database}.Sanitize(), place.SearchPath(), describe(cfg))
	}
	return place, nil
}

// DescribeTables reads the description of the application's tables, whether or not a migration was ever applied.
// It changes nothing, and works through any pooler. Errors as Open.
func DescribeTables(ctx context.Context, o Options) (appschema.Description, error) {
	cfg, err := parse(o.URL)
	if err != nil {
		return appschema.Description{}, err
	}
	if o.TimeZone != "" {
		setParams(cfg, map[string]string{"timezone": o.TimeZone})
	}
	conn, err := connectTo(ctx, plain(cfg.ConnConfig))
	if err != nil {
		return appschema.Description{}, reachable(cfg.ConnConfig, err)
	}
	defer conn.Close(ctx)
	place, err := resolveOn(ctx, conn, o)
	if err != nil {
		return appschema.Description{}, err
	}
	return appschema.Read(ctx, conn, place.Schema, o.Tables)
}

// plain is a configuration for a connection that asks a question or two, through whatever pooler.
func plain(cfg *pgx.ConnConfig) *pgx.ConnConfig {
	cfg = cfg.Copy()
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing prepared is left behind in a pooler
	return cfg
}

// pin makes the sessions look for names in the schemas of a search path, whatever else is set.
func pin(cfg *pgxpool.Config, path string) {
	params := cfg.ConnConfig.RuntimeParams
	maps.DeleteFunc(params, func(name, _ string) bool { return strings.EqualFold(name, "search_path") })
	params["search_path"] = path // which the server takes after what options says
}
