package service

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/apply"
	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/runs"
	"aggregator/internal/terminal"
)

// The kinds of what a person does to dead letters, in records.
const (
	KindRetry = "retry"
	KindDrop  = "drop"
)

// Asked is who asks for something that is recorded, and under which key.
type Asked struct {
	By  string
	Key string // of the record: see runs.Job; may be empty
}

// RetryLetters applies dead letters with the settings in force, and records it. What it has done is also
// returned with an error: one of a server; deadletter.ErrNone or ErrSettled of one that is named; or, if some
// still cannot be applied, deadletter.ErrStillDead. Safe to repeat; it ends soon when ctx ends, also with an error.
func (i *Instance) RetryLetters(
	ctx context.Context, pool *pgxpool.Pool, chosen deadletter.Choice, by Asked,
) (done apply.Retried, err error) {
	if err := i.CheckTables(ctx, pool); err != nil {
		return done, err
	}
	pages, err := chosen.Pages(ctx, pool, apply.RetryPage)
	if err != nil {
		return done, err
	}
	retrier := &apply.Retrier{
		Pool:      pool,
		Catalogue: i.SmallCatalogue(pool),
		Decoder:   events.NewDecoder(i.config.Events.Weights),
		Preferred: i.config.History.Preferred,
		Journal:   i.config.Journal.Keep > 0,
		Durable:   true,
		Timeout:   serverTimeout,
	}
	var now latest[apply.Retried]
	var cut error
	job := runs.Job{
		Kind: KindRetry, Key: by.Key,
		Note: func() string { return fmt.Sprintf("by %s: %s", by.By, chosen) },
		Counts: func() runs.Counts {
			r := now.Result()
			return runs.Counts{Read: r.Tried(), Applied: int64(r.Applied), Dead: r.StillDead()}
		},
	}
	err = i.Recorder(pool).Record(ctx, job, func() (runs.Outcome, error) {
		for letters, err := range pages {
			if err != nil {
				return cutShort(ctx, err, &cut)
			}
			page, err := retrier.Retry(ctx, letters)
			done.Add(page)
			now.set(done.Clone())
			if err != nil {
				return cutShort(ctx, err, &cut)
			}
		}
		return runs.OutcomeOf(ctx, false), nil
	})
	return done, cmp.Or(err, cut, complaint(chosen, done))
}

// cutShort is how a run ends with an error. To be told to stop is no failure of the run, but one of who waits for it.
func cutShort(ctx context.Context, err error, cut *error) (runs.Outcome, error) {
	if ctx.Err() == nil {
		return "", err
	}
	*cut = err
	return runs.Stopped, nil
}

// complaint is the error of a retry that no server has failed.
func complaint(chosen deadletter.Choice, done apply.Retried) error {
	switch {
	case chosen.One != nil && done.Before > 0:
		return fmt.Errorf("%s: %w", *chosen.One, deadletter.ErrSettled)
	case chosen.One != nil:
		for why := range done.Failed {
			return fmt.Errorf("%s %w: %s", *chosen.One, deadletter.ErrStillDead, why)
		}
	case done.StillDead() > 0:
		return fmt.Errorf(
			"%s of %s %w", terminal.Grouped(done.StillDead()), letterCount(done.Tried()), deadletter.ErrStillDead)
	}
	return nil
}

func letterCount(n int64) string { return terminal.Count(n, "dead letter") }

// DropLetters settles dead letters as dropped, and records it. How many it dropped is also returned with an error:
// one of PostgreSQL, or deadletter.ErrNone or ErrSettled of one that is named. Safe to repeat; it ends soon when ctx
// ends, also with an error.
func (i *Instance) DropLetters(
	ctx context.Context, pool *pgxpool.Pool, chosen deadletter.Choice, by Asked,
) (dropped int64, err error) {
	const size = 100
	pages, err := chosen.Pages(ctx, pool, size)
	if err != nil {
		return 0, err
	}
	var now latest[int64]
	var cut error
	job := runs.Job{
		Kind: KindDrop, Key: by.Key,
		Note:   func() string { return fmt.Sprintf("by %s: %s", by.By, chosen) },
		Counts: func() runs.Counts { return runs.Counts{Read: now.Result()} },
	}
	err = i.Recorder(pool).Record(ctx, job, func() (runs.Outcome, error) {
		for letters, err := range pages {
			if err != nil {
				return cutShort(ctx, err, &cut)
			}
			ids := make([]deadletter.ID, len(letters))
			for n, letter := range letters {
				ids[n] = letter.ID()
			}
			n, err := deadletter.Drop(ctx, pool, ids)
			dropped += n
			now.set(dropped)
			if err != nil {
				return cutShort(ctx, fmt.Errorf("after %s: %w", letterCount(dropped), err), &cut)
			}
		}
		var err error
		if chosen.One != nil && dropped == 0 {
			err = fmt.Errorf("%s: %w", *chosen.One, deadletter.ErrSettled)
		}
		return runs.OutcomeOf(ctx, false), err
	})
	return dropped, cmp.Or(err, cut)
}
