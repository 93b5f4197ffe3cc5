package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tablesOfOurs are the tables of schema aggregator with their columns, as the migrations make them.
const tablesOfOurs = `
checkpoint: source, position_ms, position_seq, base, entries, updated_at, epoch
dead_letter: source, position_ms, position_seq, child_profile_id, book_id, reason, sqlstate, detail, payload,
	payload_form, created_at, settled_at, settled_as, attempts, last_attempt_at, last_error
dead_letter_removed: source, removed
incident: id, source, kind, epoch, from_ms, from_seq, to_ms, to_seq, to_entries, entries, retained, ahead,
	detected_at, accepted_at, accepted_by
journal: child_profile_id, history_id, source, written_at, positions, books, weights, exact_weights
lease: source, holder, acquired_at, expires_at
mark: child_profile_id, source, position_ms, position_seq, applied
member: instance, token, started_at, seen_at, expires_at, draining, version, source_kind, source_key, partitions
run: id, key, kind, host, version, due_at, started_at, seen_at, finished_at, read, applied, dead, profiles, chunks,
	rate, outcome, error, note
schema_compatibility: version, works_with
schema_migrations: id, version_id, is_applied, tstamp
thinning: walk, daily_before, monthly_before, child_profile_id`

// The arguments of the routines that apply one profile's events, and those of many profiles.
const (
	ofOneProfile = `bigint, text, bigint, bigint, bigint, bigint, bigint, bigint, boolean, boolean, bigint[], boolean,
	boolean, double precision, double precision, double precision, double precision, double precision,
	double precision, double precision, double precision, bigint[], double precision[], bigint[], double precision[]`
	ofManyProfiles = `text, bigint, bigint[], boolean, bigint[], bigint[], bigint[], bigint[], bigint[], bigint[],
	boolean[], boolean[], boolean[], double precision[], double precision[], double precision[], double precision[],
	double precision[], double precision[], double precision[], double precision[], integer[], integer[], bigint[],
	double precision[], integer[], integer[], bigint[], double precision[]`
)

// routinesOfOurs are the functions and procedures of schema aggregator with the types of their arguments.
const routinesOfOurs = `
add_genres: bigint, bigint[], double precision[]
add_topics: bigint, bigint[], double precision[]
apply: ` + ofOneProfile + `
apply_each: ` + ofManyProfiles + `
apply_each_journaled: ` + ofManyProfiles + `, integer[], integer[], bigint[], bigint[], real[], double precision[]
apply_journaled: ` + ofOneProfile + `, bigint[], bigint[], real[], double precision[]
apply_together: ` + ofManyProfiles + `
as_stored: text, text, double precision
catalogue_changed:
refuse: text, text, bigint
require: boolean, text, text`

// listed are the lines of such a list, as "name" and what follows it; a line that begins with a tab continues the
// one before.
func listed(list string) (lines [][2]string) {
	for line := range strings.SplitSeq(strings.ReplaceAll(list, "\n\t", " ")[1:], "\n") {
		name, rest, _ := strings.Cut(line, ":")
		lines = append(lines, [2]string{name, strings.TrimSpace(rest)})
	}
	return lines
}

// Absent is what of schema aggregator is not there, or not as the migrations make it. Names are with the schema.
type Absent struct {
	Tables   []string
	Columns  []string // of tables that are there, as table.column
	Routines []string
}

// None says whether all is there.
func (a Absent) None() bool { return len(a.Tables)+len(a.Columns)+len(a.Routines) == 0 }

// All are the names of all that is absent, as in "table aggregator.lease".
func (a Absent) All() (names []string) {
	for _, name := range a.Tables {
		names = append(names, "table "+name)
	}
	for _, name := range a.Columns {
		names = append(names, "column "+name)
	}
	for _, name := range a.Routines {
		names = append(names, "function "+name)
	}
	return names
}

// FindAbsent compares schema aggregator with what the migrations of this program make in it: tables with their
// columns, functions and procedures with their arguments. What a version of the schema in aggregator.schema_migrations
// says is only what was made once. It reads the catalog only, and needs no right to the tables.
func FindAbsent(ctx context.Context, pool *pgxpool.Pool) (a Absent, err error) {
	there, err := ours(ctx, pool)
	if err != nil {
		return a, err
	}
	for _, table := range listed(tablesOfOurs) {
		name := "aggregator." + table[0]
		if !there["table "+name] {
			a.Tables = append(a.Tables, name)
			continue
		}
		for column := range strings.SplitSeq(table[1], ", ") {
			if column = name + "." + column; !there["column "+column] {
				a.Columns = append(a.Columns, column)
			}
		}
	}
	for _, routine := range listed(routinesOfOurs) {
		name := "aggregator." + routine[0]
		if there[fmt.Sprintf("routine %s(%s)", name, routine[1])] {
			continue
		}
		if n := strings.Count(routine[1], ", ") + 1; routine[1] != "" {
			name += fmt.Sprintf(" (of %d arguments)", n)
		}
		a.Routines = append(a.Routines, name)
	}
	return a, nil
}

// ours are the tables, columns and routines that schema aggregator has.
func ours(ctx context.Context, pool *pgxpool.Pool) (map[string]bool, error) {
	rows, _ := pool.Query(ctx, `WITH tables AS (
    SELECT oid, 'aggregator.' || relname AS name FROM pg_class
    WHERE relnamespace = to_regnamespace('aggregator') AND relkind IN ('r', 'p')
)
SELECT 'table ' || name FROM tables
UNION ALL SELECT 'column ' || t.name || '.' || a.attname
FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'routine aggregator.' || proname || '(' || oidvectortypes(proargtypes) || ')'
FROM pg_proc WHERE pronamespace = to_regnamespace('aggregator')`) // its error is also that of the rows
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("reading what schema aggregator has: %w", err)
	}
	there := make(map[string]bool, len(names))
	for _, name := range names {
		there[name] = true
	}
	return there, nil
}
