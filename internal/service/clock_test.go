package service

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/runs"
	"aggregator/internal/schedule"
	"aggregator/internal/testenv"
)

const day = 24 * time.Hour

// addRunDue adds a run that has ended, as an instance leaves it whose clock says due.
func addRunDue(t *testing.T, database string, due time.Time, outcome string) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), database)
	require.NoError(t, err)
	defer pool.Close()
	_, err = pool.Exec(t.Context(),
		`INSERT INTO aggregator.run (key, kind, host, version, due_at, started_at, seen_at, finished_at, outcome, read,
			applied, dead, profiles, chunks)
		VALUES (gen_random_uuid()::text, 'job', 'h', 'v', $1::timestamptz, $1, $1, $1, $2, 0, 0, 0, 0, 0)`, due, outcome)
	require.NoError(t, err)
}

// A due time that a wrong clock told is not waited for, and what is waited for is not what the
// clock on the wall says, which a wait moves on with, but what the schedule says of it.
func TestWaitingBeyondAClockThatIsSet(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		expression string
		wrong      time.Duration // by how much the clock is ahead at first
		set        time.Duration // after how long it is right
		due        time.Duration // when the job is due then
		came       time.Duration // when that has come
	}{
		"right":                        {"0 3 * * *", 0, time.Hour, 3 * time.Hour, 3 * time.Hour},
		"a day ahead":                  {"0 3 * * *", day, time.Hour, 3 * time.Hour, 3 * time.Hour},
		"a year ahead":                 {"0 3 * * *", 366 * day, time.Hour, 3 * time.Hour, 3 * time.Hour},
		"a day ahead, for a day":       {"0 3 1,20 * *", 20 * day, day, 19*day + 3*time.Hour, 19*day + 3*time.Hour},
		"an hour ahead":                {"0 3 * * *", 4 * time.Hour, time.Hour, 3 * time.Hour, 3 * time.Hour},
		"until it is due":              {"0 3 * * *", 3 * time.Hour, time.Second, 3 * time.Hour, 3 * time.Hour},
		"a day ahead, each minute":     {"* * * * *", day, 30 * time.Second, 2 * time.Minute, 2 * time.Minute},
		"a day behind":                 {"0 3 * * *", -day, time.Hour, 3*time.Hour - day, time.Hour},
		"a year behind":                {"0 3 * * *", -365 * day, time.Hour, 3*time.Hour - 365*day, time.Hour},
		"a day behind, each minute":    {"* * * * *", -day, 30 * time.Second, time.Minute - day, time.Minute},
		"an hour behind, and not late": {"0 3 * * *", -time.Hour, 2 * time.Hour, 3 * time.Hour, 3 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				when, err := schedule.Parse(tc.expression, time.UTC)
				require.NoError(t, err)
				var off atomic.Int64 // of the clock on the wall; the bubble's own is the monotonic one
				off.Store(int64(tc.wrong))
				began := time.Now()
				clock := clockBy(func() time.Time { return time.Now().Add(time.Duration(off.Load())) })
				var said time.Time
				x := &timetable{
					Instance: New(config.Default(), testLog(t), "v"), schedule: when, due: &dues{}, clock: clock,
					job: job{kind: "job", rest: func(until time.Time) { said = until }},
				}
				time.AfterFunc(tc.set, func() { off.Store(0) })
				due, came := x.await(t.Context(), when.Next(clock.now()))
				require.True(t, came)
				require.Equal(t, began.Add(tc.due).UTC(), due.UTC())
				require.Equal(t, said, due)
				require.Equal(t, due, x.due.all()["job"])
				require.GreaterOrEqual(t, time.Since(began), tc.came)
				require.LessOrEqual(t, time.Since(began), tc.came+time.Minute)
			})
		})
	}
	t.Run("until it is told to stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			for ctx.Err() == nil {
				clockBy(time.Now).wait(ctx, time.Now().Add(day))
			}
			require.False(t, clockBy(time.Now).wait(ctx, time.Now()))
		})
	})
	// A pause takes as long as it does, whatever becomes of the clock meanwhile.
	t.Run("pausing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var off atomic.Int64
			clock := clockBy(func() time.Time { return time.Now().Add(time.Duration(off.Load())) })
			for _, step := range []time.Duration{-day, day} {
				began := time.Now()
				time.AfterFunc(time.Second, func() { off.Add(int64(step)) })
				require.True(t, clock.wait(t.Context(), clock.now().Add(time.Minute)))
				require.Equal(t, time.Minute, time.Since(began))
			}
		})
	})
}

// While the clock is a year ahead the job is done when it is due by it. When the clock is right
// again it is done when it is due by that, also by an instance that begins then.
func TestJobAfterTheClockWasAhead(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	b := newBenchAt(t, benchTime.Add(365*day), database, "a", done)
	ahead := b.schedule.Next(b.time)
	b.pass(ahead)
	b.waitsFor(b.schedule.Next(ahead))
	require.Len(t, b.runs(), 1)
	require.True(t, b.runs()[0].Due.Equal(ahead))

	due := b.schedule.Next(benchTime)
	b.goOn <- benchTime
	b.waitsFor(due)
	require.Equal(t, due, b.due.all()["job"])
	restarted := newBench(t, database, "b", done)
	restarted.waitsFor(due)
	require.True(t, restarted.warned)
	b.goOn <- due
	b.waitsFor(b.schedule.Next(due))
	require.Len(t, b.runs(), 2)
	restarted.goOn <- due
	restarted.waitsFor(b.schedule.Next(due))
	require.Len(t, b.runs(), 2, "of two instances one does it")
	require.True(t, b.runs()[0].Due.Equal(due))
}

// What a clock that was ahead has recorded as done was not done: what was missed before is
// caught up, once, also if the job was cut short or has failed ahead.
func TestJobIsCaughtUpAfterTheClockWasAhead(t *testing.T) {
	t.Parallel()
	for _, outcome := range []string{"done", "limited", "failed", "stopped"} {
		for name, ahead := range map[string]time.Duration{"day": day, "year": 365 * day} {
			t.Run(outcome+" ahead a "+name, func(t *testing.T) {
				t.Parallel()
				database := testenv.Database(t)
				last := addRun(t, database, 50*time.Hour, "done")
				addRunDue(t, database, benchTime.Add(ahead), outcome)
				b := newBench(t, database, "a", done)
				b.waitsFor(b.schedule.Next(b.time))
				all := b.runs()
				require.Len(t, all, 3)
				require.True(t, all[0].Due.Equal(b.schedule.Next(last)), all[0].Due)
				again := newBench(t, database, "b", done)
				again.waitsFor(b.schedule.Next(b.time))
				require.Len(t, b.runs(), 3)
			})
		}
	}
}

// A job whose only runs are of the future was never done: it waits for its time.
func TestJobWithRunsOfTheFutureOnly(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	for _, outcome := range []string{"done", "stopped"} {
		addRunDue(t, database, benchTime.Add(day), outcome)
	}
	b := newBench(t, database, "a", done)
	due := b.schedule.Next(b.time)
	b.pass(due)
	b.waitsFor(b.schedule.Next(due))
	require.Len(t, b.runs(), 3)
}

// A clock that jumps ahead makes due what was due meanwhile: once.
func TestJobAfterTheClockHasJumped(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]time.Duration{"day": day, "year": 365 * day} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, testenv.Database(t), "a", done)
			due := b.schedule.Next(b.time)
			b.waitsFor(due)
			b.goOn <- due.Add(by)
			b.waitsFor(b.schedule.Next(due.Add(by)))
			require.Len(t, b.runs(), 1)
			require.True(t, b.runs()[0].Due.Equal(due))
		})
	}
}

// A machine that starts with its clock behind does not know yet what was missed; when the clock
// is right, it is caught up.
func TestJobIsCaughtUpAfterTheClockWasBehind(t *testing.T) {
	t.Parallel()
	database := testenv.Database(t)
	first := newBench(t, database, "a", done)
	due := first.schedule.Next(benchTime)
	addRunDue(t, database, due, "done") // which is in the future by the clock that is behind
	b := newBench(t, database, "b", done)
	b.waitsFor(due)
	require.True(t, b.warned)
	missed := b.schedule.Next(due)
	b.goOn <- missed.Add(time.Hour)
	b.waitsFor(b.schedule.Next(missed))
	require.Len(t, b.runs(), 2)
	require.True(t, b.runs()[0].Due.Equal(missed))
	require.Equal(t, runs.Done, b.runs()[0].Outcome)
}
