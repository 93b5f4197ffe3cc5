//go:build faults

package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// own is a PostgreSQL that a test may crash. What is committed asynchronously stays in its
// memory for as long as possible, so that a crash loses it.
var own = []testenv.PostgresOption{testenv.Durable(), testenv.Setting("wal_writer_delay", "10s")}

// crash ends PostgreSQL as a crash does, and starts it again.
func (w *world) crash() {
	w.t.Helper()
	require.NoError(w.t, w.postgres.Crash())
	require.NoError(w.t, w.postgres.Start(w.t.Context()))
}

// backends are the processes that serve the daemons.
func (w *world) backends() []int {
	w.t.Helper()
	conn := w.connect()
	defer func() { _ = conn.Close(w.t.Context()) }()
	rows, _ := conn.Query(w.t.Context(),
		"SELECT pid FROM pg_stat_activity WHERE application_name = 'aggregator' AND datname = current_database()")
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil // it is just crashing
	}
	return pids
}

// freeze stops the processes of PostgreSQL that serve the daemons, and the one that would
// take in new connections.
func (w *world) freeze() {
	w.t.Helper()
	for _, pid := range append(w.backends(), w.postgres.PID()) {
		require.NoError(w.t, syscall.Kill(pid, syscall.SIGSTOP))
		w.t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	}
}

func (w *world) thaw() {
	w.t.Helper()
	require.NoError(w.t, syscall.Kill(w.postgres.PID(), syscall.SIGCONT))
	for _, pid := range w.backends() {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

func TestPostgresCrashes(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(w *world){
		"immediate stop": (*world).crash,
		"restart": func(w *world) {
			require.NoError(w.t, w.postgres.Stop())
			require.NoError(w.t, w.postgres.Start(w.t.Context()))
		},
		"kill -9 of a backend": func(w *world) {
			pids := w.backends()
			if len(pids) > 0 {
				_ = syscall.Kill(pids[rand.IntN(len(pids))], syscall.SIGKILL)
			}
			w.until("PostgreSQL has recovered", func() bool { return w.number("SELECT 1") == 1 })
		},
	}
	for name, fault := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{postgres: own})
			pushed := w.load(500, 12*time.Second)
			d := w.start("run")
			d.said("draining")
			for range 6 {
				time.Sleep(300*time.Millisecond + rand.N(900*time.Millisecond)) // the fault
				fault(w)
			}
			pushed()
			w.emptied()
			d.stop()
			w.exact()
		})
	}
}

// TestPostgresCrashAtEveryPoint loses the asynchronous commits of a chunk while the daemon
// stands at a point. It must notice, also when all its connections are new by the time it
// goes on: idle for more than a second, a connection is tried before it is used.
func TestPostgresCrashAtEveryPoint(t *testing.T) {
	t.Parallel()
	for _, point := range points {
		for _, pause := range []time.Duration{0, 1500 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s, %s", point, pause), func(t *testing.T) {
				t.Parallel()
				crashAt(t, point, pause, "").finish()
			})
		}
	}
}

// crashAt crashes PostgreSQL while a drain stands at a point in its second chunk, and lets
// the drain go on to its end. Before the checkpoint the crash must lose commits: if PostgreSQL
// happened to have written its log by then, as it does every ten seconds, it is done again.
func crashAt(t *testing.T, point string, pause time.Duration, program string) *world {
	t.Helper()
	for try := 1; ; try++ {
		w := newWorld(t, setup{postgres: own, program: program})
		w.push(2000)
		d := w.pauseAt(point+":2", "drain")
		const applied = "SELECT sum(applied)::bigint FROM aggregator.mark"
		before := w.number(applied)
		w.crash()
		lost := w.number(applied) < before
		time.Sleep(pause)
		d.goOn()
		code := d.wait()
		if program == "" { // a weakened one may find out by itself that its counts do not add up
			require.Zero(t, code, "%s", d.tail())
		}
		if lost || point != "before_checkpoint" {
			return w
		}
		require.Less(t, try, 4, "no crash has lost commits")
	}
}

func TestPostgresOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{postgres: own})
	pushed := w.load(200, 70*time.Second)
	d := w.start("run")
	w.until("something is applied", func() bool { return w.number("SELECT count(*) FROM aggregator.mark") > 0 })
	require.NoError(t, w.postgres.Stop())
	time.Sleep(time.Minute) // the fault
	require.True(t, d.running())
	peak := d.peakMemory()
	require.NoError(t, w.postgres.Start(t.Context()))
	pushed()
	w.emptied()
	d.stop()
	w.exact() // of which dead letters are a part: an outage makes none
	t.Logf("peak memory during the outage: %d MiB", peak>>20)
	require.Less(t, peak, int64(200<<20))
}

func TestPostgresTooManyConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{postgres: append([]testenv.PostgresOption{testenv.Setting("max_connections", "15")}, own...)})
	pushed := w.load(200, 8*time.Second)
	d := w.start("run")
	d.said("draining")
	control := w.connect()
	var taken []*pgx.Conn
	for !strings.Contains(d.output(), "53300") {
		for {
			conn, err := pgx.Connect(t.Context(), w.database)
			if err != nil {
				break
			}
			taken = append(taken, conn)
		}
		_, err := control.Exec(t.Context(),
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aggregator'")
		require.NoError(t, err)
		require.True(t, d.running())
	}
	time.Sleep(2 * time.Second) // the fault
	for _, conn := range taken {
		require.NoError(t, conn.Close(t.Context()))
	}
	pushed()
	w.emptied()
	d.stop()
	w.exact()
}

// TestPostgresLocks lets a foreign session hold rows that the daemon needs.
func TestPostgresLocks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, setting, code string }{
		{"lock time-out", "lock_timeout=300ms", "55P03"},
		{"statement time-out", "statement_timeout=300ms&lock_timeout=0", "57014"},
	} {
		for table, lock := range map[string]string{
			"mark":       "UPDATE aggregator.mark SET applied = applied WHERE child_profile_id IN (1, 2, 3)",
			"score":      "UPDATE cumulative_mbti_score SET i_score = i_score WHERE child_profile_id IN (1, 2, 3)",
			"checkpoint": "UPDATE aggregator.checkpoint SET entries = entries",
		} {
			t.Run(c.name+" of a "+table, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, setup{})
				w.postgresURL += "&" + c.setting
				w.push(1000)
				w.drain()
				holder := w.connect()
				for _, statement := range []string{"BEGIN", lock} {
					_, err := holder.Exec(t.Context(), statement)
					require.NoError(t, err)
				}
				w.push(2000)
				d := w.start("run")
				d.said(c.code)
				time.Sleep(time.Second) // the fault
				_, err := holder.Exec(t.Context(), "COMMIT")
				require.NoError(t, err)
				w.emptied()
				d.stop()
				w.exact()
			})
		}
	}
}

// TestPostgresDeadlock lets a foreign session lock rows in the reverse order, and leaves
// it to the daemon to notice the deadlock.
func TestPostgresDeadlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.push(1000)
	w.drain()
	d := w.start("run")
	foreign := w.connect()
	run := func(statement string) {
		_, err := foreign.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	run("SET deadlock_timeout = '1min'")
	// A session looks for a deadlock once, a second after it began to wait. On a busy machine the
	// foreign one may not have closed the circle by then.
	w.until("there were three deadlocks", func() bool {
		run("BEGIN")
		run("UPDATE cumulative_mbti_score SET i_score = i_score WHERE child_profile_id <= 20")
		w.push(500)
		w.until("the daemon waits for the foreign session", func() bool {
			return w.number("SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))",
				foreign.PgConn().PID()) > 0
		})
		run("UPDATE aggregator.mark SET applied = applied WHERE child_profile_id <= 20")
		run("COMMIT")
		w.emptied()
		return strings.Count(d.output(), "40P01") >= 3
	})
	d.stop()
	w.exact()
}

// TestPostgresSerialization makes every transaction of the daemon serializable while others write to the
// same rows.
func TestPostgresSerialization(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"serializable", "repeatable read"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{})
			w.postgresURL = with(w.postgresURL, "default_transaction_isolation", level) // what the database says does not count
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var writers sync.WaitGroup
			for range 3 {
				conn := w.connect()
				writers.Go(func() {
					for ctx.Err() == nil {
						_, _ = conn.Exec(ctx, fmt.Sprintf(`BEGIN; SELECT sum(i_score) FROM cumulative_mbti_score;
							UPDATE cumulative_mbti_score SET e_score = e_score WHERE child_profile_id = %d;
							UPDATE aggregator.mark SET applied = applied WHERE child_profile_id = %d; COMMIT`, 1+rand.IntN(20),
							1+rand.IntN(20)))
						_, _ = conn.Exec(ctx, "ROLLBACK")
					}
				})
			}
			d := w.start("run")
			w.load(200, 8*time.Second)()
			d.said("40001")
			cancel()
			writers.Wait()
			w.emptied()
			d.stop()
			w.exact()
		})
	}
}

func (w *world) databaseName() string {
	config, err := pgx.ParseConfig(w.database)
	require.NoError(w.t, err)
	return config.Database
}

func TestPostgresReadOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	d := w.start("run")
	d.said("draining")
	pushed := w.load(200, 6*time.Second)
	const terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aggregator' AND " +
		"datname = current_database()"
	w.sql("ALTER DATABASE "+w.databaseName()+" SET default_transaction_read_only = on", terminate)
	d.said("25006")
	time.Sleep(time.Second) // the fault
	w.sql("SET default_transaction_read_only = off",
		"ALTER DATABASE "+w.databaseName()+" RESET default_transaction_read_only")
	pushed()
	w.emptied()
	d.stop()
	w.exact()
}

// small mounts a file system of some megabytes that PostgreSQL may write to, with a file in
// it that leaves almost no room.
func small(t *testing.T, megabytes int) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "aggregator-small-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	mount := exec.CommandContext(
		t.Context(), "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm,mode=0777", megabytes), "tmpfs", dir)
	said, err := mount.CombinedOutput()
	require.NoError(t, err, "a full disk takes the right to mount: %s", said)
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill writes a file for as long as there is room.
func fill(t *testing.T, dir string) (file string) {
	t.Helper()
	file = filepath.Join(dir, "filler")
	f, err := os.Create(file)
	require.NoError(t, err)
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(block)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	_ = f.Close()
	return file
}

func TestPostgresDiskFull(t *testing.T) {
	t.Parallel()
	t.Run("data", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, setup{postgres: own})
		disk := small(t, 64)
		var data string
		require.NoError(t, w.connect().QueryRow(t.Context(), "SHOW data_directory").Scan(&data))
		owner, err := os.Stat(data)
		require.NoError(t, err)
		stat, _ := owner.Sys().(*syscall.Stat_t)
		require.NoError(t, os.Chown(disk, int(stat.Uid), int(stat.Gid)))
		w.sql("CREATE TABLESPACE small LOCATION '"+disk+"'",
			"ALTER TABLE child_personality_history SET TABLESPACE small", "ALTER TABLE genre_score SET TABLESPACE small")
		filler := fill(t, disk)
		d := w.start("run")
		pushed := w.load(400, 6*time.Second)
		d.said("53100")
		time.Sleep(time.Second) // the fault
		require.NoError(t, os.Remove(filler))
		pushed()
		w.emptied()
		d.stop()
		w.exact()
		require.NoError(t, w.postgres.Close())
	})
	t.Run("log", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, setup{postgres: own})
		disk := small(t, 200)
		var data string
		require.NoError(t, w.connect().QueryRow(t.Context(), "SHOW data_directory").Scan(&data))
		require.NoError(t, w.postgres.Stop())
		wal := filepath.Join(data, "pg_wal")
		moved := exec.CommandContext(t.Context(), "cp", "-a", wal, filepath.Join(disk, "wal"))
		require.NoError(t, moved.Run())
		require.NoError(t, os.RemoveAll(wal))
		require.NoError(t, os.Symlink(filepath.Join(disk, "wal"), wal))
		require.NoError(t, w.postgres.Start(t.Context()))
		filler := fill(t, disk)

		d := w.start("run")
		pushed := w.load(1000, 20*time.Second)
		// Its log full, PostgreSQL ends all sessions, and may end itself.
		d.said("retrying from the checkpoint")
		time.Sleep(time.Second) // the fault
		require.NoError(t, os.Remove(filler))
		require.NoError(t, w.postgres.Crash())
		require.NoError(t, w.postgres.Start(t.Context()))
		pushed()
		w.emptied()
		d.stop()
		w.exact()
		require.NoError(t, w.postgres.Close())
	})
}
