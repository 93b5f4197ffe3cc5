package testenv

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A process that has ended is gone, also if its parent has not waited for it, and so is a group of such processes.
func TestGoneBeforeItIsWaitedFor(t *testing.T) {
	child := exec.CommandContext(t.Context(), "cat")
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := child.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	pid := child.Process.Pid
	require.False(t, gone(pid))
	require.False(t, gone(-pid))

	require.NoError(t, input.Close())
	require.Eventually(t, func() bool { return gone(pid) }, 10*time.Second, time.Millisecond)
	require.NoError(t, syscall.Kill(pid, 0), "it was waited for")
	require.True(t, gone(-pid))
	require.NoError(t, child.Wait())
}
