package service

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/postgres"
	"aggregator/internal/runs"
	"aggregator/internal/schedule"
	"aggregator/internal/verdict"
)

// dues are when jobs are due, by kind: in the past while one is not done. The zero value has none; it is safe
// for concurrent use.
type dues struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (d *dues) set(kind string, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at == nil {
		d.at = make(map[string]time.Time)
	}
	d.at[kind] = at
}

func (d *dues) forget(kind string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.at, kind)
}

func (d *dues) all() map[string]time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.at)
}

// timetable does a job whenever it is due. Of several instances one does it; the others make sure that
// it gets done.
type timetable struct {
	*Instance
	job
	schedule schedule.Schedule
	due      *dues // where other goroutines see it
	pool     *pgxpool.Pool
	clock    clock
	warned   bool // that a clock was ahead; see lastDue
}

// keep does the job whenever it is due, until ctx ends. What was missed, once or more often, since it was last
// done is caught up once. What comes due while it is being done is left out. Its error is that of a vital job.
func (t *timetable) keep(ctx context.Context) error {
	due := t.first(ctx)
	defer t.due.forget(t.kind)
	for {
		var came bool
		if due, came = t.await(ctx, due); !came {
			return nil
		}
		if err := t.complete(ctx, due); err != nil && t.vital {
			return err
		}
		due = t.schedule.Next(t.clock.now())
	}
}

// await waits until the job is due, and returns when that was; false if ctx ended before. It asks the
// schedule again all the time, because the clock by which due was found may have been ahead.
func (t *timetable) await(ctx context.Context, due time.Time) (time.Time, bool) {
	t.announce(due)
	for {
		now := t.clock.now()
		if sooner := t.schedule.Sooner(due, now); sooner.Before(due) {
			t.log.Warn("the clock went back: the job is due sooner", "job", t.kind, "was_due", due.UTC().Format(time.RFC3339))
			due = sooner
			t.announce(due)
		}
		if !now.Before(due) {
			return due, true
		}
		if !t.clock.wait(ctx, due) {
			return due, false
		}
	}
}

// announce says when the job is due.
func (t *timetable) announce(due time.Time) {
	t.due.set(t.kind, due)
	if t.rest != nil {
		t.rest(due)
	}
	t.log.Info("waiting for the schedule", "job", t.kind, "due", due.UTC().Format(time.RFC3339))
}

// first returns when the job is due first: in the past if it was missed.
func (t *timetable) first(ctx context.Context) time.Time {
	for {
		last, err := t.lastDue(ctx)
		if err == nil {
			now := t.clock.now()
			if due, missed := t.schedule.Missed(last, now); missed {
				return due
			}
			return t.schedule.Next(now)
		}
		if ctx.Err() != nil {
			return t.schedule.Next(t.clock.now())
		}
		t.log.Warn("could not read the last run of the job; retrying", "job", t.kind, "error", err)
		t.clock.wait(ctx, t.clock.now().Add(t.jobLease))
	}
}

// lastDue returns when the job was last done, by our clock; the zero time if it never was.
func (t *timetable) lastDue(ctx context.Context) (time.Time, error) {
	last, err := runs.ReadLastDue(ctx, t.pool, t.kind, t.clock.now())
	if err != nil {
		return time.Time{}, err
	}
	if last.Ahead && !t.warned {
		t.warned = true
		t.log.Warn("runs of the job are recorded with future times: a clock was fast, or is slow; they do not count "+
			"until then", "job", t.kind)
	}
	return last.At, nil
}

// complete makes sure that the job that is due is done, by us or by another instance, whatever may be in the
// way. Its error is that of the job, when it failed.
func (t *timetable) complete(ctx context.Context, due time.Time) error {
	elsewhere := ""
	came := t.clock.now()
	for {
		done, err := t.attempt(ctx, due, came)
		var held *HeldError
		switch {
		case done && err != nil:
			t.log.Error("the job failed", "job", t.kind, "error", err)
			return err
		case done, ctx.Err() != nil:
			return nil
		case errors.As(err, &held):
			if held.Lease.Holder != elsewhere {
				elsewhere = held.Lease.Holder
				t.log.Info("the job runs elsewhere", "job", t.kind, "holder", elsewhere)
			}
		case err != nil:
			t.log.Warn("the job cannot start yet", "job", t.kind, "error", err)
		}
		t.clock.wait(ctx, t.clock.now().Add(t.jobLease))
	}
}

// attempt does the job, unless another instance is doing it or has done all that was due when we came. done
// says that it is done, or has failed with err.
func (t *timetable) attempt(ctx context.Context, due, came time.Time) (done bool, err error) {
	err = t.Alone(ctx, t.pool, leaseOf(t.kind), func(ctx context.Context) error {
		last, err := t.lastDue(ctx)
		if err != nil {
			return err
		}
		if !last.Before(due) {
			// The clock by which due was found may have been behind, and may have reached a later due time since.
			missed := false
			if due, missed = t.schedule.Missed(last, came); !missed {
				done = true
				return nil
			}
			t.due.set(t.kind, due)
		}
		run := t.begin()
		recorded := runs.Job{Kind: t.kind, Due: due, Counts: run.Counts}
		return t.Recorder(t.pool).Record(ctx, recorded, func() (runs.Outcome, error) {
			t.log.Info("starting", "job", t.kind, "due", due.UTC().Format(time.RFC3339))
			outcome, err := t.persist(ctx, run.Do)
			done = err != nil || outcome != runs.Stopped
			return outcome, err
		})
	})
	return done, err
}

// persist does the job again when it has failed because of a server.
func (t *timetable) persist(ctx context.Context, do func(context.Context) (runs.Outcome, error)) (runs.Outcome, error) {
	for {
		outcome, err := do(ctx)
		if ctx.Err() != nil {
			return runs.Stopped, nil // and it has logged what it was stopped at
		}
		if err == nil || verdict.Of(err) != verdict.Retry || errors.Is(err, postgres.ErrIndex) {
			return outcome, err
		}
		t.log.Warn("retrying the job", "job", t.kind, "error", err)
		t.clock.wait(ctx, t.clock.now().Add(t.jobLease))
	}
}
