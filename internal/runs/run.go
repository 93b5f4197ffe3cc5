package runs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/postgres"
)

// The kinds of runs that drain. Other jobs have kinds of their own.
const (
	KindDrain   = "drain"
	KindService = "service" // from the start of the daemon to its end
)

// Outcome is how a run ended.
type Outcome string

const (
	Done    Outcome = "done"
	Limited Outcome = "limited" // a limit ended it with work left
	Stopped Outcome = "stopped" // it was told to
	Failed  Outcome = "failed"

	// These are of a run that has not ended, as far as is known.
	Running     Outcome = "running"
	Interrupted Outcome = "interrupted" // it is gone without having ended
)

// OutcomeOf says how a job ended that did not fail, with work left or without. ctx is the one that
// tells the job to stop.
func OutcomeOf(ctx context.Context, left bool) Outcome {
	switch {
	case ctx.Err() != nil:
		return Stopped
	case left:
		return Limited
	}
	return Done
}

// Counts are what a run has done so far. What they count is entries and events for those
// that drain; another job says what it is that it reads and applies.
type Counts struct {
	Read     int64 `json:"read"`
	Applied  int64 `json:"applied"`
	Dead     int64 `json:"dead"`
	Profiles int64 `json:"profiles"`
	Chunks   int64 `json:"chunks"`
}

// Plus returns the sums.
func (c Counts) Plus(d Counts) Counts {
	return Counts{c.Read + d.Read, c.Applied + d.Applied, c.Dead + d.Dead, c.Profiles + d.Profiles, c.Chunks + d.Chunks}
}

// Less returns the differences.
func (c Counts) Less(d Counts) Counts {
	return c.Plus(Counts{-d.Read, -d.Applied, -d.Dead, -d.Profiles, -d.Chunks})
}

// Run is a run as its row says. Times are PostgreSQL's.
type Run struct {
	ID      int64
	Kind    string
	Host    string
	Version string
	Due     *time.Time // when the schedule wanted it; nil: a person asked for it
	Started time.Time
	Seen    time.Time  // when it was last known to be alive
	Ended   *time.Time // nil while it runs, and for good if it was interrupted
	Counts
	Rate    float64 // read a second
	Outcome Outcome
	Error   string
	Note    string // what it did, for a person; empty: the counts say it
}

// unseen is after how long without a sign of life a run counts as interrupted. While PostgreSQL cannot be
// reached nothing is seen: a run that is still alive then looks interrupted until it writes again.
const unseen = 45 * time.Second

// alive is the condition for a run that has not ended; $1 is unseen. A run that is alive says so every ten
// seconds, also after the clock went back: a run that was last seen in the future is gone.
const alive = `seen_at BETWEEN now() - $1::interval AND now() + $1::interval`

const selectRuns = `id, kind, host, version, due_at, started_at, seen_at, finished_at,
    read, applied, dead, profiles, chunks, coalesce(rate, 0),
    coalesce(outcome, CASE WHEN ` + alive + ` THEN 'running' ELSE 'interrupted' END),
    coalesce(error, ''), coalesce(note, '')
FROM aggregator.run `

func scanRun(row pgx.CollectableRow) (r Run, err error) {
	err = row.Scan(&r.ID, &r.Kind, &r.Host, &r.Version, &r.Due, &r.Started, &r.Seen, &r.Ended, &r.Read, &r.Applied,
		&r.Dead, &r.Profiles,
		&r.Chunks, &r.Rate, &r.Outcome, &r.Error, &r.Note)
	return r, err
}

// Latest returns the latest runs of a kind, or of all if it is empty, newest first.
func Latest(ctx context.Context, pool *pgxpool.Pool, kind string, limit int) ([]Run, error) {
	query, args := `SELECT `+selectRuns, []any{unseen, limit}
	if kind != "" {
		query += `WHERE kind = $3 `
		args = append(args, kind)
	}
	return collectRuns(ctx, pool, query+`ORDER BY id DESC LIMIT $2`, args...)
}

// ErrNoRun says that there is no run of an id, or that its row is no longer kept.
var ErrNoRun = errors.New("no such run; aggregator runs lists those that are kept")

// Find returns the run of an id. Errors: ErrNoRun, and those of PostgreSQL.
func Find(ctx context.Context, pool *pgxpool.Pool, id int64) (Run, error) {
	found, err := collectRuns(ctx, pool, `SELECT `+selectRuns+`WHERE id = $2`, unseen, id)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("run %d: %w", id, ErrNoRun)
	}
	if err != nil {
		return Run{}, err
	}
	return found[0], nil
}

// FindKey returns the run that was recorded under a key. Errors: ErrNoRun, also if its row is not written yet, and
// those of PostgreSQL.
func FindKey(ctx context.Context, pool *pgxpool.Pool, key string) (Run, error) {
	found, err := collectRuns(ctx, pool, `SELECT `+selectRuns+`WHERE key = $2`, unseen, key)
	if err == nil && len(found) == 0 {
		err = ErrNoRun
	}
	if err != nil {
		return Run{}, err
	}
	return found[0], nil
}

// Live returns the runs of all kinds that have not ended, as far as is known, newest first. A run that was
// killed is among them for a while.
func Live(ctx context.Context, pool *pgxpool.Pool) ([]Run, error) {
	return collectRuns(ctx, pool, `SELECT `+selectRuns+`WHERE finished_at IS NULL AND seen_at > now() - $1::interval
    ORDER BY id DESC`, unseen)
}

// During returns the runs that drain and that were there at any moment from the first
// to the last: see Run.At.
func During(ctx context.Context, pool *pgxpool.Pool, first, last time.Time) ([]Run, error) {
	return collectRuns(ctx, pool, `SELECT `+selectRuns+`WHERE kind IN ('`+KindDrain+`', '`+KindService+`')
    AND started_at <= $3 AND coalesce(finished_at, seen_at + $1::interval) >= $2 ORDER BY id`, unseen, first, last)
}

// At says whether the run was there at that moment, by PostgreSQL's clock. One that was
// interrupted may have been for a while after its last sign of life.
func (r Run) At(t time.Time) bool {
	end := r.Seen.Add(unseen)
	if r.Ended != nil {
		end = *r.Ended
	}
	return !t.Before(r.Started) && !t.After(end)
}

// LatestByKind returns of each kind the latest run that runs, and then the latest that does not, by kind.
func LatestByKind(ctx context.Context, pool *pgxpool.Pool) ([]Run, error) {
	const ended = `outcome IS NOT NULL OR seen_at <= now() - $1::interval`
	return collectRuns(ctx, pool, `SELECT DISTINCT ON (kind, `+ended+`) `+selectRuns+`ORDER BY kind, `+ended+`, id DESC`,
		unseen)
}

// Ends are when runs of a kind last ended.
type Ends struct {
	Kind   string
	Well   *time.Time // without a failure, at the end of the work or at a limit; nil: never
	Failed *time.Time // nil: never
}

// LastEnds returns when the jobs last ended, by kind. It sees those that have ended, as far as their rows are
// kept, without those of a clock that was ahead. Runs of the service are no jobs.
func LastEnds(ctx context.Context, pool *pgxpool.Pool) ([]Ends, error) {
	rows, _ := pool.Query(ctx, `SELECT kind, max(finished_at) FILTER (WHERE outcome IN ('done', 'limited')) AS well,
    max(finished_at) FILTER (WHERE outcome = 'failed') AS failed
FROM aggregator.run WHERE kind <> '`+KindService+`' AND (finished_at <= now() + $1::interval OR finished_at IS NULL)
GROUP BY kind ORDER BY kind`, postgres.ClockSlack) // its error is also that of the rows
	ends, err := pgx.CollectRows(rows, pgx.RowToStructByName[Ends])
	if err != nil {
		return nil, fmt.Errorf("reading how jobs ended: %w", err)
	}
	return ends, nil
}

func collectRuns(ctx context.Context, pool *pgxpool.Pool, query string, args ...any) ([]Run, error) {
	rows, err := pool.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("reading runs: %w", err)
	}
	all, err := pgx.CollectRows(rows, scanRun)
	if err != nil {
		return nil, fmt.Errorf("reading runs: %w", err)
	}
	return all, nil
}

// LastDue is when a job was last done, as its rows say.
type LastDue struct {
	At    time.Time // when it was due, or began, if that is later; zero: it never was
	Ahead bool      // there are rows of a clock that was ahead, which do not count
}

// ReadLastDue returns when a job of this kind last began, or was due, if that is later, and did not have to
// be cut short. What was stopped or interrupted is still to be done: for a job that was never done to the
// end, it is just before its schedule first wanted it. Reads only.
//
// now is by the caller's clock, by which the job was due; a row has by PostgreSQL's clock when it began. Each
// is compared with its own clock, and the result is by the caller's. A time in the future of its clock comes
// from a clock that was ahead: it does not count until that time has come.
func ReadLastDue(ctx context.Context, pool *pgxpool.Pool, kind string, now time.Time) (last LastDue, err error) {
	var due, first *time.Time
	var ago *time.Duration
	err = pool.QueryRow(
		ctx, `SELECT max(due_at) FILTER (WHERE NOT due_ahead AND ended), min(due_at) FILTER (WHERE NOT due_ahead),
    clock_timestamp() - max(started_at) FILTER (WHERE NOT began_ahead
	AND ended), coalesce(bool_or(due_ahead OR began_ahead), false)
FROM (
    SELECT due_at, started_at, coalesce(outcome IN ('done', 'limited', 'failed'), false) AS ended, coalesce(due_at > $2,
	false) AS due_ahead,
        started_at > clock_timestamp() + $3::interval AS began_ahead
    FROM aggregator.run WHERE kind = $1
) r`, kind, now.Add(postgres.ClockSlack), postgres.ClockSlack).Scan(&due, &first, &ago, &last.Ahead)
	if err != nil {
		return LastDue{}, fmt.Errorf("reading the last run of %s: %w", kind, err)
	}
	if due != nil {
		last.At = *due
	}
	if ago != nil && now.Add(-*ago).After(last.At) {
		last.At = now.Add(-*ago)
	}
	if due == nil && ago == nil && first != nil {
		last.At = first.Add(-time.Microsecond)
	}
	return last, nil
}

// prune removes the runs of a kind except the latest ones, some thousand at most. Those that run are not
// counted, and stay.
func prune(ctx context.Context, pool *pgxpool.Pool, kind string, keep int) error {
	_, err := pool.Exec(ctx, `DELETE FROM aggregator.run WHERE id IN (
    SELECT id FROM aggregator.run WHERE kind = $2 AND (outcome IS NOT NULL OR NOT `+alive+`)
    ORDER BY id DESC LIMIT 5000 OFFSET $3)`, unseen, kind, keep)
	if err != nil {
		return fmt.Errorf("removing old runs: %w", err)
	}
	return nil
}
