package aggregator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"aggregator/internal/ledger"
)

const (
	// window is how many profiles' transactions are in flight on a connection at most. More
	// would not keep the server busier, only hold more memory.
	window = 64
	// few transactions are in flight all the same if each is of many profiles.
	few = 4
)

// apply settles the runs of a chunk: every event of theirs is applied or a dead letter
// when it returns without an error. After an error some are.
func (p *partition) apply(ctx context.Context, runs []run, known catalogue) error {
	together := p.options.ProfilesPerTransaction
	known.incomplete.Store(false)
	for len(runs) > 0 {
		created := known.incomplete.Load()
		refused, err := p.pass(ctx, runs, together, known)
		if err != nil {
			return err
		}
		// What was created and is not there was taken away by somebody: that is not for us to
		// try again and again without a pause.
		for _, r := range refused {
			if created && Classify(r.why) == Incomplete {
				return fmt.Errorf("applying events of profile %d: %w", r.runs[0].profileID, r.why)
			}
		}
		if runs, together, err = p.triage(ctx, refused, together, known); err != nil {
			return err
		}
	}
	return nil
}

// refused are runs whose transaction was rolled back, and why.
type refused struct {
	runs []run
	why  *pgconn.PgError
}

// pass sends the transactions of all runs, so many runs each, and returns those refused.
// One connection is always there for it; more are shared with the other partitions, so
// that a long chunk of one leaves something for the others.
func (p *partition) pass(ctx context.Context, runs []run, together int, known catalogue) ([]refused, error) {
	var (
		mu     sync.Mutex
		rest   = runs
		failed []refused
	)
	taken := make(chan struct{}) // closed when nothing is left to take
	take := func() []run {
		mu.Lock()
		defer mu.Unlock()
		if len(rest) == 0 {
			return nil
		}
		n := min(together, len(rest))
		some := rest[:n]
		if rest = rest[n:]; len(rest) == 0 {
			close(taken)
		}
		return some
	}
	refuse := func(r refused) {
		mu.Lock()
		defer mu.Unlock()
		failed = append(failed, r)
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return p.work(ctx, known, take, refuse) })
	for range min(p.options.Workers, (len(runs)+together-1)/together) - 1 {
		all.Go(func() error {
			select {
			case p.moreWorkers <- struct{}{}:
				defer func() { <-p.moreWorkers }()
				return p.work(ctx, known, take, refuse)
			case <-taken:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
	err := all.Wait()
	return failed, err
}

// work sends transactions down one connection until there are no more to take.
func (p *partition) work(ctx context.Context, known catalogue, take func() []run, refuse func(refused)) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	defer conn.Release()
	pipe := newPipeline(ctx, conn.Conn(), p.options.Timeout)
	defer pipe.close()

	type sent struct {
		runs []run
		tally
	}
	var (
		waiting  []sent
		profiles int // that are waiting
	)
	settle := func(n int) error {
		for range n {
			refusal, err := pipe.receive()
			if err != nil {
				return err
			}
			first := waiting[0]
			waiting = waiting[1:]
			profiles -= len(first.runs)
			if refusal != nil {
				if Classify(refusal) == Incomplete {
					known.incomplete.Store(true) // at once: others may be like it
				}
				refuse(refused{first.runs, refusal})
				continue
			}
			p.settled(first.tally, len(first.runs))
		}
		return nil
	}
	for {
		for len(waiting) < pipe.window && (profiles < window || len(waiting) < few) {
			runs := take()
			if runs == nil {
				break
			}
			batch, total := known.transaction(runs)
			if !pipe.knows(batch) {
				if err := errors.Join(pipe.flush(), settle(len(waiting)), pipe.prepare(batch)); err != nil {
					return err
				}
			}
			if err := pipe.send(batch); err != nil {
				return err
			}
			waiting = append(waiting, sent{runs, total})
			profiles += len(runs)
		}
		if len(waiting) == 0 {
			return nil
		}
		if err := pipe.flush(); err != nil {
			return err
		}
		crash("mid_pipeline")
		if err := settle((len(waiting) + 1) / 2); err != nil {
			return err
		}
	}
}

// triage decides what becomes of refused transactions, and returns the runs to try
// again, and how many to try together: one, if a group was refused for what may be only
// one profile's fault. It fails if a transaction was refused for no reason of its own.
func (p *partition) triage(ctx context.Context, all []refused, together int, known catalogue) ([]run, int, error) {
	var again, moved []run
	next := together
	for _, r := range all {
		verdict := Classify(r.why)
		switch {
		case verdict == Retry || verdict == Halt:
			return nil, 0, fmt.Errorf("applying events of profile %d: %w", r.runs[0].profileID, r.why)
		case verdict == Incomplete:
			known.incomplete.Store(true)
			again = append(again, r.runs...)
		case together > 1:
			next = 1
			again = append(again, r.runs...)
		case verdict == Moved:
			moved = append(moved, r.runs...)
		case verdict == Gone:
			profile := r.runs[0].profileID
			p.catalogue.Forget(profile)
			delete(known.profiles, profile)
			again = append(again, r.runs...)
		case verdict == Data:
			known.incomplete.Store(true) // its halves must not be refused for that
			if err := p.isolate(ctx, r.runs[0], r.why, known); err != nil {
				return nil, 0, err
			}
		}
	}
	if len(moved) == 0 {
		return inOrder(again), next, nil
	}
	p.count.conflicts.Add(int64(len(moved)))
	marks, err := ledger.Marks(ctx, p.pool, known.from, profileIDs(moved))
	if err != nil {
		return nil, 0, err
	}
	for _, r := range moved {
		mark := marks[r.profileID]
		if r.seen.After(mark) {
			return nil, 0, fmt.Errorf("the mark of profile %d went back from %s to %s: PostgreSQL lost commits", r.profileID, r.seen, mark)
		}
		if rest := r.after(mark); len(rest.events) > 0 {
			again = append(again, rest)
		}
	}
	return inOrder(again), next, nil
}

// inOrder sorts runs by profile: transactions on several take them in this order.
func inOrder(runs []run) []run {
	slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.profileID, b.profileID) })
	return runs
}

// isolate settles a run that PostgreSQL refuses for its data, in ever smaller runs;
// an event that is refused alone becomes a dead letter. Each run applied leaves a
// history row. Any other error ends it.
func (p *partition) isolate(ctx context.Context, r run, why *pgconn.PgError, known catalogue) error {
	if len(r.events) == 1 {
		err := p.pool.SendBatch(ctx, burial(known.from, r, why)).Close()
		if err != nil {
			return fmt.Errorf("burying an event of profile %d: %w", r.profileID, err)
		}
		p.settled(tally{dead: 1}, 1)
		return nil
	}
	first, second := r.halves()
	for _, half := range []run{first, second} {
		batch, total := known.transaction([]run{half})
		err := p.pool.SendBatch(ctx, batch).Close()
		var refusal *pgconn.PgError
		switch {
		case err == nil:
			p.settled(total, 1)
		case errors.As(err, &refusal) && Classify(refusal) == Data:
			if err := p.isolate(ctx, half, refusal, known); err != nil {
				return err
			}
		default:
			return fmt.Errorf("applying events of profile %d: %w", r.profileID, err)
		}
	}
	return nil
}
