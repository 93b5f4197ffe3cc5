package postgres

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3/lock"

	"aggregator/internal/appschema"
)

// A Plan is what Migrate would do.
type Plan struct {
	Where  string                // the server and the database
	Schema appschema.Description // the application's tables as they are
	Parts  []Part                // in the order in which they are done; none if there is nothing to do

	path string // search_path
}

// A Part of a plan is done wholly or not at all.
type Part struct {
	Name    string
	Version int64  // of a migration; 0 for the schema and for an index
	Undo    string // the command or the statement that undoes it; empty if it cannot be undone
	Steps   []Step // one transaction; a single one that is CONCURRENTLY is none
}

// A Step is one statement.
type Step struct {
	Statement string
	Locks     string // what it locks of what is there already, how, and who waits
}

// PlanUp returns what Migrate would do. It reads only, and may be repeated. Errors as Migrate; of the application's
// tables it looks at all that Migrate does before it begins.
func PlanUp(ctx context.Context, o Options) (Plan, error) {
	cfg, err := parse(o.URL)
	if err != nil {
		return Plan{}, err
	}
	setParams(cfg, map[string]string{"application_name": "aggregator migrate", "timezone": "UTC", "datestyle": "ISO"})
	place, _, err := resolve(ctx, cfg, o)
	if err != nil {
		return Plan{}, err
	}
	pin(cfg, place.MigrationPath())
	conn, err := connectTo(ctx, plain(cfg.ConnConfig))
	if err != nil {
		return Plan{}, reachable(cfg.ConnConfig, err)
	}
	defer conn.Close(ctx)
	p := Plan{Where: describe(cfg.ConnConfig), path: place.MigrationPath()}
	if p.Schema, err = checkTables(ctx, conn, o.Tables); err != nil {
		return Plan{}, fmt.Errorf("%w (PostgreSQL at %s)", err, p.Where)
	}
	if err := p.addSchema(ctx, conn); err != nil {
		return Plan{}, err
	}
	p.addAdaptation()
	if err := p.addMigrations(ctx, conn); err != nil {
		return Plan{}, err
	}
	return p, p.addIndexes(ctx, conn, o.Tables)
}

// addSchema adds our schema and the table of versions.
func (p *Plan) addSchema(ctx context.Context, conn *pgx.Conn) error {
	var versioned bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, versionTable).Scan(&versioned); err != nil {
		return fmt.Errorf("read the schema version: %w", err)
	}
	first := Part{
		Name: "schema " + appschema.Ours,
		Undo: "DROP SCHEMA " + appschema.Ours + " CASCADE, once no program needs it",
	}
	if !p.Schema.HasOurs {
		first.Steps = append(first.Steps, newStep("CREATE SCHEMA "+appschema.Ours))
	}
	if !versioned {
		first.Steps = append(first.Steps, newStep(createVersions),
			newStep("INSERT INTO "+versionTable+" (version_id, is_applied) VALUES (0, true)"))
	}
	if len(first.Steps) > 0 {
		p.Parts = append(p.Parts, first)
	}
	return nil
}

// addAdaptation adds what tables that are there lack, but for indexes.
func (p *Plan) addAdaptation() {
	a := p.Schema.Adaptation()
	for _, c := range a.Columns {
		p.Parts = append(p.Parts, Part{
			Name: "column on " + c.Table.Name, Steps: []Step{newStep(c.Statement)},
			Undo: strings.Replace(c.Statement[:strings.LastIndex(c.Statement, " ")], " ADD COLUMN ", " DROP COLUMN ", 1) +
				", once no program needs it",
		})
	}
	if len(a.Views) == 0 {
		return
	}
	part := Part{Name: "views", Undo: "DROP SCHEMA " + appschema.ViewSchema + " CASCADE, once no program needs it"}
	for _, statement := range a.Views {
		part.Steps = append(part.Steps, newStep(statement))
	}
	p.Parts = append(p.Parts, part)
}

// addMigrations adds those that are pending.
func (p *Plan) addMigrations(ctx context.Context, conn *pgx.Conn) error {
	applied, err := appliedVersions(ctx, conn)
	if err != nil {
		return err
	}
	for _, m := range embeddedMigrations() {
		if _, done := applied[m.Version]; done {
			continue
		}
		part := Part{Name: fmt.Sprintf("migration %d %s", m.Version, m.Name), Version: m.Version}
		if m.Down != "" {
			part.Undo = fmt.Sprintf("aggregator migrate down --to %d --yes", m.Version-1)
		}
		for _, statement := range statements(render(m.up, p.Schema)) {
			part.Steps = append(part.Steps, newStep(statement))
		}
		p.Parts = append(p.Parts, part)
	}
	return nil
}

// addIndexes adds those that are missing on tables of ours; on a table that is yet to be made, it is one statement.
func (p *Plan) addIndexes(ctx context.Context, conn *pgx.Conn, names appschema.Names) error {
	all, err := allIndexes(ctx, conn, names)
	if err != nil {
		return err
	}
	for _, i := range all {
		missing := []string{i.Create()}
		if there, err := i.there(ctx, conn); err != nil {
			return err
		} else if there {
			ours, err := i.ours(ctx, conn)
			if err != nil {
				return err
			}
			if missing = nil; ours {
				if missing, err = i.missing(ctx, conn); err != nil {
					return err
				}
			}
		}
		for _, statement := range missing {
			p.Parts = append(p.Parts,
				Part{Name: "index " + i.name, Undo: "DROP INDEX CONCURRENTLY " + i.name, Steps: []Step{newStep(statement)}})
		}
	}
	return nil
}

// createVersions is the table of versions as goose makes it.
const createVersions = `CREATE TABLE ` + versionTable + ` (
    id integer PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
    version_id bigint NOT NULL,
    is_applied boolean NOT NULL,
    tstamp timestamp NOT NULL DEFAULT now()
)`

// statements are those of a migration, by goose's rules: a statement ends with the line that ends with a
// semicolon, or is all between StatementBegin and StatementEnd. Comments before a statement are left out.
func statements(text string) (all []string) {
	var current []string
	whole := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		switch {
		case line == "-- +goose StatementBegin":
			whole = true
			continue
		case line == "-- +goose StatementEnd":
			whole = false
		case len(current) == 0 && (line == "" || strings.HasPrefix(line, "--")):
			continue
		default:
			current = append(current, line)
			if whole || !strings.HasSuffix(line, ";") {
				continue
			}
		}
		all = append(all, strings.TrimSuffix(strings.Join(current, "\n"), ";"))
		current = nil
	}
	return all
}

func newStep(statement string) Step { return Step{statement, locksOf(statement)} }

const moment = "for a moment"

// lockKinds are the statements of migrations by how they begin, with the table after that. What is made
// new locks nothing that is there.
var lockKinds = []struct {
	begins *regexp.Regexp
	locks  string
}{
	{
		regexp.MustCompile(`(?i)^CREATE (?:UNIQUE )?INDEX CONCURRENTLY .*? ON (\S+)`),
		"SHARE UPDATE EXCLUSIVE on %s while it is built: other changes of the table's form wait, reads and writes do not",
	},
	{
		regexp.MustCompile(`(?i)^DROP INDEX CONCURRENTLY (\S+)`),
		"SHARE UPDATE EXCLUSIVE on the table of %s: reads and writes do not wait",
	},
	{regexp.MustCompile(`(?i)^CREATE (?:UNIQUE )?INDEX .*? ON ONLY (\S+)`), "SHARE on %s " + moment + ": writes wait"},
	{regexp.MustCompile(`(?i)^CREATE (?:UNIQUE )?INDEX .*? ON (\S+)`), "SHARE on %s while it is built: writes wait"},
	{
		regexp.MustCompile(`(?i)^ALTER INDEX (\S+) ATTACH`),
		"ACCESS EXCLUSIVE on the index attached, SHARE UPDATE EXCLUSIVE on the table of %s, " + moment,
	},
	{
		regexp.MustCompile(`(?is)^CREATE (?:OR REPLACE )?TRIGGER .*? ON (\S+)`),
		"SHARE ROW EXCLUSIVE on %s " + moment + ": writes wait, reads do not",
	},
	{
		regexp.MustCompile(`(?i)^ALTER TABLE (?:IF EXISTS )?(?:ONLY )?(\S+)`),
		"ACCESS EXCLUSIVE on %s " + moment + ": reads and writes wait",
	},
	{regexp.MustCompile(`(?is)^CREATE VIEW (\S+)`), "ACCESS SHARE on the tables that %s reads: nothing waits"},
	{regexp.MustCompile(`(?i)^DROP VIEW (\S+)`), "ACCESS EXCLUSIVE on %s " + moment + ": the service waits"},
	{regexp.MustCompile(`(?is)^CREATE RULE .*? ON INSERT TO (\S+)`), "%s, which is new: nothing waits"},
	{regexp.MustCompile(`(?i)^ALTER VIEW (\S+)`), "%s, which is new: nothing waits"},
	{
		regexp.MustCompile(`(?i)^DROP TABLE (?:IF EXISTS )?(\S+)`),
		"ACCESS EXCLUSIVE on %s " + moment + ": reads and writes wait",
	},
	{regexp.MustCompile(`(?i)^(?:INSERT INTO|DELETE FROM|UPDATE) (\S+)`), "ROW EXCLUSIVE on %s: nothing waits"},
}

var (
	madeAnew = regexp.MustCompile(
		`(?i)^CREATE (TABLE|SCHEMA|EXTENSION|(OR REPLACE )?(FUNCTION|PROCEDURE))\b|^DO\b|^(GRANT|REVOKE|COMMENT)\b`)
	references = regexp.MustCompile(`(?i)\bREFERENCES (\S+)`)
)

// locksOf says what a statement locks.
func locksOf(statement string) string {
	for _, kind := range lockKinds {
		if found := kind.begins.FindStringSubmatch(statement); found != nil {
			return fmt.Sprintf(kind.locks, strings.Trim(found[1], ";"))
		}
	}
	if !madeAnew.MatchString(statement) {
		return "what PostgreSQL's manual says of it"
	}
	var tables []string
	for _, found := range references.FindAllStringSubmatch(statement, -1) {
		tables = append(tables, found[1])
	}
	if len(tables) == 0 {
		return "nothing that is there"
	}
	return "SHARE ROW EXCLUSIVE on " + strings.Join(tables, ", ") + " " + moment +
		", if the table is not there yet: writes wait, reads do not"
}

// Print writes the plan for a person: each statement, what it locks, and whether it can be undone.
func (p Plan) Print(w io.Writer) error {
	for _, part := range p.Parts {
		undo := "cannot be undone"
		if part.Undo != "" {
			undo = "undone by: " + part.Undo
		}
		how := "one transaction"
		if part.apart() {
			how = "outside of a transaction"
		}
		fmt.Fprintf(w, "%s; %s; %s\n", part.Name, how, undo)
		for _, s := range part.Steps {
			fmt.Fprintf(w, "    %s;\n        -- locks %s\n", strings.ReplaceAll(s.Statement, "\n", "\n    "), s.Locks)
		}
	}
	_, err := fmt.Fprintf(w, "%d of %d tables of the application are in schema %s\n",
		len(appschema.Tables())-len(p.Schema.Missing()), len(appschema.Tables()), p.Schema.Schema)
	return err
}

// apart says whether it must not be in a transaction.
func (p Part) apart() bool {
	return len(p.Steps) == 1 && strings.Contains(p.Steps[0].Statement, " CONCURRENTLY ")
}

// Script writes the plan as a script for psql, for the owner of the tables. It holds the lock that Migrate
// holds; a statement that waits for a table for longer than lockPatience fails, and the script with it.
func (p Plan) Script(w io.Writer) error {
	fmt.Fprintf(w, `-- aggregator migrate up, for psql, on PostgreSQL at %s.
-- What fails leaves nothing behind; what is done before stays done. To go on, make this script again.
\set ON_ERROR_STOP on
SET search_path = %s;
SELECT pg_advisory_lock(%d) IS NULL AS waits;
`, p.Where, p.path, lock.DefaultLockID)
	for _, part := range p.Parts {
		fmt.Fprintf(w, "\n-- %s\n", part.Name)
		patience := fmt.Sprintf("SET lock_timeout = '%s';\n", lockPatience)
		if part.apart() {
			fmt.Fprintf(w, "-- locks %s\nSET lock_timeout = 0;\n%s;\n", part.Steps[0].Locks, part.Steps[0].Statement)
			continue
		}
		fmt.Fprintf(w, "%sBEGIN;\n", patience)
		for _, s := range part.Steps {
			fmt.Fprintf(w, "-- locks %s\n%s;\n", s.Locks, s.Statement)
		}
		if part.Version > 0 {
			fmt.Fprintf(w, "INSERT INTO %s (version_id, is_applied) VALUES (%d, true);\n", versionTable, part.Version)
		}
		fmt.Fprintln(w, "COMMIT;")
	}
	_, err := fmt.Fprintf(w, "\nSELECT pg_advisory_unlock(%d) AS done;\n", lock.DefaultLockID)
	return err
}
