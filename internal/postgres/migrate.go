package postgres

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var embedded embed.FS

const (
	versionTable = "aggregator.schema_migrations"
	markTable    = "aggregator.schema_compatibility"
)

// Migrate creates the schema or brings it up to date. A schema that is newer than this program
// and works with it stays as it is.
//
// It is safe to repeat, and to run from several places at once: a session lock lets one
// through at a time, and the others wait for up to a minute. Each migration is one
// transaction, so that a failed one, or one that ctx ends, leaves nothing behind; Indexes come
// after them, and one that was left half built is built anew by the next call. It is not for a
// connection through a transaction pooler, where a session has no lock of its own.
//
// Errors: ErrURL, ErrUnreachable and ErrPooler as Open, ErrSchema when the database is newer than
// this program and does not work with it.
func Migrate(ctx context.Context, url string) error {
	return migrating(ctx, url, func(cfg *pgx.ConnConfig, db *sql.DB) error {
		if err := createSchema(ctx, db); err != nil {
			return fmt.Errorf("migrate: %w", reachable(cfg, err))
		}
		if err := applyMigrations(ctx, db); err != nil {
			return fmt.Errorf("migrate: %w", reachable(cfg, err))
		}
		return checkVersion(ctx, cfg)
	})
}

// migrating does something with connections as a migration wants them.
func migrating(ctx context.Context, url string, do func(*pgx.ConnConfig, *sql.DB) error) error {
	cfg, err := parse(url)
	if err != nil {
		return err
	}
	// Waiting for a lock on a table of the application, a migration would hold up all that
	// come after it: better to give up and be run again. Work under the lock may take long.
	setParams(cfg, map[string]string{
		"application_name":  "aggregator migrate",
		"lock_timeout":      "10s",
		"statement_timeout": "0",
		"timezone":          "UTC",
		"datestyle":         "ISO",
		ownSession:          "own",
	})
	if err := checkDirect(ctx, cfg.ConnConfig); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	db := stdlib.OpenDB(*cfg.ConnConfig)
	defer db.Close()
	return do(cfg.ConnConfig, db)
}

// createSchema makes room for goose's version table, which goose makes before any
// migration. IF NOT EXISTS alone is no protection: two at once can both find it missing,
// and it asks for the right to create even where there is nothing to do.
func createSchema(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('aggregator.schema', 0))`); err != nil {
		return err
	}
	var exists bool
	if err := tx.QueryRowContext(ctx, `SELECT to_regnamespace('aggregator') IS NOT NULL`).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := tx.ExecContext(ctx, `CREATE SCHEMA aggregator`); err != nil {
			return fmt.Errorf("create schema aggregator: %w", err)
		}
	}
	return tx.Commit()
}

func applyMigrations(ctx context.Context, db *sql.DB) error {
	provider, locker, err := newProvider(db)
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return err
	}
	return createIndexes(ctx, db, locker)
}

// newProvider returns what runs all migrations but those that are left out, and its lock.
func newProvider(db *sql.DB, without ...int64) (*goose.Provider, lock.SessionLocker, error) {
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return nil, nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return nil, nil, err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(versionTable),
		goose.WithSessionLocker(locker),
		goose.WithExcludeVersions(without),
		goose.WithDisableGlobalRegistry(true))
	return provider, locker, err
}

// checkDirect connects once and looks for a pooler.
func checkDirect(ctx context.Context, cfg *pgx.ConnConfig) error {
	cfg = cfg.Copy()
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing prepared is left behind in a pooler
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return reachable(cfg, err)
	}
	defer conn.Close(ctx)
	return checkSession(ctx, conn)
}

func checkVersion(ctx context.Context, cfg *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return reachable(cfg, err)
	}
	defer conn.Close(ctx)
	_, err = checkSchema(ctx, conn, describe(cfg))
	return err
}
