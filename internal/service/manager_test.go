package service

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/events"
)

// still is a loop that does what the test says.
type still struct {
	all     []aggregator.Status
	waiting error
}

func (l *still) Status() []aggregator.Status            { return l.all }
func (l *still) Stats() aggregator.Stats                { return aggregator.Stats{} }
func (l *still) Waiting(context.Context) (int64, error) { return 1234, l.waiting }

// notified is where the service manager of this process listens.
func notified(t *testing.T) *net.UnixConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // the path of a socket must be short
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	address := &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"}
	socket, err := net.ListenUnixgram("unixgram", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	t.Setenv("NOTIFY_SOCKET", address.Name)
	return socket
}

func TestWatchdogIsFedByTheLoops(t *testing.T) {
	socket := notified(t)
	sources, err := events.Sources(
		nil, events.Options{Kind: events.KindStream, Key: "k", Partitions: 2, Weights: map[string]float64{"LIKE": 2}})
	require.NoError(t, err)
	var said bytes.Buffer
	m := manager{slog.New(slog.NewTextHandler(&said, nil))}
	ago := func(state aggregator.State, age, rest time.Duration) []aggregator.Status {
		return []aggregator.Status{
			{Source: sources[0], State: aggregator.Working, LastTurn: time.Now()},
			{Source: sources[1], State: state, LastTurn: time.Now().Add(-age), Rest: rest},
		}
	}
	for name, tc := range map[string]struct {
		all   []aggregator.Status
		lives bool
	}{
		"working":       {ago(aggregator.Working, 0, 0), true},
		"backing off":   {ago(aggregator.BackingOff, 30*time.Second, 0), true},
		"standing by":   {ago(aggregator.StandingBy, time.Second, 0), true},
		"filling up":    {ago(aggregator.Working, 80*time.Second, time.Minute), true},
		"halted":        {ago(aggregator.Halted, time.Hour, 0), true},
		"hanging":       {ago(aggregator.Working, 61*time.Second, 0), false},
		"hanging, down": {ago(aggregator.BackingOff, 61*time.Second, 0), false},
	} {
		said.Reset()
		m.feedWatchdog(tc.all)
		m.tell("END=1")
		buffer := make([]byte, 100)
		n, err := socket.Read(buffer)
		require.NoError(t, err)
		if tc.lives {
			require.Equal(t, "WATCHDOG=1", string(buffer[:n]), name)
			_, err = socket.Read(buffer)
			require.NoError(t, err)
			require.Empty(t, said.String(), name)
			continue
		}
		require.Equal(t, "END=1", string(buffer[:n]), name)
		require.Contains(t, said.String(), `msg="the loop hangs; not notifying the systemd watchdog" source=k:{1}`, name)
	}
}

// The manager hears what the service does, and that it is alive, until ctx ends.
func TestKeepTelling(t *testing.T) {
	socket := notified(t)
	t.Setenv("WATCHDOG_USEC", "2000")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		manager{slog.New(slog.DiscardHandler)}.keepTelling(
			ctx, &still{all: []aggregator.Status{{State: aggregator.Working, LastTurn: time.Now()}}})
	}()
	buffer := make([]byte, 100)
	for said := map[string]bool{}; !said["WATCHDOG=1"] || !said["STATUS=working: 0 events a second, 1,234 waiting"]; {
		n, err := socket.Read(buffer)
		require.NoError(t, err)
		if len(said) == 0 {
			require.Equal(t, "STATUS=starting", string(buffer[:n]))
		}
		said[string(buffer[:n])] = true
	}
	cancel()
	<-ended
}

// Without a manager nothing is asked of the service.
func TestKeepTellingNobody(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	manager{slog.New(slog.DiscardHandler)}.keepTelling(t.Context(), nil)
}

func TestDescribeService(t *testing.T) {
	one := &still{all: []aggregator.Status{{State: aggregator.Working}}}
	require.Equal(t, "working: 12,345 events a second, 1,234 waiting", describeService(t.Context(), one, 12345.6))
	two := &still{
		all: []aggregator.Status{
			{State: aggregator.Working},
			{State: aggregator.BackingOff, Reason: "Redis said:\nno"},
			{State: aggregator.Working},
		},
		waiting: errors.New("down"),
	}
	require.Equal(t, "1 backing off, 2 working: 0 events a second, unknown waiting; Redis said: no",
		describeService(t.Context(), two, 0))
}
