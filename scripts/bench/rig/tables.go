package rig

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"

	"aggregator/internal/testenv"
	"aggregator/scripts/loadgen/catalogue"
	"aggregator/scripts/loadgen/tables"
	"aggregator/scripts/loadgen/workload"
)

// OriginTables is the name of the tables of the application that the project comes from.
const OriginTables = "origin"

// PrepareTables is Prepare on the tables of an application: OriginTables, or one of testenv.Shapes.
func (s *Servers) PrepareTables(
	ctx context.Context, of string, shape catalogue.Shape, settings workload.Settings,
) (State, error) {
	begin := func(ctx context.Context, url string) error {
		if of != OriginTables {
			return testenv.CreateShape(ctx, url, of)
		}
		return onDatabase(ctx, url, func(db *pgx.Conn) error { return tables.Create(ctx, db) })
	}
	state, err := s.create(ctx, begin, func(ctx context.Context, db *pgx.Conn) error {
		if of == OriginTables {
			_, err := catalogue.FillTables(ctx, db, tables.Origin, shape, false)
			return err
		}
		return fillShape(ctx, db, of, shape)
	})
	if err != nil {
		return state, fmt.Errorf("tables of %s: %w", of, err)
	}
	events, err := workload.Open(settings)
	if err != nil {
		return state, err
	}
	return state.With(ctx, settings, events)
}

// fillShape fills tables of our own form, in a schema apart, and copies from there.
func fillShape(ctx context.Context, db *pgx.Conn, of string, shape catalogue.Shape) error {
	url := db.Config().ConnString()
	migration, err := os.ReadFile("internal/postgres/migrations/00001_application_tables.sql")
	if err != nil {
		return err
	}
	if err := testenv.NewSeedSchema(ctx, url, string(migration)); err != nil {
		return err
	}
	err = onDatabase(ctx, url, func(db *pgx.Conn) error {
		if _, err := db.Exec(ctx, "SET search_path = seed"); err != nil {
			return err
		}
		_, err := catalogue.Fill(ctx, db, shape, false)
		return err
	})
	if err != nil {
		return err
	}
	if err := testenv.FillShape(ctx, url, of); err != nil {
		return err
	}
	_, err = db.Exec(ctx, "DROP SCHEMA seed CASCADE")
	return err
}
