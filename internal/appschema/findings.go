package appschema

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrTables is in every error of tables that a drain cannot work with.
var ErrTables = errors.New("the application's tables are not as they have to be")

// Severity says what follows from a finding.
type Severity int

// The severities, by weight.
const (
	Adapted Severity = iota // it works as it is, by what a migration adds
	Warning                 // it works, but not as well as it could
	Problem                 // a command other than run and drain does not work, or what was counted may be lost
	Refused                 // no event can be applied: nothing is begun
)

// A Finding is something about a table that is not as it has to be, or had better be.
type Finding struct {
	Table    string
	Column   string // empty if it is about the table
	Severity Severity
	Found    string // what is so, in a few words that follow the name
	Advice   string // what to do
}

// Name is that of the column with its table, as in genre_score.score, or of the table.
func (f Finding) Name() string {
	if f.Column == "" {
		return f.Table
	}
	return f.Table + "." + f.Column
}

// String is as in "genre_score.score is of type real: ...".
func (f Finding) String() string { return f.Name() + " " + f.Found }

// Findings says what is wrong with the tables that are there, table by table in the order of Tables, what
// was found of each column in the order in which it is needed. Those that are not there are Missing's.
func (d Description) Findings() (all []Finding) {
	for _, n := range d.needs() {
		add := func(column string, severity Severity, advice, format string, args ...any) {
			all = append(all, Finding{n.table, column, severity, fmt.Sprintf(format, args...), advice})
		}
		if names := d.Several[n.table]; names != nil {
			add("", Refused, "set postgres.tables, as in "+n.table+"="+names[0], "could be each of %s",
				strings.Join(names, ", "))
			continue
		}
		t, found := d.Tables[n.table]
		if !found {
			continue
		}
		switch t.Kind {
		case View, Materialized, Foreign:
			add("", Refused, "name the schema and the database that have the table, in postgres.schema and postgres.url",
				"is a %s: rows are not locked in it, and its changes do not come to the service's notice", t.Kind)
			continue
		}
		t.whole(n, d, add)
		if t.Name != n.table && n.table != scoresApart.table {
			add("", Adapted, "nothing: "+ViewSchema+"."+n.table+" gives it the name", "is called %s here", t.Name)
		}
		t.columns(n, d, add)
		t.keys(n, add)
		t.strangers(n, d, add)
		t.limited(n, add)
	}
	return all
}

// whole looks at the table as such.
func (t Table) whole(n need, d Description, add adder) {
	if t.Parent != "" {
		add("", Refused, "set postgres.tables to name the table itself, in the schema that has it",
			"is a partition of %s, and not the whole table", t.Parent)
	}
	if t.Unlogged {
		add("", Problem, "ALTER TABLE "+t.SQL()+" SET LOGGED, which rewrites it; of one with partitions, each partition",
			"is UNLOGGED: a crash of PostgreSQL empties it, and what was counted in it does not come back")
	}
	if t.Policed && n.table != scoresApart.table && !d.adapted(n, t) { // a view reads as its owner
		add("", Problem, "ALTER TABLE "+t.SQL()+" DISABLE ROW LEVEL SECURITY, or let the role pass it (BYPASSRLS)",
			"has row security, which applies to the role: a drain halts")
	}
}

// limited looks for constraints that sums may break.
func (t Table) limited(n need, add adder) {
	for _, name := range fields(n.inserts) {
		c, found := t.Column(name)
		if !found || !strings.HasSuffix(name, "score") {
			continue
		}
		for _, check := range t.Checks {
			if slices.Contains(check.Columns, c.Name) {
				add(name, Warning, "make sure that it holds for every sum, also below zero",
					"has the constraint %s: an event that breaks it becomes a dead letter", check.Text)
			}
		}
	}
}

type adder func(column string, severity Severity, advice, format string, args ...any)

var (
	integers = []string{"smallint", "integer", "bigint"}
	numbers  = append([]string{"real", "double precision", "numeric"}, integers...)
	texts    = []string{"text", "character varying", "character", "citext"}
	times    = []string{"timestamp without time zone", "timestamp with time zone"}
)

// unusable is what is wrong with the type of a column that statements want to be of another kind; empty if nothing.
func (c Column) unusable(name string) string {
	wrong := func(types []string, what string) string {
		if slices.Contains(types, c.Type) {
			return ""
		}
		return fmt.Sprintf("is of type %s, and not %s", c.Type, what)
	}
	switch {
	case strings.HasSuffix(name, "score"):
		return wrong(numbers, "a number")
	case strings.HasSuffix(name, "_at"):
		return wrong(times, "a timestamp")
	case name == "is_deleted":
		return wrong([]string{"boolean"}, "boolean")
	case name == "history_created_type":
		if c.Labels != nil {
			return ""
		}
		return wrong(slices.Concat(texts, integers), "a text, an enum or an integer")
	}
	return wrong(texts, "a text")
}

// columns looks at those that are read or written.
func (t Table) columns(n need, d Description, add adder) {
	for _, name := range n.all() {
		c, found := t.Column(name)
		severity := Problem
		if has(n.drain, name) {
			severity = Refused
		}
		switch {
		case !found && n.adds[name] != "":
			add(name, Problem, "aggregator migrate up adds it", "is not there")
		case !found && has(n.nulls, name):
			add(name, Adapted, "nothing: it is read as empty", "is not there")
		case !found && n.favorites() && name == "child_profile_id":
			add(name, Adapted, "nothing: "+ViewSchema+"."+n.table+" takes it from the history", "is not there")
		case !found:
			add(name, severity, "add the column, as in internal/postgres/migrations/00001", "is not there")
		case has(n.ids, name) && !slices.Contains(integers, c.Type):
			add(name, severity, "ids must be whole numbers: an event names them so", "is of type %s, and not an integer", c.Type)
		case c.Generated && has(n.inserts, name):
			add(name, Refused, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s DROP EXPRESSION", t.SQL(), ident(c.Name)),
				"is generated from other columns")
		case !has(n.ids, name) && c.unusable(name) != "":
			add(name, severity, "change the type of the column", "%s", c.unusable(name))
		case name == "history_created_type":
			c.kinds(add)
		case strings.HasSuffix(name, "score") && c.Type != "double precision":
			add(name, Warning, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE double precision, which rewrites the table",
				t.SQL(), ident(c.Name)), "is of type %s: %s", c.Type, limits(c.Type))
		case name == "mbti" && c.Length > 0 && c.Length < 4:
			add(name, Refused, "a type has four letters", "holds %d characters only", c.Length)
		case c.Type == "timestamp without time zone":
			add(name, Warning, "set postgres.time_zone if the application writes times of another zone",
				"has no time zone: times are written and read in the zone %s", d.Zone)
		}
		if found && c.Name != name && n.table != scoresApart.table {
			add(name, Adapted, "nothing: "+ViewSchema+"."+n.table+" gives it the name", "is called %s here", c.Name)
		}
	}
}

// kinds looks at the column that says of what kind a row of history is: DIAGNOSIS or FEEDBACK.
func (c Column) kinds(add adder) {
	const name = "history_created_type"
	switch {
	case c.ordinal():
		add(name, Adapted, "nothing: 0 is read as DIAGNOSIS, 1 as FEEDBACK, by "+ViewSchema+".child_personality_history",
			"is of type %s, an ordinal", c.Type)
	case c.Labels != nil && !slices.Contains(c.Labels, "FEEDBACK"):
		add(name, Refused, "ALTER TYPE ... ADD VALUE 'FEEDBACK'", "is an enum without the value FEEDBACK: %s",
			strings.Join(c.Labels, ", "))
	case c.Length > 0 && c.Length < len("FEEDBACK"):
		add(name, Refused, "make it longer: FEEDBACK has 8 characters", "holds %d characters only", c.Length)
	}
}

// ordinal says whether a kind is written as a number, as object mappers do unless told otherwise.
func (c Column) ordinal() bool { return slices.Contains(integers, c.Type) }

// favorites says whether the table is one of the two of favorites.
func (n need) favorites() bool { return strings.HasPrefix(n.table, "favorite_") }

// limits says what is wrong with a type for sums.
func limits(of string) string {
	switch of {
	case "real":
		return "it has some 7 digits, and a score of 2^25 no longer grows by 2"
	case "smallint", "integer", "bigint":
		return "a fraction of a weight is rounded, so that sums depend on how events come together"
	case "numeric":
		return "sums are slower, and those of a fixed scale are rounded"
	default:
		return "it is not the one that sums are made with"
	}
}

// keys looks for the primary key, and the unique key that rows are found by.
func (t Table) keys(n need, add adder) {
	unique := fields(n.unique)
	columns := strings.Join(unique, ", ")
	switch {
	case len(unique) > 0 && !t.HasUnique(unique) && n.inserts != "" && n.table != scoresApart.table:
		add("", Refused, "aggregator migrate up adds a unique index, if no two rows have the same",
			"has no unique key on (%s)", columns)
	case len(unique) > 0 && !t.HasUnique(unique):
		add("", Refused, fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s)", t.SQL(), columns),
			"has no primary key and no other unique key on (%s)", columns)
	case len(t.Key) == 0:
		add("", Warning, "add one", "has no primary key")
	}
}

// strangers looks for columns that a new row must have a value for, and that a drain knows nothing of.
func (t Table) strangers(n need, d Description, add adder) {
	written := t.own(fields(n.inserts))
	if len(written) == 0 {
		return
	}
	for _, c := range t.Columns {
		if !c.NotNull || c.Default || c.Identity || c.Generated || slices.Contains(written, c.Name) {
			continue
		}
		if sequence := d.sequence(t, c); sequence != "" {
			add(c.Name, Adapted, "nothing: "+ViewSchema+"."+n.table+" takes it from the sequence",
				"is filled from the sequence %s by the application",
				sequence)
			continue
		}
		add(c.Name, Refused, fmt.Sprintf(
			"ALTER TABLE %s ALTER COLUMN %s SET DEFAULT ..., or DROP NOT NULL", t.SQL(), ident(c.Name)),
			"is NOT NULL and has no default, and a drain does not write it")
	}
}

// sequence is the one that an object mapper fills an id without a default from: that of the table, or the
// one for all tables; empty if there is none.
func (d Description) sequence(t Table, c Column) string {
	if plain(c.Name) != "id" || c.Default || c.Identity || !slices.Contains(integers, c.Type) {
		return ""
	}
	for _, want := range []string{plain(t.Name) + "seq", plain(t.Name) + "idseq", "hibernatesequence"} {
		for _, name := range d.Sequences {
			if plain(name) == want {
				return name
			}
		}
	}
	return ""
}

// Check returns an error with ErrTables that names, by table and column, all for which no event can be
// applied; nil if there is nothing of the kind. Tables that are missing count if missing says so: before the
// first migration they are yet to be made.
func (d Description) Check(missing bool) error { return d.refuse(d.refused(missing)) }

func (d Description) refused(missing bool) (all []string) {
	if names := d.Missing(); missing && len(names) > 0 {
		all = append(all, "there is no table "+strings.Join(names, ", "))
	}
	for _, f := range d.Findings() {
		if f.Severity == Refused {
			all = append(all, f.String())
		}
	}
	if names := d.Stale(); missing && len(names) > 0 {
		all = append(all, fmt.Sprintf(
			"views of schema %s are not there, or not as these tables need them: %s; run aggregator migrate up",
			ViewSchema, strings.Join(names, ", ")))
	}
	return all
}

func (d Description) refuse(why []string) error {
	if len(why) == 0 {
		return nil
	}
	return fmt.Errorf("%w (schema %s): %s", ErrTables, d.Schema, strings.Join(why, "; "))
}

// CheckMigration is Check before migrations, of which so many are applied, and of the rights that those
// pending need: the first makes what tables are not there, and fills mbti; the second makes triggers. What
// a migration adds itself does not count.
func (d Description) CheckMigration(applied int64) error {
	var all []string
	if names := d.Missing(); applied > 0 && len(names) > 0 {
		all = append(all, "there is no table "+strings.Join(names, ", "))
	}
	for _, f := range d.Findings() {
		if f.Severity == Refused && !strings.HasPrefix(f.Advice, "aggregator migrate up") {
			all = append(all, f.String())
		}
	}
	deny := func(needed bool, format string, args ...any) {
		if needed {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	deny(!d.HasOurs && !d.MayCreateSchema,
		"the role may not create the schema %s: GRANT CREATE ON DATABASE, or config/roles.sql", Ours)
	deny(applied < 1 && len(d.Missing()) > 0 && !d.MayCreate,
		"the role may not create tables in schema %s: GRANT CREATE ON SCHEMA, or config/roles.sql", d.Schema)
	deny(!d.HasViews && !d.MayCreateSchema && len(d.views()) > 0,
		"the role may not create the schema %s: GRANT CREATE ON DATABASE, or config/roles.sql", ViewSchema)
	for _, name := range []string{"mbti", "book", "book_topic", "book_mbti", "child_profile"} {
		t, found := d.Tables[name]
		if name == "mbti" {
			deny(found && applied < 1 && !t.Fills, "the role may not SELECT and INSERT on %s: config/roles.sql", name)
		} else {
			deny(found && applied < 2 && !t.Tracks,
				"the role may not create a trigger on %s: GRANT TRIGGER, or config/roles.sql", name)
		}
	}
	return d.refuse(all)
}
