package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/config"
	"aggregator/internal/appschema"
	"aggregator/internal/certs"
	"aggregator/internal/cluster"
	"aggregator/internal/postgres"
	"aggregator/internal/runs"
	"aggregator/internal/verdict"
)

// Instance is what works: the settings, the log, and a name that no other instance has. It has no
// connections; what it opens, the caller closes. It does not change, and is safe for concurrent use.
type Instance struct {
	config  config.Config
	log     *slog.Logger
	version string
	name    string
	host    string

	jobLease time.Duration // how long a job still counts as running after its instance was last seen
	schema   *atomic.Int64 // its version when it was last looked at

	certificates *certs.Log
}

// New returns an instance with a new name. version is that of the program, for the record of its
// runs. The settings are those that config.Load has returned.
func New(cfg config.Config, log *slog.Logger, version string) *Instance {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &Instance{
		config: cfg, log: log, version: version, host: host, name: newName(host),
		jobLease: 10 * time.Second, schema: new(atomic.Int64), certificates: certs.NewLog(log),
	}
}

// newName tells this instance from all others: host, process, and a random part, because processes in
// containers often have the same host and process id.
func newName(host string) string {
	return fmt.Sprintf("%s/%d/%04x", host, os.Getpid(), rand.Uint32()&0xffff)
}

// with is the same instance with other settings.
func (i *Instance) with(cfg config.Config) *Instance {
	next := *i
	next.config = cfg
	return &next
}

// Host is the machine that it is on.
func (i *Instance) Host() string { return i.host }

// Name is what the instance is called in leases.
func (i *Instance) Name() string { return i.name }

// Recorder writes records of runs.
func (i *Instance) Recorder(pool *pgxpool.Pool) runs.Recorder {
	source := "source " + i.config.Source.Key
	if n := i.config.Source.Partitions; n > 1 {
		source += fmt.Sprintf(", %d partitions", n)
	}
	return runs.Recorder{
		Pool: pool, Host: i.host, Version: i.version, Source: source, Keep: i.config.Runs.Keep,
		Log: i.log,
	}
}

// HeldError says that another instance has the lease, and is alive.
type HeldError = cluster.HeldError

// Alone does something under the lease of a source or a job, so that no other instance does it at
// the same time. It renews the lease, and gives it up at the end. The context of do ends with ctx,
// or when another instance turns out to have the lease. The error is a *HeldError while another
// instance has it; one of PostgreSQL, if do was not begun; or that of do.
func (i *Instance) Alone(ctx context.Context, pool *pgxpool.Pool, name string, do func(context.Context) error) error {
	return cluster.Alone(ctx, pool, name, i.name, i.jobLease, do)
}

// leaseOf is what the lease of a job is called.
func leaseOf(kind string) string { return "job:" + kind }

// ErrElsewhere says that a job is not done because another instance does it.
var ErrElsewhere = errors.New("running elsewhere")

// ByHand does a job as a command does, alone and with a record of it. Its error has ErrElsewhere if
// the job is running elsewhere; else it is as that of Alone.
func (i *Instance) ByHand(
	ctx context.Context, pool *pgxpool.Pool, record runs.Job, do func(context.Context) (runs.Outcome, error),
) error {
	err := i.Alone(ctx, pool, leaseOf(record.Kind), func(ctx context.Context) error {
		return i.Recorder(pool).Record(ctx, record, func() (runs.Outcome, error) { return do(ctx) })
	})
	var held *HeldError
	if errors.As(err, &held) {
		return verdict.Tag(ErrElsewhere,
			fmt.Errorf("%s is running elsewhere: by %s, since %s", record.Kind, held.Lease.Holder,
				held.Lease.Acquired.UTC().Format(time.RFC3339)))
	}
	return err
}

// OpenPostgres opens a pool of so many connections to a database with our schema. Errors
// have postgres.ErrUnreachable, appschema.ErrChoice or postgres.ErrSchema. The caller closes the pool.
func (i *Instance) OpenPostgres(ctx context.Context, conns int) (*pgxpool.Pool, error) {
	pool, err := postgres.Open(ctx, i.PostgresOptions(conns))
	if err != nil {
		return nil, wentAway(ctx, err)
	}
	schema, err := postgres.CheckSchema(ctx, pool)
	if err != nil {
		pool.Close()
		return nil, wentAway(ctx, err)
	}
	i.noteSchema(schema)
	return pool, nil
}

// PostgresOptions are those of the settings, with so many connections.
func (i *Instance) PostgresOptions(conns int) postgres.Options {
	of := i.config.Postgres
	return postgres.Options{
		URL: string(of.URL), Schema: of.Schema, Tables: of.Tables,
		MaxConns: conns, ApplicationName: "aggregator",
		TimeZone: of.TimeZone, Pooled: of.Pooler == "transaction", Kind: postgres.Kind(of.Kind), Log: i.certificates,
	}
}

// CheckTables fails, with appschema.ErrTables, if no event can be applied to the application's tables as they are.
func (i *Instance) CheckTables(ctx context.Context, pool *pgxpool.Pool) error {
	found, err := appschema.ReadCurrent(ctx, pool, i.config.Postgres.Tables)
	if err != nil {
		return wentAway(ctx, err)
	}
	return found.Check(true)
}

// noteSchema logs once about a schema that is newer than this program.
func (i *Instance) noteSchema(schema postgres.Schema) {
	if i.schema.Swap(schema.Version) != schema.Version && schema.Newer() {
		i.log.Warn("the schema is newer than this program", "schema", schema)
	}
}

// wentAway turns an error that a server which lets us in would not give into one of a server that is not
// reachable: it went away at this very moment.
func wentAway(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, postgres.ErrURL) || errors.Is(err, postgres.ErrSchema) ||
		errors.Is(err, postgres.ErrPooler) || errors.Is(err, postgres.ErrKind) ||
		errors.Is(err, appschema.ErrChoice) || verdict.Of(err) != verdict.Retry {
		return err
	}
	return verdict.Tag(postgres.ErrUnreachable, err)
}
