package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
	"aggregator/internal/testenv/build"
)

// binary is the program. It is built without the race detector, which makes each of some thousand processes start
// slowly; internal/service has the same code under it.
var binary string

// journalSocket is where the program looks for the journal, in its working directory, in place of that of this machine.
const journalSocket = "journal"

func TestMain(m *testing.M) {
	var err error
	binary, err = build.Program(context.Background(), "../..", "./cmd/aggregator",
		"-ldflags", "-X github.com/coreos/go-systemd/v22/journal.journalSocket="+journalSocket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
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
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir = t.TempDir() // without a settings file
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir}, env...)
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
	require.Contains(t, r.said(), message)
	require.True(t, strings.HasPrefix(r.said(), "aggregator: "), r.stderr)
	require.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
	require.NotContains(t, r.stderr, "hunter2")
}

// untimed is a report in JSON without how long it took.
func untimed(document string) string {
	return regexp.MustCompile(`,\s*"elapsed_seconds": [0-9.e-]+`).ReplaceAllString(document, "")
}

// lastWords are those of run and drain, in the forms of the log.
var lastWords = regexp.MustCompile(`(?m)^.*(?:level=|"level":")(?:ERROR|WARN)"? .*|^.*"level":"(?:ERROR|WARN)".*`)

var lastError = regexp.MustCompile(
	`(?:msg="|"msg":")\w+ (?:failed|ended early)",? ?"?error"?[=:]("(?:[^"\\]|\\.)*"|\S+)`)

// said is stderr, with the last words of run and drain in the form that other commands have.
func (r result) said() string {
	return lastWords.ReplaceAllStringFunc(r.stderr, func(line string) string {
		found := lastError.FindStringSubmatch(line)
		if found == nil {
			return line
		}
		text, err := strconv.Unquote(found[1])
		if err != nil {
			text = found[1]
		}
		return "aggregator: " + text
	})
}

func (r result) requireDone(t *testing.T) {
	t.Helper()
	require.Zero(t, r.code, r.stderr)
	require.Empty(t, r.stderr)
}
