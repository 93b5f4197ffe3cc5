package appschema

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A Description is what was found of the application's tables, at one time. Nothing in it is changed
// after it was read; a test may make one by hand.
type Description struct {
	Schema    string
	Zone      string           // the time zone of the session, which columns without a zone are in
	Encoding  string           // of the database
	Tables    map[string]Table // by name; those that are there
	Elsewhere []Elsewhere      // tables of the same names in other schemas

	MayCreate       bool // tables in Schema, by the role of the session
	MayCreateSchema bool // in the database
	HasOurs         bool // the schema of the aggregator
}

// A Kind is what a table is.
type Kind string

// The kinds.
const (
	Ordinary     Kind = "table"
	Partitioned  Kind = "partitioned table"
	View         Kind = "view"
	Materialized Kind = "materialized view"
	Foreign      Kind = "foreign table"
)

// Table is a table as it is.
type Table struct {
	Schema, Name string
	Kind         Kind
	Rows         int64      // by the statistics; negative: not known
	Columns      []Column   // in their order
	Key          []string   // the columns of the primary key; none if there is none
	Unique       [][]string // the columns of each unique key, of all rows and checked at once; Key is among them
	Leading      []string   // columns with which an index on all rows begins

	Owned  bool // the role of the session may act as the owner
	Fills  bool // it may SELECT and INSERT
	Tracks bool // it may create triggers
}

// Column is a column as it is.
type Column struct {
	Name      string
	Type      string // as SQL writes it, without length and precision; of a domain, the type under it
	Enum      bool
	NotNull   bool
	Default   bool // it has one, of its own or of its domain
	Identity  bool
	Generated bool // always from other columns
}

// Elsewhere is a table of a known name in a schema that is not the application's.
type Elsewhere struct {
	Schema, Table string
	Rows          int64 // by the statistics; negative: not known
}

// Name is the name with its schema, quoted where it has to be.
func (t Table) qualified() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// Column returns a column by its name.
func (t Table) Column(name string) (Column, bool) {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
	if i < 0 {
		return Column{}, false
	}
	return t.Columns[i], true
}

// HasUnique says whether the columns, in any order, are a unique key.
func (t Table) HasUnique(columns []string) bool {
	want := slices.Sorted(slices.Values(columns))
	return slices.ContainsFunc(t.Unique, func(key []string) bool {
		return slices.Equal(slices.Sorted(slices.Values(key)), want)
	})
}

var kinds = map[string]Kind{"r": Ordinary, "p": Partitioned, "v": View, "m": Materialized, "f": Foreign}

// Read reads the description of the tables in a schema, that of Resolve or current_schema() on a connection
// of package postgres. It reads the catalogs only, in four round trips, may be repeated, and waits for no
// lock on a table. Errors are those of the queries.
func Read(ctx context.Context, db Querier, schema string) (Description, error) {
	d := Description{Schema: schema, Tables: map[string]Table{}}
	for _, read := range []func(context.Context, Querier) error{d.readDatabase, d.readTables, d.readColumns, d.readIndexes} {
		if err := read(ctx, db); err != nil {
			return Description{}, fmt.Errorf("describing the application's tables: %w", err)
		}
	}
	return d, nil
}

// ReadCurrent is Read of the schema in which the session looks first.
func ReadCurrent(ctx context.Context, db Querier) (Description, error) {
	rows, _ := db.Query(ctx, `SELECT coalesce(current_schema()::text, '')`) // its error is also that of the rows
	schema, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	if err != nil {
		return Description{}, fmt.Errorf("describing the application's tables: %w", err)
	}
	return Read(ctx, db, schema)
}

func (d *Description) readDatabase(ctx context.Context, db Querier) error {
	rows, _ := db.Query(ctx, `
SELECT current_setting('timezone'), current_setting('server_encoding'), coalesce(has_schema_privilege(to_regnamespace(quote_ident($1)), 'CREATE'), false),
    has_database_privilege(current_database(), 'CREATE'), to_regnamespace($2) IS NOT NULL`, d.Schema, Ours) // its error is also that of the rows
	_, err := pgx.ForEachRow(rows, []any{&d.Zone, &d.Encoding, &d.MayCreate, &d.MayCreateSchema, &d.HasOurs}, func() error { return nil })
	return err
}

func (d *Description) readTables(ctx context.Context, db Querier) error {
	rows, _ := db.Query(ctx, `
SELECT n.nspname::text, c.relname::text, c.relkind::text, c.reltuples::bigint, pg_has_role(c.relowner, 'USAGE'),
    has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT'), has_table_privilege(c.oid, 'TRIGGER')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = ANY ($1::text[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY n.nspname, c.relname`, knownNames()) // its error is also that of the rows
	var t Table
	var kind string
	_, err := pgx.ForEachRow(rows, []any{&t.Schema, &t.Name, &kind, &t.Rows, &t.Owned, &t.Fills, &t.Tracks}, func() error {
		if t.Schema != d.Schema {
			d.Elsewhere = append(d.Elsewhere, Elsewhere{t.Schema, t.Name, t.Rows})
			return nil
		}
		t.Kind = kinds[kind]
		d.Tables[t.Name] = t
		return nil
	})
	return err
}

func (d *Description) readColumns(ctx context.Context, db Querier) error {
	rows, _ := db.Query(ctx, `
SELECT c.relname::text, a.attname::text, format_type(coalesce(nullif(y.typbasetype, 0), y.oid), NULL), y.typtype = 'e', a.attnotnull OR y.typnotnull,
    a.attgenerated = '' AND (a.atthasdef OR y.typdefault IS NOT NULL), a.attidentity <> '', a.attgenerated <> ''
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type y ON y.oid = a.atttypid
WHERE n.nspname = $1 AND c.relname = ANY ($2::text[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY c.relname, a.attnum`, d.Schema, knownNames()) // its error is also that of the rows
	var table string
	var c Column
	_, err := pgx.ForEachRow(rows, []any{&table, &c.Name, &c.Type, &c.Enum, &c.NotNull, &c.Default, &c.Identity, &c.Generated}, func() error {
		d.change(table, func(t *Table) { t.Columns = append(t.Columns, c) })
		return nil
	})
	return err
}

func (d *Description) readIndexes(ctx context.Context, db Querier) error {
	rows, _ := db.Query(ctx, `
SELECT c.relname::text, i.indisprimary, i.indisunique AND i.indimmediate, ARRAY(
    SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (n, place)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n
    WHERE k.place <= i.indnkeyatts ORDER BY k.place)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indrelid = c.oid
WHERE n.nspname = $1 AND c.relname = ANY ($2::text[]) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY c.relname, i.indexrelid`, d.Schema, knownNames()) // its error is also that of the rows
	var table string
	var primary, unique bool
	var columns []string
	_, err := pgx.ForEachRow(rows, []any{&table, &primary, &unique, &columns}, func() error {
		d.change(table, func(t *Table) {
			t.Leading = append(t.Leading, columns[0])
			if unique {
				t.Unique = append(t.Unique, slices.Clone(columns))
			}
			if primary {
				t.Key = slices.Clone(columns)
			}
		})
		return nil
	})
	return err
}

// change changes a table that was seen; one that came meanwhile is left out.
func (d *Description) change(table string, change func(*Table)) {
	if t, found := d.Tables[table]; found {
		change(&t)
		d.Tables[table] = t
	}
}

// Missing are the names of the tables that are not there, by whatever name.
func (d Description) Missing() (missing []string) {
	for _, n := range needs {
		if _, found := d.Tables[n.table]; !found && d.called(n) == "" {
			missing = append(missing, n.table)
		}
	}
	return missing
}

// called is the other name that a table has; empty if it has none, or its own.
func (d Description) called(n need) string {
	if _, found := d.Tables[n.table]; found {
		return ""
	}
	for _, name := range n.others {
		if _, found := d.Tables[name]; found {
			return name
		}
	}
	return ""
}

func fields(columns string) []string { return strings.Fields(columns) }
