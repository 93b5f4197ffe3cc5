package service

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/cluster"
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
	pool, err := postgres.Open(
		t.Context(), postgres.Options{URL: testenv.As(t, database, "aggregator_daemon"), MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	daily, err := schedule.Parse(fmt.Sprintf("%d %d * * *", benchTime.Minute(), (benchTime.Hour()+12)%24), time.UTC)
	require.NoError(t, err)
	b := &bench{t: t, time: at, waits: make(chan time.Time), goOn: make(chan time.Time), ended: make(chan error, 1)}
	instance := New(config.Default(), testLog(t), "v")
	instance.name, instance.jobLease = holder, testLease
	b.timetable = &timetable{
		Instance: instance, schedule: daily, due: &dues{}, pool: pool,
		job: job{kind: "job", begin: func() jobRun { return work(do) }},
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

// work is a job that is only a function.
type work func(context.Context) (runs.Outcome, error)

func (w work) Do(ctx context.Context) (runs.Outcome, error) { return w(ctx) }
func (work) Counts() runs.Counts                            { return runs.Counts{Read: 7} }

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
	_, err = pool.Exec(t.Context(),
		`INSERT INTO aggregator.run (key, kind, host, version, started_at, seen_at, finished_at, outcome, read, applied, dead,
			profiles, chunks)
		SELECT gen_random_uuid()::text, k, 'h', 'v', $1::timestamptz, $1, CASE WHEN $2::text IS NOT NULL THEN $1 END, $2, 0,
			0, 0, 0, 0 FROM unnest('{job,drain}'::text[]) k`, began, outcome)
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
	_, err = pool.Exec(t.Context(),
		`INSERT INTO aggregator.run (key, kind, host, version, due_at, started_at, seen_at, read, applied, dead, profiles,
			chunks)
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
	err := New(config.Default(), a.log, "v").ByHand(t.Context(), a.pool, runs.Job{Kind: "job"}, do("hand"))
	require.ErrorIs(t, err, ErrElsewhere)
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
	_, err = cluster.Acquire(t.Context(), pool, leaseOf("job"), "dead", time.Second)
	require.NoError(t, err)
	b := newBench(t, database, "a", done)
	due := b.schedule.Next(b.time)
	b.pass(due)
	b.waitsFor(b.schedule.Next(due))
	require.Len(t, b.runs(), 1)
	leases, err := cluster.Leases(t.Context(), pool)
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
