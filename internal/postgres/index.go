package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3/lock"
)

// ErrIndex is in every error of an index that is missing.
var ErrIndex = errors.New("an index is missing")

// Index is one of ours on a table of the application. Such a table may be large, so
// that the index is built CONCURRENTLY, which no migration in a transaction can; and it
// may belong to a role that we cannot act as, which then has to build it.
type Index struct {
	name, table, definition string
	Why                     string // what is not possible without
}

// DeletedHistory finds the rows of history that the application has deleted, by when.
// Rows that are not deleted have no entry.
var DeletedHistory = Index{
	"child_personality_history_deleted", "child_personality_history", "(deleted_at, child_profile_id, id) WHERE is_deleted",
	"deleted rows of child_personality_history cannot be found: aggregator purge does not work",
}

// Indexes are all that must be there.
var Indexes = []Index{DeletedHistory}

// Create is the statement that makes the index.
func (i Index) Create() string {
	return fmt.Sprintf("CREATE INDEX CONCURRENTLY %s ON %s %s", i.name, i.table, i.definition)
}

// Check returns nil if the index is there and whole. An error with ErrIndex says what to
// do; any other means that it could not be found out.
func (i Index) Check(ctx context.Context, pool *pgxpool.Pool) error {
	rows, _ := pool.Query(ctx, `SELECT EXISTS (SELECT FROM pg_index
		WHERE indrelid = to_regclass($1) AND indexrelid = to_regclass($2) AND indisvalid)`, i.table, i.name) // its error is also that of the rows
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
	if err != nil {
		return fmt.Errorf("looking for the index %s: %w", i.name, err)
	}
	if !found {
		return fmt.Errorf("%w: as the owner of the table run: %s", ErrIndex, i.Create())
	}
	return nil
}

// createIndexes makes those that are missing on tables that we may act as the owner of, and
// anew those that were left half built. One runs at a time, and asks for the lock again
// and again: to wait for it in a statement would be to hold a snapshot, for the end of
// which the other one waits.
func createIndexes(ctx context.Context, db *sql.DB, locker lock.SessionLocker) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := locker.SessionLock(ctx, conn); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, locker.SessionUnlock(context.WithoutCancel(ctx), conn)) }()
	// It waits for the transactions of others, and none waits for it meanwhile.
	if _, err := conn.ExecContext(ctx, `SET lock_timeout = 0`); err != nil {
		return err
	}
	for _, i := range Indexes {
		if err := i.create(ctx, conn); err != nil {
			return fmt.Errorf("index %s: %w", i.name, err)
		}
	}
	if err := createSearchIndex(ctx, conn); err != nil {
		return fmt.Errorf("index to search books by: %w", err)
	}
	return nil
}

// createSearchIndex makes the index by which books are found by a part of their text, if pg_trgm
// is there, unless the application has made one like it. Nothing depends on it.
func createSearchIndex(ctx context.Context, conn *sql.Conn) error {
	var schema string
	err := conn.QueryRowContext(ctx, `
SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_trgm' AND has_schema_privilege(n.oid, 'USAGE') AND NOT EXISTS (
    SELECT FROM pg_index i JOIN pg_opclass o ON o.oid = ANY (i.indclass::oid[]) AND o.opcname IN ('gin_trgm_ops', 'gist_trgm_ops')
    WHERE i.indrelid = to_regclass('book') AND i.indisvalid)`).Scan(&schema)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	index := Index{name: "book_search_text_trgm", table: "book", definition: "USING gin (search_text " + schema + ".gin_trgm_ops)"}
	return index.create(ctx, conn)
}

func (i Index) create(ctx context.Context, conn *sql.Conn) error {
	var ours, exists, valid bool
	err := conn.QueryRowContext(ctx, `
SELECT t.relkind = 'r' AND pg_has_role(t.relowner, 'USAGE') AND has_schema_privilege(t.relnamespace, 'CREATE'), x.indexrelid IS NOT NULL, coalesce(x.indisvalid, false)
FROM pg_class t LEFT JOIN pg_index x ON x.indrelid = t.oid AND x.indexrelid = to_regclass($2)
WHERE t.oid = to_regclass($1)`, i.table, i.name).Scan(&ours, &exists, &valid)
	if err != nil || valid || !ours {
		return err
	}
	if exists {
		if _, err := conn.ExecContext(ctx, `DROP INDEX CONCURRENTLY `+i.name); err != nil {
			return err
		}
	}
	_, err = conn.ExecContext(ctx, i.Create())
	return err
}
