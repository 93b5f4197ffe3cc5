package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Kind is what a URL leads to.
type Kind string

const (
	Auto       Kind = "auto"       // found out when connecting
	PostgreSQL Kind = "postgresql" // one server, whatever extensions it has
	Citus      Kind = "citus"      // the coordinator of Citus, with child_profile distributed
)

// ErrKind says that the database is not of the kind that the settings name, or that settings do not go with it.
var ErrKind = errors.New("postgres.kind does not fit")

// citusParams replace session settings of one server. A generic plan of a statement over several shards is
// refused, and a call of a function goes to the worker of its profile only where its arguments are constants.
var citusParams = map[string]string{
	"plan_cache_mode": "force_custom_plan",
	ownSession:        string(Citus),
}

// OnCitus says whether connections with this configuration, which is one of Open's, lead to a Citus that has
// distributed the tables.
func OnCitus(cfg *pgx.ConnConfig) bool { return cfg.RuntimeParams[ownSession] == string(Citus) }

// onCitus says whether Citus has distributed child_profile of a schema. The error has ErrKind if that is not what
// the options say, or what they allow.
func (o Options) onCitus(ctx context.Context, conn *pgx.Conn, schema string) (bool, error) {
	if o.Kind == PostgreSQL {
		return false, nil
	}
	distributed, err := distributed(ctx, conn, schema)
	switch {
	case err != nil:
		return false, fmt.Errorf("looking for Citus: %w", err)
	case !distributed && o.Kind == Citus:
		return false, fmt.Errorf("%w: it is citus, and child_profile is not distributed in this database: "+
			"run aggregator migrate up --distribute (PostgreSQL at %s)", ErrKind, describe(conn.Config()))
	case distributed && o.Pooled:
		return false, fmt.Errorf("%w: Citus behind a pooler in transaction mode is not supported; "+
			"set postgres.pooler to none and postgres.url to the coordinator itself (PostgreSQL at %s)",
			ErrKind, describe(conn.Config()))
	}
	return distributed, nil
}

// distributed says whether Citus is there, and has distributed child_profile.
func distributed(ctx context.Context, conn *pgx.Conn, schema string) (is bool, err error) {
	var installed bool
	err = conn.QueryRow(ctx, `SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL`).Scan(&installed)
	if err != nil || !installed {
		return false, err
	}
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_dist_partition WHERE partmethod = 'h'
    AND logicalrelid = to_regclass(format('%I.child_profile', $1::text)))`, schema).Scan(&is)
	return is, err
}
