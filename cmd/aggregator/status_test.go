package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func (s *pair) status(env ...string) (result, statusReport) {
	s.t.Helper()
	r := program(s.t, append(s.env[:len(s.env):len(s.env)], env...), "status", "-o", "json")
	var report statusReport
	require.NoError(s.t, json.Unmarshal([]byte(r.stdout), &report), r.stderr)
	return r, report
}

func TestStatus(t *testing.T) {
	s := newPair(t)
	s.push("1:1:LIKE", "2:1:LIKE", "junk")
	r, report := s.status()
	r.requireDone(t)
	require.True(t, report.Redis.OK)
	require.Regexp(t, `^\d+\.\d+`, report.Redis.Version)
	require.Regexp(t, `^\d+\.\d+`, report.Postgres.Version)
	require.Positive(t, report.Postgres.LatencySeconds)
	require.Positive(t, report.Redis.LatencySeconds)
	require.True(t, report.Schema.OK)
	require.Positive(t, report.Schema.Version)
	require.Len(t, report.Sources, 1)
	source := report.Sources[0]
	require.Equal(t, "book-like-events", source.Key)
	require.EqualValues(t, 3, *source.Waiting)
	require.Nil(t, source.Checkpoint)
	require.Nil(t, source.Lease)
	require.Empty(t, report.Dead)

	require.Zero(t, s.program("drain").code)
	s.push("1:1:LIKE")
	s.exec(`INSERT INTO aggregator.lease VALUES ('book-like-events', 'somebody', now(), now() + interval '1 hour')`)
	r, report = s.status()
	r.requireDone(t)
	source = report.Sources[0]
	require.EqualValues(t, 1, *source.Waiting)
	require.NotEmpty(t, source.Checkpoint.Position)
	require.Equal(t, "somebody", source.Lease.Holder)
	require.EqualValues(t, 1, report.Dead["unknown_profile"])
	require.EqualValues(t, 1, report.Dead["malformed"])

	text := s.program("status")
	text.requireDone(t)
	require.Regexp(t, `(?m)^book-like-events +book-like-events +1 +\d+-\d+ +\S+ ago +somebody +\S+$`, text.stdout)
	require.Contains(t, text.stdout, "dead letters not settled: 1 malformed, 1 unknown_profile\n")
}

// When one server is down, the other one is shown.
func TestStatusOfHalf(t *testing.T) {
	s := newPair(t)
	s.push("1:1:LIKE", "1:1:LIKE", "2:1:LIKE")
	require.Zero(t, s.program("drain").code)
	s.push("1:1:LIKE", "1:1:LIKE")

	r, report := s.status("AGGREGATOR_REDIS_URL=redis://u:hunter2@127.0.0.1:1")
	require.Equal(t, exitUnreachable, r.code)
	require.Equal(t, "aggregator: Redis at 127.0.0.1:1 is not reachable: connection refused\n", r.stderr)
	require.False(t, report.Redis.OK)
	require.True(t, report.Postgres.OK)
	require.Nil(t, report.Sources[0].Waiting)
	require.NotNil(t, report.Sources[0].Checkpoint)
	require.EqualValues(t, 1, report.Dead["unknown_profile"])

	r, report = s.status("AGGREGATOR_POSTGRES_URL=postgres://u:hunter2@127.0.0.1:1/d")
	require.Equal(t, exitUnreachable, r.code)
	require.Contains(t, r.stderr, "PostgreSQL at 127.0.0.1:1")
	require.NotContains(t, r.stderr+r.stdout, "hunter2")
	require.True(t, report.Redis.OK)
	require.False(t, report.Postgres.OK)
	require.Nil(t, report.Dead)
	require.EqualValues(t, 2, *report.Sources[0].Waiting, "by the bookmark in Redis")

	r, report = s.status("AGGREGATOR_POSTGRES_URL=postgres://u@127.0.0.1:1/d", "AGGREGATOR_REDIS_URL=redis://127.0.0.1:1")
	require.Equal(t, exitUnreachable, r.code)
	require.False(t, report.Redis.OK || report.Postgres.OK || report.Schema.OK)
}

func TestStatusWithoutSchema(t *testing.T) {
	s := newPair(t)
	s.exec(`DELETE FROM aggregator.schema_migrations WHERE version_id = (SELECT max(version_id) FROM aggregator.schema_migrations)`)
	r, report := s.status()
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "run: aggregator migrate up")
	require.False(t, report.Schema.OK)
	require.Positive(t, report.Schema.Version)
	require.True(t, report.Postgres.OK)
}
