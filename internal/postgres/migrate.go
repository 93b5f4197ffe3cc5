package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
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
// transaction, so that a failed one, or one that ctx ends, leaves nothing behind. Before them, tables of the
// application that are there are adapted (appschema.Adaptation); Indexes come
// after them, and one that was left half built is built again by the next call. It is not for a
// connection through a transaction pooler, where a session has no lock of its own.
//
// Of the options it takes the URL and the schema, in which the application's tables are made that
// are not there. Errors: ErrURL, ErrUnreachable, ErrPooler and appschema.ErrChoice as Open, ErrSchema
// when the database is newer than this program and does not work with it.
func Migrate(ctx context.Context, o Options) error {
	return migrating(ctx, o, func(cfg *pgx.ConnConfig, db *sql.DB) error {
		m := migrator{db: db, names: o.Tables}
		for _, step := range []func(context.Context) error{
			m.checkTables, m.createSchema, m.adapt, m.applyMigrations, m.adapt, m.createIndexes,
		} {
			if err := step(ctx); err != nil {
				return fmt.Errorf("migrate: %w (PostgreSQL at %s)", reachable(cfg, err), describe(cfg))
			}
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
	pin(cfg, place.MigrationPath())
	db := stdlib.OpenDB(*cfg.ConnConfig)
	defer db.Close()
	return do(cfg.ConnConfig, db)
}

// createSchema makes room for goose's version table, which goose makes before any
// migration. IF NOT EXISTS alone is no protection: two at once can both find it missing,
// and it asks for the right to create even where there is nothing to do.
func (m migrator) createSchema(ctx context.Context) error {
	tx, err := m.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	const lock = `SELECT pg_advisory_xact_lock(hashtextextended('aggregator.schema', 0))`
	if _, err := tx.ExecContext(ctx, lock); err != nil {
		return err
	}
	// Of the catalog itself: to_regnamespace may answer from a cache that is older than the lock.
	var exists bool
	const find = `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'aggregator')`
	if err := tx.QueryRowContext(ctx, find).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := tx.ExecContext(ctx, `CREATE SCHEMA aggregator`); err != nil {
			return fmt.Errorf("create schema aggregator: %w", err)
		}
	}
	return tx.Commit()
}

// migrator does the steps of a migration.
type migrator struct {
	db    *sql.DB
	names appschema.Names
}

func (m migrator) applyMigrations(ctx context.Context) error {
	var d appschema.Description
	err := m.locked(ctx, func(conn *pgx.Conn) (err error) {
		d, err = appschema.ReadCurrent(ctx, conn, m.names)
		return err
	})
	if err != nil {
		return err
	}
	provider, err := newProvider(m.db, migrationFiles{d})
	if err != nil {
		return err
	}
	return patiently(ctx, func() error {
		_, err := provider.Up(ctx) // goes on after those that are done
		return err
	})
}

// adapt adds to tables that are there what they lack. What it has added it does not add again.
func (m migrator) adapt(ctx context.Context) error {
	return m.locked(ctx, func(conn *pgx.Conn) error {
		d, err := appschema.ReadCurrent(ctx, conn, m.names)
		if err != nil {
			return err
		}
		a := d.Adaptation()
		for _, column := range a.Columns {
			err := patiently(ctx, func() error {
				_, err := conn.Exec(ctx, column.Statement)
				return err
			})
			if err != nil {
				return fmt.Errorf("%s: %w", column.Statement, err)
			}
		}
		if len(a.Views) == 0 {
			return nil
		}
		return patiently(ctx, func() error {
			return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				for _, statement := range a.Views {
					if _, err := tx.Exec(ctx, statement); err != nil {
						return fmt.Errorf("%s: %w", statement, err)
					}
				}
				return nil
			})
		})
	})
}

// locked does something while no other migration does anything. The lock is asked for again and again: to
// wait for it in a statement would be to hold a snapshot, and an index that is built CONCURRENTLY waits for its end.
func (m migrator) locked(ctx context.Context, do func(*pgx.Conn) error) (err error) {
	conn, err := m.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	locker, err := newLocker()
	if err != nil {
		return err
	}
	if err := locker.SessionLock(ctx, conn); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, locker.SessionUnlock(context.WithoutCancel(ctx), conn)) }()
	return conn.Raw(func(driver any) error { return do(driver.(*stdlib.Conn).Conn()) })
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
func (m migrator) checkTables(ctx context.Context) error {
	conn, err := m.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driver any) error {
		_, err := checkTables(ctx, driver.(*stdlib.Conn).Conn(), m.names)
		return err
	})
}

func checkTables(ctx context.Context, conn *pgx.Conn, names appschema.Names) (appschema.Description, error) {
	applied, err := appliedVersions(ctx, conn) // before the tables: another migration may be at work
	if err != nil {
		return appschema.Description{}, err
	}
	d, err := appschema.ReadCurrent(ctx, conn, names)
	if err != nil {
		return d, err
	}
	a := d.Adaptation()
	unique := slices.DeleteFunc(slices.Clone(a.Indexes), func(i appschema.Index) bool { return !i.Unique })
	missing := slices.ContainsFunc(embeddedMigrations(), func(m Migration) bool {
		_, done := applied[m.Version]
		return !done
	})
	if !missing && len(a.Columns)+len(unique)+len(a.Views) == 0 {
		return d, nil
	}
	if err := d.CheckMigration(int64(len(applied))); err != nil {
		return d, err
	}
	statements, err := ofOwners(ctx, conn, a.Unowned())
	if err != nil {
		return d, err
	}
	if len(statements) > 0 {
		return d, fmt.Errorf("%w (schema %s): the owners of the tables must run this before: %s",
			appschema.ErrTables, d.Schema, strings.Join(statements, "; "))
	}
	return d, CheckDuplicates(ctx, conn, d)
}

// ofOwners are the statements, in their order, that add what only the owners of the tables may add.
func ofOwners(ctx context.Context, conn *pgx.Conn, a appschema.Adaptation) (statements []string, err error) {
	for _, c := range a.Columns {
		statements = append(statements, c.Statement)
	}
	for _, i := range a.Indexes {
		missing, err := IndexOn(i).missing(ctx, conn)
		if err != nil {
			return nil, err
		}
		statements = append(statements, missing...)
	}
	return statements, nil
}

// CheckDuplicates looks for rows that are in the way of the unique indexes that a migration is to make. The error has
// appschema.ErrTables and lists the first of them; which of them is right only the application knows. It reads all of
// a table without such an index.
func CheckDuplicates(ctx context.Context, db appschema.Querier, d appschema.Description) error {
	for _, i := range d.Adaptation().Indexes {
		if !i.Unique {
			continue
		}
		if err := checkDuplicates(ctx, db, i); err != nil {
			return err
		}
	}
	return nil
}

func checkDuplicates(ctx context.Context, conn appschema.Querier, i appschema.Index) error {
	const most = 10
	sql := fmt.Sprintf(`SELECT concat_ws(', ', %[1]s) || ' (' || count(*) || ' rows)' FROM %[2]s
WHERE (%[1]s) IS NOT NULL GROUP BY %[1]s HAVING count(*) > 1 ORDER BY %[1]s LIMIT %[3]d`,
		i.List(), i.Table.SQL(), most+1)
	rows, _ := conn.Query(ctx, sql) // its error is also that of the rows
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("looking for rows of %s that are there twice: %w", i.Table.SQL(), err)
	}
	if len(found) == 0 {
		return nil
	}
	more := ""
	if len(found) > most {
		found, more = found[:most], ", and more"
	}
	return fmt.Errorf("%w: %s has several rows of the same (%s), so that there cannot be a unique index on it: %s%s; "+
		"keep one row of each, whose score is right",
		appschema.ErrTables, i.Table.SQL(), i.List(), strings.Join(found, "; "), more)
}

// newProvider returns what runs all migrations but those that are left out.
func newProvider(db *sql.DB, files fs.FS, without ...int64) (*goose.Provider, error) {
	locker, err := newLocker()
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(versionTable),
		goose.WithSessionLocker(locker),
		goose.WithExcludeVersions(without),
		goose.WithDisableGlobalRegistry(true))
}

// newLocker returns the lock that lets one migration through at a time.
func newLocker() (lock.SessionLocker, error) {
	return lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
}

// checkDirect connects once, looks for a pooler, and finds the schema of the application's tables.
func checkDirect(ctx context.Context, cfg *pgx.ConnConfig, o Options) (appschema.Place, error) {
	conn, err := connectTo(ctx, plain(cfg))
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
	conn, err := connectTo(ctx, cfg)
	if err != nil {
		return reachable(cfg, err)
	}
	defer conn.Close(ctx)
	_, err = checkSchema(ctx, conn, describe(cfg))
	return err
}
