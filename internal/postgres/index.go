package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/appschema"
)

// ErrIndex is in every error of an index that is missing.
var ErrIndex = errors.New("an index is missing")

// Index is one of ours on a table of the application. Such a table may be large, so
// that the index is built CONCURRENTLY, which no migration in a transaction can; and it
// may belong to a role that we cannot act as, which then has to build it.
type Index struct {
	name, table, definition string
	unique                  bool
	Why                     string // what is not possible without
}

// IndexOn is the index that an adaptation wants.
func IndexOn(i appschema.Index) Index {
	name := i.Table.Name + "_" + strings.Join(i.Columns, "_") + "_idx"
	return Index{name: name[:min(len(name), 63)], table: i.Table.SQL(), definition: "(" + i.List() + ")", unique: i.Unique}
}

// DeletedHistory finds the rows of history that the application has deleted, by when.
// Rows that are not deleted have no entry. A purge does not work without it.
func DeletedHistory(d appschema.Description) Index {
	const table = "child_personality_history"
	i := Index{
		name: table + "_deleted", table: table, definition: "(deleted_at, child_profile_id, id) WHERE is_deleted",
		Why: "deleted rows of child_personality_history cannot be found: aggregator purge does not work",
	}
	if t, found := d.Tables[table]; found {
		i.table = t.SQL()
		i.definition = fmt.Sprintf(
			"(%s, %s, %s) WHERE %s", t.Own("deleted_at"), t.Own("child_profile_id"), t.Own("id"), t.Own("is_deleted"))
	}
	return i
}

// Create is the statement that makes the index on a table without partitions.
func (i Index) Create() string {
	return fmt.Sprintf("CREATE %s CONCURRENTLY %s ON %s %s", i.kind(), i.name, i.table, i.definition)
}

func (i Index) kind() string {
	if i.unique {
		return "UNIQUE INDEX"
	}
	return "INDEX"
}

// Advice is what the owner of the table is to run, statement by statement; empty if the index is
// there and whole.
func (i Index) Advice(ctx context.Context, pool *pgxpool.Pool) ([]string, error) {
	return i.missing(ctx, pool)
}

// rower is a pool or a connection.
type rower interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// missing are the statements that are left to run until the index is there and whole.
func (i Index) missing(ctx context.Context, db rower) (statements []string, err error) {
	err = db.QueryRow(ctx, makeIndex, i.table, i.name, i.definition, i.kind()).Scan(&statements)
	if err != nil {
		return nil, fmt.Errorf("looking for the index %s: %w", i.name, err)
	}
	return statements, nil
}

// Check returns nil if the index is there and whole. An error with ErrIndex says what to
// do; any other means that it could not be found out.
func (i Index) Check(ctx context.Context, pool *pgxpool.Pool) error {
	missing, err := i.Advice(ctx, pool)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: as the owner of the table run: %s", ErrIndex, strings.Join(missing, "; "))
	}
	return nil
}

// CheckDeletedHistory is Check of the index DeletedHistory. Names are those of Options.Tables.
func CheckDeletedHistory(ctx context.Context, pool *pgxpool.Pool, names appschema.Names) error {
	d, err := appschema.ReadCurrent(ctx, pool, names)
	if err != nil {
		return err
	}
	return DeletedHistory(d).Check(ctx, pool)
}

// makeIndex is what is left to do for an index: on a table, or on each of its partitions, for on a
// partitioned table PostgreSQL builds none CONCURRENTLY. One that was left half built goes.
//
// in: $1 the table, $2 the name of the index, $3 its definition, $4 INDEX or UNIQUE INDEX
// out: the statements, in their order
const makeIndex = `
WITH tree AS (
    SELECT c.oid AS relid, t.parentrelid, coalesce(t.isleaf, true) AS isleaf, coalesce(t.level, 0) AS level, n.nspname,
	c.relname,
        CASE WHEN coalesce(t.level, 0) = 0 THEN $2::text
            WHEN octet_length(c.relname) + octet_length(substring($2
	FROM '_[^_]*$')) < 64 THEN c.relname || substring($2 FROM '_[^_]*$')
            ELSE 'partition_' || c.oid || substring($2 FROM '_[^_]*$') END AS name
    FROM (SELECT ` + appschema.BaseTable + ` AS top) q LEFT JOIN LATERAL pg_partition_tree(q.top) t ON true
    JOIN pg_class c ON c.oid = coalesce(t.relid, q.top) JOIN pg_namespace n ON n.oid = c.relnamespace
), top AS (
    SELECT to_regclass(format('%I.%I', nspname, name)) AS index FROM tree WHERE level = 0
), found AS (
    SELECT tree.*, x.valid, x.attached, coalesce(x.name, format('%I.%I', nspname, tree.name)) AS index
    FROM tree CROSS JOIN top LEFT JOIN LATERAL (
        SELECT i.indisvalid AS valid, format('%I.%I', xn.nspname, xc.relname) AS name,
            EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid) AS attached
        FROM pg_index i JOIN pg_class xc ON xc.oid = i.indexrelid JOIN pg_namespace xn ON xn.oid = xc.relnamespace
        WHERE i.indrelid = tree.relid AND (i.indexrelid = to_regclass(format('%I.%I', tree.nspname, tree.name))
            OR pg_partition_root(i.indexrelid) = top.index)
        ORDER BY 3 DESC LIMIT 1) x ON true
), steps AS (
    SELECT 1 AS step, level, index, format('CREATE %s %I ON ONLY %I.%I %s', $4::text, name, nspname, relname,
	$3::text) AS statement
    FROM found WHERE NOT isleaf AND valid IS NULL
    UNION ALL
    SELECT 2, level, index, 'DROP INDEX CONCURRENTLY ' || index FROM found WHERE isleaf AND NOT valid
    UNION ALL
    SELECT 3, level, index, format('CREATE %s CONCURRENTLY %I ON %I.%I %s', $4, name, nspname, relname, $3) FROM found
	WHERE isleaf AND valid IS NOT TRUE
    UNION ALL
    SELECT 4, -f.level, f.index, format('ALTER INDEX %s ATTACH PARTITION %s', p.index, f.index)
    FROM found f JOIN found p ON p.relid = f.parentrelid WHERE f.attached IS NOT TRUE
)
SELECT coalesce(array_agg(statement ORDER BY step, level, index), '{}') FROM steps`

// createIndexes makes those that are missing on tables that we may act as the owner of, and
// again those that were left half built. Building one waits for the transactions of others, and none
// waits for it meanwhile.
func (m migrator) createIndexes(ctx context.Context) error {
	return m.locked(ctx, func(conn *pgx.Conn) error {
		all, err := allIndexes(ctx, conn, m.names)
		if err != nil {
			return err
		}
		for _, i := range all {
			if err := i.create(ctx, conn); err != nil {
				return fmt.Errorf("index %s: %w", i.name, err)
			}
		}
		return nil
	})
}

// allIndexes are those that a migration sees to, on the tables as they are.
func allIndexes(ctx context.Context, conn *pgx.Conn, names appschema.Names) ([]Index, error) {
	d, err := appschema.ReadCurrent(ctx, conn, names)
	if err != nil {
		return nil, err
	}
	var all []Index
	for _, i := range d.Adaptation().Indexes {
		all = append(all, IndexOn(i))
	}
	all = append(all, DeletedHistory(d))
	search, found, err := searchIndex(ctx, conn, d)
	if err == nil && found {
		all = append(all, search)
	}
	return all, err
}

// searchIndex is the index by which books are found by a part of their text. There is none if there is no
// pg_trgm, or if the application has made one like it. Nothing depends on it.
func searchIndex(ctx context.Context, conn *pgx.Conn, d appschema.Description) (index Index, found bool, err error) {
	book, there := d.Tables["book"]
	if !there {
		book = appschema.Table{Schema: d.Schema, Name: "book", Columns: []appschema.Column{{Name: "search_text"}}}
	}
	var schema string
	err = conn.QueryRow(ctx, `
SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_trgm' AND has_schema_privilege(n.oid, 'USAGE') AND NOT EXISTS (
    SELECT FROM pg_index i JOIN pg_opclass o ON o.oid = ANY (i.indclass::oid[])
	AND o.opcname IN ('gin_trgm_ops', 'gist_trgm_ops')
    WHERE i.indrelid = to_regclass($1) AND i.indisvalid)`, book.SQL()).Scan(&schema)
	if errors.Is(err, pgx.ErrNoRows) {
		return Index{}, false, nil
	}
	if err != nil {
		return Index{}, false, err
	}
	index = Index{
		name: "book_search_text_trgm", table: book.SQL(),
		definition: "USING gin (" + book.Own("search_text") + " " + schema + ".gin_trgm_ops)",
	}
	return index, true, nil
}

// there says whether the table is there.
func (i Index) there(ctx context.Context, conn *pgx.Conn) (there bool, err error) {
	err = conn.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, i.table).Scan(&there)
	return there, err
}

// ours says whether all of the table is ours to act on.
func (i Index) ours(ctx context.Context, conn *pgx.Conn) (ours bool, err error) {
	err = conn.QueryRow(ctx, `
SELECT coalesce(bool_and(c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'USAGE')
	AND has_schema_privilege(c.relnamespace, 'CREATE')), false)
FROM pg_class c WHERE c.oid = to_regclass($1) OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass($1)))`,
		i.table).Scan(&ours)
	return ours, err
}

// create makes the index where all of the table is ours to act on.
func (i Index) create(ctx context.Context, conn *pgx.Conn) error {
	ours, err := i.ours(ctx, conn)
	if err != nil || !ours {
		return err
	}
	missing, err := i.missing(ctx, conn)
	if err != nil {
		return err
	}
	for _, statement := range missing {
		limit := "0"
		if !strings.Contains(statement, " CONCURRENTLY ") { // others wait for it while it waits
			limit = lockPatience
		}
		if _, err := conn.Exec(ctx, `SET lock_timeout = '`+limit+`'`); err != nil {
			return err
		}
		err := patiently(ctx, func() error {
			_, err := conn.Exec(ctx, statement)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
