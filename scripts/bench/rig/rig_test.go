package rig

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"github.com/stretchr/testify/require"
)

func TestProcessorTimeOfChildrenCounts(t *testing.T) {
	proc, err := procfs.NewDefaultFS()
	require.NoError(t, err)
	s := &Servers{proc: proc}
	// The shell itself does nothing: its child works until it is ended.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "(while :; do :; done) & wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		used, err := s.cpu(cmd.Process.Pid)
		return err == nil && used >= 0.1
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	require.Error(t, cmd.Wait())
	used, err := s.cpu(cmd.Process.Pid)
	require.NoError(t, err)
	require.Zero(t, used)
}

func TestPeakMemory(t *testing.T) {
	proc, err := procfs.NewDefaultFS()
	require.NoError(t, err)
	s := &Servers{proc: proc}
	for pid, found := range map[int]bool{os.Getpid(): true, 1 << 30: false} {
		peak := s.watchMemory(pid)
		time.Sleep(200 * time.Millisecond)
		require.Equal(t, found, peak() > 1<<20)
	}
}

func TestGarbageIsTakenOutOfWhatWasSaid(t *testing.T) {
	rest, used := splitGarbage("one\n" +
		"gc 1 @0.010s 2%: 0.02+1.3+0.08 ms clock, 0.5+1.5/2/100+0.25 ms cpu, 4->4->2 MB, 4 MB goal\n" +
		"gc rules\n" +
		"gc 2 @0.020s 2%: 0.02+1.3+0.08 ms clock, 0+0/1/0+0 ms cpu, 4->4->2 MB, 4 MB goal (forced)\n")
	require.Equal(t, "one\ngc rules\n", rest)
	require.Equal(t, 5250*time.Microsecond, used)
}
