package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/runs"
	"aggregator/internal/testenv"
)

// With a schedule the service drains when it says so, and what was missed at its start. A
// reload puts another one in force.
func TestServiceBySchedule(t *testing.T) {
	s := newPair(t)
	s.exec(
		`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, finished_at, outcome, read, applied, dead,
			profiles, chunks)
		VALUES ('k', 'drain', 'h', 'v', now() - interval '2 days', now(), now(), 'done', 0, 0, 0, 0, 0)`)
	s.push("1:1:LIKE", "junk")
	file := filepath.Join(t.TempDir(), "a.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	hour := (time.Now().UTC().Hour() + 12) % 24
	write(fmt.Sprintf("schedule: {drain: \"CRON_TZ=UTC 30 %d * * *\"}\n", hour))
	p := s.start("--config", file)
	s.settled("2")
	p.eventually("/readyz", "the next drain is due at ")
	p.eventually("/readyz", `"ready": true`)
	p.eventually("/readyz", `"state": "resting"`)
	p.eventually("/metrics", `aggregator_job_due_timestamp_seconds{kind="drain"} 1`)
	p.eventually("/metrics", `aggregator_job_last_success_timestamp_seconds{kind="drain"} 1`)
	drains := s.runs("--kind", "drain")
	require.Len(t, drains, 2)
	require.Equal(t, runs.Done, drains[0].Outcome)
	require.NotNil(t, drains[0].Due)
	require.EqualValues(t, 2, drains[0].Read)
	require.EqualValues(t, 1, drains[0].Applied)

	s.push("1:1:LIKE")
	write("schedule: {drain: \"\"}\n")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	s.settled("3")
	_, metrics := p.get("/metrics")
	require.NotContains(t, metrics, "aggregator_job_due_timestamp_seconds{", "it has no schedule any more")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait())
	require.Len(t, s.runs("--kind", "drain"), 2)
	session := s.runs("--kind", "service")[0]
	require.Equal(t, runs.Stopped, session.Outcome)
	require.EqualValues(t, 1, session.Read, "what has a record of its own does not count twice")
}

// Jobs of different kinds run side by side, beside a drain that goes on all the time. What
// the role may not do is an error of the job, and of no other.
func TestServiceDoesOtherJobs(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	s.exec(`INSERT INTO child_personality_history (child_profile_id, is_deleted, deleted_at) VALUES (1, true, now() - ` +
		`interval '1 year')`)
	s.exec(
		`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, finished_at, outcome, read, applied, dead,
			profiles, chunks)
		SELECT k, k, 'h', 'v', now() - interval '2 days', now(), now(), 'done', 0, 0, 0, 0, 0
			FROM unnest('{purge,search_text}'::text[]) k`)
	hour := (time.Now().UTC().Hour() + 12) % 24
	start := func() *process {
		return s.start("--schedule-purge", fmt.Sprintf("0 %d * * *", hour), "--schedule-search-text",
			fmt.Sprintf("30 %d * * *", hour))
	}
	latest := func(kind string, due bool) (run runLine) {
		t.Helper()
		require.Eventually(t, func() bool {
			run = s.runs("--kind", kind, "--last", "1")[0]
			return run.Finished != nil && (run.Due != nil) == due
		}, patience, 10*time.Millisecond)
		return run
	}
	stop := func(p *process) {
		t.Helper()
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, p.cmd.Wait())
	}
	p := start()
	refresh := latest("search_text", true)
	require.Equal(t, runs.Done, refresh.Outcome)
	require.EqualValues(t, 1, refresh.Applied)
	purge := latest("purge", true)
	require.Equal(t, runs.Failed, purge.Outcome)
	require.Contains(t, purge.Error, "permission denied for table child_personality_history")
	p.eventually("/metrics", `aggregator_job_last_failure_timestamp_seconds{kind="purge"} 1`)
	s.push("1:1:LIKE")
	s.settled("1")
	stop(p)

	// Roles are shared with other tests: in place of the daemon's, which would be given the
	// purge's, one that has been given both.
	s.exec(`DROP ROLE IF EXISTS by_night`)
	s.exec(`CREATE ROLE by_night LOGIN IN ROLE aggregator_daemon, aggregator_purge`)
	s.env = append(s.env, "AGGREGATOR_POSTGRES_URL="+testenv.As(t, s.db.Config().ConnString(), "by_night"))
	s.exec(`DELETE FROM aggregator.run WHERE due_at IS NOT NULL`)
	p = start()
	purge = latest("purge", true)
	require.Equal(t, runs.Done, purge.Outcome, purge.Error)
	require.EqualValues(t, 1, purge.Applied)
	stop(p)
}

func TestScheduleThatIsNeverDue(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"run", "drain"} {
		program(t, []string{"AGGREGATOR_SCHEDULE_DRAIN=0 0 30 2 *"}, command).requireFailure(t, exitConfig,
			`schedule.drain = "0 0 30 2 *" (env AGGREGATOR_SCHEDULE_DRAIN): it is never due: there is no such day`)
	}
}
