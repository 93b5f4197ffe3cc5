package appschema

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// An Adaptation is what a migration adds to tables that are there, so that the statements of the
// project work on them. Nothing of the application's is changed or removed.
type Adaptation struct {
	Columns []AddedColumn // all of them nullable and without a default
	Indexes []Index       // those that are missing, unique ones first
	Views   []string      // statements, to be run in one transaction; none if the views are as they have to be
}

// An AddedColumn is one that a table has not, with the statement that adds it.
type AddedColumn struct {
	Table     Table
	Statement string
}

// An Index is one that statements rely on.
type Index struct {
	Table   Table
	Columns []string // the table's own names
	Unique  bool     // rows would be counted twice without it
}

// Adaptation says what is missing on the tables as they are described. It is empty for the tables of migration 1,
// and for tables to which it was applied.
func (d Description) Adaptation() (a Adaptation) {
	for _, n := range d.needs() {
		t, found := d.Tables[n.table]
		if !found {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(n.adds)) {
			if _, found := t.Column(name); !found {
				statement := fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", t.SQL(), name, t.added(n.adds[name]))
				a.Columns = append(a.Columns, AddedColumn{t, statement})
			}
		}
		if unique := fields(n.unique); n.inserts != "" && len(unique) > 0 && !t.HasUnique(unique) {
			a.Indexes = append(a.Indexes, Index{t, t.own(unique), true})
		}
		if own := t.own(fields(t.lookup(n))); len(own) > 0 && !t.begins(own[0]) {
			a.Indexes = append(a.Indexes, Index{t, own, false})
		}
	}
	slices.SortStableFunc(a.Indexes, func(x, y Index) int {
		switch {
		case x.Unique == y.Unique:
			return 0
		case x.Unique:
			return -1
		}
		return 1
	})
	if len(d.Stale()) > 0 {
		a.Views = d.viewStatements()
	}
	return a
}

// added is the type of a column that is added: a time has a zone only if those of the table have.
func (t Table) added(of string) string {
	if created, _ := t.Column("created_at"); of == "timestamptz" && created.Type == "timestamp without time zone" {
		return "timestamp"
	}
	return of
}

// lookup are the columns that an index must begin with the first of.
func (t Table) lookup(n need) string {
	if _, found := t.Column("child_profile_id"); n.favorites() && !found {
		return "history_id"
	}
	return n.lookup
}

// begins says whether an index begins with the column.
func (t Table) begins(column string) bool {
	return slices.ContainsFunc(t.Indexes, func(index []string) bool { return index[0] == column })
}

// view is one that gives a table the name and the form that statements want.
type view struct {
	name       string
	table      string   // as SQL writes it
	statements []string // all but its comment
}

// BaseTable is, as SQL, the table that $1 names, or that a view of ours of this name stands for: the comment of the
// view says which.
const BaseTable = `coalesce((SELECT to_regclass(split_part(obj_description(v.oid, 'pg_class'), ', adapted by ', 1))
    FROM pg_class v WHERE v.oid = to_regclass($1) AND v.relkind = 'v'), to_regclass($1))`

// comment names the table, and tells views of one text from those of another.
func (v view) comment() string {
	hash := sha256.Sum256([]byte(strings.Join(v.statements, ";\n")))
	return fmt.Sprintf("%s, adapted by aggregator migrate up, %.8x", v.table, hash)
}

// Stale are the names of views that are missing, not as they have to be, or there without need.
func (d Description) Stale() (names []string) {
	left := maps.Clone(d.Views)
	for _, v := range d.views() {
		if d.Views[v.name] != v.comment() {
			names = append(names, v.name)
		}
		delete(left, v.name)
	}
	return append(names, slices.Sorted(maps.Keys(left))...)
}

// viewStatements make all views again.
func (d Description) viewStatements() (all []string) {
	if !d.HasViews {
		all = append(all, "CREATE SCHEMA "+ViewSchema, "GRANT USAGE ON SCHEMA "+ViewSchema+" TO PUBLIC")
	}
	for _, name := range slices.Sorted(maps.Keys(d.Views)) {
		all = append(all, fmt.Sprintf("DROP VIEW %s.%s", ViewSchema, name))
	}
	for _, v := range d.views() {
		all = append(all, v.statements...)
		all = append(all, fmt.Sprintf("COMMENT ON VIEW %s.%s IS %s", ViewSchema, v.name, literal(v.comment())))
	}
	return all
}

// Unowned is what only the owners of the tables may add, where the role of the session is none of them. It is
// empty if what is missing are indexes without which it works, only slower.
func (a Adaptation) Unowned() (rest Adaptation) {
	for _, c := range a.Columns {
		if !c.Table.Owned {
			rest.Columns = append(rest.Columns, c)
		}
	}
	for _, i := range a.Indexes { // unique ones first
		if !i.Table.Owned && (i.Unique || len(rest.Columns)+len(rest.Indexes) > 0) {
			rest.Indexes = append(rest.Indexes, i)
		}
	}
	return rest
}

// List are the columns as SQL writes them.
func (i Index) List() string {
	var all []string
	for _, name := range i.Columns {
		all = append(all, ident(name))
	}
	return strings.Join(all, ", ")
}

// views are those that the tables need.
func (d Description) views() (all []view) {
	for _, n := range d.needs() {
		if t, found := d.Tables[n.table]; found && n.table != scoresApart.table && d.adapted(n, t) {
			all = append(all, d.view(n, t))
		}
	}
	return all
}

// adapted says whether a table needs a view. A column that a migration adds needs none.
func (d Description) adapted(n need, t Table) bool {
	if _, found := d.Tables["child_personality_history"]; n.favorites() && !found {
		return false // the history is made before
	}
	if t.Name != n.table || n.table == "child_personality_history" && d.scoresApart() {
		return true
	}
	for _, name := range n.all() {
		c, found := t.Column(name)
		supplied := !found && (has(n.nulls, name) || n.favorites() && name == "child_profile_id")
		if found && c.Name != name || supplied || name == "history_created_type" && c.ordinal() {
			return true
		}
	}
	id, found := t.Column("id")
	return found && n.inserts != "" && id.NotNull && d.sequence(t, id) != ""
}

// view writes the view of a table. PostgreSQL passes what is written to it on to the table, as far as its
// columns are plain ones; rules and triggers do the rest.
func (d Description) view(n need, t Table) view {
	v := view{name: n.table, table: t.SQL()}
	var columns []string
	add := func(expression, name string) { columns = append(columns, "    "+expression+" AS "+name) }
	names := needs[slices.IndexFunc(needs, func(o need) bool { return o.table == n.table })].all()
	if _, found := t.Column("id"); found && !slices.Contains(names, "id") {
		names = append([]string{"id"}, names...)
	}
	for _, name := range names {
		c, found := t.Column(name)
		switch {
		case name == "history_created_type" && c.ordinal():
			add(fmt.Sprintf("CASE t.%s WHEN 0 THEN 'DIAGNOSIS' WHEN 1 THEN 'FEEDBACK' END", ident(c.Name)), name)
		case found:
			add("t."+ident(c.Name), name)
		case n.adds[name] != "": // there by the time that the view is made
			add("t."+ident(name), name)
		case n.table == "child_personality_history" && d.scoresApart():
			add(d.apart(t, name), name)
		case n.favorites():
			history := d.Tables["child_personality_history"]
			add(fmt.Sprintf("(SELECT h.%s FROM %s h WHERE h.%s = t.%s)", history.Own("child_profile_id"), history.SQL(),
				history.Own("id"), t.Own("history_id")), name)
		default:
			add("NULL::text", name)
		}
	}
	v.statements = append(v.statements, fmt.Sprintf("CREATE VIEW %s.%s AS\nSELECT\n%s\nFROM %s t",
		ViewSchema, n.table, strings.Join(columns, ",\n"), t.SQL()))
	if c, found := t.Column("id"); found && n.inserts != "" && d.sequence(t, c) != "" {
		v.statements = append(v.statements, fmt.Sprintf("ALTER VIEW %s.%s ALTER COLUMN id SET DEFAULT %s",
			ViewSchema, n.table, d.next(t, c)))
	}
	switch _, profiles := t.Column("child_profile_id"); {
	case n.favorites() && !profiles:
		v.statements = append(v.statements, insertFavorite(n, t))
	case n.table == "child_personality_history":
		v.statements = append(v.statements, d.historyTriggers(t)...)
	}
	return v
}

// apart is a column of a history row that is in the table of scores.
func (d Description) apart(history Table, name string) string {
	s := d.Tables[scoresApart.table]
	return fmt.Sprintf("(SELECT s.%s FROM %s s WHERE s.%s = t.%s)",
		s.Own(name), s.SQL(), s.Own("id"), history.Own("mbti_score_id"))
}

// insertFavorite leaves the profile out, which the table has no column for. A rule, and not a trigger, for a
// trigger is called for each row.
func insertFavorite(n need, t Table) string {
	of := strings.TrimPrefix(n.table, "favorite_") + "_id"
	columns, values := []string{t.Own("history_id"), t.Own(of)}, []string{"NEW.history_id", "NEW." + of}
	if _, found := t.Column("id"); found {
		columns, values = append(columns, t.Own("id")), append(values, "NEW.id")
	}
	if c, found := t.Column("id"); found && (c.Default || c.Identity) {
		columns, values = columns[:2], values[:2] // the table's own default
	}
	return fmt.Sprintf("CREATE RULE insert_favorite AS ON INSERT TO %s.%s DO INSTEAD\n    INSERT INTO %s (%s) VALUES (%s)",
		ViewSchema, n.table, t.SQL(), strings.Join(columns, ", "), strings.Join(values, ", "))
}

// historyTriggers write what a plain view cannot pass on: a kind that is an ordinal, and scores that are in a table
// of their own.
func (d Description) historyTriggers(t Table) (all []string) {
	kind, _ := t.Column("history_created_type")
	if !kind.ordinal() && !d.scoresApart() {
		return nil
	}
	n := d.needs()[slices.IndexFunc(d.needs(), func(n need) bool { return n.table == "child_personality_history" })]
	var columns, values []string
	for _, name := range fields(n.inserts) {
		value := "NEW." + name
		switch {
		case name == "history_created_type" && kind.ordinal():
			value = "CASE NEW.history_created_type WHEN 'DIAGNOSIS' THEN 0 WHEN 'FEEDBACK' THEN 1 END"
		case name == "mbti_score_id":
			value = "scores"
		}
		columns, values = append(columns, t.Own(name)), append(values, value)
	}
	if c, _ := t.Column("id"); d.sequence(t, c) != "" {
		columns, values = append(columns, ident(c.Name)), append(values, "NEW.id")
	}
	insert := fmt.Sprintf("    INSERT INTO %s (%s)\n    VALUES (%s)\n    RETURNING %s INTO NEW.id;\n"+keptOut,
		t.SQL(), strings.Join(columns, ", "), strings.Join(values, ", "), t.Own("id"))
	declare := ""
	if d.scoresApart() {
		insert, declare = d.insertScores()+insert, "DECLARE\n    scores bigint;\n"
	}
	all = append(all, function("insert_history", declare, insert+"    RETURN NEW;\n"), trigger("insert_history", "INSERT"))
	if !d.scoresApart() {
		return all
	}
	s := d.Tables[scoresApart.table]
	remove := fmt.Sprintf(`    DELETE FROM %s WHERE %s = OLD.id AND %s = OLD.child_profile_id RETURNING %s INTO scores;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    DELETE FROM %s WHERE %s = scores;
    RETURN OLD;
`, t.SQL(), t.Own("id"), t.Own("child_profile_id"), t.Own("mbti_score_id"), s.SQL(), s.Own("id"))
	return append(all, function("delete_history", declare, remove), trigger("delete_history", "DELETE"))
}

// keptOut tells the statement of a row that a trigger of the application has kept out of a table, as the table would.
const keptOut = "    IF NOT FOUND THEN\n        RETURN NULL;\n    END IF;\n"

// insertScores writes the scores of a history row to their own table.
func (d Description) insertScores() string {
	s := d.Tables[scoresApart.table]
	var columns, values []string
	for _, name := range fields(scoresApart.inserts) {
		columns, values = append(columns, s.Own(name)), append(values, "NEW."+name)
	}
	if c, _ := s.Column("id"); d.sequence(s, c) != "" {
		columns, values = append(columns, ident(c.Name)), append(values, d.next(s, c))
	}
	return fmt.Sprintf("    INSERT INTO %s (%s)\n    VALUES (%s)\n    RETURNING %s INTO scores;\n"+keptOut,
		s.SQL(), strings.Join(columns, ", "), strings.Join(values, ", "), s.Own("id"))
}

// next is an expression for the next number of a column's sequence.
func (d Description) next(t Table, c Column) string {
	return fmt.Sprintf("nextval(%s::regclass)", literal(pgx.Identifier{d.Schema, d.sequence(t, c)}.Sanitize()))
}

// function is one of a trigger. It has the rights of its owner, as a view has.
func function(name, declare, body string) string {
	return fmt.Sprintf(`CREATE OR REPLACE FUNCTION %s.%s() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
%sBEGIN
%sEND
$$`, ViewSchema, name, declare, body)
}

func trigger(name, event string) string {
	return fmt.Sprintf(`CREATE TRIGGER %s INSTEAD OF %s ON %s.child_personality_history
    FOR EACH ROW EXECUTE FUNCTION %[3]s.%[1]s()`, name, event, ViewSchema)
}

// Own is the table's own name of a column, as SQL writes it; of one that it has not, the name that it will have.
func (t Table) Own(name string) string {
	if c, found := t.Column(name); found {
		name = c.Name
	}
	return ident(name)
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
