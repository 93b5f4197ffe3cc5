package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrSchema is in every error of a database whose schema is not the one that this program
// was built for.
var ErrSchema = errors.New("the database schema does not fit")

// A Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string    // empty for one that only a newer program knows
	AppliedAt time.Time // zero for one that is pending
}

// querier is a pool or a connection.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// CheckSchema returns nil when the newest migration of this program is applied. An error
// with ErrSchema says which database is at what version, and what to do; any other error
// means that it could not be found out.
func CheckSchema(ctx context.Context, pool *pgxpool.Pool) error {
	cfg := pool.Config().ConnConfig
	return reachable(cfg, checkSchema(ctx, pool, describe(cfg)))
}

// checkSchema is for a database that is described by where.
func checkSchema(ctx context.Context, db querier, where string) error {
	at, err := schemaVersion(ctx, db)
	if err != nil {
		return err
	}
	known := embeddedMigrations()
	need := known[len(known)-1].Version
	switch {
	case at == 0:
		return fmt.Errorf("%w: that of PostgreSQL at %s has not been created; run: aggregator migrate up", ErrSchema, where)
	case at < need:
		return fmt.Errorf("%w: that of PostgreSQL at %s is at version %d and version %d is needed; run: aggregator migrate up", ErrSchema, where, at, need)
	case at > need:
		return fmt.Errorf("%w: that of PostgreSQL at %s is at version %d, and this program knows no version after %d; install a newer aggregator", ErrSchema, where, at, need)
	}
	return nil
}

// SchemaVersion returns the version of the newest migration that is applied, by whatever
// program; 0 if none is.
func SchemaVersion(ctx context.Context, pool *pgxpool.Pool) (int64, error) {
	at, err := schemaVersion(ctx, pool)
	return at, reachable(pool.Config().ConnConfig, err)
}

func schemaVersion(ctx context.Context, db querier) (at int64, err error) {
	applied, err := appliedVersions(ctx, db)
	for version := range applied {
		at = max(at, version)
	}
	return at, err
}

// MigrationStatus lists the migrations by version: this program's, and those in the
// database that only a newer program knows. It changes nothing. Errors as Migrate.
func MigrationStatus(ctx context.Context, url string) ([]Migration, error) {
	cfg, err := parse(url)
	if err != nil {
		return nil, err
	}
	setParams(cfg, map[string]string{"application_name": "aggregator migrate", "timezone": "UTC", "datestyle": "ISO"})
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // it works through any pooler
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return nil, reachable(cfg.ConnConfig, err)
	}
	defer conn.Close(ctx)
	applied, err := appliedVersions(ctx, conn)
	if err != nil {
		return nil, err
	}
	list := embeddedMigrations()
	for i := range list {
		list[i].AppliedAt = applied[list[i].Version]
		delete(applied, list[i].Version)
	}
	for _, version := range slices.Sorted(maps.Keys(applied)) {
		list = append(list, Migration{Version: version, AppliedAt: applied[version]})
	}
	return list, nil
}

// appliedVersions returns when each migration was applied; nothing when there is no table
// of versions.
func appliedVersions(ctx context.Context, db querier) (map[int64]time.Time, error) {
	rows, _ := db.Query(ctx, `SELECT version_id, max(tstamp) FROM `+versionTable+`
		WHERE is_applied AND version_id > 0 GROUP BY version_id`) // its error is also that of the rows
	applied := map[int64]time.Time{}
	var version int64
	var at time.Time
	_, err := pgx.ForEachRow(rows, []any{&version, &at}, func() error {
		applied[version] = at
		return nil
	})
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000") { // no such table or schema
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the schema version: %w", err)
	}
	return applied, nil
}

// embeddedMigrations are those of this program, by version.
func embeddedMigrations() []Migration {
	files, err := embedded.ReadDir("migrations")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	var list []Migration
	for _, f := range files { // sorted by name, hence by version
		number, name, _ := strings.Cut(strings.TrimSuffix(f.Name(), ".sql"), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			panic(err)
		}
		list = append(list, Migration{Version: version, Name: name})
	}
	return list
}
