package main

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

func TestSearchText(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	admin, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = admin.Close(t.Context()) })
	exec := func(sql string) {
		t.Helper()
		_, err := admin.PgConn().Exec(t.Context(), sql).ReadAll()
		require.NoError(t, err)
	}
	exec(
		`INSERT INTO topic (id, name) VALUES (1, 'Stars'); INSERT INTO book (id, title, author)
			VALUES (1, 'The  Moon', 'Lee'), (2, 'x', NULL);
		INSERT INTO book_topic VALUES (1, 1)`)
	env := []string{"AGGREGATOR_POSTGRES_URL=" + testenv.As(t, database, "aggregator_daemon")}

	r := program(t, env, "search-text", "--dry-run")
	r.requireDone(t)
	require.Regexp(t, `^looked at 2 books in \S+, would write 2 search texts\n$`, r.stdout)
	r = program(t, env, "search-text", "-o", "json")
	r.requireDone(t)
	require.JSONEq(t, `{"books": 2, "changed": 2, "busy": 0, "refused": 0, "left": false}`, untimed(r.stdout))
	var text string
	require.NoError(t, admin.QueryRow(t.Context(), `SELECT search_text FROM book WHERE id = 1`).Scan(&text))
	require.Equal(t, "the moon lee stars", text)

	r = program(t, env, "search-text", "--max-duration", "1ns")
	require.Equal(t, exitEventsLeft, r.code)
	require.Equal(t, "aggregator: stopped by --max-duration with books left\n", r.stderr)

	exec(`BEGIN; UPDATE book SET title = 'Mine' WHERE id = 2`)
	exec(`UPDATE book SET title = 'Mine' WHERE id = 1`)
	other := program(t, env, "search-text")
	require.Zero(t, other.code, "what is not committed is nobody's business")
	exec(`COMMIT; BEGIN; SELECT FROM book WHERE id = 2 FOR UPDATE`)
	r = program(t, env, "search-text")
	require.Equal(t, exitEventsLeft, r.code)
	require.Equal(t, "aggregator: another session had 1 book locked; run it again\n", r.stderr)
	require.Contains(t, r.stdout, "wrote 1 search text")
	var outcomes []string
	require.NoError(t, admin.QueryRow(
		t.Context(), `SELECT array_agg(outcome || ' ' || applied ORDER BY id) FROM aggregator.run WHERE kind = `+
			`'search_text'`).Scan(&outcomes))
	require.Equal(t, []string{"done 2", "limited 0", "done 0", "limited 1"}, outcomes)
	exec(`COMMIT; ALTER TABLE book ADD CHECK (search_text <> 'mine')`)

	r = program(t, env, "search-text")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "aggregator: search text: PostgreSQL refuses that of book 2: ")
	require.Contains(t, r.stdout, "wrote 0 search texts")

	program(t, env, "search-text", "--max-duration", "-1s").requireFailure(
		t, exitUsage, "--max-duration = -1s: want 0s or more")
	reader := []string{"AGGREGATOR_POSTGRES_URL=" + testenv.As(t, database, "aggregator_reader")}
	exec(`UPDATE book SET search_text = NULL`)
	program(t, reader, "search-text").requireFailure(t, exitFailed, "permission denied for table lease (SQLSTATE 42501)")
	program(t, []string{"AGGREGATOR_POSTGRES_URL=postgres://127.0.0.1:1/x"}, "search-text").requireFailure(
		t, exitUnreachable, "is not reachable")
}
