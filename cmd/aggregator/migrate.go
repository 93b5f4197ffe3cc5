package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"aggregator/config"
	"aggregator/internal/postgres"
	"aggregator/internal/terminal"
)

func newMigrate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create or upgrade the database schema",
		Long: `Creates or upgrades the database schema, or takes it back to an earlier version.

A program works with the schema of the newest migration that it knows, and with a newer one if
each later migration says of itself that it does (aggregator.schema_compatibility). With any
other schema it does nothing, and a running service halts.`,
		Example: `  aggregator migrate up
  aggregator migrate status
  aggregator migrate down`,
	}
	cmd.AddCommand(newMigrateUp(a), newMigrateDown(a), newMigrateStatus(a))
	return cmd
}

// direct fails where the settings say that there is a pooler.
func (a *app) direct() error {
	if a.cfg.Postgres.Pooler == "none" {
		return nil
	}
	return tag(config.ErrInvalid, fmt.Errorf("postgres.pooler = %q: migrations hold a session lock, "+
		"which a pooler does not allow; set postgres.url to PostgreSQL itself, and postgres.pooler to none, for this command",
		a.cfg.Postgres.Pooler))
}

func newMigrateUp(a *app) *cobra.Command {
	var dryRun, script, distribute bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Apply the migrations that are pending",
		Long: `Creates the schema, or brings it up to date. It may be repeated, and be run from several
places at once: one does the work and the others wait. Tables of the application are
created only where they do not exist. A schema that is newer than this program is left as
it is. It needs a connection to PostgreSQL itself, not through a pooler.

It may be run beside the application. Each migration is a transaction of its own. A statement
that waits for a lock for three seconds gives up, lets the others pass, and is tried again, for two
minutes; indexes are built CONCURRENTLY. What is stopped half way goes on from there the next time. If the
application's tables are not as they have to be, or the role lacks a right, nothing is begun.

With --dry-run it changes nothing, and prints each statement with what it locks, and how it
can be undone. With --script it prints them for psql instead, for an owner who runs them
himself; migrate up then finds nothing left to do.

With --distribute, Citus then spreads the tables over its workers, whether they are empty or
filled: docs/scaling.md says what has to be there before. Instances have to be stopped. If
something is in the way, each thing is named and nothing is begun. It may be repeated.`,
		Example: `  AGGREGATOR_POSTGRES_URL=postgres://owner@db/app aggregator migrate up
  aggregator migrate up --dry-run
  aggregator migrate up --script > up.sql
  aggregator migrate up --distribute --dry-run`,
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false,
		"print the statements, what they lock and how they are undone, and change nothing")
	cmd.Flags().BoolVar(&script, "script", false, "print the statements as a script for psql, and change nothing")
	cmd.Flags().BoolVar(&distribute, "distribute", false, "then have Citus distribute the tables by child profile")
	cmd.MarkFlagsMutuallyExclusive("script", "distribute")
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		if err := a.direct(); err != nil {
			return err
		}
		var distribution postgres.Distribution
		if distribute {
			var err error
			if distribution, err = postgres.PlanDistribution(cmd.Context(), a.migrationOptions()); err == nil {
				err = distribution.Check()
			}
			if err != nil {
				return err
			}
		}
		if dryRun || script {
			plan, err := postgres.PlanUp(cmd.Context(), a.migrationOptions())
			if err != nil {
				return err
			}
			if script {
				return plan.Script(a.stdout)
			}
			if err := plan.Print(a.stdout); err != nil || !distribute {
				return err
			}
			return a.printDistribution(distribution)
		}
		o := a.migrationOptions()
		before, err := postgres.MigrationStatus(cmd.Context(), o)
		if err != nil {
			return err
		}
		if err := postgres.Migrate(cmd.Context(), o); err != nil {
			return err
		}
		var schema postgres.Schema
		for _, m := range before {
			if m.AppliedAt.IsZero() {
				fmt.Fprintf(a.stdout, "applied %d %s\n", m.Version, m.Name)
			}
			if m.Name != "" {
				schema.Known = m.Version
			}
			schema.Version = m.Version
		}
		if distribute {
			err := postgres.Distribute(cmd.Context(), o, func(statement string) { fmt.Fprintln(a.stdout, statement) })
			if err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(a.stdout, "the schema is at %s\n", schema)
		return err
	})
	return cmd
}

// migrationOptions are those of a database that may be about to become one of Citus.
func (a *app) migrationOptions() postgres.Options {
	o := a.PostgresOptions(0)
	o.Kind = postgres.PostgreSQL
	return o
}

// printDistribution prints what Citus would be told.
func (a *app) printDistribution(of postgres.Distribution) error {
	if len(of.Statements) == 0 {
		_, err := fmt.Fprintln(a.stdout, "Citus has distributed all of it")
		return err
	}
	for _, statement := range of.Statements {
		if _, err := fmt.Fprintln(a.stdout, statement+";"); err != nil {
			return err
		}
	}
	return nil
}

// migrationState is one line of the status. Its names are those of the JSON form.
type migrationState struct {
	Version   int64      `json:"version"`
	Name      string     `json:"name"`
	State     string     `json:"state"` // pending, applied, or unknown: only a newer program knows it
	AppliedAt *time.Time `json:"applied_at"`
	WorksWith *int64     `json:"works_with"` // the oldest program that works with it; null: it has no mark
	Undoable  *bool      `json:"undoable"`   // by migrate down; null: only a newer program knows
}

func newMigrateStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "List the migrations, and the application's tables",
		Long: `Lists the migrations of this program, and those that only a newer one knows; with which
programs each works, by the newest migration that they know; and whether aggregator migrate
down can undo it. Then it lists the application's tables: as what each was found, and what is
wrong with it. It changes nothing, and exits with 1 if no event can be applied to the tables
as they are, or the role may not create what is missing.`,
		Example: `  aggregator migrate status
  aggregator migrate status -o json`,
	}
	out := addTableOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		migrations, err := postgres.MigrationStatus(cmd.Context(), a.PostgresOptions(0))
		if err != nil {
			return err
		}
		states := make([]migrationState, len(migrations))
		for i, m := range migrations {
			states[i] = stateOf(m)
		}
		if !out.json() {
			if err := a.listMigrations(states, out.wide()); err != nil {
				return err
			}
		}
		found, err := postgres.DescribeTables(cmd.Context(), a.PostgresOptions(0))
		if err != nil {
			return err
		}
		tables := newTableStates(found)
		if out.json() {
			err = writeJSON(a.stdout, map[string]any{"migrations": states, "schema": found.Schema, "tables": tables})
		} else {
			err = a.listTables(found.Schema, others(found), tables, out.wide())
		}
		if err != nil {
			return err
		}
		if slices.ContainsFunc(states, func(s migrationState) bool { return s.State == "pending" }) {
			_, err := postgres.PlanUp(cmd.Context(), a.PostgresOptions(0)) // what migrate up would say
			return err
		}
		return found.Check(true)
	})
	return cmd
}

func stateOf(m postgres.Migration) migrationState {
	s := migrationState{Version: m.Version, Name: m.Name, State: "pending"}
	if !m.AppliedAt.IsZero() {
		s.State, s.AppliedAt = "applied", &m.AppliedAt
	}
	if m.WorksWith != 0 {
		s.WorksWith = &m.WorksWith
	}
	if m.Name == "" {
		s.State = "unknown"
		return s
	}
	undoable := m.Down != ""
	s.Undoable = &undoable
	return s
}

func (a *app) listMigrations(states []migrationState, wide bool) error {
	table := &terminal.Table{Wide: wide, Columns: []terminal.Column{
		{Name: "VERSION", Right: true},
		{Name: "NAME", Least: 10},
		{Name: "STATE", Color: func(state string) terminal.Color {
			if state == "applied" {
				return terminal.Green
			}
			return terminal.Yellow
		}},
		{Name: "APPLIED AT", Drop: 1},
		{Name: "WORKS WITH"},
		{Name: "UNDOABLE", Drop: 2},
	}}
	for _, s := range states {
		at, with, undoable := "-", "-", "-"
		if s.AppliedAt != nil {
			at = s.AppliedAt.Format(time.RFC3339)
		}
		if s.WorksWith != nil {
			with = fmt.Sprintf("%d and later", *s.WorksWith)
		}
		if s.Undoable != nil {
			undoable = map[bool]string{true: "yes", false: "no"}[*s.Undoable]
		}
		table.Add(fmt.Sprint(s.Version), s.Name, s.State, at, with, undoable)
	}
	return table.Write(a.stdout, a.terminal())
}
