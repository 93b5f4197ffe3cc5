package main

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// schema is a database in which a newer program, or this one, migrates.
type schema struct {
	t     *testing.T
	env   []string
	db    *pgx.Conn
	known int64 // the newest migration of this program
}

func newSchema(t *testing.T) *schema {
	t.Helper()
	t.Parallel()
	u := testenv.Database(t)
	env := []string{"AGGREGATOR_POSTGRES_URL=" + testenv.As(t, u, "aggregator_migrate"), "AGGREGATOR_LOG_FORMAT=text"}
	s := &schema{t: t, env: env}
	var err error
	s.db, err = pgx.Connect(t.Context(), u)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.db.Close(t.Context()) })
	s.known = s.version()
	return s
}

func (s *schema) exec(sql string, args ...any) {
	s.t.Helper()
	_, err := s.db.Exec(s.t.Context(), sql, args...)
	require.NoError(s.t, err)
}

func (s *schema) version() (version int64) {
	s.t.Helper()
	err := s.db.QueryRow(s.t.Context(), `SELECT max(version_id) FROM aggregator.schema_migrations`).Scan(&version)
	require.NoError(s.t, err)
	return version
}

const (
	newer = `INSERT INTO aggregator.schema_migrations (version_id, is_applied)
		SELECT max(version_id) + 1, true FROM aggregator.schema_migrations`
	compatible = `INSERT INTO aggregator.schema_compatibility
		SELECT max(version_id), max(version_id) - 1 FROM aggregator.schema_migrations`
)

func (s *schema) status() (list []migrationState) {
	s.t.Helper()
	r := program(s.t, s.env, "migrate", "status", "-o", "json")
	r.requireDone(s.t)
	var status struct{ Migrations []migrationState }
	require.NoError(s.t, json.Unmarshal([]byte(r.stdout), &status))
	return status.Migrations
}

func TestMigrateDown(t *testing.T) {
	s := newSchema(t)
	r := program(t, s.env, "migrate", "down")
	require.Equal(t, exitUsage, r.code)
	require.Equal(t, "aggregator: nothing was changed; pass --yes to confirm\n", r.stderr)
	require.Contains(t, r.stdout, " would be undone:\n    ")
	require.Contains(t, r.stdout, fmt.Sprintf("the schema would be at version %d\n", s.known-1))
	require.Equal(t, s.known, s.version())

	r = program(t, s.env, "migrate", "down", "--to", "8")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stdout, "9 compatibility would be undone:\n    DROP TABLE aggregator.schema_compatibility;\n"+
		"the schema would be at version 8\n")

	r = program(t, s.env, "migrate", "down", "--yes")
	r.requireDone(t)
	require.Regexp(t, fmt.Sprintf(`^undid %d \w+\nthe schema is at version %d\n$`, s.known, s.known-1), r.stdout)
	require.Equal(t, s.known-1, s.version())
	list := s.status()
	require.Equal(t, "pending", list[len(list)-1].State)
	program(t, s.env, "runs").requireFailure(t, exitFailed,
		fmt.Sprintf("is at version %d and version %d is needed; run: aggregator migrate up", s.known-1, s.known))

	program(t, s.env, "migrate", "down", "--to", fmt.Sprint(s.known)).
		requireFailure(t, exitFailed, fmt.Sprintf("it is at version %d, before %d", s.known-1, s.known))
	r = program(t, s.env, "migrate", "down", "--to", fmt.Sprint(s.known-1), "--yes")
	r.requireDone(t)
	require.Equal(t, fmt.Sprintf("the schema is at version %d\n", s.known-1), r.stdout)

	r = program(t, s.env, "migrate", "up")
	r.requireDone(t)
	require.Regexp(t, fmt.Sprintf(`^applied %d \w+\nthe schema is at version %d\n$`, s.known, s.known), r.stdout)
	r = program(t, s.env, "migrate", "down", "--to", "8", "--yes")
	r.requireDone(t)
	require.EqualValues(t, 8, s.version())
	program(t, s.env, "migrate", "up").requireDone(t)
	program(t, s.env, "runs").requireDone(t)
}

func TestMigrateDownCannot(t *testing.T) {
	s := newSchema(t)
	for _, args := range [][]string{{"--to", "7"}, {"--to", "7", "--yes"}, {"--to", "0", "--yes"}} {
		program(t, s.env, append([]string{"migrate", "down"}, args...)...).
			requireFailure(t, exitFailed, "this migration cannot be undone: 8 epoch; what it has made is needed to count each")
	}
	program(t, s.env, "migrate", "down", "--to", "-1").requireFailure(
		t, exitUsage, "--to=-1: want a version of the schema")
	program(t, append(s.env, "AGGREGATOR_POSTGRES_POOLER=transaction"), "migrate", "down").
		requireFailure(t, exitConfig, "migrations hold a session lock")
	require.Equal(t, s.known, s.version())

	s.exec(newer)
	s.exec(compatible)
	program(t, s.env, "migrate", "down", "--to", "8", "--yes").requireFailure(t, exitFailed,
		fmt.Sprintf("%d is of a newer program, and this one was built for %d; undo it with that program", s.known+1, s.known))
	require.Equal(t, s.known+1, s.version())
}

// What runs in this version needs what would be undone; of another version that is not known.
func TestMigrateDownWhileRunning(t *testing.T) {
	s := newSchema(t)
	run := func(kind, version, seen string) {
		s.exec(
			`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, read, applied, dead, profiles, chunks)
			VALUES (gen_random_uuid()::text, $1, 'h', $2, now() - interval '1 hour', now() - $3::interval, 0, 0, 0, 0, 0)`, kind,
			version, seen)
	}
	run("service", version, "0s")
	for range 101 { // a service runs for long
		run("drain", version, "1 hour") // killed
	}
	run("purge", "another", "0s")
	program(t, s.env, "migrate", "down").requireCode(t, exitUsage)
	r := program(t, s.env, "migrate", "down", "--yes")
	require.Equal(t, exitEventsLeft, r.code)
	require.Contains(t, r.stderr, "the service on h since 2")
	require.Contains(t, r.stderr, "is of this version and needs what would be undone")
	require.Equal(t, s.known, s.version())

	s.exec(`UPDATE aggregator.run SET finished_at = now(), outcome = 'stopped' WHERE kind = 'service'`)
	r = program(t, s.env, "migrate", "down", "--yes")
	require.Zero(t, r.code, r.stderr)
	require.Regexp(t, `^time=\S+ level=WARN msg="a run of another version is live: it halts if it needs what is undone" `+
		`kind=purge host=h version=another since=\S+\n$`, r.stderr)
	require.Equal(t, s.known-1, s.version())
}

func (r result) requireCode(t *testing.T, code int) {
	t.Helper()
	require.Equal(t, code, r.code, r.stderr)
}

// This program works with the schema after its own if that one is marked compatible, and says so.
func TestNewerSchema(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.push("1:1:LIKE", "1:1:LIKE")
	s.program("drain", "--max-events", "1").requireCode(t, exitEventsLeft)
	s.exec(newer)

	migrate := &schema{t: t, env: s.env, db: s.db}
	latest := migrate.version()
	refused := fmt.Sprintf("is at version %d, and this program was built for %d, which migration %[1]d is not marked",
		latest, latest-1)
	for _, args := range [][]string{
		{"drain"}, {"drain", "--dry-run"}, {"run", "--http-addr="}, {"verify"}, {"runs"}, {"migrate", "up"},
	} {
		s.program(args...).requireFailure(t, exitFailed, refused)
	}
	r := s.program("status")
	r.requireCode(t, exitFailed)
	require.Contains(t, r.stdout, refused)
	r = s.program("doctor")
	r.requireCode(t, exitFailed)
	require.Contains(t, r.stdout, refused)
	list := migrate.status()
	require.Equal(t, "unknown", list[len(list)-1].State)
	require.Nil(t, list[len(list)-1].WorksWith)

	s.exec(compatible)
	says := fmt.Sprintf("version %d, this program was built for %d; migration %[1]d is marked compatible", latest,
		latest-1)
	for _, args := range [][]string{{"drain"}, {"verify"}, {"runs"}} {
		r := s.program(args...)
		r.requireCode(t, exitDone)
		require.Regexp(t, `^time=\S+ level=WARN msg="the schema is newer than this program" schema="`+says+`"\n$`, r.stderr)
	}
	var applied int
	require.NoError(t, s.db.QueryRow(t.Context(), `SELECT sum(applied) FROM aggregator.mark`).Scan(&applied))
	require.Equal(t, 2, applied)

	r = s.program("status")
	r.requireDone(t)
	require.Contains(t, r.stdout, "schema      "+says+"\n")
	require.Regexp(t, `warning +PostgreSQL +schema +`+says, s.program("doctor").stdout)
	r = s.program("migrate", "up")
	r.requireDone(t)
	require.Equal(t, "the schema is at "+says+"\n", r.stdout)
	list = migrate.status()
	require.Equal(t, latest-1, *list[len(list)-1].WorksWith)
	require.Nil(t, list[len(list)-1].Undoable)
	require.Contains(t, s.program("migrate", "status").stdout, fmt.Sprintf("%d and later", latest-1))
}
