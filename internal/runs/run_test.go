package runs_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/runs"
	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func connect(t *testing.T) *pgxpool.Pool {
	t.Helper()
	t.Parallel()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Database(t), MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func recorder(t *testing.T, pool *pgxpool.Pool) runs.Recorder {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	return runs.Recorder{Pool: pool, Host: "here", Version: "1.2.3", Keep: 3, Log: log}
}

func listed(t *testing.T, pool *pgxpool.Pool, kind string) []runs.Run {
	t.Helper()
	all, err := runs.Latest(t.Context(), pool, kind, 100)
	require.NoError(t, err)
	return all
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func nothing() (runs.Outcome, error) { return runs.Done, nil }

func TestRunIsRecorded(t *testing.T) {
	pool := connect(t)
	r := recorder(t, pool)
	var read atomic.Int64
	counts := func() runs.Counts {
		n := read.Load()
		return runs.Counts{Read: n, Applied: n - 1, Dead: 1, Profiles: n / 2, Chunks: 1}
	}
	due := time.Date(2026, 11, 22, 2, 30, 0, 0, time.UTC)
	job := runs.Job{Kind: "drain", Due: due, Counts: counts}
	require.NoError(t, r.Record(t.Context(), job, func() (runs.Outcome, error) {
		require.Eventually(t, func() bool { return len(listed(t, pool, "")) == 1 }, time.Minute, time.Millisecond,
			"it is there from the beginning")
		run := listed(t, pool, "")[0]
		require.Equal(t, runs.Running, run.Outcome)
		require.Nil(t, run.Ended)
		read.Store(1000)
		return runs.Limited, nil
	}))
	run := listed(t, pool, "drain")[0]
	require.Equal(t, runs.Limited, run.Outcome)
	require.Equal(t, runs.Counts{Read: 1000, Applied: 999, Dead: 1, Profiles: 500, Chunks: 1}, run.Counts)
	require.Equal(t, "here 1.2.3", run.Host+" "+run.Version)
	require.True(t, run.Due.Equal(due))
	require.False(t, run.Ended.Before(run.Started))
	require.InDelta(t, 1000/run.Ended.Sub(run.Started).Seconds(), run.Rate, 1)
	require.Empty(t, run.Error)

	failure := errors.New("nul \x00 and half a rune " + strings.Repeat("é", 1000))
	require.Equal(t, failure, r.Record(t.Context(), runs.Job{Kind: "purge"}, func() (runs.Outcome, error) {
		return runs.Done, failure
	}))
	run = listed(t, pool, "purge")[0]
	require.Equal(t, runs.Failed, run.Outcome)
	require.Contains(t, run.Error, "nul  and half a rune éé")
	require.Nil(t, run.Due)
	require.Zero(t, run.Rate)

	latest, err := runs.LatestByKind(t.Context(), pool)
	require.NoError(t, err)
	require.Len(t, latest, 2)
	require.Equal(t, "drain", latest[0].Kind)
	require.Equal(t, "purge", latest[1].Kind)
}

// The end is written although the context of the run has ended: by SIGTERM, it always has.
func TestRunIsRecordedWhenStopped(t *testing.T) {
	pool := connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, recorder(t, pool).Record(ctx, runs.Job{Kind: "drain"}, func() (runs.Outcome, error) {
		cancel()
		return runs.Stopped, nil
	}))
	require.Equal(t, runs.Stopped, listed(t, pool, "")[0].Outcome)
}

// A run that is killed leaves its row as it was, which tells for itself after a while, and
// is in nobody's way.
func TestRunIsInterrupted(t *testing.T) {
	pool := connect(t)
	exec(
		t, pool,
		`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, read, applied, dead, profiles, chunks)
		SELECT 'k' || n, 'drain', 'h', 'v', now() - interval '1 hour', now() - n * interval '1 minute', 10, 10, 0, 1, 1
			FROM generate_series(0, 1) n`)
	all := listed(t, pool, "drain")
	require.Equal(t, runs.Interrupted, all[0].Outcome)
	require.Equal(t, runs.Running, all[1].Outcome)
	require.Nil(t, all[0].Ended)
	require.NoError(t, recorder(t, pool).Record(t.Context(), runs.Job{Kind: "drain"}, nothing))
	require.Len(t, listed(t, pool, "drain"), 3)
}

func TestRunsArePruned(t *testing.T) {
	pool := connect(t)
	r := recorder(t, pool) // keeps 3
	exec(
		t, pool,
		`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, read, applied, dead, profiles, chunks)
		VALUES ('alive', 'drain', 'h', 'v', now(), now(), 0, 0, 0, 0, 0), ('gone', 'drain', 'h', 'v', now(),
			now() - interval '1 hour', 0, 0, 0, 0, 0)`)
	require.NoError(t, r.Record(t.Context(), runs.Job{Kind: "purge"}, nothing))
	for range 6 {
		require.NoError(t, r.Record(t.Context(), runs.Job{Kind: "drain"}, nothing))
	}
	left := listed(t, pool, "drain")
	require.Len(t, left, 3+1+1) // the last one ended after it had looked, and one still runs
	require.Equal(t, runs.Running, left[4].Outcome)
	require.Len(t, listed(t, pool, "purge"), 1, "each kind for itself")
}

// A row that was never written, or that PostgreSQL has lost in a crash, is written with the
// next sign of life, the last one at the latest.
func TestRunIsRecordedAfterAll(t *testing.T) {
	pool := connect(t)
	record := func(meanwhile func()) {
		require.NoError(t, recorder(t, pool).Record(t.Context(), runs.Job{Kind: "drain"}, func() (runs.Outcome, error) {
			meanwhile()
			return runs.Done, nil
		}))
		require.Equal(t, runs.Done, listed(t, pool, "")[0].Outcome)
	}
	record(func() {
		require.Eventually(t, func() bool { return len(listed(t, pool, "")) == 1 }, time.Minute, time.Millisecond)
		exec(t, pool, `DELETE FROM aggregator.run`)
	})
	exec(t, pool, `DELETE FROM aggregator.run`)
	exec(t, pool, `ALTER TABLE aggregator.run RENAME TO hidden`)
	record(func() { exec(t, pool, `ALTER TABLE aggregator.hidden RENAME TO run`) })
}

// Without PostgreSQL the job is done all the same.
func TestRunWithoutPostgres(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t)
	u, err := server.CreateDatabase(t.Context(), "app", "")
	require.NoError(t, err)
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: u, MaxConns: 2})
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, server.Close())
	var said bytes.Buffer
	r := recorder(t, pool)
	r.Log = slog.New(slog.NewTextHandler(&said, nil))
	done := false
	require.NoError(t, r.Record(t.Context(), runs.Job{Kind: "drain"}, func() (runs.Outcome, error) {
		done = true
		return runs.Done, nil
	}))
	require.True(t, done)
	require.Contains(t, said.String(), `msg="could not record the end of the run" kind=drain`)
}

// addRun adds a run that was due, if at all, and began at these times, and has ended if it has an
// outcome.
func addRun(t *testing.T, pool *pgxpool.Pool, kind string, due any, started time.Time, outcome string) {
	t.Helper()
	exec(
		t, pool,
		`INSERT INTO aggregator.run (key, kind, host, version, due_at, started_at, seen_at, finished_at, outcome, read,
			applied, dead, profiles, chunks)
		VALUES (gen_random_uuid()::text, $1, 'h', 'v', $2, $3::timestamptz, $3::timestamptz,
			CASE WHEN $4::text <> '' THEN $3::timestamptz END, nullif($4, ''), 0, 0, 0, 0, 0)`,
		kind, due, started, outcome)
}

// lastDue is when the job was last due, by a clock that is ahead of PostgreSQL's.
func lastDue(t *testing.T, pool *pgxpool.Pool, kind string, ahead time.Duration) runs.LastDue {
	t.Helper()
	last, err := runs.ReadLastDue(t.Context(), pool, kind, time.Now().Add(ahead))
	require.NoError(t, err)
	return last
}

func TestLastDue(t *testing.T) {
	pool := connect(t)
	require.Equal(t, runs.LastDue{}, lastDue(t, pool, "purge", 0))
	yesterday := time.Now().Add(-24 * time.Hour).Truncate(time.Hour)
	at := func(hour int) time.Time { return yesterday.Add(time.Duration(hour) * time.Hour) }
	for _, tc := range []struct {
		kind, outcome string
		due           any
		started, want time.Time
	}{
		{"purge", "stopped", nil, at(0), time.Time{}}, // nobody wants that done who does not ask again
		{"purge", "stopped", at(0), at(0), at(0).Add(-time.Microsecond)},
		{"purge", "", at(1), at(1), at(0).Add(-time.Microsecond)},
		{"purge", "done", nil, at(1), at(1)},
		{"drain", "done", nil, at(9), at(1)},
		{"purge", "failed", at(3), at(2), at(3)}, // our clock is ahead of PostgreSQL's
		{"purge", "limited", at(3), at(4), at(4)},
		{"purge", "stopped", at(5), at(5), at(4)},
		{"purge", "", at(6), at(6), at(4)},
	} {
		addRun(t, pool, tc.kind, tc.due, tc.started, tc.outcome)
		last := lastDue(t, pool, "purge", 0)
		require.WithinDuration(t, tc.want, last.At, time.Minute, "after %s %s", tc.kind, tc.outcome)
		require.False(t, last.Ahead)
	}
}

// What clocks that are ahead, or behind, have recorded does not count as done in the future of
// those that are right, nor does it take the place of what these have recorded.
func TestLastDueByWrongClocks(t *testing.T) {
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	now := time.Now().Truncate(time.Second)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, tc := range map[string]struct {
		ahead   time.Duration // our clock, of PostgreSQL's, as it is now
		due     any
		started time.Time
		outcome string
		want    time.Time // by our clock
		warns   bool
	}{
		"both were a day ahead":          {0, ago(-day), ago(-day), "done", ago(2 * time.Hour), true},
		"both were a year ahead":         {0, ago(-year), ago(-year), "failed", ago(2 * time.Hour), true},
		"by hand, a day ahead":           {0, nil, ago(-day), "done", ago(2 * time.Hour), true},
		"ours was a day ahead":           {0, ago(-day), ago(time.Hour), "done", ago(time.Hour), true},
		"PostgreSQL's was a day ahead":   {0, ago(time.Hour), ago(-day), "done", ago(time.Hour), true},
		"within the slack":               {0, ago(-30 * time.Second), ago(time.Hour), "done", ago(-30 * time.Second), false},
		"interrupted, a day ahead":       {0, ago(-day), ago(-day), "", ago(2 * time.Hour), true},
		"both were a year behind":        {0, ago(year), ago(year), "done", ago(2 * time.Hour), false},
		"ours is a day ahead":            {day, ago(-day + time.Hour), ago(time.Hour), "done", ago(-day + time.Hour), false},
		"ours is a day ahead, by hand":   {day, nil, ago(time.Hour), "done", ago(-day + time.Hour), false},
		"PostgreSQL's is a day ahead":    {-day, ago(day + time.Hour), ago(time.Hour), "done", ago(day + time.Hour), false},
		"PostgreSQL's is a day ahead, 2": {-day, nil, ago(time.Hour), "done", ago(day + time.Hour), false},
	} {
		t.Run(name, func(t *testing.T) {
			pool := connect(t)
			addRun(t, pool, "drain", ago(2*time.Hour-tc.ahead), ago(2*time.Hour), "done")
			addRun(t, pool, "drain", tc.due, tc.started, tc.outcome)
			last := lastDue(t, pool, "drain", tc.ahead)
			require.WithinDuration(t, tc.want, last.At, time.Minute)
			require.Equal(t, tc.warns, last.Ahead)
		})
	}

	t.Run("never in the past", func(t *testing.T) {
		pool := connect(t)
		addRun(t, pool, "drain", ago(-day), ago(-day), "done")
		addRun(t, pool, "drain", ago(-day), ago(-day), "stopped")
		require.Equal(t, runs.LastDue{Ahead: true}, lastDue(t, pool, "drain", 0))
	})
}

// How jobs ended is told without what a clock that was ahead has recorded: a failure of tomorrow
// would stand until then, whatever succeeds.
func TestLastEndsByAWrongClock(t *testing.T) {
	pool := connect(t)
	for _, outcome := range []string{"done", "failed"} {
		addRun(t, pool, "purge", nil, time.Now().Add(-time.Hour), outcome)
		addRun(t, pool, "purge", nil, time.Now().Add(24*time.Hour), outcome)
	}
	ends, err := runs.LastEnds(t.Context(), pool)
	require.NoError(t, err)
	require.Len(t, ends, 1)
	require.True(t, ends[0].Well.Before(time.Now()))
	require.True(t, ends[0].Failed.Before(time.Now()))
}

// A run that was killed while the clock was ahead does not live until the clock gets there.
func TestRunIsInterruptedByAWrongClock(t *testing.T) {
	pool := connect(t)
	for _, ahead := range []time.Duration{2 * time.Minute, 365 * 24 * time.Hour} {
		addRun(t, pool, "drain", nil, time.Now().Add(ahead), "")
	}
	for _, run := range listed(t, pool, "drain") {
		require.Equal(t, runs.Interrupted, run.Outcome)
	}
	for range 4 { // of which 3 are kept
		require.NoError(t, recorder(t, pool).Record(t.Context(), runs.Job{Kind: "drain"}, nothing))
	}
	for _, run := range listed(t, pool, "drain") {
		require.Equal(t, runs.Done, run.Outcome)
	}
}
