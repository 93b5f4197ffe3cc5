package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/appschema"
)

// ErrDistribute is in every error of a database that cannot be distributed as it is.
var ErrDistribute = errors.New("this database cannot be distributed by Citus")

// placing is where Citus keeps the rows of a table.
type placing string

const (
	onAllNodes    placing = "a reference table"
	byProfile     placing = "distributed by profile"
	onCoordinator placing = "a local table that Citus knows"
)

// placed are the tables that Citus has to know, in the order in which it takes them, with the column by which rows
// are distributed. The checkpoints are on all nodes: a first mark is made only in the epoch of its worker's copy, and
// moving one flushes all nodes. All other tables of ours stay as they are.
var placed = []struct {
	table  string
	as     placing
	column string
}{
	{"genre", onAllNodes, ""},
	{"topic", onAllNodes, ""},
	{"mbti", onAllNodes, ""},
	{"book", onAllNodes, ""},
	{"book_topic", onAllNodes, ""},
	{"book_mbti", onAllNodes, ""},
	{"aggregator.checkpoint", onAllNodes, ""},
	{"child_profile", byProfile, "id"},
	{"genre_score", byProfile, profileColumn},
	{"topic_score", byProfile, profileColumn},
	{"cumulative_mbti_score", byProfile, profileColumn},
	{"child_personality_history", byProfile, profileColumn},
	{"favorite_genre", byProfile, profileColumn},
	{"favorite_topic", byProfile, profileColumn},
	{"aggregator.mark", byProfile, profileColumn},
	{"aggregator.journal", byProfile, profileColumn},
	{"aggregator.two_phase", onCoordinator, ""},
}

const profileColumn = "child_profile_id"

// Distribution is what Distribute would do.
type Distribution struct {
	Problems   []string // what is in the way, and what to do; then nothing is done
	Statements []string // in their order; none if all is as it has to be
}

// PlanDistribution returns what Distribute would do once Migrate has created what is missing. It reads only, and may
// be repeated. Errors as Migrate.
func PlanDistribution(ctx context.Context, o Options) (d Distribution, err error) {
	cfg, err := parse(o.URL)
	if err != nil {
		return d, err
	}
	err = planning(ctx, cfg, o, func(conn *pgx.Conn, place appschema.Place) error {
		d, err = planDistribution(ctx, conn, place, o.Tables)
		return err
	})
	return d, err
}

func planning(
	ctx context.Context, cfg *pgxpool.Config, o Options, do func(*pgx.Conn, appschema.Place) error,
) error {
	setParams(cfg, map[string]string{
		"application_name": "aggregator migrate", "statement_timeout": "0", "timezone": "UTC", "datestyle": "ISO",
		"client_min_messages": "warning",
	})
	place, _, err := resolve(ctx, cfg, o)
	if err != nil {
		return err
	}
	pin(cfg, place.MigrationPath())
	conn, err := connectTo(ctx, plain(cfg.ConnConfig))
	if err != nil {
		return reachable(cfg.ConnConfig, err)
	}
	defer conn.Close(ctx)
	return reachable(cfg.ConnConfig, do(conn, place))
}

// Distribute has Citus spread the tables over its workers: those of the catalog and the checkpoints become reference
// tables, those with rows of a profile are distributed by it, and so is the function that applies its events. The
// triggers that report changes of the catalog go: a transaction that notifies cannot be committed on several nodes.
// said is called with each statement before it is run.
//
// It needs the schema of Migrate, and no running instance. While a table is copied, writes to it wait. Safe to repeat:
// what was done is not done again, and it goes on where it was stopped. If something is in the way the error has
// ErrDistribute, with a line for each, and nothing is changed. Others as Migrate.
func Distribute(ctx context.Context, o Options, said func(statement string)) error {
	cfg, err := parse(o.URL)
	if err != nil {
		return err
	}
	return planning(ctx, cfg, o, func(conn *pgx.Conn, place appschema.Place) error {
		d, err := planDistribution(ctx, conn, place, o.Tables)
		if err == nil {
			err = d.Check()
		}
		if err != nil {
			return err
		}
		for _, statement := range d.Statements {
			said(statement)
			if _, err := conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	})
}

// Check returns an error with ErrDistribute if something is in the way.
func (d Distribution) Check() error {
	if len(d.Problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w:\n  %s", ErrDistribute, strings.Join(d.Problems, "\n  "))
}

// Misplaced are the tables and functions that are not where a service on Citus needs them, in words; none if all are.
// It reads only.
func Misplaced(ctx context.Context, pool *pgxpool.Pool, names appschema.Names) (problems []string, err error) {
	err = pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		place, err := appschema.Resolve(ctx, conn, "", names)
		if err != nil {
			return err
		}
		d, err := planDistribution(ctx, conn.Conn(), place, names)
		problems = append(d.Problems, d.Statements...)
		return err
	})
	return problems, err
}

func planDistribution(
	ctx context.Context, conn *pgx.Conn, place appschema.Place, names appschema.Names,
) (d Distribution, err error) {
	if err := d.lookAtNodes(ctx, conn); err != nil || len(d.Problems) > 0 {
		return d, err
	}
	tables, err := appschema.Read(ctx, conn, place.Schema, names)
	if err != nil {
		return d, err
	}
	p := distributor{&d, conn, place, tables}
	for _, step := range []func(context.Context) error{p.lookAtForms, p.placeTables, p.placeFunctions} {
		if err := step(ctx); err != nil {
			return d, fmt.Errorf("looking at what Citus has distributed: %w", err)
		}
	}
	return d, nil
}

func (d *Distribution) problem(format string, args ...any) {
	d.Problems = append(d.Problems, fmt.Sprintf(format, args...))
}

// lookAtNodes looks whether Citus is there, with workers and a coordinator that it knows.
func (d *Distribution) lookAtNodes(ctx context.Context, conn *pgx.Conn) error {
	var installed bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')`).Scan(&installed)
	if err != nil {
		return err
	}
	if !installed {
		d.problem("the database has no extension citus: CREATE EXTENSION citus, in this database on each node")
		return nil
	}
	var coordinator, known bool
	var workers int
	err = conn.QueryRow(ctx, `SELECT (SELECT groupid = 0 FROM pg_dist_local_group),
    EXISTS (SELECT FROM pg_dist_node WHERE groupid = 0),
    (SELECT count(*) FROM pg_dist_node WHERE groupid <> 0 AND isactive AND shouldhaveshards AND noderole = 'primary')`).
		Scan(&coordinator, &known, &workers)
	switch {
	case err != nil:
		return err
	case !coordinator:
		d.problem("this is a worker: set postgres.url to the coordinator")
	case !known:
		d.problem("the workers do not know the coordinator: SELECT citus_set_coordinator_host(host, port), " +
			"with those by which they reach it")
	case workers == 0:
		d.problem("there is no worker: SELECT citus_add_node(host, port) for each")
	}
	return nil
}

// distributor makes the plan for a database.
type distributor struct {
	*Distribution
	conn   *pgx.Conn
	place  appschema.Place
	tables appschema.Description
}

// sql is the name of a table, as it is or will be.
func (p distributor) sql(table string) string {
	if t, found := p.tables.Tables[table]; found {
		return t.SQL()
	}
	if schema, name, found := strings.Cut(table, "."); found {
		return pgx.Identifier{schema, name}.Sanitize()
	}
	return pgx.Identifier{p.place.Schema, table}.Sanitize()
}

// lookAtForms looks for what Citus does not take.
func (p distributor) lookAtForms(ctx context.Context) error {
	for _, name := range p.tables.Stale() {
		if t, found := p.tables.Tables[name]; found {
			p.problem("%s is not as the table %s of ours is, and needs a view: Citus writes through none", t.SQL(), name)
		}
	}
	for name := range p.tables.Views {
		p.problem("there is a view %s.%s: Citus writes through none", appschema.ViewSchema, name)
	}
	var all, keys []string
	var spread []bool
	for _, w := range placed {
		all, keys = append(all, p.sql(w.table)), append(keys, w.column)
		spread = append(spread, w.as == byProfile)
		if t, found := p.tables.Tables[w.table]; found && t.Kind != appschema.Ordinary {
			p.problem("%s is a %s, and has to be a table", t.SQL(), t.Kind)
		}
	}
	rows, _ := p.conn.Query(ctx, inTheWay, all, keys, spread) // its error is also that of the rows
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	p.Problems = append(p.Problems, found...)
	if err != nil || !p.tables.HasOurs {
		return err
	}
	if is, err := distributed(ctx, p.conn, p.place.Schema); err != nil || is {
		return err // a service that runs is on Citus already
	}
	var members *string
	err = p.conn.QueryRow(ctx, `SELECT string_agg(instance, ', ' ORDER BY instance) FROM aggregator.member
WHERE expires_at > now()`).Scan(&members)
	if missing(err) {
		return nil
	}
	if members != nil {
		p.problem("instances are running: stop %s", *members)
	}
	return err
}

// inTheWay says, a line each, what Citus refuses of tables that it does not have yet.
//
// in: $1 the tables; $2 the column by which each is distributed, or nothing; $3 whether it is distributed
const inTheWay = `WITH t AS (
    SELECT to_regclass(w.name) AS id, w.key, w.distributed,
        EXISTS (SELECT FROM pg_dist_partition p WHERE p.logicalrelid = to_regclass(w.name)) AS done
    FROM unnest($1::text[], $2::text[], $3::bool[]) w (name, key, distributed) WHERE to_regclass(w.name) IS NOT NULL
)
SELECT format('trigger %I on %s: Citus takes no table that has triggers', g.tgname, g.tgrelid::regclass)
FROM t JOIN pg_trigger g ON g.tgrelid = t.id
WHERE NOT t.done AND NOT g.tgisinternal AND g.tgname <> 'aggregator_changed'
UNION ALL
SELECT format('index %s on %s is unique without %I, by which its rows are distributed',
    i.indexrelid::regclass, t.id, t.key)
FROM t JOIN pg_index i ON i.indrelid = t.id JOIN pg_attribute a ON a.attrelid = t.id AND a.attname = t.key
WHERE t.distributed AND NOT t.done AND i.indisunique AND a.attnum <> ALL (i.indkey::int2[])
UNION ALL
SELECT format('column %I of %s is of type %s: it has to be bigint, as all columns with the id of a profile', a.attname,
    t.id, format_type(a.atttypid, NULL))
FROM t JOIN pg_attribute a ON a.attrelid = t.id AND a.attname = t.key
WHERE t.distributed AND NOT t.done AND a.atttypid <> 'bigint'::regtype
UNION ALL
SELECT format('column %I of %s is of type %s: numbers that workers give out need bigint', a.attname, t.id,
    format_type(a.atttypid, NULL))
FROM t JOIN pg_attribute a ON a.attrelid = t.id AND a.attnum > 0
LEFT JOIN pg_attrdef d ON d.adrelid = t.id AND d.adnum = a.attnum
WHERE NOT t.done AND a.atttypid <> 'bigint'::regtype
    AND (a.attidentity <> '' OR t.distributed AND pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%')
UNION ALL
SELECT format('foreign key %I of %s refers to %s, which is none of the tables that Citus is to have: drop it, or make '
    'that table a reference table', c.conname, c.conrelid::regclass, c.confrelid::regclass)
FROM t JOIN pg_constraint c ON c.conrelid = t.id AND c.contype = 'f'
WHERE NOT t.done AND c.confrelid NOT IN (SELECT id FROM t)
    AND NOT EXISTS (SELECT FROM pg_dist_partition p WHERE p.logicalrelid = c.confrelid)
UNION ALL
SELECT format('foreign key %I of %s refers to %s, which is to be distributed: drop it, or distribute that table with '
    'it before', c.conname, c.conrelid::regclass, c.confrelid::regclass)
FROM t JOIN pg_constraint c ON c.confrelid = t.id AND c.contype = 'f'
WHERE t.distributed AND NOT t.done AND c.conrelid NOT IN (SELECT id FROM t WHERE distributed)
    AND NOT EXISTS (SELECT FROM pg_dist_partition p WHERE p.logicalrelid = c.conrelid AND p.partmethod = 'h')
ORDER BY 1`

// placeTables has each table go where it belongs.
func (p distributor) placeTables(ctx context.Context) error {
	var filled []string
	for _, w := range placed {
		name := p.sql(w.table)
		var there, reports, together bool
		var as, column *string
		err := p.conn.QueryRow(ctx, `SELECT t.id IS NOT NULL,
    EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.id AND g.tgname = 'aggregator_changed'),
    CASE WHEN p.partmethod = 'h' THEN $2 WHEN p.repmodel = 't' THEN $3 WHEN p.partmethod = 'n' THEN $4 END,
    CASE WHEN p.partmethod = 'h' THEN column_to_column_name(p.logicalrelid, p.partkey) END,
    coalesce(p.colocationid = (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid = to_regclass($5)), false)
FROM (SELECT to_regclass($1)) t (id) LEFT JOIN pg_dist_partition p ON p.logicalrelid = t.id`,
			name, string(byProfile), string(onAllNodes), string(onCoordinator), p.sql("child_profile")).
			Scan(&there, &reports, &as, &column, &together)
		if err != nil {
			return err
		}
		_, catalogued := p.tables.Tables[w.table]
		if reports || !there && !catalogued && hasTrigger(w.table) {
			p.Statements = append(p.Statements, "DROP TRIGGER aggregator_changed ON "+name)
		}
		if !there && w.as == onCoordinator {
			p.Statements = append(p.Statements, "CREATE TABLE "+name+" (id bigint PRIMARY KEY)",
				"GRANT SELECT, UPDATE ON "+name+" TO PUBLIC") // it stays empty
		}
		switch {
		case as == nil:
			p.Statements = append(p.Statements, w.as.statement(name, w.column, p.sql("child_profile")))
			if there && w.as != onCoordinator {
				filled = append(filled, name)
			}
		case *as != string(w.as):
			p.problem("%s is %s, and has to be %s: SELECT undistribute_table(%s), and again", name, *as, w.as, literal(name))
		case w.as == byProfile && (column == nil || *column != w.column):
			p.problem("%s is distributed by another column than %s: SELECT undistribute_table(%s), and again", name, w.column,
				literal(name))
		case w.as == byProfile && !together:
			p.problem("%s is not co-located with child_profile: SELECT alter_distributed_table(%s, colocate_with => %s)",
				name, literal(name), literal(p.sql("child_profile")))
		}
	}
	for _, name := range filled { // rows that were copied are still in the coordinator's own table
		p.Statements = append(p.Statements, "SELECT truncate_local_data_after_distributing_table("+literal(name)+")")
	}
	return nil
}

// hasTrigger says whether a migration makes one that reports changes of the table.
func hasTrigger(table string) bool {
	switch table {
	case "book", "book_topic", "book_mbti", "child_profile":
		return true
	}
	return false
}

// statement has Citus place a table.
func (as placing) statement(name, column, with string) string {
	switch {
	case as == onAllNodes:
		return "SELECT create_reference_table(" + literal(name) + ")"
	case as == onCoordinator:
		return "SELECT citus_add_local_table_to_metadata(" + literal(name) + ")"
	case name == with:
		return fmt.Sprintf("SELECT create_distributed_table(%s, %s, colocate_with => 'none')", literal(name), literal(column))
	}
	return fmt.Sprintf("SELECT create_distributed_table(%s, %s, colocate_with => %s)",
		literal(name), literal(column), literal(with))
}

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// placeFunctions has the transaction of a profile run on the worker of the profile, also within a transaction: so all
// ids of its history are given out there, in rising order. Names of tables lead to the same schema as here.
func (p distributor) placeFunctions(ctx context.Context) error {
	path := "search_path=" + strings.ReplaceAll(p.place.SearchPath(), `"`, "") // PostgreSQL quotes only where it must
	for _, name := range []string{"refuse", "as_stored", "add_genres", "add_topics", "apply", "apply_journaled"} {
		entry := strings.HasPrefix(name, "apply")
		function := "(SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'aggregator'::regnamespace AND proname = " +
			literal(name) + ")"
		var distributed, pathed bool
		var source string
		err := p.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_dist_object o
    WHERE o.classid = 'pg_proc'::regclass AND o.objid = f.id AND (NOT $2 OR o.distribution_argument_index = 0 AND
        o.force_delegation AND
        o.colocationid = (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid = to_regclass($3)))),
    coalesce(ARRAY[$4, 'plan_cache_mode=auto'] <@ string_to_array(replace(array_to_string(f.config, E'\n'), '"', ''),
        E'\n'), false),
    coalesce(f.source, '')
FROM (SELECT 1) one LEFT JOIN (
    SELECT oid, proconfig, prosrc FROM pg_proc WHERE pronamespace = to_regnamespace('aggregator') AND proname = $1
) f (id, config, source) ON true`, name, entry, p.sql("child_profile"), path).Scan(&distributed, &pathed, &source)
		if err != nil {
			return err
		}
		if name == "apply" {
			statement, err := applyOnCitus()
			if err != nil {
				return err
			}
			if !strings.Contains(statement, "$$"+source+"$$") || source == "" {
				p.Statements, pathed = append(p.Statements, statement), false
			}
			if !pathed {
				// On workers the sessions are those of the role, whose plans are generic (config/roles.sql).
				p.Statements = append(p.Statements, "ALTER FUNCTION aggregator.apply SET plan_cache_mode = auto SET search_path = "+
					p.place.SearchPath())
			}
		}
		switch {
		case distributed:
		case entry:
			p.Statements = append(p.Statements, fmt.Sprintf("SELECT create_distributed_function(%s, 'profile', "+
				"colocate_with => %s, force_delegation => true)", function, literal(p.sql("child_profile"))))
		default:
			p.Statements = append(p.Statements, "SELECT create_distributed_function("+function+")")
		}
	}
	return nil
}

// onCitus are the places where aggregator.apply is another text on Citus, which asks all workers for the rows of an
// INSERT ... SELECT with a default that is volatile: the profile is looked for before. The few favorites are inserted
// one by one. On one server both would cost more.
var onCitus = []struct{ is, becomes string }{
	{
		"    INSERT INTO child_personality_history (",
		"    PERFORM FROM child_profile WHERE id = profile;\n    IF FOUND THEN INSERT INTO child_personality_history (",
	},
	{"    SELECT c.id, stands_at,", "    VALUES (profile, stands_at,"},
	{
		"\n    FROM child_profile c WHERE c.id = profile\n    RETURNING id INTO history;",
		")\n    RETURNING id INTO history; END IF;",
	},
}

var favoritesAtOnce = regexp.MustCompile(`(?s)INSERT INTO favorite_(\w+) \(child_profile_id, history_id, \w+\)` +
	`\s+SELECT profile, history, g\.\w+(.*?WHERE g\.score >=? g\.enough);`)

const favoritesOneByOne = `FOR updated IN SELECT g.${1}_id$2
        LOOP
            INSERT INTO favorite_$1 (child_profile_id, history_id, ${1}_id) VALUES (profile, history, updated);
        END LOOP;`

// applyOnCitus is the statement that makes the function of migration 11 as it has to be on Citus.
func applyOnCitus() (string, error) {
	file, err := embedded.ReadFile("migrations/00011_apply.sql")
	if err != nil {
		return "", err
	}
	for _, statement := range statements(string(file)) {
		rest, found := strings.CutPrefix(statement, "CREATE FUNCTION aggregator.apply(")
		if !found {
			continue
		}
		statement = "CREATE OR REPLACE FUNCTION aggregator.apply(" + rest
		for _, place := range onCitus {
			if strings.Count(statement, place.is) != 1 {
				return "", fmt.Errorf("migration 11 has not once: %s", place.is)
			}
			statement = strings.Replace(statement, place.is, place.becomes, 1)
		}
		if len(favoritesAtOnce.FindAllString(statement, -1)) != 4 {
			return "", errors.New("migration 11 inserts favorites in another way")
		}
		return favoritesAtOnce.ReplaceAllString(statement, favoritesOneByOne), nil
	}
	return "", errors.New("migration 11 has no function aggregator.apply")
}
