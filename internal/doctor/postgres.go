package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/appschema"
	"aggregator/internal/postgres"
)

// Postgres looks at the server, the session, the schema and the tables. Needed is how many
// connections the daemon uses, journal whether it writes one. The error is that of a server that does not answer.
func Postgres(
	ctx context.Context, pool *pgxpool.Pool, needed int, names appschema.Names, journal bool,
) ([]Finding, error) {
	r := &report{server: "PostgreSQL"}
	if err := postgres.Ping(ctx, pool); err != nil {
		return nil, err
	}
	r.postgresServer(ctx, pool)
	r.session(ctx, pool)
	r.connections(ctx, pool, needed)
	asked := time.Now()
	var now time.Time
	if err := pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		r.notSeen("clock", err)
	} else {
		r.clock(now, asked, time.Now())
	}
	tables, notRead := appschema.ReadCurrent(ctx, pool, names)
	if notRead != nil {
		r.notSeen("tables", notRead)
	}
	schema, err := postgres.CheckSchema(ctx, pool)
	switch {
	case err != nil && schema.Newer():
		r.add("schema", Problem, err.Error(), "install the program that migrated it")
		return r.findings, nil
	case err != nil && schema.Version == 0 && r.forgotten(ctx, pool):
		return r.findings, nil
	case err != nil:
		r.add("schema", Problem, err.Error(), "aggregator migrate up; --dry-run shows what it would do")
		if notRead == nil {
			r.described(tables, schema.Version > 0)
			r.duplicates(ctx, pool, tables)
		}
		return r.findings, nil // the rest would only say the same
	case schema.Newer():
		r.add("schema", Warning, schema.String(),
			"install the program that migrated it, or go back to this one's: docs/operations.md, Rolling back")
	default:
		r.absent(ctx, pool)
	}
	if notRead == nil {
		r.tables(ctx, pool, tables)
	}
	r.privileges(ctx, pool)
	r.indexes(ctx, pool, tables)
	r.search(ctx, pool, tables)
	r.room(ctx, pool, tables)
	r.unlogged(ctx, pool, tables)
	r.sequences(ctx, pool, tables)
	r.future(ctx, pool)
	if postgres.OnCitus(pool.Config().ConnConfig) {
		r.citus(ctx, pool, names)
	} else {
		r.triggers(ctx, pool, tables)
	}
	r.standbys(ctx, pool)
	r.locks(ctx, pool, tables)
	r.trial(ctx, pool, journal)
	return r.findings, nil
}

func (r *report) postgresServer(ctx context.Context, pool *pgxpool.Pool) {
	var version, fsync, pages string
	var standby, readOnly bool
	var citus *string
	err := pool.QueryRow(ctx, `SELECT split_part(current_setting('server_version'), ' ', 1), current_setting('fsync'),
    current_setting('full_page_writes'), pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool,
    (SELECT extversion FROM pg_extension WHERE extname = 'citus')`).
		Scan(&version, &fsync, &pages, &standby, &readOnly, &citus)
	if err != nil {
		r.notSeen("server", err)
		return
	}
	r.ok("version", "%s", version)
	if citus != nil && !postgres.OnCitus(pool.Config().ConnConfig) {
		r.add("extensions", Warning, "citus "+*citus+" is in this database, and child_profile is not distributed: "+
			"it refuses statements of the service on other tables that it distributes, and a drain then halts",
			"aggregator migrate up --distribute, or leave all of the application's tables as they are")
	}
	switch {
	case standby:
		r.add("role", Problem, "it is a standby",
			"point postgres.url at the primary, or add target_session_attrs=read-write to it")
	case readOnly:
		r.add("role", Problem, "its transactions are read-only",
			"set default_transaction_read_only to off for the database and the role")
	default:
		r.ok("role", "primary")
	}
	switch {
	case fsync != "on":
		r.add("durability", Problem, "fsync is off: a crash of the machine destroys the database",
			"set fsync to on in postgresql.conf, and reload")
	case pages != "on":
		r.add("durability", Problem, "full_page_writes is off: a crash of the machine may tear pages",
			"set full_page_writes to on in postgresql.conf, and reload")
	default:
		r.ok("durability", "fsync and full_page_writes are on")
	}
}

// session looks for a pooler, and at what a session is like that goes through one.
func (r *report) session(ctx context.Context, pool *pgxpool.Pool) {
	var commit, lock string
	err := pool.QueryRow(ctx, `SELECT current_setting('synchronous_commit'), current_setting('lock_timeout')`).Scan(
		&commit, &lock)
	if err != nil {
		r.notSeen("session", err)
		return
	}
	const again = "run config/roles.sql, or ALTER ROLE ... SET synchronous_commit = off; and see docs/servers.md"
	pooled := postgres.Pooled(pool.Config().ConnConfig)
	switch {
	case commit != "off":
		r.add("session", Warning,
			"synchronous_commit is "+commit+": each profile's transaction waits for the disk, not each chunk", again)
	case pooled && lock == "0":
		r.add("session", Warning, "lock_timeout is 0: a stuck lock is noticed only when the service gives the connection up",
			again)
	default:
		r.ok("session", "synchronous_commit is off; checkpoints turn it on for themselves")
	}
	if pooled {
		r.ok("pooler", "postgres.pooler is transaction")
		return
	}
	r.pooler(ctx, pool)
}

// pooler asks one connection of ours, beside others, which sessions it is given.
func (r *report) pooler(ctx context.Context, pool *pgxpool.Pool) {
	sessions := map[int]bool{}
	ask := func(ours *pgxpool.Conn) error {
		var pid int
		err := ours.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&pid)
		sessions[pid] = true
		return err
	}
	err := pool.AcquireFunc(ctx, func(ours *pgxpool.Conn) error {
		if err := ask(ours); err != nil {
			return err
		}
		// While another holds a transaction, a pooler gives it the session that we just had.
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT 1`, pgx.QueryExecModeExec); err != nil {
				return err
			}
			return ask(ours)
		})
	})
	switch {
	case err != nil:
		r.notSeen("pooler", err)
	case len(sessions) > 1:
		r.add("pooler", Problem, "one connection was given several sessions: there is a transaction-mode pooler",
			"set postgres.pooler to transaction")
	default:
		r.ok("pooler", "none detected: a connection keeps its session")
	}
}

func (r *report) connections(ctx context.Context, pool *pgxpool.Pool, needed int) {
	var most, role, database int
	err := pool.QueryRow(ctx,
		`SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user), (SELECT datconnlimit FROM pg_database
	WHERE datname = current_database())`).
		Scan(&most, &role, &database)
	if err != nil {
		r.notSeen("connections", err)
		return
	}
	limit, of := most, "max_connections"
	if role >= 0 && role < limit {
		limit, of = role, "the limit of the role"
	}
	if database >= 0 && database < limit {
		limit, of = database, "the limit of the database"
	}
	if postgres.Pooled(pool.Config().ConnConfig) {
		r.ok("connections", "the pooler's; %s allows %d", of, limit)
		return
	}
	instances := 1
	if c, err := takeCensus(ctx, pool); err == nil { // without its tables no instance lives
		instances = max(1, c.living())
	}
	uses := fmt.Sprintf("the service uses %d", needed)
	if instances > 1 {
		uses = fmt.Sprintf("%d instances are alive, and with %d for each, as these settings have it, they use %d",
			instances, needed, instances*needed)
	}
	if instances*needed > limit {
		r.add("connections", Problem, fmt.Sprintf("%s, and %s leaves %d", uses, of, limit),
			"raise it, or lower apply.workers or source.partitions")
		return
	}
	r.ok("connections", "%s of the %d that %s allows to all", uses, limit, of)
}

// rights are what the service does with the tables.
var rights = []struct{ tables, privileges string }{
	{"genre, topic, mbti, book, book_topic, book_mbti", "SELECT"},
	{"genre_score, topic_score, cumulative_mbti_score", "SELECT, INSERT, UPDATE"},
	{"child_personality_history, favorite_genre, favorite_topic", "SELECT, INSERT"},
	{"aggregator.mark, aggregator.checkpoint, aggregator.dead_letter, aggregator.incident", "SELECT, INSERT, UPDATE"},
	{"aggregator.lease, aggregator.member, aggregator.run", "SELECT, INSERT, UPDATE, DELETE"},
	{"aggregator.schema_migrations, aggregator.schema_compatibility", "SELECT"},
}

// columnRights are what it, and aggregator search-text, does with single columns.
var columnRights = []struct{ table, column, privilege string }{
	{"child_profile", "id", "SELECT"},
	{"book", "search_text", "UPDATE"},
}

func (r *report) privileges(ctx context.Context, pool *pgxpool.Pool) {
	var missing []string
	for _, right := range rights {
		for table := range strings.SplitSeq(right.tables, ", ") {
			for privilege := range strings.SplitSeq(right.privileges, ", ") {
				var exists, may bool
				err := pool.QueryRow(ctx,
					`SELECT to_regclass($1) IS NOT NULL, coalesce(has_table_privilege(to_regclass($1), $2), false)`, table,
					privilege).Scan(&exists, &may)
				switch {
				case err != nil:
					r.notSeen("privileges", err)
					return
				case exists && !may: // which are missing the checks of schema and tables have said
					missing = append(missing, privilege+" on "+table)
				}
			}
		}
	}
	for _, right := range columnRights {
		var may bool
		err := pool.QueryRow(ctx, `SELECT coalesce(has_column_privilege(to_regclass($1), $2, $3), false)`, right.table,
			right.column, right.privilege).Scan(&may)
		if err != nil {
			r.notSeen("privileges", err)
			return
		}
		if !may {
			missing = append(missing, fmt.Sprintf("%s (%s) on %s", right.privilege, right.column, right.table))
		}
	}
	if len(missing) > 0 {
		r.add("privileges", Problem, "the role may not "+strings.Join(missing, ", "),
			"run config/roles.sql in this database, and connect as aggregator_daemon")
		return
	}
	r.ok("privileges", "the role may do all that the service does")
}

// indexes looks for those by which rows are found, and those without which none can be written.
func (r *report) indexes(ctx context.Context, pool *pgxpool.Pool, d appschema.Description) {
	fine := true
	r.duplicates(ctx, pool, d)
	for _, i := range d.Adaptation().Indexes {
		fine = false
		if i.Unique {
			what := fmt.Sprintf("%s has no unique key on (%s): no score can be written", i.Table.Name,
				strings.Join(i.Columns, ", "))
			r.adviseIndex(ctx, pool, Problem, what, postgres.IndexOn(i))
			continue
		}
		what := fmt.Sprintf("%s has no index that begins with %s: each look-up reads all of it", i.Table.Name, i.Columns[0])
		r.adviseIndex(ctx, pool, Warning, what, postgres.IndexOn(i))
	}
	deleted := postgres.DeletedHistory(d)
	statements, err := deleted.Advice(ctx, pool)
	switch {
	case err != nil:
		r.notSeen("indexes", err)
		return
	case len(statements) > 0:
		fine = false
		r.add("indexes", Warning, deleted.Why,
			"aggregator migrate up; if the table is not its role's, as the owner: "+strings.Join(statements, "; "))
	}
	if fine {
		r.ok("indexes", "all that are needed are there")
	}
}

// duplicates looks for rows that are in the way of a unique index.
func (r *report) duplicates(ctx context.Context, pool *pgxpool.Pool, d appschema.Description) {
	err := postgres.CheckDuplicates(ctx, pool, d)
	switch {
	case errors.Is(err, appschema.ErrTables):
		_, found, _ := strings.Cut(err.Error(), ": ")
		found, advice, _ := strings.Cut(found, "; keep ")
		r.add("tables", Problem, found, "keep "+advice)
	case err != nil:
		r.notSeen("tables", err)
	}
}

// adviseIndex adds a finding about an index that is missing, with the statements that make it, also
// on a table with partitions.
func (r *report) adviseIndex(
	ctx context.Context, pool *pgxpool.Pool, verdict Verdict, what string, index postgres.Index,
) {
	statements, err := index.Advice(ctx, pool)
	if err != nil {
		r.notSeen("indexes", err)
		return
	}
	r.add("indexes", verdict, what, strings.Join(statements, "; "))
}

// search looks whether books can be found by a part of their text without reading all.
func (r *report) search(ctx context.Context, pool *pgxpool.Pool, d appschema.Description) {
	var found, cType bool
	book := d.Tables["book"]
	err := pool.QueryRow(ctx, `SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_opclass o ON o.oid = ANY (i.indclass::oid[])
	AND o.opcname IN ('gin_trgm_ops', 'gist_trgm_ops')
    WHERE i.indrelid = to_regclass($1) AND i.indisvalid),
    (SELECT datctype IN ('C', 'POSIX') FROM pg_database WHERE datname = current_database())`,
		book.SQL()).Scan(&found, &cType)
	switch {
	case err != nil:
		r.notSeen("search", err)
	case !found:
		r.add("search", Warning, "book.search_text has no trigram index: each search reads all books",
			"CREATE EXTENSION IF NOT EXISTS pg_trgm; then aggregator migrate up or, if book is not its role's, as the owner: "+
				"CREATE INDEX CONCURRENTLY ON "+book.SQL()+" USING gin ("+book.Own("search_text")+" gin_trgm_ops)")
	case cType:
		r.add("search", Warning, "the database knows only ASCII letters (LC_CTYPE C): the trigram index of "+
			"book.search_text does not help with others",
			"recreate the database with another locale, such as C.UTF-8")
	default:
		r.ok("search", "book.search_text has a trigram index")
	}
}

// room looks whether score tables leave room for new versions of rows in their pages.
func (r *report) room(ctx context.Context, pool *pgxpool.Pool, d appschema.Description) {
	var names []string
	for _, name := range []string{"genre_score", "topic_score", "cumulative_mbti_score"} {
		names = append(names, d.Tables[name].SQL())
	}
	rows, _ := pool.Query(ctx,
		`SELECT c.relname::text FROM unnest($1::text[]) t JOIN pg_class c ON c.oid = to_regclass(t) AND c.relkind = 'r'
    WHERE NOT EXISTS (SELECT FROM unnest(c.reloptions) o WHERE o LIKE 'fillfactor=%'
	AND split_part(o, '=', 2)::int <= 90)`,
		names) // its error is also that of the rows
	full, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		r.notSeen("fillfactor", err)
	case len(full) > 0:
		r.add("fillfactor", Warning, strings.Join(full, ", ")+": full pages make each update touch the index too",
			"ALTER TABLE ... SET (fillfactor = 50), and VACUUM FULL or pg_repack when there is time")
	default:
		r.ok("fillfactor", "score tables leave room for updates")
	}
}

// unlogged looks for tables, or partitions of these, that PostgreSQL empties when it recovers from a crash.
func (r *report) unlogged(ctx context.Context, pool *pgxpool.Pool, d appschema.Description) {
	var names []string
	for _, table := range d.Tables {
		names = append(names, table.SQL())
	}
	rows, _ := pool.Query(ctx, `SELECT DISTINCT c.oid::regclass::text FROM (
        SELECT to_regclass(t)::oid FROM unnest($1::text[]) t
        UNION ALL SELECT oid FROM pg_class WHERE relnamespace = 'aggregator'::regnamespace AND relkind = 'r'
    ) t (oid) CROSS JOIN LATERAL (SELECT t.oid UNION ALL SELECT relid::oid FROM pg_partition_tree(t.oid)) p (oid)
    JOIN pg_class c ON c.oid = p.oid AND c.relpersistence = 'u' AND c.relkind = 'r' ORDER BY 1`,
		names) // its error is also that of the rows
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		r.notSeen("durability", err)
	case len(found) > 0:
		r.add("durability", Problem, strings.Join(found, ", ")+" UNLOGGED: a crash of PostgreSQL empties them, "+
			"and a standby has none of their rows", "ALTER TABLE ... SET LOGGED, which rewrites the table")
	}
}

// Refused is the finding of a PostgreSQL that could not be looked at because of a pooler, or because it
// is not clear which tables are the application's; false for any other error.
func Refused(err error) (Finding, bool) {
	switch {
	case errors.Is(err, postgres.ErrPooler):
		return Finding{"PostgreSQL", "pooler", Problem, err.Error(), "set postgres.pooler to transaction"}, true
	case errors.Is(err, appschema.ErrChoice):
		return Finding{"PostgreSQL", "tables", Problem, err.Error(), "set postgres.schema"}, true
	}
	return Finding{}, false
}
