//go:build faults

package faults_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// citusWorld is a world whose database is filled, and then distributed over two workers.
func citusWorld(t *testing.T) (*world, *testenv.Citus) {
	t.Helper()
	buildPrograms(t)
	citus := testenv.NewCitus(t, 2)
	w := &world{t: t, source: stream, dir: t.TempDir(), program: programs.aggregator, postgres: citus.Coordinator}
	w.journal = w.dir + "/acked"
	w.startRedis(setup{})
	var err error
	w.database, err = citus.CreateDatabase(t.Context(), "app")
	require.NoError(t, err)
	require.NoError(t, migrateAndSeed(t.Context(), w.database))
	require.NotContains(t, w.admin(0, "migrate", "up", "--distribute", "--dry-run"), "Citus has distributed all of it")
	w.admin(0, "migrate", "up", "--distribute")
	require.Contains(t, w.admin(0, "migrate", "up", "--distribute", "--dry-run"), "Citus has distributed all of it")
	require.NoError(t, testenv.Grant(t.Context(), w.database))
	w.postgresURL = testenv.As(t, w.database, "aggregator_daemon")
	return w, citus
}

// admin runs a command of the program as the owner of the database, and returns what it says.
func (w *world) admin(code int, args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), w.program, args...)
	cmd.Env = append(hermetic(), "AGGREGATOR_POSTGRES_URL="+w.database, "AGGREGATOR_REDIS_URL="+w.redisURL)
	said, _ := cmd.CombinedOutput()
	require.Equal(w.t, code, cmd.ProcessState.ExitCode(), "%s: %s", cmd, said)
	return string(said)
}

// TestCitus kills daemons and a worker while events are drained into a Citus, and compares every row. Then the other
// commands work on it.
func TestCitus(t *testing.T) {
	w, citus := citusWorld(t)
	w.push(3000)
	for _, point := range []string{"mid_pipeline", "before_checkpoint", "after_checkpoint:2"} {
		w.start("drain", "CRASH_AT="+point).crashed()
	}
	service := w.start("run")
	w.push(500)
	require.NoError(t, citus.Workers[0].Crash())
	w.until("the service tries again", func() bool { return strings.Contains(service.output(), "retry_in") })
	require.NoError(t, citus.Workers[0].Start(t.Context()))
	w.emptied()
	service.stop()
	w.finish()

	findings := w.admin(0, "doctor")
	require.Contains(t, findings, "distributed over 2 workers")
	w.admin(0, "verify")
	w.admin(0, "verify", "--scores")
	w.admin(0, "history", "1")
	w.admin(0, "history", "1", "--at", time.Now().Format(time.RFC3339))

	t.Run("unknown profiles", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), w.database)
		require.NoError(t, err)
		defer conn.Close(t.Context())
		var unknown, letters int64
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT child_profile_id, count(*) FROM aggregator.dead_letter
WHERE reason = 'unknown_profile' AND book_id BETWEEN 1 AND $1 GROUP BY 1 ORDER BY 2 DESC LIMIT 1`, books).
			Scan(&unknown, &letters))
		w.sql(fmt.Sprintf(`INSERT INTO child_profile (id, name) VALUES (%d, 'late')`, unknown))
		w.drain()
		var left int64
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM aggregator.dead_letter
WHERE child_profile_id = $1 AND book_id BETWEEN 1 AND $2 AND settled_at IS NULL`, unknown, books).Scan(&left))
		require.Zero(t, left)
		w.admin(0, "verify")
		w.admin(0, "verify", "--scores")
	})
	t.Run("purge", func(*testing.T) {
		w.sql(`UPDATE child_personality_history SET is_deleted = true, deleted_at = now() - interval '1 year'
WHERE child_profile_id <= 20`)
		w.admin(0, "purge", "--dry-run")
		w.admin(0, "purge")
		w.admin(0, "erase", "1", "--yes")
	})
	t.Run("reset", func(*testing.T) {
		w.sql(`UPDATE aggregator.run SET seen_at = seen_at - interval '2 minutes'`) // a drain was killed within this minute
		w.admin(0, "checkpoint", "reset", "--yes")
		w.admin(0, "checkpoint", "show")
		w.drain()
		w.admin(0, "verify")
	})
	t.Run("several profiles a transaction", func(t *testing.T) {
		d := w.start("drain", "AGGREGATOR_APPLY_PROFILES_PER_TRANSACTION=50")
		require.Equal(t, 78, d.wait(), "%s", d.tail())
	})
	t.Run("what is wrong", func(t *testing.T) {
		w.sql(`SELECT undistribute_table('aggregator.checkpoint')`)
		require.Contains(t, w.admin(1, "doctor"), "create_reference_table")
		require.NoError(t, citus.Workers[1].Stop())
		require.Contains(t, w.admin(1, "doctor"), "do not answer")
	})
}
