package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

func TestMigrate(t *testing.T) {
	env := []string{"AGGREGATOR_POSTGRES_URL=" + testenv.EmptyDatabase(t)}

	require.Equal(t, []string{"pending"}, states(t, env))
	up := program(t, env, "migrate", "up")
	up.requireDone(t)
	require.Contains(t, up.stdout, "applied 1 application_tables\n")
	require.Contains(t, up.stdout, "the schema is at version ")
	require.Equal(t, []string{"applied"}, states(t, env))

	again := program(t, env, "migrate", "up")
	again.requireDone(t)
	require.Regexp(t, `^the schema is at version \d+\n$`, again.stdout)

	text := program(t, env, "migrate", "status")
	text.requireDone(t)
	require.Regexp(t, `1 +application_tables +applied +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  - +no\n`, text.stdout)
	require.Regexp(t, `9 +compatibility +applied +\S+Z  9 and later +yes\n`, text.stdout)
}

// states are the different states of the migrations, in order.
func states(t *testing.T, env []string) []string {
	t.Helper()
	r := program(t, env, "migrate", "status", "-o", "json")
	r.requireDone(t)
	var status struct{ Migrations []migrationState }
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &status))
	var all []string
	for _, m := range status.Migrations {
		require.Equal(t, m.State == "applied", m.AppliedAt != nil)
		if len(all) == 0 || all[len(all)-1] != m.State {
			all = append(all, m.State)
		}
	}
	return all
}

func TestMigrateUnreachable(t *testing.T) {
	env := []string{"DATABASE_URL=postgres://u:hunter2@127.0.0.1:1/app"}
	for _, command := range []string{"up", "status"} {
		program(t, env, "migrate", command).
			requireFailure(t, 69, "PostgreSQL at 127.0.0.1:1/app is not reachable: connection refused")
	}
}

// An error of PostgreSQL's says once which database it is.
func TestMigrateReadOnly(t *testing.T) {
	t.Parallel()
	u := testenv.EmptyDatabase(t)
	where := " (PostgreSQL at " + postgres.Describe(u) + ")"
	u += map[bool]string{true: "&", false: "?"}[strings.Contains(u, "?")] + "default_transaction_read_only=on"
	r := program(t, []string{"AGGREGATOR_POSTGRES_URL=" + u}, "migrate", "up")
	r.requireFailure(t, exitFailed, "SQLSTATE 25006")
	require.Equal(t, 1, strings.Count(r.stderr, where), r.stderr)
}

func TestMigrateThroughAPooler(t *testing.T) {
	t.Parallel()
	database := testenv.EmptyDatabase(t)
	u := testenv.NewPgBouncer(t, database).Before(t, database)
	program(t, []string{"AGGREGATOR_POSTGRES_URL=" + u, "AGGREGATOR_POSTGRES_POOLER=transaction"}, "migrate", "up").
		requireFailure(t, exitConfig, `postgres.pooler = "transaction": migrations hold a session lock`)
	program(t, []string{"AGGREGATOR_POSTGRES_URL=" + u}, "migrate", "up").
		requireFailure(t, exitConfig, "a transaction-mode pooler was detected: PgBouncer at ")
}
