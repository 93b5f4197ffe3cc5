package doctor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/doctor"
	"aggregator/internal/testenv"
)

// hold runs statements in a session that stays, and returns its pid.
func hold(t *testing.T, u string, statements ...string) uint32 {
	t.Helper()
	cfg, err := pgx.ParseConfig(u)
	require.NoError(t, err)
	cfg.RuntimeParams["application_name"] = "backoffice"
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	for _, statement := range statements {
		_, err = conn.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	return conn.PgConn().PID()
}

// requireLock finds a warning of locks with both texts, and the statement that ends the session.
func requireLock(t *testing.T, findings []doctor.Finding, pid uint32, texts ...string) {
	t.Helper()
	for _, f := range findings {
		if f.Check != "locks" {
			continue
		}
		require.Equal(t, doctor.Warning, f.Verdict, f.Found)
		for _, text := range append(
			texts, fmt.Sprintf(`session %d of user postgres (application "backoffice", from 127.0.0.1)`, pid)) {
			require.Contains(t, f.Found, text)
		}
		require.Contains(t, f.Advice, fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid))
		return
	}
	require.Fail(t, "no finding", "%q", without(findings))
}

func TestLocks(t *testing.T) {
	testenv.Long(t)
	const begin, rest = `BEGIN`, `SELECT pg_sleep(1.1)`
	for name, tc := range map[string]struct {
		held string
		want string
	}{
		"a table": {
			`LOCK TABLE genre_score IN ACCESS EXCLUSIVE MODE`, "holds AccessExclusiveLock on genre_score",
		},
		"a migration":          {`ALTER TABLE book ADD COLUMN isbn text`, "holds AccessExclusiveLock on book"},
		"an index being built": {`CREATE INDEX ON topic_score (score)`, "holds ShareLock on topic_score"},
		"a changed checkpoint": {
			`UPDATE aggregator.checkpoint SET base = 1`, "has locked the checkpoint of book-like-events",
		},
		"a locked checkpoint": {
			`SELECT FROM aggregator.checkpoint FOR UPDATE`,
			"has locked the checkpoint of book-like-events",
		},
		"an idle transaction": {`UPDATE genre SET name = 'other'`, "stands still with locks on genre"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := testenv.Database(t)
			exec(t, u, profiles, `INSERT INTO aggregator.checkpoint VALUES ('book-like-events', 1, 1, 0, 0)`)
			pid := hold(t, u, begin, tc.held, rest)
			time.Sleep(200 * time.Millisecond) // beyond what tests have for a minute
			requireLock(t, open(t, u, false), pid, tc.want, "it is idle in transaction, its transaction began ",
				"its latest query: SELECT pg_sleep(?)")
		})
	}
	t.Run("seen by a role that sees little", func(t *testing.T) {
		t.Parallel()
		u := testenv.Database(t)
		exec(t, u, profiles)
		pid := hold(t, u, begin, `LOCK TABLE genre_score IN SHARE MODE`)
		for _, f := range open(t, testenv.As(t, u, "aggregator_daemon"), false) {
			if f.Check == "locks" {
				require.Equal(t, doctor.Warning, f.Verdict)
				require.Contains(t, f.Found, fmt.Sprintf("session %d of user postgres", pid))
				require.Contains(t, f.Found,
					"holds ShareLock on genre_score; this role may not see since when, and with which query")
				require.Contains(t, f.Advice, "GRANT pg_read_all_stats")
			}
		}
	})
	t.Run("waited for", func(t *testing.T) {
		t.Parallel()
		u := testenv.Database(t)
		exec(t, u, profiles, `INSERT INTO aggregator.mark VALUES (1, 'book-like-events', 1, 1, 0)`)
		pid := hold(t, u, begin, `SELECT FROM aggregator.mark FOR UPDATE`)
		waiter, err := pgx.Connect(t.Context(), u)
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() {
			_, err := waiter.Exec(t.Context(), `SELECT FROM aggregator.mark FOR UPDATE`)
			done <- err
		}()
		look, err := pgx.Connect(t.Context(), u)
		require.NoError(t, err)
		defer look.Close(t.Context())
		require.Eventually(t, func() bool {
			var blocked bool
			err := look.QueryRow(t.Context(), `SELECT cardinality(pg_blocking_pids($1)) > 0`, waiter.PgConn().PID()).Scan(
				&blocked)
			return err == nil && blocked
		}, time.Minute, 10*time.Millisecond)
		findings := open(t, u, false)
		requireLock(t, findings, pid, "holds a lock that a session of the service waits for")
		_, err = look.Exec(t.Context(), `SELECT pg_terminate_backend($1)`, pid)
		require.NoError(t, err)
		require.NoError(t, <-done)
		require.NoError(t, waiter.Close(t.Context()))
	})
}

func TestPreparedTransactions(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t, testenv.Setting("max_prepared_transactions", "2"))
	u := migrated(t, server)
	exec(t, u, `BEGIN`, `UPDATE genre SET name = 'other'`, `PREPARE TRANSACTION 'it''s'`, `SELECT pg_sleep(1.1)`)
	findings := open(t, testenv.As(t, u, "aggregator_daemon"), false)
	requireFinding(t, findings, "warning locks: the transaction 'it''s', which user postgres prepared ")
	for _, f := range findings {
		if f.Check == "locks" {
			require.Contains(t, f.Found, "holds locks on genre")
			require.Contains(t, f.Advice, "ROLLBACK PREPARED 'it''s'")
		}
	}
	exec(t, u, `ROLLBACK PREPARED 'it''s'`)
	for _, f := range open(t, testenv.As(t, u, "aggregator_daemon"), false) {
		if f.Check == "locks" {
			require.Equal(t, doctor.OK, f.Verdict)
		}
	}
}

// Where a backslash in a literal is an escape, as the database may have it, the check still works.
func TestStandbysWithEscapesInLiterals(t *testing.T) {
	t.Parallel()
	const escapes = `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = off',
		current_database()); END $$`
	for _, f := range findingsOf(t, escapes) {
		require.NotEqual(t, doctor.Unknown, f.Verdict, f)
	}
}

func TestSynchronousStandby(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t)
	u := migrated(t, server)
	exec(t, u, `SET synchronous_commit = off`, `ALTER SYSTEM SET synchronous_standby_names = 'ANY 2 (a, b)'`,
		`SELECT pg_reload_conf()`)
	require.Eventually(t, func() bool {
		conn, err := pgx.Connect(t.Context(), u)
		if err != nil {
			return false
		}
		defer conn.Close(t.Context())
		var names string
		return conn.QueryRow(t.Context(), `SHOW synchronous_standby_names`).Scan(&names) == nil && names != ""
	}, time.Minute, 10*time.Millisecond)
	requireFinding(t, open(t, testenv.As(t, u, "aggregator_daemon"), false),
		"problem synchronous standby: checkpoints wait for 2 of synchronous_standby_names (ANY 2 (a, b)), and 0 are "+
			"connected")
}

func TestWithoutValues(t *testing.T) {
	for statement, want := range map[string]string{
		"UPDATE book\n\tSET title = '해와 달' WHERE id = 7": "UPDATE book SET title = ? WHERE id = ?",
		`SELECT 'it''s', E'it\'s', 'cut of`:              `SELECT ?, E?, ?`,
		`SELECT $1, $body$ Anna $body$, $$b`:             `SELECT $1, ?, ?`,
		`SELECT 1.5, c3 FROM "t 4" WHERE x = -2`:         `SELECT ?, c3 FROM "t ?" WHERE x = -?`,
		`SELECT 'cut\`:                                   `SELECT ?`,
	} {
		require.Equal(t, want, doctor.WithoutValues(statement))
	}
}
