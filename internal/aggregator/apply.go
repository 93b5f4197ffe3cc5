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

	"aggregator/internal/history"
	"aggregator/internal/ledger"
)

const (
	// window is how many profiles' transactions are in flight on a connection at most. More
	// would not keep the server busier, only hold more memory.
	window = 64
	// few transactions are in flight all the same if each is of many profiles.
	few = 4
)

// apply processes the runs of a chunk: every event of theirs is applied or a dead letter
// when it returns without an error. After an error some are. expected is what was known of
// the chunk's dead letters before; apply adds those that PostgreSQL refuses.
func (p *partition) apply(ctx context.Context, f *flight, expected *census) error {
	runs, together := f.due, p.options.ProfilesPerTransaction
	var data []refused // for their data, one profile each
	f.known.incomplete.Store(false)
	for len(runs) > 0 {
		failed, err := p.pass(ctx, runs, together, f)
		if err != nil {
			return err
		}
		next, err := p.triage(ctx, failed, together, f)
		if err != nil {
			return err
		}
		runs, together, data = next.again, next.together, append(data, next.data...)
	}
	return p.refuse(ctx, f, data, expected)
}

// refused are runs whose transaction was rolled back, and why.
type refused struct {
	runs []run
	why  *pgconn.PgError
}

// pass sends the transactions of all runs, so many runs each, and returns those refused.
// One connection is always there for it; more are shared with the other partitions, so
// that a long chunk of one leaves something for the others.
func (p *partition) pass(ctx context.Context, runs []run, together int, f *flight) ([]refused, error) {
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
	all.Go(func() error { return p.work(ctx, f, take, refuse) })
	for range min(p.options.Workers, (len(runs)+together-1)/together) - 1 {
		all.Go(func() error {
			select {
			case p.moreWorkers <- struct{}{}:
				defer func() { <-p.moreWorkers }()
				return p.work(ctx, f, take, refuse)
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
func (p *partition) work(ctx context.Context, f *flight, take func() []run, refuse func(refused)) error {
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
					f.known.incomplete.Store(true) // at once: others may be like it
				}
				f.mark(first.runs, unsent)
				refuse(refused{first.runs, refusal})
				continue
			}
			f.mark(first.runs, committed)
			p.settled(first.tally)
		}
		return nil
	}
	for {
		for len(waiting) < pipe.window && (profiles < window || len(waiting) < few) {
			runs := take()
			if runs == nil {
				break
			}
			batch, total := f.known.transaction(runs)
			if !pipe.knows(batch) {
				if err := errors.Join(pipe.flush(), settle(len(waiting)), pipe.prepare(batch)); err != nil {
					return err
				}
			}
			f.mark(runs, sentOff)
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

// triaged is what becomes of refused transactions.
type triaged struct {
	again    []run // to try again, by rising profile
	together int   // how many of them to try together: one, if a group was refused for what may be one profile's fault
	data     []refused
}

// triage decides what becomes of refused transactions. It fails if one was refused for no
// reason of its own.
func (p *partition) triage(ctx context.Context, all []refused, together int, f *flight) (triaged, error) {
	next := triaged{together: together}
	var moved []run
	for _, r := range all {
		verdict := Classify(r.why)
		before := r.runs[0].tried
		if len(r.runs) == 1 && (verdict == Incomplete && before.create > 1 || verdict == Gone && before.found) {
			// It was told to create its rows, or its profile is there, and still a row does not
			// come back: a trigger or a rule keeps it out. To try again and again does not help.
			verdict, r.why = Data, keptOut(r.why)
		}
		switch {
		case verdict == Retry || verdict == Halt:
			return next, fmt.Errorf("applying events of profile %d: %w", r.runs[0].profileID, r.why)
		case verdict == Incomplete:
			if f.known.incomplete.Store(true); before.create > 1 {
				next.together = 1
			}
			next.again = append(next.again, tried(r.runs, func(a *attempts) { a.create++ })...)
		case together > 1:
			next.together = 1
			next.again = append(next.again, r.runs...)
		case verdict == Moved:
			moved = append(moved, r.runs...)
		case verdict == Gone:
			there, err := p.lookAgain(ctx, r.runs[0].profileID, f)
			if err != nil {
				return next, err
			}
			next.again = append(next.again, tried(r.runs, func(a *attempts) { a.found = there })...)
		case verdict == Data:
			if schema, err := p.ofSchema(ctx, r.why); err != nil || schema != nil {
				return next, errors.Join(err, schema)
			}
			next.data = append(next.data, r)
		}
	}
	if len(moved) > 0 {
		rest, err := p.refold(ctx, moved, f)
		if err != nil {
			return next, err
		}
		next.again = append(next.again, rest...)
	}
	inOrder(next.again)
	return next, nil
}

// keptOut says more of a refusal of our own for a row that is not there.
func keptOut(why *pgconn.PgError) *pgconn.PgError {
	table := "genre_score or topic_score"
	if why.Code == history.ProfileGone {
		table = "child_personality_history"
	}
	return &pgconn.PgError{
		Code: why.Code, Message: "a row that was inserted into " + table + " is not there: a trigger or a rule keeps it out",
	}
}

// tried notes what was tried of runs that go on.
func tried(runs []run, note func(*attempts)) []run {
	for i := range runs {
		note(&runs[i].tried)
	}
	return runs
}

// lookAgain looks for a profile that a transaction did not find, and says whether it is there
// after all.
func (p *partition) lookAgain(ctx context.Context, profileID int64, f *flight) (bool, error) {
	p.catalogue.Forget(profileID)
	found, err := p.catalogue.Profiles(ctx, []int64{profileID})
	if err != nil {
		return false, err
	}
	_, there := found[profileID]
	if !there {
		delete(f.known.profiles, profileID)
	}
	return there, nil
}

// refold reads the marks of runs that were elsewhere, and returns what they have not passed.
func (p *partition) refold(ctx context.Context, moved []run, f *flight) ([]run, error) {
	p.count.conflicts.Add(int64(len(moved)))
	marks, err := ledger.Marks(ctx, p.pool, f.known.from, profileIDs(moved))
	if err != nil {
		return nil, err
	}
	var again []run
	for _, r := range moved {
		mark := marks[r.profileID]
		if r.seen.After(mark) {
			return nil, fmt.Errorf("the mark of profile %d went back from %s to %s: PostgreSQL lost commits",
				r.profileID, r.seen, mark)
		}
		rest := r.after(mark)
		if f.replace(rest); len(rest.events) > 0 {
			again = append(again, rest)
		}
	}
	return again, nil
}

// inOrder sorts runs by profile: transactions on several take them in this order.
func inOrder(runs []run) {
	slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.profileID, b.profileID) })
}
