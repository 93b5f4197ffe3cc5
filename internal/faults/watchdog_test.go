//go:build faults

package faults_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A loop that hangs in a process that is otherwise well starves the watchdog, and only it.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	dir, err := os.MkdirTemp("", "notify")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	address := &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"}
	socket, err := net.ListenUnixgram("unixgram", address)
	require.NoError(t, err)
	defer socket.Close()
	signs := 0 // of life, of which the socket knows
	count := func() int {
		buffer := make([]byte, 1024)
		require.NoError(t, socket.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		for {
			n, err := socket.Read(buffer)
			if err != nil {
				return signs
			}
			if string(buffer[:n]) == "WATCHDOG=1" {
				signs++
			}
		}
	}

	w.push(1000)
	d := w.pauseAt("mid_pipeline", "NOTIFY_SOCKET="+address.Name, "WATCHDOG_USEC=1000000", "run")
	w.until("there are signs of life", func() bool { return count() > 2 })
	const hangs = "the loop hangs"
	w.until("the loop is found to hang", func() bool { return count() >= 0 && strings.Contains(d.output(), hangs) })
	before := count()
	w.until("it is found so again", func() bool { return count() >= 0 && strings.Count(d.output(), hangs) > 3 })
	require.Equal(t, before, count())
	d.goOn()
	w.until("it lives again", func() bool { return count() > before })
	w.emptied()
	d.stop()
	w.exact()
}
