// Package scripts_test tests the scripts that are no Go programs.
package scripts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// command runs a command in a folder and returns what it says.
func command(t *testing.T, folder, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = folder
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), said)
	return string(said)
}

// copied returns a copy of the project, as it is now, as a git repository in a folder of its own.
func copied(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, filepath.WalkDir("..", func(from string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, err := filepath.Rel("..", from)
		if err != nil {
			return err
		}
		switch {
		case path == ".git", path == "bin", path == "dist":
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil // of a worktree .git is a file
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(folder, path), 0o755)
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(folder, path), text, info.Mode())
	}))
	command(t, folder, "git", "init", "--quiet")
	command(t, folder, "git", "add", "--all")
	return folder
}

// After the module was renamed every import is found: the go command lists all packages with what
// they need, in each of the repository's modules. To rename it again works as well.
func TestRenameModule(t *testing.T) {
	folder := copied(t)
	for _, name := range []string{"git.example.org/books/aggregator", "example.net/likes"} {
		command(t, folder, "scripts/rename-module", name)
		require.Equal(t, name+"\n", command(t, folder, "go", "list", "-m"))
		for mod := range strings.FieldsSeq(command(t, folder, "git", "ls-files", "go.mod", "*/go.mod")) {
			packages := command(t, filepath.Join(folder, filepath.Dir(mod)),
				"go", "list", "-deps", "-test", "-tags", "faults,man", "./...")
			require.Contains(t, packages, name+"/")
			require.NotRegexp(t, `(?m)^aggregator(/|$)`, packages)
		}
		linter, err := os.ReadFile(filepath.Join(folder, ".golangci.yml"))
		require.NoError(t, err)
		require.Contains(t, string(linter), "local-prefixes: ["+name+"]")
	}
}

func TestRenameModuleRefuses(t *testing.T) {
	for _, name := range []string{
		"", "aggregator", "/aggregator", "example.org", "a b/c", "https://example.org/aggregator",
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "./rename-module", name)
			said, err := cmd.CombinedOutput()
			var ended *exec.ExitError
			require.ErrorAs(t, err, &ended)
			require.Equal(t, 64, ended.ExitCode())
			require.Contains(t, string(said), "usage: scripts/rename-module")
		})
	}
}

// The demo ends with a verdict in words, and writes nothing into a pipe that only a terminal
// understands.
func TestDemo(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.Chmod(folder, 0o755)) // the servers' user must be able to enter
	require.NoError(t, os.Mkdir(filepath.Join(folder, "bin"), 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(folder, "scripts"), 0o755))
	command(t, "..", "go", "build", "-ldflags", "-s -w", "-o", filepath.Join(folder, "bin")+"/", "./cmd/aggregator",
		"./scripts/loadgen", "./scripts/services")
	script, err := os.ReadFile("demo")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "scripts", "demo"), script, 0o755))
	t.Setenv("AGGREGATOR_REDIS_URL", "")
	t.Setenv("EVENTS", "2000")
	t.Setenv("PROFILES", "100")
	t.Setenv("BOOKS", "100")
	said := command(t, folder, "bin/services", "--durable=false", "--", "scripts/demo")
	require.Regexp(t, `\nOK: 2,000 events, 0 lost, 0 doubled, \d[\d,]* rows compared\n$`, said)
	require.NotContains(t, said, "\x1b")
	require.NotContains(t, said, `{"time"`, "a log that a person cannot read")
}
