package appschema

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// A Description is what was found of the application's tables, at one time. Nothing in it is changed
// after it was read; a test may make one by hand.
type Description struct {
	Schema    string
	Zone      string              // the time zone of the session, which columns without a zone are in
	Encoding  string              // of the database
	Tables    map[string]Table    // by the names of Tables; those that are there, whatever their own names
	Several   map[string][]string // by the names of Tables: tables of which each could be meant
	Elsewhere []Elsewhere         // tables of the same names in other schemas
	Sequences []string            // the names of those in Schema
	Views     map[string]string   // the comments of the views in ViewSchema, by their names

	MayCreate       bool // tables in Schema, by the role of the session
	MayCreateSchema bool // in the database
	HasOurs         bool // the schema of the aggregator
	HasViews        bool // the schema of its views
}

// Names are the tables' own names by those of Tables, for tables that would not be found.
type Names map[string]string

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
	Indexes      [][]string // the columns of each index on all rows
	Checks       []Check    // those of the table and of the domains of its columns
	Parent       string     // the table that it is a partition of, as SQL writes it; empty if it is none
	Unlogged     bool       // it or a partition of it
	Policed      bool       // row security applies to the role of the session

	Owned  bool // the role of the session may act as the owner
	Fills  bool // it may SELECT and INSERT
	Tracks bool // it may create triggers
}

// Column is a column as it is.
type Column struct {
	Name      string
	Type      string   // as SQL writes it, without length and precision; of a domain, the type under all
	Labels    []string // of an enum
	Length    int      // how many characters it can hold; 0: any
	NotNull   bool
	Default   bool // it has one, of its own or of its domain
	Identity  bool
	Generated bool // always from other columns
}

// Check is a constraint that looks at the values of columns.
type Check struct {
	Columns []string
	Text    string // as SQL writes it
}

// Elsewhere is a table of a known name in a schema that is not the application's.
type Elsewhere struct {
	Schema, Table string
	Rows          int64 // by the statistics; negative: not known
}

// SQL is the name with its schema, as SQL writes it.
func (t Table) SQL() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// Column returns a column by its name: the very name, or one that differs in case and underscores only.
func (t Table) Column(name string) (Column, bool) {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
	if i < 0 {
		i = slices.IndexFunc(t.Columns, func(c Column) bool { return plain(c.Name) == plain(name) })
	}
	if i < 0 {
		return Column{}, false
	}
	return t.Columns[i], true
}

// own are the table's own names of columns; those that it has not are left out.
func (t Table) own(columns []string) (own []string) {
	for _, name := range columns {
		if c, found := t.Column(name); found {
			own = append(own, c.Name)
		}
	}
	return own
}

// HasUnique says whether the columns, in any order, are a unique key.
func (t Table) HasUnique(columns []string) bool {
	want := slices.Sorted(slices.Values(t.own(columns)))
	return slices.ContainsFunc(t.Unique, func(key []string) bool {
		return slices.Equal(slices.Sorted(slices.Values(key)), want)
	})
}

var kinds = map[string]Kind{"r": Ordinary, "p": Partitioned, "v": View, "m": Materialized, "f": Foreign}

// Read reads the description of the tables in a schema, that of Resolve. It reads the catalogs only, in
// six round trips, may be repeated, and waits for no lock on a table. Errors are those of the queries.
func Read(ctx context.Context, db Querier, schema string, names Names) (Description, error) {
	d := Description{
		Schema: schema, Tables: map[string]Table{}, Several: map[string][]string{}, Views: map[string]string{},
	}
	r := reader{&d, db, names, map[string]string{}}
	for _, read := range []func(context.Context) error{r.database, r.tables, r.columns, r.indexes, r.checks, r.views} {
		if err := read(ctx); err != nil {
			return Description{}, fmt.Errorf("describing the application's tables: %w", err)
		}
	}
	return d, nil
}

// reader reads a description; meant are the names of Tables by the tables' own.
type reader struct {
	*Description
	db    Querier
	names Names
	meant map[string]string
}

func (d reader) database(ctx context.Context) error {
	rows, _ := d.db.Query(ctx, `
SELECT current_setting('timezone'), current_setting('server_encoding'),
    coalesce(has_schema_privilege(to_regnamespace(quote_ident($1)), 'CREATE'), false),
    has_database_privilege(current_database(), 'CREATE'), to_regnamespace($2) IS NOT NULL,
	to_regnamespace($3) IS NOT NULL,
    ARRAY(SELECT relname::text FROM pg_class
        WHERE relnamespace = to_regnamespace(quote_ident($1)) AND relkind = 'S' ORDER BY 1)`,
		d.Schema, Ours, ViewSchema) // its error is also that of the rows
	into := []any{&d.Zone, &d.Encoding, &d.MayCreate, &d.MayCreateSchema, &d.HasOurs, &d.HasViews, &d.Sequences}
	_, err := pgx.ForEachRow(rows, into, func() error { return nil })
	return err
}

func (d reader) tables(ctx context.Context) error {
	rows, _ := d.db.Query(ctx, `
SELECT n.nspname::text, c.relname::text, c.relkind::text, c.reltuples::bigint, pg_has_role(c.relowner, 'USAGE'),
    has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT'),
    has_table_privilege(c.oid, 'TRIGGER'),
    coalesce((SELECT format('%I.%I', pn.nspname, p.relname) FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent
        JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE i.inhrelid = c.oid AND c.relispartition), ''),
    c.relpersistence = 'u' OR c.relkind = 'p' AND EXISTS (SELECT FROM pg_partition_tree(c.oid) t
        JOIN pg_class p ON p.oid = t.relid WHERE p.relpersistence = 'u'),
    c.relkind IN ('r', 'p') AND row_security_active(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (replace(lower(c.relname), '_', '') = ANY ($1::text[]) OR c.relname = ANY ($2::text[]))
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', $3)
ORDER BY n.nspname, c.relname`,
		plainNames(), slices.Collect(maps.Values(d.names)), ViewSchema) // its error is also that of the rows
	var t Table
	var kind string
	byName := map[string]Table{}
	into := []any{
		&t.Schema, &t.Name, &kind, &t.Rows, &t.Owned, &t.Fills, &t.Tracks, &t.Parent, &t.Unlogged, &t.Policed,
	}
	_, err := pgx.ForEachRow(rows, into, func() error {
		if t.Schema != d.Schema {
			d.Elsewhere = append(d.Elsewhere, Elsewhere{t.Schema, t.Name, t.Rows})
			return nil
		}
		t.Kind = kinds[kind]
		byName[t.Name] = t
		return nil
	})
	for _, n := range append(slices.Clone(needs), scoresApart) {
		var found []string
		for _, name := range slices.Sorted(maps.Keys(byName)) {
			if told := d.names[n.table]; told == name || told == "" && plain(name) == plain(n.table) {
				found = append(found, name)
			}
		}
		if len(found) > 1 {
			d.Several[n.table] = found
		} else if len(found) == 1 {
			d.Tables[n.table] = byName[found[0]]
			d.meant[found[0]] = n.table
		}
	}
	return err
}

func (d reader) columns(ctx context.Context) error {
	rows, _ := d.db.Query(ctx, `
SELECT c.relname::text, a.attname::text, format_type(y.oid, NULL),
    ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = y.oid ORDER BY e.enumsortorder),
    CASE WHEN y.oid IN ('varchar'::regtype, 'bpchar'::regtype)
        THEN greatest(0, greatest(a.atttypmod, y.modifier) - 4) ELSE 0 END,
    a.attnotnull OR y.filled, a.attgenerated = '' AND (a.atthasdef OR y.defaults),
    a.attidentity <> '', a.attgenerated <> ''
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN LATERAL (
    WITH RECURSIVE under AS ( -- a domain may be of another one
        SELECT t.* FROM pg_type t WHERE t.oid = a.atttypid
        UNION ALL SELECT t.* FROM under u JOIN pg_type t ON t.oid = u.typbasetype)
    SELECT max(oid) FILTER (WHERE typbasetype = 0) AS oid, max(typtypmod) AS modifier, bool_or(typnotnull) AS filled,
        bool_or(typdefault IS NOT NULL) AS defaults
    FROM under) y
WHERE n.nspname = $1 AND c.relname = ANY ($2::text[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY c.relname, a.attnum`, d.Schema, slices.Collect(maps.Keys(d.meant))) // its error is also that of the rows
	var table string
	var c Column
	into := []any{
		&table, &c.Name, &c.Type, &c.Labels, &c.Length, &c.NotNull, &c.Default, &c.Identity, &c.Generated,
	}
	_, err := pgx.ForEachRow(rows, into, func() error {
		if len(c.Labels) == 0 {
			c.Labels = nil
		}
		d.change(d.meant[table], func(t *Table) { t.Columns = append(t.Columns, c) })
		c.Labels = nil // the next row must not overwrite them
		return nil
	})
	return err
}

func (d reader) indexes(ctx context.Context) error {
	rows, _ := d.db.Query(ctx, `
SELECT c.relname::text, i.indisprimary, i.indisunique AND i.indimmediate, ARRAY(
    SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (n, place)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n
    WHERE k.place <= i.indnkeyatts ORDER BY k.place)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indrelid = c.oid
WHERE n.nspname = $1 AND c.relname = ANY ($2::text[]) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY c.relname, i.indexrelid`, d.Schema, slices.Collect(maps.Keys(d.meant))) // its error is also that of the rows
	var table string
	var primary, unique bool
	var columns []string
	_, err := pgx.ForEachRow(rows, []any{&table, &primary, &unique, &columns}, func() error {
		d.change(d.meant[table], func(t *Table) {
			t.Indexes = append(t.Indexes, slices.Clone(columns))
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

func (d reader) checks(ctx context.Context) error {
	rows, _ := d.db.Query(ctx, `
WITH RECURSIVE typed AS (
    SELECT c.oid, c.relname::text, a.attname::text, a.atttypid AS type
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = $1 AND c.relname = ANY ($2::text[])
    UNION ALL
    SELECT d.oid, d.relname, d.attname, y.typbasetype
    FROM typed d JOIN pg_type y ON y.oid = d.type AND y.typbasetype <> 0
)
SELECT d.relname, array_agg(DISTINCT d.attname), pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN typed d ON d.type = k.contypid OR d.oid = k.conrelid AND EXISTS (SELECT FROM pg_attribute a
    WHERE a.attrelid = d.oid AND a.attname = d.attname AND a.attnum = ANY (k.conkey))
WHERE k.contype = 'c' GROUP BY d.relname, k.oid ORDER BY d.relname, k.oid`,
		d.Schema, slices.Collect(maps.Keys(d.meant))) // its error is also that of the rows
	var table string
	var c Check
	_, err := pgx.ForEachRow(rows, []any{&table, &c.Columns, &c.Text}, func() error {
		d.change(d.meant[table], func(t *Table) {
			t.Checks = append(t.Checks, Check{slices.Clone(c.Columns), c.Text})
		})
		return nil
	})
	return err
}

func (d reader) views(ctx context.Context) error {
	rows, _ := d.db.Query(ctx, `
SELECT c.relname::text, coalesce(obj_description(c.oid, 'pg_class'), '') FROM pg_class c
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'v'`, ViewSchema) // its error is also that of the rows
	var name, comment string
	_, err := pgx.ForEachRow(rows, []any{&name, &comment}, func() error {
		d.Views[name] = comment
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

// ReadCurrent is Read of the schema in which the session looks for tables first, but for views of ours.
func ReadCurrent(ctx context.Context, db Querier, names Names) (Description, error) {
	rows, _ := db.Query(ctx, `
SELECT coalesce((SELECT s FROM unnest(current_schemas(false)) s WHERE s <> ALL ($1::text[]) LIMIT 1), '')`,
		[]string{Ours, ViewSchema}) // its error is also that of the rows
	schema, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	if err != nil {
		return Description{}, fmt.Errorf("describing the application's tables: %w", err)
	}
	return Read(ctx, db, schema, names)
}

// Missing are the names of the tables that are not there, by whatever name.
func (d Description) Missing() (missing []string) {
	for _, n := range d.needs() {
		if _, found := d.Tables[n.table]; !found && d.Several[n.table] == nil {
			missing = append(missing, n.table)
		}
	}
	return missing
}

// Needed are the names of the tables that the form of the history needs: those of Tables, and where its scores are
// apart that of their table.
func (d Description) Needed() (names []string) {
	for _, n := range d.needs() {
		names = append(names, n.table)
	}
	return names
}

// needs are those for the form that the history has.
func (d Description) needs() []need {
	if !d.scoresApart() {
		return needs
	}
	all := append(slices.Clone(needs), scoresApart)
	i := slices.IndexFunc(all, func(n need) bool { return n.table == "child_personality_history" })
	all[i].drain = "id child_profile_id created_at history_created_type is_deleted mbti_score_id"
	all[i].ids = "id child_profile_id mbti_score_id"
	all[i].inserts = "child_profile_id created_at history_created_type is_deleted mbti_score_id"
	return all
}

// scoresApart says whether the scores of history rows are in a table of their own.
func (d Description) scoresApart() bool {
	t, found := d.Tables["child_personality_history"]
	if !found {
		return false
	}
	_, refers := t.Column("mbti_score_id")
	return refers && len(t.own(fields(letters))) == 0
}
