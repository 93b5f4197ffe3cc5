package doctor

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/appschema"
)

// patience is how long a lock may be held or waited for in ordinary work.
const patience = time.Second

// idleFor is how long a transaction may stand still with locks on our tables.
var idleFor = time.Minute

// touched are the tables that the service reads or writes.
var touched = []string{
	"child_profile", "genre", "topic", "mbti", "book", "book_topic", "book_mbti", "genre_score", "topic_score",
	"cumulative_mbti_score",
	"child_personality_history", "favorite_genre", "favorite_topic", "aggregator.mark", "aggregator.checkpoint",
	"aggregator.dead_letter", "aggregator.lease", "aggregator.member", "aggregator.run",
}

// value is a constant in a statement, also one that is cut off, or a parameter.
var value = regexp.MustCompile(`(?s)\$\d+|\$\w*\$.*?(?:\$\w*\$|$)|'(?:[^'\\]|\\.|'')*(?:'|\\?$)|\b\d+(?:\.\d+)?\b`)

// withoutValues is a statement in one line, with ? for each constant: those of another program may be of persons, and
// findings are read by others than those who may read its tables.
func withoutValues(statement string) string {
	statement = value.ReplaceAllStringFunc(statement, func(found string) string {
		if len(found) > 1 && found[0] == '$' && '0' <= found[1] && found[1] <= '9' {
			return found
		}
		return "?"
	})
	return strings.Join(strings.Fields(statement), " ")
}

// locks names each session and prepared transaction that holds a lock for which the service waits, or would wait.
func (r *report) locks(ctx context.Context, pool *pgxpool.Pool, d appschema.Description) {
	touched := slices.Clone(touched)
	for name, table := range d.Tables {
		if table.Name != name {
			touched = append(touched, table.SQL())
		}
	}
	waiting, err := r.waits(ctx, pool)
	if err != nil {
		r.notSeen("locks", err)
		return
	}
	rows, _ := pool.Query(ctx, holders, touched, waiting, patience, idleFor) // its error is also that of the rows
	var pid int32
	var why, user, application, client, state, query string
	var age *time.Duration
	found := 0
	_, err = pgx.ForEachRow(rows, []any{&pid, &why, &user, &application, &client, &state, &age, &query}, func() error {
		found++
		text := fmt.Sprintf("session %d of user %s (application %q, %s) %s", pid, user, application, client, why)
		advice := fmt.Sprintf("end its transaction in its client, or: SELECT pg_terminate_backend(%d)", pid)
		if age == nil {
			text += "; this role may not see since when, and with which query"
			advice += "; to see more: GRANT pg_read_all_stats TO the role of the service"
		} else {
			text += fmt.Sprintf("; it is %s, its transaction began %s ago, its latest query: %s", state,
				age.Round(time.Second),
				withoutValues(query))
		}
		r.add("locks", Warning, text, advice)
		return nil
	})
	if err != nil {
		r.notSeen("locks", err)
		return
	}
	rows, _ = pool.Query(ctx, preparedHolders, touched, patience) // its error is also that of the rows
	var gid, owner, tables string
	var since time.Duration
	_, err = pgx.ForEachRow(rows, []any{&gid, &owner, &since, &tables}, func() error {
		found++
		name := "'" + strings.ReplaceAll(gid, "'", "''") + "'"
		r.add("locks", Warning, fmt.Sprintf("the transaction %s, which user %s prepared %s ago, holds locks on %s",
			name, owner, since.Round(time.Second), tables),
			fmt.Sprintf("let its transaction manager end it, or: COMMIT PREPARED %[1]s, or: ROLLBACK PREPARED %[1]s", name))
		return nil
	})
	switch {
	case err != nil:
		r.notSeen("locks", err)
	case found == 0:
		r.ok("locks", "none blocks the service")
	}
}

// waits returns the sessions for which sessions of the service have waited for as long as patience has it.
func (r *report) waits(ctx context.Context, pool *pgxpool.Pool) ([]int32, error) {
	type wait struct{ Waiter, Holder int32 }
	look := func() (map[wait]bool, error) {
		rows, _ := pool.Query(ctx, blockers) // its error is also that of the rows
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[wait])
		all := map[wait]bool{}
		for _, w := range found {
			all[w] = true
		}
		return all, err
	}
	first, err := look()
	if err != nil || len(first) == 0 {
		return nil, err
	}
	select {
	case <-time.After(patience):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	second, err := look()
	var still []int32
	for w := range first {
		if second[w] {
			still = append(still, w.Holder)
		}
	}
	return still, err
}

const (
	blockers = `SELECT DISTINCT l.pid, b FROM pg_locks l CROSS JOIN unnest(pg_blocking_pids(l.pid)) b
WHERE NOT l.granted AND b <> 0
    AND l.pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user)`

	// What may not be seen of a session is NULL. A row of a checkpoint has the number of the transaction
	// that has locked or changed it.
	holders = `WITH tables AS (
    SELECT to_regclass(t)::oid AS id, t AS name FROM unnest($1::text[]) t
), held AS (
    SELECT l.pid, l.mode, t.name FROM pg_locks l JOIN tables t ON t.id = l.relation
    WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
), reasons AS (
    SELECT unnest($2::int[]) AS pid, 'holds a lock that a session of the service waits for' AS why, false AS idle
    UNION ALL
    SELECT pid, 'holds ' || mode || ' on ' || name, false FROM held
    WHERE mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    UNION ALL
    SELECT l.pid, 'has locked the checkpoint of ' || c.source, false FROM aggregator.checkpoint c
    JOIN pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = c.xmax
        AND l.pid <> pg_backend_pid()
    UNION ALL
    SELECT pid, 'stands still with locks on ' || string_agg(DISTINCT name, ', '), true FROM held GROUP BY pid
)
SELECT a.pid, string_agg(DISTINCT r.why, ', and ') AS why, coalesce(a.usename, ''), coalesce(a.application_name, ''),
    coalesce('from ' || host(a.client_addr), 'local'), coalesce(a.state, ''), clock_timestamp() - a.xact_start AS age,
    coalesce(left(a.query, 200), '')
FROM reasons r JOIN pg_stat_activity a ON a.pid = r.pid
WHERE CASE WHEN r.idle THEN a.state LIKE 'idle in transaction%' AND clock_timestamp() - a.state_change >= $4::interval
    ELSE a.xact_start IS NULL OR clock_timestamp() - a.xact_start >= $3::interval END
GROUP BY a.pid, a.usename, a.application_name, a.client_addr, a.state, a.xact_start, a.query
ORDER BY age DESC NULLS LAST, a.pid LIMIT 20`

	preparedHolders = `SELECT p.gid, p.owner::text, clock_timestamp() - p.prepared,
    string_agg(DISTINCT t, ', ' ORDER BY t)
FROM pg_prepared_xacts p
JOIN pg_locks x ON x.locktype = 'transactionid' AND x.transactionid = p.transaction AND x.pid IS NULL
JOIN pg_locks l ON l.virtualtransaction = x.virtualtransaction AND l.locktype = 'relation' AND l.pid IS NULL
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
JOIN unnest($1::text[]) t ON to_regclass(t)::oid = l.relation
WHERE p.database = current_database() AND clock_timestamp() - p.prepared >= $2::interval
GROUP BY p.gid, p.owner, p.prepared ORDER BY p.prepared LIMIT 20`
)

// standbys looks whether commits wait for synchronous standbys that are not there.
func (r *report) standbys(ctx context.Context, pool *pgxpool.Pool) {
	var names string
	var needed, connected, synchronous, hidden, waiting int
	err := pool.QueryRow(ctx, `SELECT current_setting('synchronous_standby_names'),
    coalesce((regexp_match(current_setting('synchronous_standby_names'),
        '^[[:space:]]*(?:first|any)?[[:space:]]*([0-9]+)[[:space:]]*[(]', 'i'))[1], '1')::int,
    (SELECT count(*) FROM pg_stat_replication),
    (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')),
    (SELECT count(*) FROM pg_stat_replication WHERE sync_state IS NULL),
    (SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep')`).
		Scan(&names, &needed, &connected, &synchronous, &hidden, &waiting)
	switch {
	case err != nil:
		r.notSeen("synchronous standby", err)
	case names == "":
		r.ok("synchronous standby", "commits wait for none")
	case synchronous >= needed:
		r.ok("synchronous standby", "%d of the %d that commits wait for are there", needed, needed)
	case connected < needed:
		r.add("synchronous standby", Problem, fmt.Sprintf("checkpoints wait for %d of synchronous_standby_names "+
			"(%s), and %d are connected; %d sessions wait now",
			needed, names, connected, waiting), "start the standbys again, or take them out of "+
			"synchronous_standby_names, and reload")
	case hidden > 0:
		r.add("synchronous standby", Unknown, "this role may not see whether those of "+
			"synchronous_standby_names are connected",
			"to see more: GRANT pg_read_all_stats TO the role of the service")
	default:
		r.add("synchronous standby", Problem, fmt.Sprintf("checkpoints wait for %d of synchronous_standby_names "+
			"(%s), and %d of them are there; %d sessions wait now",
			needed, names, synchronous, waiting), "start the standbys again, or take them out of "+
			"synchronous_standby_names, and reload")
	}
}
