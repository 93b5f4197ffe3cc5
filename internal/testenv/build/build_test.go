package build

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A program is built once, and again when its source or its flags change.
func TestProgram(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	says := func(file string) string {
		said, err := exec.CommandContext(t.Context(), file).CombinedOutput()
		require.NoError(t, err)
		return string(said)
	}
	write("go.mod", "module hello\n")
	write("main.go", "package main\n\nvar word = \""+folder+"\"\n\nfunc main() { print(word) }\n")
	first, err := Program(t.Context(), folder, ".")
	require.NoError(t, err)
	require.Equal(t, folder, says(first))
	again, err := Program(t.Context(), folder, ".")
	require.NoError(t, err)
	require.Equal(t, first, again)

	flagged, err := Program(t.Context(), folder, ".", "-ldflags", "-X main.word=flagged")
	require.NoError(t, err)
	require.Equal(t, "flagged", says(flagged))

	write("main.go", "package main\n\nfunc main() { print(\"changed\") }\n")
	changed, err := Program(t.Context(), folder, ".")
	require.NoError(t, err)
	require.Equal(t, "changed", says(changed))
	require.Equal(t, folder, says(first), "a program that is in use has changed")

	write("main.go", "package main\n\nfunc main() { nothing() }\n")
	_, err = Program(t.Context(), folder, ".")
	require.ErrorContains(t, err, "undefined: nothing")
}
