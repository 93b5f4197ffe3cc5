package config_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// analyze runs systemd-analyze, which needs no running systemd. scripts/provision installs it.
func analyze(t *testing.T, args ...string) {
	t.Helper()
	said, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput()
	require.NoError(t, err, "%s", said)
}

func TestUnitsAreInOrder(t *testing.T) {
	units, err := filepath.Glob("systemd/*")
	require.NoError(t, err)
	require.NotEmpty(t, units)
	dir, program := t.TempDir(), filepath.Join(t.TempDir(), "aggregator")
	require.NoError(t, os.WriteFile(program, nil, 0o755)) // what they start must be there
	args := []string{"verify", "--man=no"}
	for _, name := range units {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		copied := filepath.Join(dir, filepath.Base(name))
		writeFile(t, copied, strings.ReplaceAll(string(text), "/usr/bin/aggregator", program))
		args = append(args, copied)
	}
	analyze(t, args...)
}

// 1.5 of 10, where less is better: see systemd-analyze(1).
func TestUnitsAreShutIn(t *testing.T) {
	services, err := filepath.Glob("systemd/*.service")
	require.NoError(t, err)
	require.Len(t, services, 3)
	for _, name := range services {
		analyze(t, "security", "--offline=true", "--no-pager", "--threshold=15", "./"+name)
	}
}
