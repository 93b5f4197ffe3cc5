package faults_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// origin is the shape whose tables are those of the load generator, which reads them itself.
const origin = "origin"

// newShape is a world whose database has the tables of an application, of a shape, that was adopted as docs/adopting.md
// says: as its owner, with the rights of config/roles.sql.
func newShape(t *testing.T, shape string, s setup) *world {
	t.Helper()
	w := newWorld(t, s)
	name := fmt.Sprintf("%s_%d", shape, time.Now().UnixNano())
	ctx := context.WithoutCancel(t.Context())
	database, err := w.postgres.CreateDatabase(ctx, name, "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.postgres.DropDatabase(ctx, name)) })
	run := func(url, program string, args ...string) {
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env = append(hermetic(), "AGGREGATOR_POSTGRES_URL="+url)
		said, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", cmd, said)
	}
	seed := []string{
		"seed", "--profiles", strconv.Itoa(profiles), "--books", strconv.Itoa(books), "--missing",
		fmt.Sprint(missing),
	}
	if shape == origin {
		run(database, programs.loadgen, "create-tables", "--tables", origin)
		run(database, programs.aggregator, "migrate", "up")
		run(database, programs.loadgen, append(seed, "--tables", origin)...)
	} else {
		require.NoError(t, testenv.CreateShape(ctx, database, shape))
		run(database, programs.aggregator, "migrate", "up")
		migration, err := os.ReadFile("../postgres/migrations/00001_application_tables.sql")
		require.NoError(t, err)
		require.NoError(t, testenv.NewSeedSchema(ctx, database, string(migration)))
		run(with(database, "search_path", "seed"), programs.loadgen, seed...)
		require.NoError(t, testenv.FillShape(ctx, database, shape))
		w.sqlOn(database, "DROP SCHEMA seed CASCADE")
	}
	require.NoError(t, testenv.Grant(ctx, database))
	w.postgresURL = testenv.As(t, database, "aggregator_daemon")
	w.database = database
	if shape == origin {
		w.tables = origin
		return w
	}
	// The load generator knows our names only, and has them by the views.
	w.database = with(database, "search_path", "aggregator_views,app,public")
	return w
}

// with is a URL with a setting of the session.
func with(database, name, value string) string {
	return database + "&" + name + "=" + url.PathEscape(value)
}

func (w *world) sqlOn(database, statement string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), database)
	require.NoError(w.t, err)
	defer conn.Close(w.t.Context())
	_, err = conn.Exec(w.t.Context(), statement)
	require.NoError(w.t, err)
}

// Drains into the tables of each shape, at once and through kills at each point, are exact, while the application
// writes to its tables, in its own way.
func TestShapes(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	for _, shape := range append(slices.Clone(testenv.Shapes), origin) {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			w := newShape(t, shape, setup{})
			stop := w.application(shape)
			w.push(3000)
			for _, point := range points {
				w.start("drain", "CRASH_AT="+point).crashed()
			}
			w.drain()
			w.push(3000)
			w.drain("AGGREGATOR_APPLY_PROFILES_PER_TRANSACTION=50")
			w.push(backlog)
			w.drain(fmt.Sprintf("AGGREGATOR_CHUNK_MAX_EVENTS=%d", backlog/10), "AGGREGATOR_APPLY_PROFILES_PER_TRANSACTION=auto")
			require.Greater(t, stop(), 20)
			w.exact()
			for _, command := range [][]string{
				{"verify", "--scores"},
				{"history", "1"},
				{"search-text"},
				{"doctor"},
				{"history", "9223372036854775807", "exit=1"},
			} {
				want := 0
				if last := len(command) - 1; command[last] == "exit=1" {
					command, want = command[:last], 1
				}
				d := w.start(command...)
				require.Equal(t, want, d.wait(), "%s", d.tail())
			}
		})
	}
}

// application writes to the tables as an application does, over and over: it adds a profile with its scores
// and its diagnosis, changes one, adds a book, deletes a row of history. The stop returns how often it has.
func (w *world) application(shape string) (stop func() int) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), strings.Split(w.database, "&search_path=")[0])
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	var rounds atomic.Int64
	go func() {
		for ctx.Err() == nil {
			if _, err := conn.Exec(ctx, writers[shape]); err != nil && !errors.Is(err, context.Canceled) &&
				!pgconn.Timeout(err) {
				ended <- err
				return
			}
			rounds.Add(1)
			time.Sleep(20 * time.Millisecond)
		}
		ended <- nil
	}()
	return func() int {
		w.t.Helper()
		cancel()
		require.NoError(w.t, <-ended)
		_ = conn.Close(context.WithoutCancel(w.t.Context()))
		return int(rounds.Load())
	}
}

// writers are transactions of the application on the tables of each shape. Rows of history that they delete are their
// own.
var writers = map[string]string{
	origin: `
BEGIN;
WITH s AS (INSERT INTO mbtiscore (i_score, e_score, s_score, n_score, t_score, f_score, j_score, p_score, mbti_id)
    SELECT 0, 0, 0, 0, 0, 0, 0, 0, min(id) FROM mbti RETURNING id)
INSERT INTO child_personality_history (created_at, is_deleted, history_created_type, child_profile_id, mbti_score_id)
SELECT localtimestamp, false, 0, (SELECT 1 + (random() * 200)::int), s.id FROM s;
UPDATE child_personality_history SET is_deleted = true, deleted_at = localtimestamp
WHERE history_created_type = 0 AND id = (SELECT max(id) FROM child_personality_history WHERE history_created_type = 0
	AND NOT is_deleted);
UPDATE child_profile SET last_activity = localtimestamp WHERE id = 1 + (random() * 200)::int;
UPDATE book SET summary = 'read' WHERE id = 1 + (random() * 200)::int;
COMMIT`,
	"inline": `
BEGIN;
INSERT INTO child_personality_history (created_at, is_deleted, history_created_type, child_profile_id, i_score, e_score,
	s_score, n_score, t_score, f_score, j_score, p_score)
VALUES (localtimestamp, false, 'DIAGNOSIS', 1 + (random() * 200)::int, 0, 0, 0, 0, 0, 0, 0, 0);
UPDATE child_profile SET last_activity = localtimestamp WHERE id = 1 + (random() * 200)::int;
UPDATE book SET title = title || '' WHERE id = 1 + (random() * 200)::int;
COMMIT`,
	"sequences": `
BEGIN;
INSERT INTO child_personality_history (id, "createdAt", is_deleted, history_created_type, child_profile_id, i_score,
	e_score, s_score, n_score, t_score, f_score, j_score, p_score)
SELECT next - i, now(), false, 0, 1 + (random() * 200)::int, 0, 0, 0, 0, 0, 0, 0, 0
FROM (SELECT nextval('child_personality_history_seq') AS next) s, generate_series(0, 49) i; -- as the pooled optimizer
UPDATE "childProfile" SET name = name || '' WHERE id = 1 + (random() * 200)::int;
COMMIT`,
	"monthly": `
BEGIN;
INSERT INTO child_personality_history (created_at, history_created_type, child_profile_id)
	VALUES (now(), 'DIAGNOSIS', 1 + (random() * 200)::int);
UPDATE child_profile SET name = name || '' WHERE id = 1 + (random() * 200)::int;
COMMIT`,
}
