package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// With run.on_halt: stay a service that has halted answers and says why, also to systemd, until a reload
// after which it goes on.
func TestServiceStaysHalted(t *testing.T) {
	s := newPair(t)
	file := filepath.Join(t.TempDir(), "a.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("run: {on_halt: stay}\n")
	p := s.start("--config", file)
	p.eventually("/readyz", `"ready": true`)
	s.exec(newer)
	s.push("1:1:LIKE")
	p.eventually("/metrics", `aggregator_source_state{source="book-like-events",state="halted"} 1`)
	code, body := p.get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "the database schema is incompatible: ")
	code, _ = p.get("/healthz")
	require.Equal(t, http.StatusOK, code)

	write("run: {on_halt: stay}\nchunk: {max_events: 0}\n") // wrong settings do not end it, nor do they begin it again
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	p.eventually("/metrics", "aggregator_config_last_reload_successful 0\n")
	p.eventually("/metrics", `aggregator_source_state{source="book-like-events",state="halted"} 1`)

	s.exec(`DELETE FROM aggregator.schema_migrations WHERE version_id = (SELECT max(version_id) FROM ` +
		`aggregator.schema_migrations)`)
	write("run: {on_halt: stay}\n") // nothing has changed in them
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	p.eventually("/readyz", `"ready": true`)
	s.settled("1")

	s.exec(newer)
	s.push("1:1:LIKE")
	p.eventually("/metrics", `aggregator_source_state{source="book-like-events",state="halted"} 1`)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Error(t, p.cmd.Wait())
	require.Equal(t, exitFailed, p.cmd.ProcessState.ExitCode())
}

// The watchdog is fed meanwhile, and the reason is in the log and in the status.
func TestServiceStaysHaltedUnderSystemd(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	sup := s.serve("AGGREGATOR_RUN_ON_HALT=stay")
	sup.await(`^READY=1$`)
	s.exec(newer)
	s.push("1:1:LIKE")
	sup.awaitLog("halted; answering at http.addr until a reload or a restart")
	sup.await(`^WATCHDOG=1$`)
	sup.await(`^STATUS=halted: .*the database schema is incompatible: `)
	require.Equal(t, 1, sup.started())
	require.Equal(t, exitFailed, sup.stop())
	require.Equal(t, 1, strings.Count(sup.said(), `msg="run failed"`), sup.said())
}
