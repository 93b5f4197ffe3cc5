package appschema

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrChoice is in every error of a schema that cannot be told, or that is not there.
var ErrChoice = errors.New("the schema of the application's tables is not clear")

// A Place says where names of tables lead.
type Place struct {
	Schema string   // that of the application's tables
	Path   []string // the schemas in which a session looks for names, Schema first, and never Ours
	First  string   // the schema in which a session looks first if nothing is done about it; empty if there is none
	Views  bool     // it looks into ViewSchema before that, or there is no such schema
}

// SearchPath is the setting search_path by which names lead there: to a view of ours if there is one,
// else to the application's table. Temporary tables, which come first elsewhere, come last.
func (p Place) SearchPath() string {
	var quoted []string
	for _, schema := range slices.Concat([]string{ViewSchema}, p.Path, []string{"pg_temp"}) {
		quoted = append(quoted, pgx.Identifier{schema}.Sanitize())
	}
	return strings.Join(quoted, ", ")
}

// MigrationPath is the search_path of a migration: what it creates goes to the application's schema.
func (p Place) MigrationPath() string {
	var quoted []string
	for _, schema := range slices.Concat(p.Path, []string{ViewSchema, "pg_temp"}) {
		quoted = append(quoted, pgx.Identifier{schema}.Sanitize())
	}
	return strings.Join(quoted, ", ")
}

// candidate is a schema with the names of the application's tables that are in it.
type candidate struct {
	schema string
	place  *int // on the search path, from 1; nil: not on it
	tables []string
}

// Resolve finds the schema of the application's tables: wanted, which must be there, or, if it is empty,
// the one schema on the search path of the session that has some of them. If none has any, it is the
// first schema on the path, in which a migration creates them, unless there is a child_profile in another schema.
//
// It reads only, in one round trip. An error with ErrChoice names the schemas that could be meant, and
// what to do; any other is that of the query.
func Resolve(ctx context.Context, db Querier, wanted string, names Names) (Place, error) {
	// That of pg_temp is not a schema on the path, and ours is one only for what is in it.
	rows, _ := db.Query(ctx, `
SELECT n.nspname::text, s.place::int, ARRAY(
    SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND (replace(lower(c.relname), '_', '') = ANY ($1::text[]) OR c.relname = ANY ($2::text[]))
    ORDER BY 1)
FROM pg_namespace n LEFT JOIN unnest(current_schemas(false)) WITH ORDINALITY s (name, place) ON s.name = n.nspname
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY s.place, n.nspname`, plainNames(), slices.Collect(maps.Values(names))) // its error is also that of the rows
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c candidate, err error) {
		err = row.Scan(&c.schema, &c.place, &c.tables)
		return c, err
	})
	if err != nil {
		return Place{}, fmt.Errorf("looking for the application's tables: %w", err)
	}
	return choose(all, wanted)
}

// choose decides among all schemas, those on the search path first and in its order.
func choose(all []candidate, wanted string) (Place, error) {
	place := Place{Views: true}
	var path []string
	var found, elsewhere []candidate
	for _, c := range all {
		if c.schema == ViewSchema {
			place.Views = c.place != nil && place.First == ""
			continue
		}
		if c.place != nil && place.First == "" {
			place.First = c.schema
		}
		switch {
		case c.schema == Ours:
			if len(c.tables) > 0 {
				elsewhere = append(elsewhere, c)
			}
		case c.place != nil:
			path = append(path, c.schema)
			if len(c.tables) > 0 {
				found = append(found, c)
			}
		case slices.ContainsFunc(c.tables, func(name string) bool { return plain(name) == "childprofile" }):
			elsewhere = append(elsewhere, c)
		}
	}
	isThere := func(c candidate) bool { return c.schema == wanted }
	switch {
	case wanted != "" && !slices.ContainsFunc(all, isThere):
		return Place{}, fmt.Errorf("%w: there is no schema %q, which postgres.schema names", ErrChoice, wanted)
	case wanted != "":
		place.Schema = wanted
	case len(found) > 1:
		return Place{}, fmt.Errorf(
			"%w: tables of its names are in %s, all on the search_path; set postgres.schema to the right one",
			ErrChoice, listed(found))
	case len(found) == 1:
		place.Schema = found[0].schema
	case len(elsewhere) > 0 && elsewhere[0].schema == Ours:
		return Place{}, fmt.Errorf(
			"%w: they are in %s, which is the aggregator's own; move them: ALTER TABLE %s.%s SET SCHEMA public, "+
				"and so on", ErrChoice, listed(elsewhere[:1]), Ours, elsewhere[0].tables[0])
	case len(elsewhere) > 0:
		return Place{}, fmt.Errorf(
			"%w: tables of its names are in %s, which is not on the search_path; set postgres.schema to it, "+
				"or to that in which they are to be made", ErrChoice, listed(elsewhere))
	case len(path) > 0:
		place.Schema = path[0]
	default:
		return Place{}, fmt.Errorf(
			"%w: the search_path names no schema that the role may use; set postgres.schema", ErrChoice)
	}
	place.Path = append([]string{place.Schema},
		slices.DeleteFunc(path, func(s string) bool { return s == place.Schema })...)
	return place, nil
}

// listed is as in "app (book, genre and 3 more) and public (topic)".
func listed(all []candidate) string {
	var each []string
	for _, c := range all {
		some := c.tables
		if len(some) > 3 {
			some = append(slices.Clone(some[:2]), fmt.Sprintf("and %d more", len(some)-2))
		}
		each = append(each, fmt.Sprintf("%s (%s)", c.schema, strings.Join(some, ", ")))
	}
	return strings.Join(each, " and ")
}
