package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/history"
	"aggregator/internal/testenv"
)

// purgeWorld is a database with rows of history, half of which were deleted long ago.
type purgeWorld struct {
	*testing.T
	env []string
	db  *pgx.Conn
}

func newPurgeWorld(t *testing.T, rows int) *purgeWorld {
	t.Helper()
	t.Parallel()
	database := testenv.Database(t)
	db, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(t.Context()) })
	for _, sql := range []string{
		`INSERT INTO child_personality_history (id, child_profile_id, created_at, is_deleted, deleted_at)
			SELECT i, i % 100, now() - interval '100 days', i % 2 = 0, CASE WHEN i % 2 = 0 THEN now() - interval '40 days' END
				FROM generate_series(1, $1) i`,
		`INSERT INTO favorite_genre SELECT child_profile_id, id, 1 FROM child_personality_history WHERE id <= $1`,
		`INSERT INTO favorite_topic SELECT child_profile_id, id, 1 FROM child_personality_history WHERE id <= $1`,
	} {
		_, err := db.Exec(t.Context(), sql, rows)
		require.NoError(t, err)
	}
	return &purgeWorld{t, []string{"DATABASE_URL=" + testenv.As(t, database, "aggregator_purge")}, db}
}

// left counts the rows; each must have its favourites.
func (w *purgeWorld) left() (rows int) {
	w.Helper()
	var genres, topics int
	require.NoError(w, w.db.QueryRow(
		w.Context(), `SELECT (SELECT count(*) FROM child_personality_history), (SELECT count(*) FROM favorite_genre), `+
			`(SELECT count(*) FROM favorite_topic)`).
		Scan(&rows, &genres, &topics))
	require.Equal(w, []int{rows, rows}, []int{genres, topics})
	return rows
}

func (w *purgeWorld) program(command string) result {
	w.Helper()
	return program(w.T, w.env, strings.Fields(command)...)
}

func (w *purgeWorld) report(r result) (report purgeReport) {
	w.Helper()
	require.NoError(w, json.Unmarshal([]byte(r.stdout), &report), r.stdout)
	return report
}

func TestPurgeCommand(t *testing.T) {
	w := newPurgeWorld(t, 3000)
	dry := w.program("purge --dry-run")
	dry.requireDone(t)
	require.Regexp(t, `^would purge 1,500 rows of history in \S+\n  deleted before +1,500\n  thinned out +0\n  `+
		`favorites +3,000\n  of the journal +0\n  dead letters +0\n$`, dry.stdout)
	require.Equal(t, 3000, w.left())
	w.program("purge --older-than 1000h").requireDone(t)
	require.Equal(t, 3000, w.left())

	limited := w.program("purge --max-duration 1ns -o json")
	require.Equal(t, 75, limited.code)
	require.Equal(t, "aggregator: stopped after 1ns, before the end\n", limited.stderr)
	require.False(t, w.report(limited).Complete)

	done := w.program("purge -o json")
	done.requireDone(t)
	report := w.report(done)
	require.Equal(t, 1500, w.left())
	require.Positive(t, report.BusySeconds)
	require.Equal(t, purgeReport{
		OlderThan: "744h0m0s", OlderSeconds: 744 * 3600, Complete: true,
		PurgeResult: history.PurgeResult{Deleted: 1500, Genres: 1500, Topics: 1500, Batches: 2},
		BusySeconds: report.BusySeconds, ElapsedSeconds: report.ElapsedSeconds,
	}, report)

	w.env = append(w.env, "AGGREGATOR_RETENTION_ALL_DAYS=30", "AGGREGATOR_RETENTION_DAILY_DAYS=60")
	thinned := w.program("purge -o json")
	thinned.requireDone(t)
	require.EqualValues(t, 1450, w.report(thinned).Thinned)
	require.Equal(t, 50, w.left(), "one of each profile")
	var runs []string
	require.NoError(t, w.db.QueryRow(
		t.Context(), `SELECT array_agg(concat_ws(' ', kind, outcome, applied) ORDER BY id) FROM aggregator.run`).Scan(&runs))
	require.Equal(t, []string{"purge done 0", "purge limited 0", "purge done 1500", "purge done 1450"}, runs)
}

func TestPurgeCommandRefuses(t *testing.T) {
	w := newPurgeWorld(t, 10)
	w.program("purge --older-than -1h").requireFailure(t, 64, "--older-than = -1h0m0s: want 0s or more")
	w.program("purge --max-duration -1h").requireFailure(t, 64, "--max-duration = -1h0m0s: want 0s or more")
	w.program("purge --older-than soon").requireFailure(t, 64, `--older-than = "soon": want a duration, such as 90s or 5m`)
	w.program("purge --purge-older-than=-1h").requireFailure(t, 78, "purge.older_than = \"-1h\"")
	w.program("purge --retention-all-days=400").requireFailure(t, 78, "want at least retention.all_days, 400")
	_, err := w.db.Exec(t.Context(), `DROP INDEX child_personality_history_deleted`)
	require.NoError(t, err)
	w.program("purge").requireFailure(t, 1, "as the owner of the table run: CREATE INDEX CONCURRENTLY")
	program(t, []string{"DATABASE_URL=postgres://u:hunter2@127.0.0.1:1/app"}, "purge").
		requireFailure(t, 69, "PostgreSQL at 127.0.0.1:1/app is not reachable: connection refused")
	require.Equal(t, 10, w.left())
}

// Told to stop, or killed, in the middle of its work: nothing is half done, and the next one
// goes on.
func TestPurgeCommandInterrupted(t *testing.T) {
	testenv.Long(t)
	for name, signal := range map[string]syscall.Signal{"told to stop": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			const rows = 20_000
			w := newPurgeWorld(t, rows)
			// It cannot get past the middle by itself before it is stopped.
			hold, err := w.db.Begin(t.Context())
			require.NoError(t, err)
			_, err = hold.Exec(t.Context(), `SELECT FROM favorite_genre WHERE history_id = 10050 FOR UPDATE`)
			require.NoError(t, err)

			cmd := exec.CommandContext(t.Context(), binary, "purge", "-o", "json")
			cmd.Dir = t.TempDir()
			cmd.Env = append([]string{"HOME=" + cmd.Dir}, w.env...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			require.NoError(t, cmd.Start())
			require.Eventually(t, func() bool {
				var left int
				require.NoError(t, hold.QueryRow(t.Context(), `SELECT count(*) FROM child_personality_history`).Scan(&left))
				return left < rows
			}, time.Minute, time.Millisecond)
			require.NoError(t, cmd.Process.Signal(signal))
			require.NoError(t, hold.Rollback(t.Context()))
			_ = cmd.Wait()
			left := w.left()
			require.Greater(t, left, rows/2)
			if signal == syscall.SIGTERM {
				require.Zero(t, cmd.ProcessState.ExitCode(), stderr.String())
				report := w.report(result{stdout: stdout.String()})
				require.False(t, report.Complete)
				require.EqualValues(t, rows-left, report.Deleted)
			}
			w.program("purge").requireDone(t)
			require.Equal(t, rows/2, w.left())
		})
	}
}
