package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"aggregator/config"
	"aggregator/internal/postgres"
)

func newMigrate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create or upgrade the database schema",
		Example: `  aggregator migrate up
  aggregator migrate status`,
	}
	cmd.AddCommand(newMigrateUp(a), newMigrateStatus(a))
	return cmd
}

func newMigrateUp(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "up",
		Short: "Apply the migrations that are pending",
		Long: `Creates the schema, or brings it up to date. It may be repeated, and be run from several
places at once: one does the work and the others wait. Tables of the application are
created only where they do not exist. It needs a connection to PostgreSQL itself, not
through a pooler.`,
		Example: `  AGGREGATOR_POSTGRES_URL=postgres://owner@db/app aggregator migrate up`,
		RunE: a.configured(func(cmd *cobra.Command, _ []string) error {
			if a.cfg.Postgres.Pooler != "none" {
				return tag(config.ErrInvalid, fmt.Errorf("postgres.pooler = %q: migrations hold a lock of their session, which no pooler lets them; "+
					"set postgres.url to PostgreSQL itself, and postgres.pooler to none, for this command", a.cfg.Postgres.Pooler))
			}
			url := string(a.cfg.Postgres.URL)
			before, err := postgres.MigrationStatus(cmd.Context(), url)
			if err != nil {
				return err
			}
			if err := postgres.Migrate(cmd.Context(), url); err != nil {
				return err
			}
			for _, m := range before {
				if m.AppliedAt.IsZero() {
					fmt.Fprintf(a.stdout, "applied %d %s\n", m.Version, m.Name)
				}
			}
			_, err = fmt.Fprintf(a.stdout, "the schema is at version %d\n", before[len(before)-1].Version)
			return err
		}),
	}
}

// migrationState is one line of the status. Its names are those of the JSON form.
type migrationState struct {
	Version   int64      `json:"version"`
	Name      string     `json:"name"`
	State     string     `json:"state"` // pending, applied, or unknown: only a newer program knows it
	AppliedAt *time.Time `json:"applied_at"`
}

func newMigrateStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "List the migrations and when they were applied",
		Long:  `Lists the migrations of this program, and those that only a newer one knows. It changes nothing.`,
		Example: `  aggregator migrate status
  aggregator migrate status -o json`,
	}
	out := addOutput(cmd)
	cmd.RunE = a.configured(func(cmd *cobra.Command, _ []string) error {
		migrations, err := postgres.MigrationStatus(cmd.Context(), string(a.cfg.Postgres.URL))
		if err != nil {
			return err
		}
		states := make([]migrationState, len(migrations))
		for i, m := range migrations {
			states[i] = stateOf(m)
		}
		if out.json() {
			return writeJSON(a.stdout, map[string]any{"migrations": states})
		}
		return a.listMigrations(states)
	})
	return cmd
}

func stateOf(m postgres.Migration) migrationState {
	s := migrationState{Version: m.Version, Name: m.Name, State: "pending"}
	if !m.AppliedAt.IsZero() {
		s.State, s.AppliedAt = "applied", &m.AppliedAt
	}
	if m.Name == "" {
		s.State = "unknown"
	}
	return s
}

func (a *app) listMigrations(states []migrationState) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tNAME\tSTATE\tAPPLIED AT")
	for _, s := range states {
		at := "-"
		if s.AppliedAt != nil {
			at = s.AppliedAt.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", s.Version, s.Name, s.State, at)
	}
	return w.Flush()
}
