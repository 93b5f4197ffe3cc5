// Package postgres opens the connections to PostgreSQL and keeps the schema that the
// daemon needs.
//
// A program is built for the newest migration that it knows. It works with that schema, and with
// a newer one if each migration that it does not know is marked, in
// aggregator.schema_compatibility, as working with it (CheckSchema). The migration itself writes
// the mark, and its Down, if it has one, takes it back. A migration without a Down cannot be
// undone.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/appschema"
	"aggregator/internal/certs"
)

const connectTimeout = 5 * time.Second

// Options say how to open a pool.
type Options struct {
	// URL is a postgres:// URL or libpq's keyword=value form. What it leaves out, all of
	// it when empty, comes from libpq's PG* variables.
	URL string
	// Schema is that of the application's tables. Empty: the one schema on the search path that
	// has them, see appschema.Resolve.
	Schema string
	// Tables are their own names, for those that are not found by the names of appschema.Tables.
	Tables appschema.Names
	// TimeZone is that of the sessions, which columns without a time zone are in. Empty: the one that the
	// server has for the role, the database or itself, so that the application and we mean the same.
	TimeZone string
	// MaxConns limits the pool and overrides the URL's pool_max_conns; 0 leaves it to the URL.
	MaxConns int
	// ApplicationName is shown in pg_stat_activity.
	ApplicationName string
	// Pooled says that a pooler in transaction mode, such as PgBouncer, stands before the
	// server: a session is ours for one transaction only. Its settings are then those of
	// the role (config/roles.sql), and statements are not kept prepared.
	Pooled bool
	// Kind says whether child profiles are spread over nodes of Citus; empty is Auto.
	Kind Kind
	// Log is told of certificates that have changed while the pool is open; may be nil.
	Log *certs.Log
}

// The session settings of every connection in a pool.
//
// Transactions commit without waiting for the disk: the checkpoint, which alone decides
// what may be trimmed, turns synchronous_commit on for itself. The time limits turn a
// stuck server into an error that is retried. Statements are prepared once, and their plans
// depend neither on the values nor on the size of the tables: a plan made while a table was
// empty would else read all of it, for as long as it is not analyzed.
var sessionParams = map[string]string{
	"synchronous_commit":                  "off",
	"lock_timeout":                        "5s",
	"statement_timeout":                   "30s",
	"idle_in_transaction_session_timeout": "60s",
	"plan_cache_mode":                     "force_generic_plan",
	"enable_seqscan":                      "off",
	"enable_bitmapscan":                   "off",
	"enable_hashjoin":                     "off",
	"enable_mergejoin":                    "off",
	"jit":                                 "off",
	"datestyle":                           "ISO",
	"row_security":                        "off", // what a policy hides is an error, not missing
	"default_transaction_isolation":       "read committed",
	"client_encoding":                     "UTF8",
	ownSession:                            "own",
}

// ErrPooler says that a connection pooler is in the way of a session of our own.
var ErrPooler = errors.New("a transaction-mode pooler was detected")

// Open opens a pool and pings the server once, within 5 seconds per host unless the URL
// sets connect_timeout. Session settings in the URL win over ours, but for the search path:
// the schema of the application's tables is found once, and is the first in which every
// session looks for a name. Behind a pooler the role's search path has to begin with it. Each new
// connection uses certificates and authorities as their files are at that moment.
//
// Errors: one with ErrUnreachable when the server does not let us in, one with ErrURL when
// the URL makes no sense, one with ErrPooler when a pooler shows that it is there and
// Pooled was not set, one with ErrKind when the database is not what Kind says, one with
// appschema.ErrChoice when the schema cannot be told. None contains the password. The caller closes the pool.
func Open(ctx context.Context, o Options) (*pgxpool.Pool, error) {
	cfg, err := parse(o.URL)
	if err != nil {
		return nil, err
	}
	place, citus, err := resolve(ctx, cfg, o)
	if err != nil {
		return nil, err
	}
	params := map[string]string{}
	for _, name := range []string{"datestyle", "client_encoding"} { // a pooler knows these
		params[name] = sessionParams[name]
	}
	if o.Pooled {
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	} else {
		params = maps.Clone(sessionParams)
		pin(cfg, place.SearchPath())
		if citus {
			maps.Copy(params, citusParams)
		}
	}
	if o.TimeZone != "" {
		params["timezone"] = o.TimeZone // which a pooler knows as well
	}
	if o.ApplicationName != "" {
		params["application_name"] = o.ApplicationName
	}
	setParams(cfg, params)
	neverCancel(cfg)
	encodeValues(cfg)
	if !o.Pooled && !given(cfg, idleLimit) {
		stayIdle(cfg)
	}
	if o.MaxConns > 0 {
		cfg.MaxConns = int32(o.MaxConns)
		cfg.MinConns = min(cfg.MinConns, cfg.MaxConns)
	}
	renewCertificates(cfg, o.URL, o.Log)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, reachable(cfg.ConnConfig, err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, reachable(cfg.ConnConfig, err)
	}
	if !o.Pooled {
		if err := checkSession(ctx, pool); err != nil {
			pool.Close()
			return nil, reachable(cfg.ConnConfig, err)
		}
	}
	return pool, nil
}

// Pooled says whether connections with this configuration are as Options.Pooled has it.
func Pooled(cfg *pgx.ConnConfig) bool {
	return cfg.DefaultQueryExecMode == pgx.QueryExecModeCacheDescribe
}

// ownSession is a setting of ours, which means nothing to PostgreSQL. No pooler knows it:
// PgBouncer refuses it, unless it was told by this name to ignore it.
const ownSession = "aggregator.session"

// checkSession finds a pooler that drops the settings of a session without a word, by one
// that only this program can have made.
func checkSession(ctx context.Context, db querier) error {
	// its error is also that of the rows
	rows, _ := db.Query(ctx, `SELECT coalesce(current_setting($1, true), '')`, ownSession)
	got, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	if err == nil && got == "" {
		err = fmt.Errorf("%w: it dropped the settings of the session; %s", ErrPooler, aroundPooler)
	}
	return err
}

const aroundPooler = `set postgres.pooler to transaction; aggregator migrate needs PostgreSQL itself`

// Ping asks the server for a sign of life. Errors as Open.
func Ping(ctx context.Context, pool *pgxpool.Pool) error {
	return reachable(pool.Config().ConnConfig, pool.Ping(ctx))
}

// setParams adds the session settings that the operator has not set.
func setParams(cfg *pgxpool.Config, params map[string]string) {
	for name, value := range params {
		if !given(cfg, name) {
			cfg.ConnConfig.RuntimeParams[name] = value
		}
	}
}

// given says whether the operator has set a session setting: in the URL, or by the options
// parameter (libpq's PGOPTIONS), which the server would read before ours.
func given(cfg *pgxpool.Config, name string) bool {
	taken := strings.ToLower(cfg.ConnConfig.RuntimeParams["options"])
	for name := range cfg.ConnConfig.RuntimeParams {
		taken += " " + strings.ToLower(name) + "="
	}
	return strings.Contains(taken, name+"=")
}

const idleLimit = "idle_session_timeout"

// stayIdle lets no limit of the database or the role end a session of ours that only listens.
// PostgreSQL 13 does not know the setting, and would refuse a session that began with it.
func stayIdle(cfg *pgxpool.Config) {
	before := cfg.AfterConnect
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SELECT set_config('`+idleLimit+`', '0', false) WHERE current_setting('`+idleLimit+
			`', true) <> '0'`, pgx.QueryExecModeExec)
		return errors.Join(err, before(ctx, conn))
	}
}
