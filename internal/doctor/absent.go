package doctor

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/postgres"
)

// passing are the tables of schema aggregator that lose nothing when they are made again without rows: what is in
// them is written again, or is only a record for persons.
var passing = []string{"aggregator.lease", "aggregator.member", "aggregator.run", "aggregator.thinning"}

// absent looks whether all is there that the migrations made. A migration that was applied is not applied again: what
// was dropped afterwards no migrate up brings back.
func (r *report) absent(ctx context.Context, pool *pgxpool.Pool) {
	absent, err := postgres.FindAbsent(ctx, pool)
	switch {
	case err != nil:
		r.notSeen("schema", err)
	case absent.None():
		r.ok("schema", "as this program needs it")
	default:
		r.add("schema", Problem, "its version is that of this program, but there is no "+
			strings.Join(absent.All(), ", "), absentAdvice(absent))
	}
}

// forgotten says whether no migration is known to be applied to a schema in which there are marks: migrate up would
// then fail at the first table that is there.
func (r *report) forgotten(ctx context.Context, pool *pgxpool.Pool) bool {
	absent, err := postgres.FindAbsent(ctx, pool)
	if err != nil || slices.Contains(absent.Tables, "aggregator.mark") {
		return false
	}
	found := "aggregator.schema_migrations has no rows, but other tables of schema aggregator are there"
	if !absent.None() {
		found = "there is no " + strings.Join(absent.All(), ", ") + ", but other tables of schema aggregator are there"
	}
	r.add("schema", Problem, found, "stop all instances, and restore the database from a backup (docs/operations.md, "+
		"Back up and restore): aggregator migrate up would fail at the tables that are there")
	return true
}

func absentAdvice(absent postgres.Absent) string {
	lasting := absent.Columns
	for _, table := range absent.Tables {
		if !slices.Contains(passing, table) {
			lasting = append(lasting, table)
		}
	}
	const again = "aggregator migrate up in an empty database, here called new, and as the owner of schema aggregator: " +
		"pg_dump --schema-only --schema aggregator new | psql, with this database; psql says of all else that it " +
		"already exists. Then config/roles.sql"
	if len(lasting) == 0 {
		return "it holds nothing that must be kept; to make it again: " + again
	}
	advice := "stop all instances, and restore the database from a backup (docs/operations.md, Back up and restore): " +
		"without the rows of " + strings.Join(lasting, ", ") + " events may count twice or be missing"
	if len(lasting) < len(absent.Tables)+len(absent.Columns)+len(absent.Routines) {
		advice += "; the backup has the rest, too"
	}
	return advice
}
