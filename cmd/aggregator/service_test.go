package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// serve starts the service on a pair of servers, by its unit and with its credentials.
func (s *pair) serve(env ...string) *supervisor {
	s.t.Helper()
	rest, store := secretsOf(s.env)
	sup := supervise(s.t, append(append(rest, "AGGREGATOR_HTTP_ADDR="), env...), store)
	sup.start()
	return sup
}

func (s *pair) settled(want string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		var n string
		err := s.db.QueryRow(s.t.Context(), `SELECT coalesce(sum(entries - base), 0)::text FROM aggregator.checkpoint`).Scan(
			&n)
		return err == nil && n == want
	}, patience, 10*time.Millisecond)
}

func TestService(t *testing.T) {
	s := newPair(t)
	file := filepath.Join(t.TempDir(), "a.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("chunk: {max_events: 100}\n")
	sup := s.serve("AGGREGATOR_CONFIG=" + file)
	sup.await(`^READY=1$`)
	sup.await(`^STATUS=(starting|working): 0 events a second, \d+ waiting$`)
	s.push("1:1:LIKE")
	s.settled("1")

	reload := func(text string) string {
		write(text)
		sup.reload()
		sup.await(`^RELOADING=1\nMONOTONIC_USEC=\d+$`)
		sup.await(`^READY=1$`)
		lines := strings.Split(strings.TrimSpace(sup.said()), "\n")
		for i := len(lines) - 1; ; i-- {
			if strings.Contains(lines[i], "settings") {
				return lines[i]
			}
		}
	}
	require.Contains(t, reload(
		"chunk: {max_events: 50}\nevents: {weights: {like: 5}}\napply: {workers: 2}\nlog: {level: debug}\n"),
		`msg="reloaded the settings" applied="[events.weights chunk.max_events log.level]" need_restart=[apply.workers]`)
	s.push("1:1:LIKE")
	s.settled("2")
	sup.awaitLog("level=DEBUG")

	require.Contains(t, reload("chunk: {max_events: 0}\nlog: {level: info}\n"),
		"level=ERROR msg=\"reload failed: the settings are invalid; keeping the current ones\"")
	require.Contains(t, sup.said(), `chunk.max_events = \"0\"`)
	require.Contains(t, reload("chunk: {max_events: 50}\nevents: {weights: {like: 5}}\n"),
		`applied=[log.level] need_restart=[]`)
	s.push("1:1:LIKE")
	s.settled("3")

	require.Zero(t, sup.stop())
	sup.await(`^STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000$`)
	require.Equal(t, 1, sup.started())
}

// The weights of a reload count from then on, and the counts go on.
func TestReloadShows(t *testing.T) {
	s := newPair(t)
	s.exec(`INSERT INTO genre (id, name) VALUES (1, 'g')`)
	s.exec(`UPDATE book SET genre_id = 1`)
	file := filepath.Join(t.TempDir(), "a.yaml")
	require.NoError(t, os.WriteFile(file, []byte("events: {weights: {like: 1}}\n"), 0o600))
	p := s.start("--config", file)
	p.eventually("/metrics", "aggregator_config_last_reload_successful 1\n")
	s.push("1:1:LIKE")
	s.settled("1")

	require.NoError(t, os.WriteFile(file, []byte("events: {weights: {like: none}}\n"), 0o600))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	p.eventually("/metrics", "aggregator_config_last_reload_successful 0\n")
	s.push("1:1:LIKE")
	s.settled("2")

	require.NoError(t, os.WriteFile(file, []byte("events: {weights: {like: 10}}\n"), 0o600))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	p.eventually("/metrics", "aggregator_config_last_reload_successful 1\n")
	p.eventually("/readyz", `"ready": true`)
	s.push("1:1:LIKE")
	s.settled("3")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait())
	var score float64
	require.NoError(t, s.db.QueryRow(t.Context(), `SELECT score FROM genre_score WHERE child_profile_id = 1`).Scan(&score))
	require.Equal(t, 12.0, score)
}

// A process that hangs is killed, one that dies is started again, and nothing is lost.
func TestServiceIsStartedAgain(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	rest, store := secretsOf(s.env)
	sup := supervise(t, append(rest, "AGGREGATOR_HTTP_ADDR=", "AGGREGATOR_LEASE_TTL=0s"), store)
	sup.watchdog = 5 * time.Second // one that is well may be late on a busy machine
	sup.start()
	sup.await(`^READY=1$`)
	sup.await(`^WATCHDOG=1$`)
	s.push("1:1:LIKE")
	s.settled("1")
	for _, fault := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL, syscall.SIGABRT} {
		before := sup.started()
		sup.signal(fault)
		s.push("1:1:LIKE")
		sup.until("started again", func() bool { return sup.started() > before })
		sup.await(`^READY=1$`)
		if fault == syscall.SIGSTOP {
			require.Contains(t, sup.said(), "SIGABRT: abort", "no trace of what it was doing")
		}
	}
	s.settled("4")
	require.Zero(t, sup.stop())
}

// What needs a person is said in one line, and not tried again.
func TestServiceIsLeftAlone(t *testing.T) {
	testenv.Long(t)
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	for name, tc := range map[string]struct {
		env   string
		store func(t *testing.T, store map[string]string)
		code  int
		want  string
	}{
		"a wrong setting":     {env: "AGGREGATOR_APPLY_WORKERS=0", code: exitConfig, want: "apply.workers"},
		"an unknown variable": {env: "AGGREGATOR_APPLY_WORKER=1", code: exitConfig, want: "did you mean"},
		"an occupied port": {
			env: "AGGREGATOR_HTTP_ADDR=" + taken.Addr().String(), code: exitFailed, want: "address already in use",
		},
		"a wrong password": {store: changed("aggregator.redis-url", "@", "wrong@"), code: exitConfig, want: "WRONGPASS"},
		"a wrong role": {
			store: changed("aggregator.postgres-url", "aggregator_daemon", "nobody"), code: exitConfig,
			want: `role "nobody" does not exist`,
		},
		"a database not there": {
			store: changed("aggregator.postgres-url", "/test_", "/nowhere_"), code: exitConfig, want: "does not exist",
		},
		"an empty credential": {
			store: changed("aggregator.redis-url", "redis", ""), code: exitConfig,
			want: "is empty: want a URL",
		},
		"a missing schema": {
			store: func(t *testing.T, store map[string]string) {
				store["aggregator.postgres-url"] = testenv.EmptyDatabase(t)
			},
			code: exitFailed, want: "run: aggregator migrate up",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPair(t)
			rest, store := secretsOf(s.env)
			if tc.store != nil {
				tc.store(t, store)
			}
			sup := supervise(t, append(rest, "AGGREGATOR_HTTP_ADDR=", tc.env), store)
			sup.start()
			require.Equal(t, tc.code, sup.ended(), sup.said())
			require.Equal(t, 1, sup.started())
			require.Contains(t, result{stderr: sup.said()}.said(), tc.want)
			require.Equal(t, 1, strings.Count(sup.said(), "\n"), sup.said())
		})
	}
}

// changed changes a secret; text of nothing empties it.
func changed(name, old, text string) func(*testing.T, map[string]string) {
	return func(t *testing.T, store map[string]string) {
		t.Helper()
		require.Contains(t, store[name], old)
		store[name] = strings.Replace(store[name], old, text, 1)
		if text == "" {
			store[name] = ""
		}
	}
}

func TestServiceHalted(t *testing.T) {
	s := newPair(t)
	s.exec(`ALTER TABLE genre_score RENAME TO away`)
	s.push("1:1:LIKE")
	sup := s.serve()
	require.Equal(t, exitFailed, sup.ended())
	require.Equal(t, 1, sup.started())
	require.Contains(t, sup.said(), "genre_score")
}

// A service works on while a newer program migrates, if that is marked compatible, and says so
// once; if it is not, it halts before it applies anything more.
func TestServiceOnANewerSchema(t *testing.T) {
	s := newPair(t)
	sup := s.serve()
	sup.await(`^READY=1$`)
	s.push("1:1:LIKE")
	s.settled("1")
	require.NotContains(t, sup.said(), "schema")

	tx, err := s.db.Begin(t.Context()) // as a migration does
	require.NoError(t, err)
	s.exec(newer)
	s.exec(compatible)
	require.NoError(t, tx.Commit(t.Context()))
	for n := range 3 {
		s.push("1:1:LIKE")
		s.settled(strconv.Itoa(n + 2))
	}
	require.Equal(t, 1, strings.Count(sup.said(), "the schema is newer than this program"))
	require.Contains(t, sup.said(), "level=WARN")

	s.exec(newer)
	s.push("1:1:LIKE")
	require.Equal(t, exitFailed, sup.ended(), sup.said())
	require.Equal(t, 1, sup.started())
	require.Contains(t, sup.said(), "source book-like-events halted: the database schema is incompatible: ")
	s.settled("4")
	var applied int
	require.NoError(t, s.db.QueryRow(t.Context(), `SELECT sum(applied) FROM aggregator.mark`).Scan(&applied))
	require.Equal(t, 4, applied)

	s.exec(`DELETE FROM aggregator.schema_migrations WHERE version_id = (SELECT max(version_id) FROM ` +
		`aggregator.schema_migrations)`)
	r := s.program("drain") // undone, it goes on where it was
	require.Zero(t, r.code, r.stderr)
	s.settled("5")
}

// Of an outage the log has its beginning, each try, ever rarer, and its end.
func TestOutageInTheLog(t *testing.T) {
	s := newPair(t)
	server := testenv.NewRedis(t, testenv.AppendOnly())
	sup := s.serve("AGGREGATOR_REDIS_URL=" + server.URL())
	sup.await(`^READY=1$`)
	require.NoError(t, server.Kill())
	sup.awaitLog("Redis does not answer; retrying from the checkpoint")
	require.Regexp(t, `level=INFO msg=started version=\S+ instance=\S+ redis=127.0.0.1:\d+\S* `+
		`postgres=127.0.0.1:\d+/\S+ config=none\n`, sup.said())
	require.NoError(t, server.Start(t.Context()))
	sup.awaitLog(`level=INFO msg="working again" source=book-like-events down_for=`)
	require.Zero(t, sup.stop())
	require.Equal(t, 1, strings.Count(sup.said(), "working again"))
	require.Equal(t, 1, sup.started())
}

// A server that is not there yet is waited for.
func TestServiceWaitsForServers(t *testing.T) {
	s := newPair(t)
	server := testenv.NewRedis(t)
	require.NoError(t, server.Kill())
	sup := s.serve("AGGREGATOR_REDIS_URL=" + server.URL())
	sup.until("tried again", func() bool { return sup.started() > 2 })
	require.NoError(t, server.Start(t.Context()))
	sup.await(`^READY=1$`)
	require.Zero(t, sup.stop())
}
