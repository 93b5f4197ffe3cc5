package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const beServices = "TEST_BE_SERVICES"

// TestMain lets the test binary stand in for the program.
func TestMain(m *testing.M) {
	if os.Getenv(beServices) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestCommandFindsItsServersAndItsExitCodeIsPassedOn(t *testing.T) {
	t.Parallel()
	s := start(t, nil, "--", "sh", "-c", "echo $AGGREGATOR_REDIS_URL $AGGREGATOR_POSTGRES_URL; exit 7")

	require.Equal(t, 7, s.wait())
	require.Regexp(t, `^redis://127.0.0.1:\d+/0 postgres://postgres@127.0.0.1:\d+/aggregator\?sslmode=disable\n$`,
		s.stdout.String())
	s.requireNothingLeft()
}

func TestGivenServersAreUsed(t *testing.T) {
	t.Parallel()
	given := []string{"AGGREGATOR_REDIS_URL=redis://given", "AGGREGATOR_POSTGRES_URL=postgres://given"}
	s := start(t, given, "--", "sh", "-c", "echo $AGGREGATOR_REDIS_URL $AGGREGATOR_POSTGRES_URL; kill -KILL $$")

	require.Equal(t, 128+9, s.wait())
	require.Equal(t, "redis://given postgres://given\n", s.stdout.String())
	require.Contains(t, s.stderr.String(), "using the servers")
}

func TestSignalEndsEverythingThatTheCommandStarted(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			ready := filepath.Join(t.TempDir(), "ready")
			s := start(t, nil, "--", "sh", "-c", "sleep 1000 & echo $! >"+ready+".new; mv "+ready+".new "+ready+"; wait")
			var written []byte
			require.Eventually(t, func() bool {
				written, _ = os.ReadFile(ready)
				return len(written) > 0
			}, 3*time.Minute, 10*time.Millisecond)
			background, err := strconv.Atoi(strings.TrimSpace(string(written)))
			require.NoError(t, err)

			require.NoError(t, s.cmd.Process.Signal(sig))

			require.Equal(t, 128+int(syscall.SIGTERM), s.wait())
			require.ErrorIs(t, syscall.Kill(background, 0), syscall.ESRCH)
			s.requireNothingLeft()
		})
	}
}

func TestInterruptIsLeftToTheCommand(t *testing.T) {
	t.Parallel()
	// Were the interrupt passed on, it would end the command.
	s := start(t, nil, "--", "sh", "-c", "kill -INT $PPID; sleep 0.1; exit 5")

	require.Equal(t, 5, s.wait())
	s.requireNothingLeft()
}

func TestWithoutCommandItPrintsTheVariables(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	require.Eventually(t, func() bool { return strings.Count(s.stdout.String(), "\n") == 2 }, 3*time.Minute,
		10*time.Millisecond)

	require.NoError(t, s.cmd.Process.Signal(syscall.SIGINT))

	require.Zero(t, s.wait())
	require.Regexp(t, `^export AGGREGATOR_REDIS_URL=\S+\nexport AGGREGATOR_POSTGRES_URL=\S+\n$`, s.stdout.String())
	require.Contains(t, s.stderr.String(), "a private Redis and PostgreSQL are running")
	require.Contains(t, s.stderr.String(), "Ctrl-C here stops both servers and removes their data.\n")
	s.requireNothingLeft()
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	help := start(t, nil, "--help")
	require.Zero(t, help.wait())
	require.Contains(t, help.stderr.String(), "bin/services -- bash")
	require.Equal(t, exitUsage, start(t, nil, "--no-such-flag").wait())
	require.Equal(t, 127, start(
		t, []string{"AGGREGATOR_REDIS_URL=r", "AGGREGATOR_POSTGRES_URL=p"}, "no-such-command").wait())
}

// services is the program, running.
type services struct {
	t              *testing.T
	cmd            *exec.Cmd
	temporary      string
	stdout, stderr buffer
}

func start(t *testing.T, env []string, args ...string) *services {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	s := &services{t: t, temporary: t.TempDir()}
	// The servers' user must be able to enter.
	require.NoError(t, os.Chmod(s.temporary, 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(s.temporary), 0o755))
	s.cmd = exec.CommandContext(t.Context(), self, args...)
	s.cmd.Env = append([]string{beServices + "=1", "TMPDIR=" + s.temporary, "PATH=" + os.Getenv("PATH")}, env...)
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	require.NoError(t, s.cmd.Start())
	return s
}

// wait returns the exit code.
func (s *services) wait() int {
	s.t.Helper()
	_ = s.cmd.Wait()
	s.t.Log(s.stderr.String())
	return s.cmd.ProcessState.ExitCode()
}

func (s *services) requireNothingLeft() {
	s.t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(s.t, err)
	for _, process := range processes {
		if dir, err := os.Readlink(process); err == nil { // else it has ended, or is another's
			require.NotContains(s.t, dir, s.temporary, process)
		}
	}
	left, err := filepath.Glob(filepath.Join(s.temporary, "*"))
	require.NoError(s.t, err)
	require.Empty(s.t, left)
}

// buffer takes output that is looked at while it grows.
type buffer struct {
	mutex sync.Mutex
	bytes bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.bytes.Write(p)
}

func (b *buffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.bytes.String()
}
