package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/doctor"
)

func TestDoctor(t *testing.T) {
	s := newPair(t)
	r := s.program("doctor") // the servers of tests do not flush
	require.Equal(t, exitFailed, r.code, r.stderr)
	require.Regexp(t, `^aggregator: 1 of \d+ checks found a problem\n$`, r.stderr)
	require.Regexp(t, `(?m)^ok +Redis +version +\d+\.\d+`, r.stdout)
	require.Regexp(t, `(?m)^warning +Redis +append-only file +off: [^\n]+\n +-> CONFIG SET appendonly yes`, r.stdout)
	require.Regexp(t, `(?m)^problem +PostgreSQL +durability +fsync is off: [^\n]+\n +-> set fsync to on`, r.stdout)

	require.Regexp(t, `\n\d+ ok, 1 warning, 1 problem(, \d+ unknown)?\n$`, r.stdout)

	var document struct {
		OK       bool
		Findings []doctor.Finding
		Summary  doctor.Summary
	}
	r = s.program("doctor", "-o", "json")
	require.Equal(t, exitFailed, r.code)
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &document))
	require.False(t, document.OK)
	require.NotEmpty(t, document.Findings)
	require.Equal(t, doctor.Summarize(document.Findings), document.Summary)
	require.Equal(t, 1, document.Summary.Problems)
}

// That a source has entries and no consumer group is as it has to be before the first drain, and odd
// after it.
func TestDoctorBeforeAndAfterTheFirstDrain(t *testing.T) {
	s := newPair(t)
	s.push("1:1:LIKE")
	require.Regexp(t, `(?m)^ok +Redis +source book-like-events +entries there: 1; none was processed yet`,
		s.program("doctor").stdout)
	require.Zero(t, s.program("drain").code)
	s.push("1:1:LIKE")
	require.NotContains(t, s.program("doctor").stdout, "bookmark of")
	require.NoError(t, s.redis.XGroupDestroy(t.Context(), "book-like-events", "aggregator").Err())
	require.Regexp(t, `(?m)^warning +both +bookmark of book-like-events +the source was drained, and consumer group `+
		`"aggregator" does not exist`, s.program("doctor").stdout)
}

// With a server down, what the other one has is shown, and that it is down is a problem.
func TestDoctorOfHalf(t *testing.T) {
	s := newPair(t)
	noRedis := append(s.env[:3:3], "AGGREGATOR_REDIS_URL=redis://u:hunter2@127.0.0.1:1")
	r := program(t, noRedis, "doctor")
	require.Equal(t, exitUnreachable, r.code)
	require.Equal(t, "aggregator: Redis at 127.0.0.1:1 is not reachable: connection refused\n", r.stderr)
	require.Regexp(t, `(?m)^problem +Redis +connection +Redis at 127.0.0.1:1 is not reachable: connection refused\n`+
		` +-> start it, or see redis.url`, r.stdout)
	require.Regexp(t, `(?m)^ok +PostgreSQL +version `, r.stdout)
	require.Regexp(t, `, 2 problems(, \d+ unknown)?\n$`, r.stdout) // the other one is fsync

	var document struct {
		OK       bool
		Findings []doctor.Finding
		Summary  doctor.Summary
	}
	r = program(t, noRedis, "doctor", "-o", "json")
	require.Equal(t, exitUnreachable, r.code)
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &document))
	require.False(t, document.OK)
	require.Equal(t, 2, document.Summary.Problems)
	require.Equal(t, "Redis connection", document.Findings[0].Server+" "+document.Findings[0].Check)

	r = program(t, append(s.env[:3:3], "AGGREGATOR_POSTGRES_URL=postgres://u:hunter2@127.0.0.1:1/d"), "doctor")
	require.Equal(t, exitUnreachable, r.code)
	require.Contains(t, r.stdout, "append-only file")
	require.Regexp(t, `(?m)^problem +PostgreSQL +connection +PostgreSQL at 127.0.0.1:1`, r.stdout)
	require.Regexp(t, `, 1 problem(, \d+ unknown)?\n$`, r.stdout)
	require.NotContains(t, r.stdout+r.stderr, "hunter2")

	r = program(t, []string{
		"AGGREGATOR_REDIS_URL=redis://127.0.0.1:1",
		"AGGREGATOR_POSTGRES_URL=postgres://u@127.0.0.1:1/d",
	}, "doctor")
	require.Equal(t, exitUnreachable, r.code)
	require.Regexp(t, `\n0 ok, 0 warnings, 2 problems\n$`, r.stdout)
	require.Regexp(t, `^aggregator: Redis at .*\n.*PostgreSQL at `, r.stderr)
}
