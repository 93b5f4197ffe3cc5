package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"aggregator/internal/appschema"
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
// Of the options it takes the URL and the schema, in which the application's tables are made that
// are not there. Errors: ErrURL, ErrUnreachable, ErrPooler and appschema.ErrChoice as Open, ErrSchema
// when the database is newer than this program and does not work with it.
func Migrate(ctx context.Context, o Options) error {
	return migrating(ctx, o, func(cfg *pgx.ConnConfig, db *sql.DB) error {
		if err := checkTables(ctx, cfg); err != nil {
			return fmt.Errorf("migrate: %w", reachable(cfg, err))
		}
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
func migrating(ctx context.Context, o Options, do func(*pgx.ConnConfig, *sql.DB) error) error {
	cfg, err := parse(o.URL)
	if err != nil {
		return err
	}
	// Waiting for a lock on a table of the application, a migration holds up all that come after it: better
	// to give up, let them pass, and try again (patiently). Work under the lock may take long.
	setParams(cfg, map[string]string{
		"application_name":  "aggregator migrate",
		"lock_timeout":      lockPatience,
		"statement_timeout": "0",
		"timezone":          "UTC",
		"datestyle":         "ISO",
		"client_encoding":   "UTF8",
		ownSession:          "own",
	})
	place, err := checkDirect(ctx, cfg.ConnConfig, o)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	pin(cfg, place)
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
	err = patiently(ctx, func() error {
		_, err := provider.Up(ctx) // goes on after those that are done
		return err
	})
	if err != nil {
		return err
	}
	return createIndexes(ctx, db, locker)
}

const (
	lockPatience = "3s" // how long a statement waits for a lock, and others for it
	lockTries    = 30   // how often it waits; with the pauses between some two minutes
	lockPause    = time.Second
)

// patiently repeats what fails because it could not get a lock in time. The error of the last try says
// where to look for the lock's holder.
func patiently(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "55P03" { // lock not available
			return err
		}
		if try == lockTries {
			return fmt.Errorf("%w; it was tried %d times: aggregator doctor names who holds the lock", err, lockTries)
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(lockPause):
		}
	}
}

// checkTables looks, before anything is written, whether the application's tables and the rights to them are as
// the migrations that are pending need them. The error has appschema.ErrTables.
func checkTables(ctx context.Context, cfg *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, plain(cfg))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	applied, err := appliedVersions(ctx, conn)
	if err != nil {
		return err
	}
	pending := slices.ContainsFunc(embeddedMigrations(), func(m Migration) bool {
		_, done := applied[m.Version]
		return !done
	})
	if !pending {
		return nil
	}
	d, err := appschema.ReadCurrent(ctx, conn)
	if err != nil {
		return err
	}
	if err := d.CheckMigration(int64(len(applied))); err != nil {
		return fmt.Errorf("%w (PostgreSQL at %s)", err, describe(cfg))
	}
	return nil
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

// checkDirect connects once, looks for a pooler, and finds the schema of the application's tables.
func checkDirect(ctx context.Context, cfg *pgx.ConnConfig, o Options) (appschema.Place, error) {
	conn, err := pgx.ConnectConfig(ctx, plain(cfg))
	if err != nil {
		return appschema.Place{}, reachable(cfg, err)
	}
	defer conn.Close(ctx)
	if err := checkSession(ctx, conn); err != nil {
		return appschema.Place{}, err
	}
	return resolveOn(ctx, conn, o)
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
