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

const versionTable = "aggregator.schema_migrations"

// Migrate creates the schema or brings it up to date.
//
// It is safe to repeat, and to run from several places at once: a session lock lets one
// through at a time, and the others wait for up to a minute. Each migration is one
// transaction, so that a failed one leaves nothing behind; Indexes come after them, and one
// that was left half built is built anew by the next call. It is not for a connection
// through a transaction pooler, where a session has no lock of its own.
//
// Errors: ErrURL, ErrUnreachable and ErrPooler as Open, ErrSchema when the database is newer than
// this program.
func Migrate(ctx context.Context, url string) error {
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
	if err := createSchema(ctx, db); err != nil {
		return fmt.Errorf("migrate: %w", reachable(cfg.ConnConfig, err))
	}
	if err := applyMigrations(ctx, db); err != nil {
		return fmt.Errorf("migrate: %w", reachable(cfg.ConnConfig, err))
	}
	return checkVersion(ctx, cfg.ConnConfig)
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
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(versionTable),
		goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return err
	}
	return createIndexes(ctx, db, locker)
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
	return checkSchema(ctx, conn, describe(cfg))
}
