package faults_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// chunk is small enough that a test sees many of them.
const chunk = 400

// daemon is one process of the program under test.
type daemon struct {
	t     *testing.T
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

var daemons atomic.Int64

// start runs the program. Arguments with a = go into its environment.
func (w *world) start(args ...string) *daemon {
	w.t.Helper()
	number := daemons.Add(1)
	d := &daemon{t: w.t, log: filepath.Join(w.dir, fmt.Sprintf("daemon-%d.log", number)), ended: make(chan struct{})}
	env := append(hermetic(),
		"AGGREGATOR_REDIS_URL="+w.redisURL, "AGGREGATOR_REDIS_MODE="+w.redisMode, "AGGREGATOR_POSTGRES_URL="+w.postgresURL,
		"AGGREGATOR_SOURCE_KIND="+w.source.kind, "AGGREGATOR_SOURCE_PUSH_SIDE="+w.source.side,
		fmt.Sprintf("AGGREGATOR_SOURCE_PARTITIONS=%d", w.source.partitions),
		fmt.Sprintf("AGGREGATOR_CHUNK_MAX_EVENTS=%d", chunk),
		"AGGREGATOR_HTTP_ADDR=", "AGGREGATOR_LEASE_TTL=0s", // instances that overlap are what is tested
		"AGGREGATOR_LOG_LEVEL=debug", "AGGREGATOR_LOG_FORMAT=text")
	env = append(env, w.env...)
	var words []string
	for _, arg := range args {
		if strings.Contains(arg, "=") && !strings.HasPrefix(arg, "-") {
			env = append(env, arg)
		} else {
			words = append(words, arg)
		}
	}
	log, err := os.Create(d.log)
	require.NoError(w.t, err)
	d.cmd = exec.Command(w.program, words...) //nolint:noctx // it is ended by signals
	d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr = env, log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(w.t, d.cmd.Start())
	require.NoError(w.t, log.Close())
	go func() {
		_ = d.cmd.Wait() // how it ended is in its state
		close(d.ended)
	}()
	w.t.Cleanup(func() {
		d.kill()
		if tail := d.tail(); w.t.Failed() && tail != "" {
			w.t.Logf("%s\n%s", d.cmd, tail)
		}
	})
	return d
}

func (d *daemon) output() string {
	said, err := os.ReadFile(d.log)
	if !errors.Is(err, os.ErrNotExist) { // removed by a test with very many of them
		require.NoError(d.t, err)
	}
	return string(said)
}

func (d *daemon) tail() string {
	said := d.output()
	return said[max(0, len(said)-6000):]
}

func (d *daemon) signal(sig syscall.Signal) { _ = d.cmd.Process.Signal(sig) }

// kill ends the process at once, whatever state it is in.
func (d *daemon) kill() {
	d.signal(syscall.SIGKILL)
	<-d.ended
}

func (d *daemon) running() bool {
	select {
	case <-d.ended:
		return false
	default:
		return true
	}
}

// wait returns the exit code, or -1 if a signal ended the process.
func (d *daemon) wait() int {
	d.t.Helper()
	select {
	case <-d.ended:
	case <-time.After(patience):
		d.t.Fatalf("still running after %s:\n%s", patience, d.tail())
	}
	return d.cmd.ProcessState.ExitCode()
}

// crashed waits until the process has killed itself.
func (d *daemon) crashed() {
	d.t.Helper()
	code := d.wait()
	status, _ := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.Equal(d.t, syscall.SIGKILL, status.Signal(), "exit code %d\n%s", code, d.tail())
}

// stop ends the process as systemd would, and expects it to be in order.
func (d *daemon) stop() {
	d.t.Helper()
	d.signal(syscall.SIGTERM)
	require.Zero(d.t, d.wait(), "%s", d.tail())
}

// drain runs a drain to its end.
func (w *world) drain(args ...string) {
	w.t.Helper()
	d := w.start(append([]string{"drain"}, args...)...)
	require.Zero(w.t, d.wait(), "%s", d.tail())
}
