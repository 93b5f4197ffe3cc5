package faults_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"aggregator/internal/testenv"
	"aggregator/internal/testenv/build"
)

// module is the folder of go.mod, seen from this package.
const module = "../.."

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.postgres != nil {
		if err := shared.postgres.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// programs are what is tested and what tests it, built once.
var programs struct {
	once       sync.Once
	aggregator string // with the points at which it can be made to crash
	loadgen    string
	err        error
}

func buildPrograms(t *testing.T) {
	t.Helper()
	programs.once.Do(func() {
		var flags []string
		if os.Getenv("FAULTS_RACE") != "" {
			flags = []string{"-race"}
		}
		ctx := context.WithoutCancel(t.Context()) // other tests have them, too
		var err error
		programs.aggregator, programs.err = buildDaemon(ctx, flags...)
		programs.loadgen, err = build.Program(ctx, module, "./scripts/loadgen")
		programs.err = errors.Join(programs.err, err)
	})
	if programs.err != nil {
		t.Fatal(programs.err)
	}
}

// buildDaemon builds the daemon with the points at which it can be made to crash.
func buildDaemon(ctx context.Context, flags ...string) (file string, err error) {
	return build.Program(ctx, module, "./cmd/aggregator", append(flags, "-tags", "faults")...)
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
