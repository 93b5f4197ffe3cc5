package meter

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	// The name of a process may hold spaces and parentheses.
	parent, ticks := parseStat([]byte("77 (a) b (c) S 5 77 77 0 -1 4194304 1 2 3 4 10 20 300 4000 20 0 1 0 123 456 78"))
	require.Equal(t, 5, parent)
	require.Equal(t, int64(4330), ticks)
	parent, ticks = parseStat([]byte("77 (a) S"))
	require.Zero(t, parent)
	require.Zero(t, ticks)
}

func TestProcessorTimeOfChildrenCounts(t *testing.T) {
	// The shell itself does nothing: its child works until it is ended.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "(while :; do :; done) & wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return CPU(cmd.Process.Pid) >= 100*time.Millisecond }, time.Minute, 10*time.Millisecond)
	require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	require.Error(t, cmd.Wait())
	require.Zero(t, CPU(cmd.Process.Pid))
}

func TestBusyIsAtLeastWhatWeUse(t *testing.T) {
	before, err := Busy()
	require.NoError(t, err)
	used, err := ours()
	require.NoError(t, err)
	require.Positive(t, before)
	require.Positive(t, used)
}

func TestPeakMemory(t *testing.T) {
	require.Greater(t, PeakMemory(os.Getpid()), int64(1<<20))
	require.Zero(t, PeakMemory(1<<30))
}
