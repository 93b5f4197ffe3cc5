// Package build makes the programs of the project for tests that start them. The build cache keeps what was built,
// for all packages: only the first test after a change has to wait.
package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Program builds a program and returns its file, which is in the build cache: nobody may change it, or has to remove
// it. folder is that of the module, seen from the working directory; what is the package, as in ./cmd/aggregator; flags
// are those of go build. The error has what the compiler said. It is safe to repeat, and to call from several processes
// at once. When ctx ends, so does the build.
func Program(ctx context.Context, folder, what string, flags ...string) (file string, err error) {
	// Of the commands of go that build, "go run" is the one that keeps the program.
	args := append(append([]string{"run", "-exec", "echo"}, flags...), what)
	for range 2 { // the one that links it says where it was before it went to the cache
		var said strings.Builder
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Stderr = folder, &said
		output, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", what, err, said.String())
		}
		file = strings.TrimSpace(string(output))
		if _, err = os.Stat(file); err == nil {
			return file, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("build %s: %w", what, err)
		}
	}
	return "", fmt.Errorf("build %s: the build cache does not keep %s", what, file)
}
