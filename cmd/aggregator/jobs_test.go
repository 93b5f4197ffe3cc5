package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/lease"
	"aggregator/internal/postgres"
	"aggregator/internal/runs"
	"aggregator/internal/schedule"
	"aggregator/internal/testenv"
)

// bench is a job with a schedule, on a clock of its own. It is due once a day, half a day
// away from now.
type bench struct {
	*timetable
	t     *testing.T
	time  time.Time
	waits chan time.Time // until when it wants to wait
	goOn  chan time.Time // and what time it is then
	ended chan error
}

var benchTime = time.Now().UTC()

const testLease = 6 * time.Second // long enough to be renewed on a busy machine

func newBench(t *testing.T, database, holder string, do func(context.Context) (runs.Outcome, error)) *bench {
	t.Helper()
	return newBenchAt(t, benchTime, database, holder, do)
}

// newBenchAt is one whose clock says so at first. That of PostgreSQL is right.
func newBenchAt(
	t *testing.T, at time.Time, database, holder string, do func(context.Context) (runs.Outcome, error),
) *bench {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.As(t, database, "aggregator_daemon"), MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	daily, err := schedule.Parse(fmt.Sprintf("%d %d * * *", benchTime.Minute(), (benchTime.Hour()+12)%24), time.UTC)
	require.NoError(t, err)
	b := &bench{t: t, time: at, waits: make(chan time.Time), goOn: make(chan time.Time), ended: make(chan error, 1)}
	log := newLog(t.Output(), slog.LevelDebug, "text")
	b.timetable = &timetable{
		app: &app{cfg: config.Default(), log: log}, schedule: daily, due: &dues{}, pool: pool, holder: holder, lease: testLease,
		job: job{kind: "job", begin: func() (func(context.Context) (runs.Outcome, error), func() runs.Counts) {
			return do, func() runs.Counts { return runs.Counts{Read: 7} }
		}},
		clock: clock{
			now: func() time.Time { return b.time },
			wait: func(ctx context.Context, until time.Time) bool {
				select {
				case <-ctx.Done():
					return false
				case b.waits <- until:
				}
				select {
				case <-ctx.Done():
					return false
				case b.time = <-b.goOn:
				}
				return true
			},
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		b.ended <- b.keep(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-stopped
	})
	return b
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// pass lets the wait be over, which must be until then.
func (b *bench) pass(until time.Time) {
	b.t.Helper()
	b.waitsFor(until)
	b.goOn <- later(b.time, until)
}

func (b *bench) waitsFor(until time.Time) {
	b.t.Helper()
	require.Equal(b.t, until.UTC(), (<-b.waits).UTC())
}

func (b *bench) runs() []runs.Run {
	b.t.Helper()
	all, err := runs.Latest(b.t.Context(), b.pool, "job", 100)
	require.NoError(b.t, err)
	return all
}

func done(context.Context) (runs.Outcome, error) { return runs.Done, nil }

// addRun adds a run that began so long ago.
func addRun(t *testing.T, database string, ago time.Duration, outcome any) time.Time {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), database)
	require.NoError(t, err)
	defer pool.Close()
	began := time.Now().Add(-ago)
	_, err = pool.Exec(t.Context(), `INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, finished_at, outcome, read, applied, dead, profiles, chunks)
		SELECT gen_random_uuid()::text, k, 'h', 'v', $1::timestamptz, $1, CASE WHEN $2::text IS NOT NULL THEN $1 END, $2, 0, 0, 0, 0, 0 FROM unnest('{job,drain}'::text[]) k`, began, outcome)
	require.NoError(t, err)
	return began
}

// What was missed for days is done once, then it goes on as it should.
func TestJobIsCaughtUp(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	last := addRun(t, database, 100*time.Hour, "done")
	addRun(t, database, 50*time.Hour, nil) // killed in the midst of it, which is as if it had not been
	b := newBench(t, database, "a", done)
	missed := b.schedule.Next(last)
	tomorrow := b.schedule.Next(b.time)
	b.pass(tomorrow)
	b.pass(b.schedule.Next(tomorrow))
	b.waitsFor(b.schedule.Next(b.schedule.Next(tomorrow)))
	all := b.runs()
	require.Len(t, all, 5)
	require.True(t, all[2].Due.Equal(missed))
	require.True(t, all[1].Due.Equal(tomorrow))
	require.Equal(t, runs.Done, all[0].Outcome)
	require.EqualValues(t, 7, all[0].Read)
}

// One that was never done has missed nothing.
func TestJobBeginsWhenItIsDue(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.Database(t), "a", done)
	b.waitsFor(b.schedule.Next(b.time))
	require.Empty(t, b.runs())
}

// One that was killed in the midst of its very first time is done after all.
func TestJobIsBegunAgain(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	first := benchTime.Add(-24 * time.Hour)
	pool, err := pgxpool.New(t.Context(), database)
	require.NoError(t, err)
	defer pool.Close()
	_, err = pool.Exec(t.Context(), `INSERT INTO aggregator.run (key, kind, host, version, due_at, started_at, seen_at, read, applied, dead, profiles, chunks)
		VALUES ('k', 'job', 'h', 'v', $1::timestamptz, $1, $1, 0, 0, 0, 0, 0)`, first)
	require.NoError(t, err)
	b := newBench(t, database, "a", done)
	b.waitsFor(b.schedule.Next(benchTime))
	require.Equal(t, runs.Done, b.runs()[0].Outcome)
}

// Of two instances one does the job; the other waits until it is done, and does not do it
// again.
func TestJobRunsOnce(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	began, end := make(chan string, 10), make(chan struct{})
	do := func(holder string) func(ctx context.Context) (runs.Outcome, error) {
		return func(context.Context) (runs.Outcome, error) {
			began <- holder
			<-end
			return runs.Done, nil
		}
	}
	a, b := newBench(t, database, "a", do("a")), newBench(t, database, "b", do("b"))
	due := a.schedule.Next(a.time)
	a.pass(due)
	require.Equal(t, "a", <-began)
	require.Equal(t, map[string]time.Time{"job": due}, a.due.all(), "until it is done")
	b.pass(due)
	retry := <-b.waits // it has seen that a is at it
	require.Equal(t, due.Add(testLease), retry)

	// A command says so, and does nothing.
	err := (&app{cfg: config.Default(), log: a.log}).byHand(t.Context(), a.pool, runs.Job{Kind: "job"}, do("hand"))
	require.Equal(t, exitEventsLeft, exitCode(err))
	require.Regexp(t, `^job is running elsewhere: by a, since \d{4}-\d\d-\d\dT\S+Z$`, err.Error())

	close(end)
	a.waitsFor(a.schedule.Next(due))
	require.Equal(t, map[string]time.Time{"job": a.schedule.Next(due)}, a.due.all())
	b.goOn <- retry
	b.waitsFor(a.schedule.Next(due))
	require.Len(t, a.runs(), 1)
	require.Empty(t, began)
}

// One who was killed is in the way for no longer than his lease, and his work is done.
func TestJobIsTakenOver(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	pool, err := pgxpool.New(t.Context(), database)
	require.NoError(t, err)
	defer pool.Close()
	_, err = lease.Acquire(t.Context(), pool, leaseOf("job"), "dead", time.Second)
	require.NoError(t, err)
	b := newBench(t, database, "a", done)
	due := b.schedule.Next(b.time)
	b.pass(due)
	b.waitsFor(b.schedule.Next(due))
	require.Len(t, b.runs(), 1)
	leases, err := lease.All(t.Context(), pool)
	require.NoError(t, err)
	require.Empty(t, leases)
}

// What fails for want of a server is tried again under the same record. What fails for good
// is done again when it is due again, or ends the service if that has no other purpose.
func TestJobFails(t *testing.T) {
	t.Parallel()
	failures := []error{errors.New("connection lost"), nil, &pgconn.PgError{Code: "42P01", Message: "no such table"}}
	do := func(context.Context) (runs.Outcome, error) {
		err := failures[0]
		failures = failures[1:]
		return runs.Done, err
	}
	b := newBench(t, testenv.Database(t), "a", do)
	due := b.schedule.Next(b.time)
	b.pass(due)
	b.pass(due.Add(testLease)) // the pause
	next := b.schedule.Next(due.Add(testLease))
	b.waitsFor(next)
	require.Len(t, b.runs(), 1)
	require.Equal(t, runs.Done, b.runs()[0].Outcome)
	b.goOn <- next
	b.waitsFor(b.schedule.Next(next))
	require.Equal(t, runs.Failed, b.runs()[0].Outcome)

	failures, b.vital = []error{&pgconn.PgError{Code: "42P01", Message: "no such table"}}, true
	b.goOn <- b.schedule.Next(next)
	require.ErrorContains(t, <-b.ended, "no such table")
	require.Empty(t, b.due.all(), "nobody does it any more")
}

// With a schedule the service drains when it says so, and what was missed at its start. A
// reload puts another one in force.
func TestServiceBySchedule(t *testing.T) {
	s := newPair(t)
	s.exec(`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, finished_at, outcome, read, applied, dead, profiles, chunks)
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
	s := newPair(t)
	s.exec(`INSERT INTO child_personality_history (child_profile_id, is_deleted, deleted_at) VALUES (1, true, now() - interval '1 year')`)
	s.exec(`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, finished_at, outcome, read, applied, dead, profiles, chunks)
		SELECT k, k, 'h', 'v', now() - interval '2 days', now(), now(), 'done', 0, 0, 0, 0, 0 FROM unnest('{purge,search_text}'::text[]) k`)
	hour := (time.Now().UTC().Hour() + 12) % 24
	start := func() *process {
		return s.start("--schedule-purge", fmt.Sprintf("0 %d * * *", hour), "--schedule-search-text", fmt.Sprintf("30 %d * * *", hour))
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
