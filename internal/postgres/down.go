package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5"
)

// ErrUndo is in every error of a migration that cannot be undone.
var ErrUndo = errors.New("this migration cannot be undone")

// A Rollback is what MigrateDown undoes.
type Rollback struct {
	From, To   int64       // versions of the schema, before and after
	Migrations []Migration // newest first; none if From is To
}

// PlanDown returns what MigrateDown would undo to bring the schema back to a version; if to is
// negative, to undo the newest migration alone. It reads only. Errors as MigrateDown.
func PlanDown(ctx context.Context, o Options, to int64) (Rollback, error) {
	list, err := MigrationStatus(ctx, o)
	if err != nil {
		return Rollback{}, err
	}
	list = slices.DeleteFunc(list, func(m Migration) bool { return m.AppliedAt.IsZero() })
	slices.Reverse(list) // newest first
	if len(list) == 0 {
		return Rollback{}, fmt.Errorf("%w: it has not been created", ErrSchema)
	}
	r := Rollback{From: list[0].Version, To: to}
	if to < 0 && len(list) > 1 {
		r.To = list[1].Version
	}
	r.To = max(r.To, 0)
	if r.To > r.From {
		return Rollback{}, fmt.Errorf("%w: it is at version %d, before %d", ErrSchema, r.From, r.To)
	}
	for _, m := range list {
		switch {
		case m.Version <= r.To:
			return r, nil
		case m.Name == "":
			return Rollback{}, fmt.Errorf("%w: %d is of a newer program, and this one was built for %d; "+
				"undo it with that program", ErrUndo, m.Version, known())
		case m.Down == "":
			return Rollback{}, fmt.Errorf("%w: %d %s; what it has made is needed to count each event once",
				ErrUndo, m.Version, m.Name)
		}
		r.Migrations = append(r.Migrations, m)
	}
	return r, nil
}

// MigrateDown undoes the migrations after a version, newest first. If one of them cannot be
// undone, it changes nothing.
//
// It is safe to repeat, and to run beside Migrate: both hold the same session lock. Each
// migration is undone in a transaction of its own: one that fails, or that ctx ends, stays as it
// was, and those undone before it stay undone. No program that needs one of them may be running.
//
// Errors: ErrUndo says which migration cannot be undone, ErrSchema that the schema is not there
// or is before that version; others as Migrate.
func MigrateDown(ctx context.Context, o Options, to int64) error {
	return migrating(ctx, o, func(cfg *pgx.ConnConfig, db *sql.DB) error {
		// What the lock is waited for may change what there is to undo. Those that cannot be
		// undone are left out: they would only be forgotten, and this way are an error.
		if _, err := PlanDown(ctx, o, to); err != nil {
			return err
		}
		var fixed []int64
		for _, m := range embeddedMigrations() {
			if m.Down == "" {
				fixed = append(fixed, m.Version)
			}
		}
		files, err := fs.Sub(embedded, "migrations")
		if err != nil {
			return err
		}
		provider, err := newProvider(db, files, fixed...)
		if err != nil {
			return err
		}
		if _, err := provider.DownTo(ctx, to); err != nil {
			return fmt.Errorf("undo migrations: %w", reachable(cfg, err))
		}
		return nil
	})
}
