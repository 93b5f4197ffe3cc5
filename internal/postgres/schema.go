package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrSchema is in every error of a database whose schema is not one that this program works
// with.
var ErrSchema = errors.New("the database schema is incompatible")

// A Schema says how the schema of a database stands to this program.
type Schema struct {
	Version int64 // the newest migration that is applied, by whatever program; 0 if none is
	Known   int64 // the newest migration that this program knows
}

// Newer says whether the database has migrations that this program does not know.
func (s Schema) Newer() bool { return s.Version > s.Known }

// String is of a schema that fits.
func (s Schema) String() string {
	if !s.Newer() {
		return fmt.Sprintf("version %d", s.Version)
	}
	marked := fmt.Sprintf("migration %d is", s.Version)
	if s.Version > s.Known+1 {
		marked = fmt.Sprintf("migrations %d to %d are", s.Known+1, s.Version)
	}
	return fmt.Sprintf("version %d, this program was built for %d; %s marked compatible", s.Version, s.Known, marked)
}

// A Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string    // empty for one that only a newer program knows
	AppliedAt time.Time // zero for one that is pending
	WorksWith int64     // the oldest program that works with it, by the newest migration it knows; 0 if it has no mark
	Down      string    // the statements that undo it; empty if it cannot be undone, or only by a newer program

	up string // the statements that make it, as goose reads them
}

// querier is a pool or a connection.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// CheckSchema returns how the schema stands, with a nil error if this program works with it:
// if its newest migration is applied, and each one after that, of a newer program, is marked
// in aggregator.schema_compatibility as working with it.
//
// It reads only, in one round trip, two if the schema is newer, and may be repeated. An error
// with ErrSchema says which database is at what version, and what to do; the Schema is known
// then, too. Any other error, such as ErrUnreachable or that of ctx, means that it could not
// be found out.
func CheckSchema(ctx context.Context, pool *pgxpool.Pool) (Schema, error) {
	cfg := pool.Config().ConnConfig
	schema, err := checkSchema(ctx, pool, describe(cfg))
	return schema, reachable(cfg, err)
}

// QueueCheck asks, as a part of a batch, whether the schema is the very one that this program was built for. The answer
// is there when the batch has ended without an error. If it is false, CheckSchema says more.
func QueueCheck(batch *pgx.Batch) (same *bool) {
	same = new(bool)
	batch.Queue(`SELECT coalesce(max(version_id), 0) = $1 FROM `+versionTable+` WHERE is_applied`, known()).QueryRow(
		func(row pgx.Row) error { return row.Scan(same) })
	return same
}

// checkSchema is for a database that is described by where.
func checkSchema(ctx context.Context, db querier, where string) (Schema, error) {
	s := Schema{Known: known()}
	applied, err := appliedVersions(ctx, db)
	if err != nil {
		return s, err
	}
	for version := range applied {
		s.Version = max(s.Version, version)
	}
	var unfit int64
	if s.Newer() {
		if s.Version, unfit, err = newerVersion(ctx, db, s); err != nil {
			return s, err
		}
	}
	const that = "that of PostgreSQL at"
	switch {
	case s.Version == 0:
		return s, fmt.Errorf("%w: %s %s has not been created; run: aggregator migrate up", ErrSchema, that, where)
	case s.Version < s.Known:
		return s, fmt.Errorf("%w: %s %s is at version %d and version %d is needed; run: aggregator migrate up",
			ErrSchema, that, where, s.Version, s.Known)
	case unfit != 0:
		return s, fmt.Errorf("%w: %s %s is at version %d, and this program was built for %d, which migration %d is not "+
			"marked "+
			"as compatible with; install a newer aggregator, or undo the migration with that one: aggregator migrate down",
			ErrSchema, that, where, s.Version, s.Known, unfit)
	}
	return s, nil
}

// newerVersion returns the version of a schema that was seen to be newer, and the first of its
// migrations that does not work with this program; 0 if each does. One statement reads both: a
// migration that is undone meanwhile takes its mark along.
func newerVersion(ctx context.Context, db querier, seen Schema) (at, unfit int64, err error) {
	rows, _ := db.Query(ctx, `SELECT coalesce(max(m.version_id), 0),
		coalesce(min(m.version_id) FILTER (WHERE m.version_id > $1 AND c.version IS NULL), 0)
		FROM `+versionTable+` m LEFT JOIN `+markTable+` c ON c.version = m.version_id AND c.works_with <= $1
		WHERE m.is_applied`, seen.Known) // its error is also that of the rows
	_, err = pgx.ForEachRow(rows, []any{&at, &unfit}, func() error { return nil })
	if missing(err) {
		return seen.Version, seen.Version, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read which programs the schema works with: %w", err)
	}
	return at, unfit, nil
}

// MigrationStatus lists the migrations by version: this program's, and those in the
// database that only a newer program knows. It changes nothing. Errors as Migrate.
func MigrationStatus(ctx context.Context, o Options) ([]Migration, error) {
	cfg, err := parse(o.URL)
	if err != nil {
		return nil, err
	}
	setParams(cfg, map[string]string{"application_name": "aggregator migrate", "timezone": "UTC", "datestyle": "ISO"})
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // it works through any pooler
	conn, err := connectTo(ctx, cfg.ConnConfig)
	if err != nil {
		return nil, reachable(cfg.ConnConfig, err)
	}
	defer conn.Close(ctx)
	applied, err := appliedVersions(ctx, conn)
	if err != nil {
		return nil, err
	}
	marks, err := compatibility(ctx, conn)
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
	for i := range list {
		list[i].WorksWith = marks[list[i].Version]
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
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the schema version: %w", err)
	}
	return applied, nil
}

// compatibility returns the marks of migrations: the oldest program that works with each.
func compatibility(ctx context.Context, db querier) (map[int64]int64, error) {
	rows, _ := db.Query(ctx, `SELECT version, works_with FROM `+markTable) // its error is also that of the rows
	marks := map[int64]int64{}
	var version, worksWith int64
	_, err := pgx.ForEachRow(rows, []any{&version, &worksWith}, func() error {
		marks[version] = worksWith
		return nil
	})
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which programs the schema works with: %w", err)
	}
	return marks, nil
}

// missing says whether an error is that there is no such table, or schema.
func missing(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000")
}

// known is the newest migration of this program.
func known() int64 {
	list := embeddedMigrations()
	return list[len(list)-1].Version
}

// embeddedMigrations are those of this program, by version. The caller may change the list.
func embeddedMigrations() []Migration { return slices.Clone(readMigrations()) }

var readMigrations = sync.OnceValue(func() []Migration {
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
		text, err := embedded.ReadFile("migrations/" + f.Name())
		if err != nil {
			panic(err)
		}
		up, down, _ := strings.Cut(string(text), "\n-- +goose Down\n")
		_, up, _ = strings.Cut(up, "-- +goose Up\n")
		list = append(list, Migration{Version: version, Name: name, Down: strings.TrimSpace(down), up: up})
	}
	return list
})
