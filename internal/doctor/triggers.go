package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/appschema"
)

// triggers looks for those by which the service learns of changes in what it remembers.
func (r *report) triggers(ctx context.Context, pool *pgxpool.Pool, d appschema.Description) {
	var names []string
	for _, name := range []string{"book", "book_topic", "book_mbti", "child_profile"} {
		names = append(names, d.Tables[name].SQL())
	}
	rows, _ := pool.Query(ctx, `SELECT c.relname::text, coalesce(g.tgenabled::text, '')
FROM unnest($1::text[]) w (t) JOIN pg_class c ON c.oid = to_regclass(w.t)
LEFT JOIN pg_trigger g ON g.tgrelid = c.oid AND g.tgname = 'aggregator_changed'
    AND g.tgfoid = to_regproc('aggregator.catalogue_changed')
ORDER BY 1`, names) // its error is also that of the rows
	var table, enabled string
	var missing, disabled, statements []string
	_, err := pgx.ForEachRow(rows, []any{&table, &enabled}, func() error {
		switch enabled {
		case "O", "A": // for all but replicated changes, or always
		case "":
			missing = append(missing, table)
		default:
			disabled = append(disabled, table)
			statements = append(statements, fmt.Sprintf("ALTER TABLE %s ENABLE TRIGGER aggregator_changed", table))
		}
		return nil
	})
	if err != nil {
		r.notSeen("triggers", err)
		return
	}
	const stale = ": the service keeps the books and profiles that it remembers, and counts with what may be " +
		"out of date"
	if len(missing) > 0 {
		r.add("triggers", Problem, "there is no trigger aggregator_changed on "+strings.Join(missing, ", ")+stale,
			"create it and its function aggregator.catalogue_changed again, as in internal/postgres/migrations/00002")
	}
	if len(disabled) > 0 {
		r.add("triggers", Problem, "the trigger aggregator_changed is disabled on "+strings.Join(disabled, ", ")+stale,
			strings.Join(statements, "; "))
	}
	replica, err := replicaRoles(ctx, pool)
	switch {
	case err != nil:
		r.notSeen("triggers", err)
	case len(replica) > 0:
		r.add("triggers", Problem, "session_replication_role = replica for "+strings.Join(replica, ", ")+
			": its changes run no triggers"+stale, "ALTER ROLE ... RESET session_replication_role, or ALTER DATABASE ...")
	case len(missing)+len(disabled) == 0:
		r.ok("triggers", "those that report changes of books and profiles exist and are enabled")
	}
}

// replicaRoles are the roles, or "all roles", whose settings in this database keep triggers from running.
func replicaRoles(ctx context.Context, pool *pgxpool.Pool) ([]string, error) {
	rows, _ := pool.Query(ctx, `SELECT coalesce('the role ' || r.rolname, 'all roles') FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND 'session_replication_role=replica' = ANY (s.setconfig)
ORDER BY 1`) // its error is also that of the rows
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
