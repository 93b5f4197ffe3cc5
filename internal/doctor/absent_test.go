package doctor_test

import (
	command "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/doctor"
	"aggregator/internal/testenv"
)

// What was dropped after the migration is named, whatever the table of versions says.
func TestAbsent(t *testing.T) {
	testenv.Long(t)
	const there = "problem schema: its version is that of this program, but there is no "
	for fault, want := range map[string]struct{ found, advice string }{
		`DROP TABLE aggregator.member`: {"table aggregator.member", "it holds nothing that must be kept"},
		`DROP TABLE aggregator.lease, aggregator.run`: {
			"table aggregator.lease, table aggregator.run", "it holds nothing that must be kept",
		},
		`DROP TABLE aggregator.mark, aggregator.member`: {
			"table aggregator.mark, table aggregator.member", "without the rows of aggregator.mark events may count twice",
		},
		`ALTER TABLE aggregator.checkpoint DROP COLUMN epoch`: {
			"column aggregator.checkpoint.epoch", "without the rows of aggregator.checkpoint.epoch events",
		},
		`DROP PROCEDURE aggregator.apply_each`: {
			"function aggregator.apply_each (of 29 arguments)", "it holds nothing that must be kept",
		},
		`ALTER FUNCTION aggregator.require SET SCHEMA public;
			CREATE FUNCTION aggregator.require(boolean) RETURNS boolean LANGUAGE sql RETURN $1`: {
			"function aggregator.require (of 3 arguments)", "it holds nothing that must be kept",
		},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			findings := findingsOf(t, fault)
			requireFinding(t, findings, there+want.found)
			require.Contains(t, adviceOf(findings, "schema"), want.advice)
		})
	}
}

// Without the table of versions nothing says that the schema was migrated, and migrate up does not help.
func TestVersionsAbsent(t *testing.T) {
	t.Parallel()
	findings := findingsOf(t, `DROP TABLE aggregator.schema_migrations`)
	requireFinding(t, findings, "problem schema: there is no table aggregator.schema_migrations, but other tables")
	require.Contains(t, adviceOf(findings, "schema"), "migrate up would fail")
	requireFinding(t, findingsOf(t, `DELETE FROM aggregator.schema_migrations`),
		"problem schema: aggregator.schema_migrations has no rows, but other tables")
}

func adviceOf(findings []doctor.Finding, check string) string {
	for _, f := range findings {
		if f.Check == check {
			return f.Advice
		}
	}
	return ""
}

// The way back that is advised leads there: what holds nothing lasting is copied from a new database.
func TestAbsentIsMadeAgain(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_dump")
	require.NoError(t, err)
	if path, err := command.LookPath("pg_dump"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		t.Skip("there is no pg_dump")
	}
	u := testenv.Database(t)
	run := func(tool string, args ...string) string {
		out, err := command.CommandContext(t.Context(), filepath.Join(filepath.Dir(found[0]), tool), args...).Output()
		require.NoError(t, err, tool)
		return string(out)
	}
	was := strings.Join(without(open(t, testenv.As(t, u, "aggregator_daemon"), false)), "\n")
	exec(t, u, `DROP TABLE aggregator.member, aggregator.lease`, `DROP PROCEDURE aggregator.apply_each`)
	requireFinding(t, open(t, testenv.As(t, u, "aggregator_daemon"), false), "problem schema: ")
	file := filepath.Join(t.TempDir(), "schema.sql")
	run("pg_dump", "--schema-only", "--schema", "aggregator", "--file", file, testenv.Database(t))
	run("psql", "--quiet", "--file", file, u)
	require.NoError(t, testenv.Grant(t.Context(), u))
	require.Equal(t, was, strings.Join(without(open(t, testenv.As(t, u, "aggregator_daemon"), false)), "\n"))
}
