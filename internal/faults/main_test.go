package faults_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"aggregator/internal/testenv"
)

// module is the folder of go.mod, seen from this package.
const module = "../.."

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "aggregator-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
	programs.dir = dir
	code := m.Run()
	if shared.postgres != nil {
		err = shared.postgres.Close()
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// programs are what is tested and what tests it, built once.
var programs struct {
	once       sync.Once
	dir        string
	aggregator string // with the points at which it can be made to crash
	loadgen    string
	err        error
}

func buildPrograms(t *testing.T) {
	t.Helper()
	programs.once.Do(func() {
		programs.aggregator = filepath.Join(programs.dir, "aggregator")
		programs.loadgen = filepath.Join(programs.dir, "loadgen")
		flags := []string{"-tags", "faults"}
		if os.Getenv("FAULTS_RACE") != "" {
			flags = append(flags, "-race")
		}
		programs.err = errors.Join(
			build(programs.aggregator, "./cmd/aggregator", flags...),
			build(programs.loadgen, "./scripts/loadgen"))
	})
	if programs.err != nil {
		t.Fatal(programs.err)
	}
}

func build(output, what string, flags ...string) error {
	args := append([]string{"build", "-o", output}, flags...)
	cmd := exec.CommandContext(context.Background(), "go", append(args, what)...)
	cmd.Dir = module
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", what, err, said)
	}
	return nil
}

// shared is the PostgreSQL of the tests that do not harm it. It flushes to disk as in
// production. Each test has a copy of its template, which is migrated and seeded.
var shared struct {
	once      sync.Once
	postgres  *testenv.PostgresServer
	err       error
	cloning   sync.Mutex // a template serves one copy at a time
	databases int
}
