//go:build faults

package faults_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLostRepliesOfRedis loses replies to every command that the daemon sends: which ones
// these are a first run tells, so that a new one is put to the test as well.
func TestLostRepliesOfRedis(t *testing.T) {
	t.Parallel()
	least := map[string][]string{
		"stream": {
			"PING", "XRANGE", "XREAD", "EVALSHA_RO inspect", "EVALSHA bookmark", "EVALSHA trim", "EVALSHA make",
			"EVALSHA raise",
		},
		"list": {
			"PING", "XRANGE", "LLEN", "EVALSHA_RO inspect", "EVALSHA bookmark", "EVALSHA trim", "EVALSHA move",
			"EVALSHA raise",
		},
	}
	for _, from := range []source{stream, listLeft} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			commands := redisCommands(t, from)
			require.Subset(t, commands, least[from.kind])
			for _, command := range commands {
				require.False(t, strings.HasSuffix(command, " "), "a script whose name is not known")
			}
			t.Logf("the daemon sends %q", commands)
			for _, command := range commands {
				for _, stall := range []bool{false, true} {
					t.Run(how(stall)+" "+command, func(t *testing.T) { loseRedisReply(t, from, command, stall) })
				}
			}
		})
	}
}

func how(stall bool) string {
	if stall {
		return "stall at"
	}
	return "cut at"
}

// redisCommands are what the daemon sends from its start to its end, with a stream that it
// finds behind its checkpoint, and through an outage.
func redisCommands(t *testing.T, from source) []string {
	t.Helper()
	w := newWorld(t, setup{source: from})
	p, address := newProxy(t, w.redisURL, redisMessages(t))
	w.redisURL = address
	w.push(500)
	w.drain()
	require.NoError(t, w.client.FlushAll(t.Context()).Err())
	d := w.start("run")
	d.said("raised its last id")
	w.push(500)
	w.emptied()
	require.NoError(t, w.redis.Kill())
	require.NoError(t, w.redis.Start(t.Context()))
	w.push(500)
	w.emptied()
	d.stop()
	return p.names()
}

func loseRedisReply(t *testing.T, from source, command string, stall bool) {
	w := newWorld(t, setup{source: from})
	p, address := newProxy(t, w.redisURL, redisMessages(t))
	w.redisURL = address + "?read_timeout=300ms"
	w.push(800)
	raises := strings.HasSuffix(command, " make") || strings.HasSuffix(command, " raise")
	if raises { // it finds the stream behind its checkpoint until more is pushed
		w.drain()
		require.NoError(t, w.client.Del(t.Context(), w.streamOf(w.keys()[0])).Err())
	}
	p.lose(command, 2, stall)

	d := w.outlast(w.start("run"))
	if raises {
		w.until("a reply was lost", func() bool { return p.losses() > 0 })
	}
	for range 3 {
		w.emptied()
		w.push(300)
	}
	w.emptied()
	d.stop()

	require.NotZero(t, p.losses(), "it was not sent")
	w.exact()
}

// outlast starts the daemon again for as long as it cannot start because a server is not
// reachable, as systemd would.
func (w *world) outlast(d *daemon) *daemon {
	w.t.Helper()
	for {
		w.until("the daemon drains, or has ended", func() bool {
			return !d.running() || strings.Contains(d.output(), "msg=draining")
		})
		if d.running() {
			return d
		}
		require.Equal(w.t, 69, d.wait(), "%s", d.tail())
		d = w.start("run")
	}
}

func TestLostRepliesOfPostgres(t *testing.T) {
	t.Parallel()
	messages := []string{
		"startup", "query begin", "query commit", "parse", "bind", "describe", "execute", "sync",
	}
	for _, message := range messages {
		t.Run("cut at "+message, func(t *testing.T) {
			t.Parallel()
			losePostgresReply(t, message, 3, false)
		})
	}
	// A server that does not answer is given up after 45 s.
	for _, message := range []string{"sync", "query commit"} {
		t.Run("stall at "+message, func(t *testing.T) {
			t.Parallel()
			losePostgresReply(t, message, 1, true)
		})
	}
}

func losePostgresReply(t *testing.T, message string, times int, stall bool) {
	w := newWorld(t, setup{})
	if strings.HasPrefix(message, "query") { // a checkpoint without dead letters is moved without them
		w.malformed = "0.01"
	}
	p, address := newProxy(t, w.postgresURL, postgresMessages)
	w.postgresURL = address
	w.push(1200)
	d := w.outlast(w.start("run"))
	w.emptied()

	p.lose(message, times, stall)
	w.until("replies were lost", func() bool {
		w.push(300)
		if message == "startup" { // it takes a new connection
			w.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND " +
				"application_name = 'aggregator'")
		}
		return p.losses() == times
	})
	w.emptied()
	d.stop()
	w.exact()
}
