package service

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/aggregator"
	"aggregator/internal/history"
	"aggregator/internal/runs"
	"aggregator/internal/searchtext"
)

// The kinds of jobs that are no drain, in leases and records.
const (
	KindPurge      = "purge"
	KindSearchText = "search_text"
)

// job is what the service does when its schedule says so.
type job struct {
	kind string
	// begin prepares one run of it.
	begin func() jobRun
	// rest, if there is one, is told before each wait until when it is.
	rest func(until time.Time)
	// vital says that the service ends when the job fails.
	vital bool
}

// jobRun is a job that is done once.
type jobRun interface {
	// Do does it, and ends soon when ctx ends. It may be called again after an error.
	Do(ctx context.Context) (runs.Outcome, error)
	// Counts are what it has done so far. It may be called at any time.
	Counts() runs.Counts
}

// jobs are all that may have a schedule.
func (e *Engine) jobs() []job {
	return []job{
		{
			kind:  runs.KindDrain,
			begin: func() jobRun { return e.beginDrain() },
			rest: func(until time.Time) {
				e.Rest("the next drain is due at " + until.UTC().Format(time.RFC3339))
			},
			vital: true,
		},
		{kind: KindPurge, begin: func() jobRun { return NewPurge(e.Pool, e.instance.PurgeOptions()) }},
		{kind: KindSearchText, begin: func() jobRun { return NewTextRefresh(e.Pool, searchtext.Options{}) }},
	}
}

// scheduledDrain drains what is there.
type scheduledDrain struct {
	engine *Engine
	before runs.Counts // the engine goes on counting from one drain to the next
}

func (e *Engine) beginDrain() *scheduledDrain { return &scheduledDrain{e, e.Stats().Counts} }

func (d *scheduledDrain) Do(ctx context.Context) (runs.Outcome, error) {
	left, err := d.engine.Drain(ctx, aggregator.Limits{})
	return runs.OutcomeOf(ctx, left > 0), err
}

func (d *scheduledDrain) Counts() runs.Counts { return d.engine.Stats().Less(d.before) }

// PurgeOptions are those that the settings name.
func (i *Instance) PurgeOptions() history.PurgeOptions {
	return history.PurgeOptions{
		OlderThan:   i.config.Purge.OlderThan,
		JournalKeep: i.config.Journal.Keep,
		DeadKeep:    i.config.Dead.Keep,
		Tables:      i.config.Postgres.Tables,
		Retention:   history.Retention{AllDays: i.config.Retention.AllDays, DailyDays: i.config.Retention.DailyDays},
	}
}

// Purge is one purge of the history, and what it has done so far.
type Purge struct {
	pool    *pgxpool.Pool
	options history.PurgeOptions
	latest[history.PurgeResult]
}

// NewPurge returns a purge that has not begun. Its options must have no Progress.
func NewPurge(pool *pgxpool.Pool, options history.PurgeOptions) *Purge {
	p := &Purge{pool: pool, options: options}
	p.options.Progress = p.set
	return p
}

// Do purges: see history.Purge. It is safe to repeat.
func (p *Purge) Do(ctx context.Context) (runs.Outcome, error) {
	done, err := history.Purge(ctx, p.pool, p.options)
	p.set(done)
	return runs.OutcomeOf(ctx, done.Left), err
}

// Counts are rows of history removed, and batches. It may be called at any time.
func (p *Purge) Counts() runs.Counts {
	done := p.Result()
	rows := done.Deleted + done.Thinned
	return runs.Counts{Read: rows, Applied: rows, Chunks: done.Batches}
}

// TextRefresh is one refresh of the search texts, and what it has done so far.
type TextRefresh struct {
	pool    *pgxpool.Pool
	options searchtext.Options
	latest[searchtext.Result]
}

// NewTextRefresh returns a refresh that has not begun. Its options must have no Progress.
func NewTextRefresh(pool *pgxpool.Pool, options searchtext.Options) *TextRefresh {
	r := &TextRefresh{pool: pool, options: options}
	r.options.Progress = r.set
	return r
}

// Do refreshes the texts: see searchtext.Refresh. It is safe to repeat.
func (r *TextRefresh) Do(ctx context.Context) (runs.Outcome, error) {
	done, err := searchtext.Refresh(ctx, r.pool, r.options)
	r.set(done)
	return runs.OutcomeOf(ctx, done.Left || done.Busy > 0), err
}

// Counts are books read, texts written, and texts that PostgreSQL refused. It may be called at any
// time.
func (r *TextRefresh) Counts() runs.Counts {
	done := r.Result()
	return runs.Counts{Read: done.Books, Applied: done.Changed, Dead: done.Refused}
}

// latest is what a job has done so far, which other goroutines may ask for meanwhile; the zero value at first.
type latest[T any] struct{ last atomic.Pointer[T] }

func (l *latest[T]) set(done T) { l.last.Store(&done) }

// Result is what it has done so far.
func (l *latest[T]) Result() (done T) {
	if last := l.last.Load(); last != nil {
		done = *last
	}
	return done
}
