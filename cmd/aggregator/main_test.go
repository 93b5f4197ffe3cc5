package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// asProgram makes this test binary the program itself, as a process of its own.
const asProgram = "TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	testenv.Main(m)
}

type result struct {
	code           int
	stdout, stderr string
}

// program runs it with these variables, and no settings of this machine.
func program(t *testing.T, env []string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Dir = t.TempDir() // without a settings file
	cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir}, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func (r result) requireFailure(t *testing.T, code int, message string) {
	t.Helper()
	require.Equal(t, code, r.code, r.stderr)
	require.Empty(t, r.stdout)
	require.Contains(t, r.stderr, message)
	require.True(t, strings.HasPrefix(r.stderr, "aggregator: "), r.stderr)
	require.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
	require.NotContains(t, r.stderr, "hunter2")
}

func (r result) requireDone(t *testing.T) {
	t.Helper()
	require.Zero(t, r.code, r.stderr)
	require.Empty(t, r.stderr)
}
