package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/aggregator"
	"aggregator/internal/runs"
	"aggregator/internal/service"
	"aggregator/internal/testenv"
)

func (s *pair) status(env ...string) (result, statusReport) {
	s.t.Helper()
	r := program(s.t, append(s.env[:len(s.env):len(s.env)], env...), "status", "-o", "json")
	var report statusReport
	require.NoError(s.t, json.Unmarshal([]byte(r.stdout), &report), r.stderr)
	return r, report
}

func TestStatus(t *testing.T) {
	testenv.Long(t)
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
	require.True(t, source.Lease.Held)
	require.GreaterOrEqual(t, *source.OldestAge, 1.0) // it looked for a second
	require.Zero(t, *source.Rate)
	require.Nil(t, source.Service)
	require.EqualValues(t, 1, report.Dead["unknown_profile"])
	require.EqualValues(t, 1, report.Dead["malformed"])

	text := s.program("status")
	text.requireDone(t)
	require.Regexp(t, `(?m)^book-like-events +book-like-events +1 +\d\S*s +0/s +\d+-\d+ +\S+ ago +lease held by somebody$`,
		text.stdout)
	require.Contains(t, text.stdout, "dead letters not settled: 1 malformed, 1 unknown_profile\n")

	s.exec(`UPDATE aggregator.lease SET expires_at = now() + interval '1 day'`)
	text = s.program("status")
	text.requireDone(t)
	require.Regexp(t, `(?m) lease of somebody until \S+Z, by a clock that was fast: free$`, text.stdout)
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
	s.exec(`DELETE FROM aggregator.schema_migrations WHERE version_id = (SELECT max(version_id) FROM ` +
		`aggregator.schema_migrations)`)
	r, report := s.status()
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "run: aggregator migrate up")
	require.False(t, report.Schema.OK)
	require.Positive(t, report.Schema.Version)
	require.True(t, report.Postgres.OK)
}

// What the service does it says itself, if it runs here.
func TestStatusOfTheService(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	p := s.start()
	s.push("1:1:LIKE")
	p.eventually("/readyz", `"working"`)
	env := "AGGREGATOR_HTTP_ADDR=" + strings.TrimPrefix(p.url, "http://")
	require.Eventually(t, func() bool {
		_, report := s.status(env)
		return *report.Sources[0].Waiting == 0
	}, 30*time.Second, 10*time.Millisecond)
	_, report := s.status(env)
	source := report.Sources[0]
	require.Equal(t, aggregator.Working, source.Service.State)
	require.True(t, source.Service.OK && source.Lease.Held)
	require.Nil(t, source.OldestAge)
	_, report = s.status("AGGREGATOR_HTTP_ADDR=127.0.0.1:1")
	require.Nil(t, report.Sources[0].Service)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait())
}

// It goes on when a server goes away, and ends in order when it is told to.
func TestStatusWatch(t *testing.T) {
	s := newPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read, written := io.Pipe()
	a := &app{stdout: written, stderr: t.Output(), cfg: config.Default()}
	for _, setting := range s.env {
		name, value, _ := strings.Cut(setting, "=")
		switch name {
		case "AGGREGATOR_POSTGRES_URL":
			a.cfg.Postgres.URL = config.URL(value)
		case "AGGREGATOR_REDIS_URL":
			a.cfg.Redis.URL = config.URL(value)
		}
	}
	a.cfg.HTTP.Addr = ""
	a.Instance = service.New(a.cfg, slog.New(slog.DiscardHandler), "")
	look, err := a.newLook()
	require.NoError(t, err)
	defer look.close()
	ended := make(chan error, 1)
	go func() {
		ended <- look.watch(ctx, 10*time.Millisecond, nil, func(r *statusReport) error { return writeJSON(written, r) })
	}()
	reports := json.NewDecoder(read)
	next := func() (r statusReport) {
		require.NoError(t, reports.Decode(&r))
		return r
	}
	require.True(t, next().Redis.OK)
	s.push("1:1:LIKE", "1:1:LIKE")
	require.Eventually(t, func() bool { return *next().Sources[0].Waiting == 2 }, 3*time.Minute, time.Millisecond)
	_ = s.redis.Shutdown(t.Context()) // whether it goes is what is looked at
	require.Eventually(t, func() bool { return !next().Redis.OK }, 3*time.Minute, time.Millisecond)
	cancel()
	go func() { _, _ = io.Copy(io.Discard, read) }()
	require.NoError(t, <-ended)
	s.program("status", "--watch=0s").requireFailure(t, exitUsage, "--watch=0s: want a time above 0")
}

// The service that runs comes before a later one that has ended, with the reason if it failed.
func TestStatusShowsTheRunningServiceFirst(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.exec(
		`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, finished_at, outcome, error, read,
			applied, dead, profiles, chunks) VALUES
		('a', 'service', 'h', 'v', now() - interval '1 hour', now(), NULL, NULL, NULL, 0, 0, 0, 0, 0),
		('b', 'service', 'h', 'v', now() - interval '2 minutes', now() - interval '1 minute', now() - interval '1 minute',
			'failed', E'the role may\nnot', 0, 0, 0, 0, 0),
		('c', 'drain', 'h', 'v', now() - interval '2 minutes', now() - interval '1 minute', now() - interval '1 minute',
			'done', NULL, 0, 0, 0, 0, 0)`)
	r, report := s.status()
	r.requireDone(t)
	require.Len(t, report.Runs, 3)
	require.Equal(t, []runs.Outcome{runs.Done, runs.Running, runs.Failed},
		[]runs.Outcome{report.Runs[0].Outcome, report.Runs[1].Outcome, report.Runs[2].Outcome})
	require.Regexp(t, `(?m)^last service: running since \S+Z, read 0, dead 0\nlast service: failed after 1m0s at \S+Z, `+
		`read 0, dead 0: the role may not$`, s.program("status").stdout)
}
