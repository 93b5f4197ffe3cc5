package tables

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed origin.sql
var originSQL string

// ErrThere says that a table to be created is there.
var ErrThere = errors.New("the database already has tables of the application: use an empty one")

// Create makes the origin's tables and the sixteen personality types in the first schema of the search
// path, in one transaction. Our own tables are not made here: that is for `aggregator migrate up`.
func Create(ctx context.Context, db *pgx.Conn) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var there []string
		err := tx.QueryRow(ctx, `SELECT coalesce(array_agg(name), '{}') FROM unnest($1::text[]) name
			WHERE to_regclass(quote_ident(current_schema) || '.' || name) IS NOT NULL`,
			append(Origin.Filled(), "mbti")).Scan(&there)
		if err != nil {
			return fmt.Errorf("looking for the tables: %w", err)
		}
		if len(there) > 0 {
			return fmt.Errorf("%w (it has %s)", ErrThere, there[0])
		}
		if _, err := tx.Exec(ctx, originSQL); err != nil {
			return fmt.Errorf("creating the tables: %w", err)
		}
		return nil
	})
}
