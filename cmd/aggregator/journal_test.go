package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/stretchr/testify/require"
)

func TestJournalHandler(t *testing.T) {
	var fallen bytes.Buffer
	h := newJournalHandler(slog.LevelInfo, slog.NewTextHandler(&fallen, nil))
	var message string
	var level journal.Priority
	var fields map[string]string
	var refusal error
	h.send = func(m string, p journal.Priority, f map[string]string) error {
		message, level, fields = m, p, f
		return refusal
	}
	log := slog.New(h)

	log.Debug("too much")
	require.Empty(t, message)
	log.Info("settled")
	require.Equal(t, "settled", message)
	require.Equal(t, journal.PriInfo, level)
	require.Equal(t, map[string]string{"SYSLOG_IDENTIFIER": "aggregator"}, fields)

	log.With("source", "likes:{0}").WithGroup("a").With("b", 1).
		Error("it failed", "error", errors.New("two\nlines"), "http.addr", "x", slog.Group("g", "in", 1500*time.Millisecond))
	require.Equal(t, `it failed source=likes:{0} a.b=1 a.error="two\nlines" a.http.addr=x a.g.in=1.5s`, message)
	require.Equal(t, journal.PriErr, level)
	require.Equal(t, map[string]string{
		"SYSLOG_IDENTIFIER": "aggregator", "AGGREGATOR_SOURCE": "likes:{0}", "AGGREGATOR_A_B": "1",
		"AGGREGATOR_A_ERROR": "two\nlines", "AGGREGATOR_A_HTTP_ADDR": "x", "AGGREGATOR_A_G_IN": "1.5s",
	}, fields)
	log.Warn("still", "n", 2)
	require.Equal(t, "still n=2", message)
	require.Equal(t, journal.PriWarning, level)
	require.Empty(t, fallen.String())

	refusal = errors.New("no journal")
	log.With("source", "s").Info("not lost", "n", 3)
	require.Contains(t, fallen.String(), `level=INFO msg="not lost" source=s n=3`)
}

// The service, told by systemd that its stderr is the journal, speaks to the journal.
func TestServiceLogsToTheJournal(t *testing.T) {
	s := newPair(t)
	dir := t.TempDir()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, journalSocket), Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() })

	stream, told := journalStream(t)
	cmd := exec.CommandContext(t.Context(), binary, "run", "--log-format=auto")
	cmd.Dir, cmd.Stderr = dir, stream
	cmd.Env = append(s.env, "HOME="+cmd.Dir, "AGGREGATOR_HTTP_ADDR=", told)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(patience)))
	buffer := make([]byte, 65536)
	next := func() []string {
		n, err := socket.Read(buffer)
		require.NoError(t, err)
		return strings.Split(string(buffer[:n]), "\n")
	}
	require.Contains(t, next(), "AGGREGATOR_VERSION="+programVersion()) // it has started
	lines := next()
	for _, want := range []string{
		"PRIORITY=6", "MESSAGE=draining kind=stream key=book-like-events partitions=1", "SYSLOG_IDENTIFIER=aggregator",
		"AGGREGATOR_KIND=stream", "AGGREGATOR_KEY=book-like-events", "AGGREGATOR_PARTITIONS=1",
	} {
		require.Contains(t, lines, want)
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
	said, err := os.ReadFile(stream.Name())
	require.NoError(t, err)
	require.Empty(t, string(said))
}

// The reason why it ended is found among the errors.
func TestReasonIsAnErrorInTheJournal(t *testing.T) {
	stream, told := journalStream(t)
	cmd := exec.CommandContext(t.Context(), binary, "run", "--apply-workers=0", "--source-kind=queue")
	cmd.Env = []string{told}
	cmd.Dir, cmd.Stderr = t.TempDir(), stream
	require.Error(t, cmd.Run())
	require.Equal(t, exitConfig, cmd.ProcessState.ExitCode())
	said, err := os.ReadFile(stream.Name())
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	require.Len(t, lines, 2)
	for _, line := range lines {
		require.Regexp(t, `level=ERROR msg="run failed" error="(apply\.workers|source\.kind) .* exit_code=78`, line)
	}
}

// journalStream is a stderr, and the variable by which systemd tells that it leads to the journal.
func journalStream(t *testing.T) (stderr *os.File, variable string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	var stat syscall.Stat_t
	require.NoError(t, syscall.Fstat(int(f.Fd()), &stat))
	return f, fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino)
}
