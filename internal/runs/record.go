package runs

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/postgres"
)

// Recorder keeps a record of runs in aggregator.run. It never stands in their way: what
// cannot be written is written later, or not at all.
type Recorder struct {
	Pool    *pgxpool.Pool
	Host    string
	Version string
	Source  string // the note of runs that drain; empty: none
	Keep    int    // runs of a kind that have ended
	Log     *slog.Logger
}

// Job is what to write about a run.
type Job struct {
	Kind   string
	Key    string        // of the row, by which FindKey finds it; empty: one that is not told
	Due    time.Time     // when its schedule wanted it; zero: a person asked for it
	Counts func() Counts // what it has done so far; it may be called at any time. nil: no counts
	Note   func() string // what it has done, for a person; it may be called at any time. nil: the counts say it
}

const (
	// signEvery is how often a run says that it is alive. One such sign may be lost before the run
	// counts as interrupted.
	signEvery = 10 * time.Second
	// lastWord is how long the end of a run may wait for its row to be written.
	lastWord = time.Second
)

// Record does the job and writes a row about it: at the beginning, every ten seconds,
// and at the end, when it takes a second at most. do returns how it ended if nothing
// failed. The error is that of do, and no other.
func (r Recorder) Record(ctx context.Context, job Job, do func() (Outcome, error)) error {
	if drains := job.Kind == KindDrain || job.Kind == KindService; drains && job.Note == nil && r.Source != "" {
		job.Note = func() string { return r.Source }
	}
	if job.Key == "" {
		job.Key = rand.Text()
	}
	e := &entry{Recorder: r, Job: job, began: time.Now()}
	// A run goes on for a while after it was told to stop.
	signing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	over, signed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(signed)
		e.sign(signing, over)
	}()

	outcome, err := do()
	close(over)
	ending, stop := context.WithTimeout(signing, lastWord)
	defer stop()
	select {
	case <-signed:
	case <-ending.Done():
		cancel()
		<-signed
	}
	if err != nil {
		outcome = Failed
	}
	if failed := e.write(ending, outcome, err); failed != nil && err == nil {
		r.Log.Warn("could not record the end of the run", "kind", job.Kind, "error", failed)
	}
	return err
}

// entry is the row of one run.
type entry struct {
	Recorder
	Job
	began time.Time
}

// sign writes the row until the run is over or ctx ends, and once removes old rows.
func (e *entry) sign(ctx context.Context, over <-chan struct{}) {
	ticker := time.NewTicker(signEvery)
	defer ticker.Stop()
	pruned := false
	for {
		err := e.write(ctx, "", nil)
		if err != nil && ctx.Err() == nil {
			e.Log.Debug("could not record the run yet", "kind", e.Kind, "error", err)
		}
		if err == nil && !pruned {
			pruned = true
			if err := prune(ctx, e.Pool, e.Kind, e.Keep); err != nil && ctx.Err() == nil {
				e.Log.Warn("could not remove old runs", "kind", e.Kind, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case <-ticker.C:
		}
	}
}

// writeRun writes a row whether it is there or not. The row may never have been written, or be lost in a
// crash of PostgreSQL, which it is not worth a flush to prevent. To insert it each time and update it on
// conflict would use up a number each time.
const writeRun = `WITH written AS (
    UPDATE aggregator.run SET seen_at = clock_timestamp(), read = $7, applied = $8, dead = $9, profiles = $10,
	chunks = $11, note = $14,
        finished_at = CASE WHEN $12::text IS NOT NULL THEN clock_timestamp() END, outcome = $12, error = $13
    WHERE key = $1 RETURNING id
)
INSERT INTO aggregator.run AS r (key, kind, host, version, due_at, started_at, seen_at, read, applied, dead, profiles,
	chunks,
    finished_at, outcome, error, note)
SELECT $1, $2, $3, $4, $5::timestamptz, clock_timestamp() - $6::interval, clock_timestamp(), $7, $8, $9, $10, $11,
    CASE WHEN $12::text IS NOT NULL THEN clock_timestamp() END, $12, $13, $14::text
WHERE NOT EXISTS (SELECT FROM written)
ON CONFLICT (key) DO UPDATE SET seen_at = excluded.seen_at, read = excluded.read, applied = excluded.applied,
	dead = excluded.dead,
    profiles = excluded.profiles, chunks = excluded.chunks, finished_at = excluded.finished_at,
	outcome = excluded.outcome,
    error = excluded.error, note = excluded.note`

// write is safe to repeat.
func (e *entry) write(ctx context.Context, outcome Outcome, failure error) error {
	ctx, cancel := context.WithTimeout(ctx, signEvery/2)
	defer cancel()
	var c Counts
	if e.Counts != nil {
		c = e.Counts()
	}
	var due, ended, message, note any
	if !e.Due.IsZero() {
		due = e.Due
	}
	if outcome != "" {
		ended = string(outcome)
	}
	if failure != nil {
		message = postgres.Text(clipped(failure.Error()))
	}
	if e.Note != nil {
		note = clipped(e.Note())
	}
	_, err := e.Pool.Exec(ctx, writeRun, e.Key, e.Kind, e.Host, e.Version, due, time.Since(e.began),
		c.Read, c.Applied, c.Dead, c.Profiles, c.Chunks, ended, message, note)
	if err != nil {
		return fmt.Errorf("recording a run of %s: %w", e.Kind, err)
	}
	return nil
}

// clipped makes a text that PostgreSQL takes, and a table can show.
func clipped(text string) string {
	const most = 1000
	return strings.ToValidUTF8(strings.ReplaceAll(text[:min(len(text), most)], "\x00", ""), "")
}
