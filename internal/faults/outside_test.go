//go:build faults

package faults_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// load pushes so many events a second in the background, through every outage. Its wait
// returns when all are pushed or given up.
func (w *world) load(rate int, d time.Duration, flags ...string) (wait func()) {
	w.t.Helper()
	flags = append([]string{
		"--rate", strconv.Itoa(rate), "--duration", d.String(), "--continue-on-error", "--pipeline", "20", "--timeout", "1s",
	}, flags...)
	cmd := w.pushing(w.t.Context(), 0, flags...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(w.t, cmd.Start())
	return func() {
		w.t.Helper()
		require.NoError(w.t, cmd.Wait(), "%s", &said)
	}
}

// number asks for one number, and is -1 while there is no answer.
func (w *world) number(query string, args ...any) (n int64) {
	conn, err := pgx.Connect(w.t.Context(), w.database)
	if err != nil {
		return -1
	}
	defer func() { _ = conn.Close(w.t.Context()) }()
	if conn.QueryRow(w.t.Context(), query, args...).Scan(&n) != nil {
		return -1
	}
	return n
}

// waiting counts the entries in lists and streams. An error is not an empty stream: it
// fails the test.
func (w *world) waiting() int64 {
	w.t.Helper()
	n, err := w.count()
	require.NoError(w.t, err)
	return n
}

// paused is a daemon that stands still at a point of its loop.
type paused struct {
	*daemon
	file string
}

// pauseAt runs the program until it comes to the point.
func (w *world) pauseAt(point string, args ...string) paused {
	w.t.Helper()
	p := paused{file: filepath.Join(w.dir, fmt.Sprintf("pause-%d", daemons.Load()))}
	p.daemon = w.start(append([]string{"PAUSE_AT=" + point, "PAUSE_FILE=" + p.file}, args...)...)
	w.until("the daemon is at "+point, func() bool {
		_, err := os.Stat(p.file)
		return err == nil || !p.running()
	})
	require.True(w.t, p.running(), "%s", p.tail())
	return p
}

func (p paused) goOn() { _ = os.Remove(p.file) }

// said waits until the process has logged something.
func (d *daemon) said(text string) {
	d.t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains(d.output(), text) {
		if time.Now().After(deadline) || !d.running() {
			require.Contains(d.t, d.tail(), text)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// peakMemory is the most that the process has used, in bytes.
func (d *daemon) peakMemory() int64 {
	d.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	require.NoError(d.t, err)
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	require.True(d.t, found)
	kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	require.NoError(d.t, err)
	return kilobytes << 10
}
