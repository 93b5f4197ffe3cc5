package testenv

import (
	"context"
	"embed"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Shapes are forms that the tables of an application may have, other than those of migration 1; the form of the
// application that the project comes from is one of the load generator's (loadgen tables).
var Shapes = []string{"inline", "sequences", "monthly"}

//go:embed shapes/*.sql
var shapes embed.FS

const filledFrom = "-- filled from schema seed\n"

// CreateShape makes the tables of a shape in an empty database, as its superuser.
func CreateShape(ctx context.Context, url, shape string) error {
	tables, _, err := shapeText(shape)
	if err != nil {
		return err
	}
	return runScript(ctx, url, tables)
}

// FillShape copies into the tables of a shape, on a database that was migrated since, what a schema named seed
// holds in tables of migration 1. NewSeedSchema makes that schema.
func FillShape(ctx context.Context, url, shape string) error {
	_, fill, err := shapeText(shape)
	if err != nil {
		return err
	}
	return runScript(ctx, url, fill)
}

func shapeText(shape string) (tables, fill string, err error) {
	text, err := shapes.ReadFile("shapes/" + shape + ".sql")
	if err != nil {
		return "", "", err
	}
	tables, fill, found := strings.Cut(string(text), filledFrom)
	if !found {
		return "", "", fmt.Errorf("shape %s has no line %q", shape, filledFrom)
	}
	return tables, fill, nil
}

// NewSeedSchema makes the tables of migration 1, whose text it is given, in a schema named seed.
func NewSeedSchema(ctx context.Context, url, migration string) error {
	return runScript(ctx, url, "CREATE SCHEMA seed; SET search_path = seed;\n"+migration)
}

func runScript(ctx context.Context, url, script string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, script)
	return err
}
