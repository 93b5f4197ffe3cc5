package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"aggregator/internal/crash"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/postgres"
	"aggregator/internal/scores"
	"aggregator/internal/verdict"
)

const (
	// window is how many profiles' transactions are in flight on a connection at most. More
	// would not keep the server busier, only hold more memory.
	window = 64
	// few transactions may be in flight in any case, also if each is of many profiles.
	few = 4
	// A call has from shortCall to longCall profiles, each with a transaction of its own. To begin a call
	// costs as much as some profiles do. The longest is still short compared with the time-outs.
	shortCall, longCall = 25, 64
	// A chunk of at least busyChunk profiles is one of a busy source, for Auto.
	busyChunk = 100
)

// Auto as ProfilesPerTransaction is 1 for a chunk of fewer than 100 profiles; else what each connection has of
// the chunk, but at most 50.
const Auto = 0

// Options say how chunks are applied.
type Options struct {
	Workers                int  // connections that apply a chunk
	ProfilesPerTransaction int  // 1: a transaction a profile; or Auto
	Coalesce               bool // a profile's last event on a book in a chunk is its only one
	Preferred              scores.Preference
	Journal                bool          // the events of a row of history are kept with it
	Timeout                time.Duration // after which a server that does not answer is given up
}

// Applier applies the chunks of one source, one after the other.
type Applier struct {
	Pool      *pgxpool.Pool // commits asynchronously (synchronous_commit=off)
	Catalogue *scores.Catalogue
	Source    string
	Options   Options

	// More holds one for each connection in use beyond the first of a source. Appliers share it, so that a
	// long chunk of one leaves something for the others.
	More chan struct{}

	// Committed is called with each transaction that is committed. Took is called with how long each of so
	// many transactions of a pass took, on average. Conflicts is called with a number of profiles that are
	// folded again because their marks had moved. Several goroutines call them; they must not wait.
	Committed func(Tally)
	Took      func(each time.Duration, transactions int)
	Conflicts func(profiles int)

	// Resolved is called with what an attempt has done that failed before it knew of that.
	Resolved func(Tally)

	streak streak          // of refusals, in this attempt
	left   *uncertain      // of the attempts before this one
	config *pgx.ConnConfig // of the pool, which makes a copy each time; see connConfig
}

// connConfig is that of the pool's connections.
func (a *Applier) connConfig() *pgx.ConnConfig {
	if a.config == nil {
		a.config = a.Pool.Config().ConnConfig
	}
	return a.config
}

// bounded is a context for a round trip to PostgreSQL outside of a pipeline, which has a time-out of its own.
func (a *Applier) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.Options.Timeout)
}

// marks reads where the marks of segments are now.
func (c *Chunk) marks(ctx context.Context, of []segment) (map[int64]events.Position, error) {
	ctx, cancel := c.applier.bounded(ctx)
	defer cancel()
	return ledger.Marks(ctx, c.applier.Pool, c.known.from, profileIDs(of))
}

// Begin begins an attempt: what was refused before says nothing about it.
func (a *Applier) Begin() { a.streak = streak{} }

// Apply processes a chunk: when it returns without an error, every event that is due is applied or a dead
// letter. After an error some are; the marks say which, and the chunk may be read and applied again. expected
// is the Census of the chunk. Dead letters that PostgreSQL's refusals make are added to it, and check says
// before they are written whether they are too many. Errors are for verdict.Of to judge. When ctx ends,
// connections with transactions in flight are closed.
func (c *Chunk) Apply(ctx context.Context, expected *Census, check func(Census) error) error {
	segments, how := c.due, c.applier.grouping(len(c.due))
	if postgres.OnCitus(c.applier.connConfig()) {
		how = grouping{1, true} // a call of many profiles is for no one worker
	}
	var data []refused // for their data, one profile each
	for len(segments) > 0 {
		failed, err := c.pass(ctx, segments, how)
		if err != nil {
			return err
		}
		next, err := c.triage(ctx, failed)
		if err != nil {
			return err
		}
		// What shared a transaction or a call with a segment that was refused goes on alone.
		segments, how, data = next.again, grouping{1, true}, append(data, next.data...)
	}
	return c.refuse(ctx, data, expected, check)
}

// grouping says how segments are sent: so many at once, in one transaction or in one each.
type grouping struct {
	size  int
	inOne bool
}

func (a *Applier) grouping(segments int) grouping {
	together := a.Options.ProfilesPerTransaction
	if together == Auto && segments >= busyChunk {
		together = min(longStatement, (segments+a.Options.Workers-1)/a.Options.Workers)
	}
	if together > 1 {
		return grouping{together, true}
	}
	return grouping{min(longCall, max(shortCall, segments/(2*a.Options.Workers))), false}
}

// refused is a unit that ended with an error: its transaction was rolled back. Of a call, that is the
// transaction of one segment; those before it are committed, and those after it were not tried.
type refused struct {
	unit
	why *pgconn.PgError
}

// pass sends all segments, and returns what is refused. One connection is always there for it. More are
// shared with the other partitions, so that a long chunk of one leaves something for the others.
func (c *Chunk) pass(ctx context.Context, segments []segment, how grouping) ([]refused, error) {
	var (
		mu     sync.Mutex
		rest   = segments
		failed []refused
	)
	taken := make(chan struct{}) // closed when nothing is left to take
	take := func() []segment {
		mu.Lock()
		defer mu.Unlock()
		if len(rest) == 0 {
			return nil
		}
		n := min(how.size, len(rest))
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
	workers := min(c.applier.Options.Workers, (len(segments)+how.size-1)/how.size)
	if workers == 1 {
		err := c.work(ctx, how, take, refuse)
		return failed, err
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return c.work(ctx, how, take, refuse) })
	for range workers - 1 {
		all.Go(func() error {
			select {
			case c.applier.More <- struct{}{}:
				defer func() { <-c.applier.More }()
				return c.work(ctx, how, take, refuse)
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

// work sends transactions over one connection until there are no more to take.
func (c *Chunk) work(ctx context.Context, how grouping, take func() []segment, refuse func(refused)) error {
	conn, err := c.applier.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	defer conn.Release()
	pipe := newPipeline(ctx, conn.Conn(), c.applier.config, c.applier.Options.Timeout)
	defer pipe.close()

	var (
		ready    []unit // to be sent
		waiting  []unit // for their answers
		profiles int    // that are waiting
	)
	since := time.Now() // when the server could start on the first of them
	settle := func(n int) error {
		for range n {
			refusal, err := pipe.receive()
			if err != nil {
				return err
			}
			first := waiting[0]
			began := since
			since = time.Now()
			waiting = waiting[1:]
			profiles -= len(first.segments)
			if refusal != nil {
				if first.each == nil {
					c.mark(first.segments, unsent)
				}
				refuse(refused{first, refusal})
				continue
			}
			c.mark(first.segments, committed)
			transactions := max(1, len(first.each))
			c.applier.Took(since.Sub(began)/time.Duration(transactions), transactions)
			c.countCommitted(first.Tally)
		}
		return nil
	}
	for {
		for len(waiting) < pipe.window && (profiles < window || len(waiting) < few) {
			if len(ready) == 0 {
				ready = c.known.units(take(), how.inOne)
			}
			if len(ready) == 0 {
				break
			}
			next := ready[0]
			ready = ready[1:]
			if !pipe.knows(next.batch) {
				if err := errors.Join(pipe.flush(), settle(len(waiting)), pipe.prepare(next.batch)); err != nil {
					return err
				}
			}
			c.mark(next.segments, sentOff)
			if len(waiting) == 0 {
				since = time.Now()
			}
			if err := pipe.send(next.batch); err != nil {
				return err
			}
			waiting = append(waiting, next)
			profiles += len(next.segments)
		}
		if len(waiting) == 0 {
			return nil
		}
		if err := pipe.flush(); err != nil {
			return err
		}
		crash.At("mid_pipeline")
		if err := settle((len(waiting) + 1) / 2); err != nil {
			return err
		}
	}
}

// triaged is what becomes of refused transactions.
type triaged struct {
	again []segment // to try again, by rising profile
	data  []refused // of one segment each
}

// triage decides what becomes of refused transactions. It fails if one was refused for no
// reason of its own.
func (c *Chunk) triage(ctx context.Context, all []refused) (next triaged, err error) {
	all, next.again, err = c.culprits(ctx, all)
	if err != nil {
		return next, err
	}
	var moved []segment
	for _, r := range all {
		first := &r.segments[0]
		is := verdict.Of(r.why)
		if len(r.segments) == 1 && (is == verdict.Incomplete && first.tried.careful ||
			is == verdict.Gone && first.tried.found) {
			// All was tried, or its profile is there, and still a row does not come back: a trigger or a rule
			// keeps it out. More tries do not help.
			is, r.why = verdict.Data, keptOut(r.why)
		}
		switch {
		case is == verdict.Retry || is == verdict.Halt:
			return next, fmt.Errorf("applying events of profile %d: %w", first.profileID, r.why)
		case len(r.segments) > 1:
			next.again = append(next.again, r.segments...)
		case is == verdict.Incomplete:
			first.tried.careful = true
			next.again = append(next.again, *first)
		case is == verdict.Moved:
			moved = append(moved, *first)
		case is == verdict.Gone:
			if first.tried.found, err = c.lookAgain(ctx, first.profileID); err != nil {
				return next, err
			}
			next.again = append(next.again, *first)
		case is == verdict.Data:
			if schema, err := c.applier.ofSchema(ctx, r.why); err != nil || schema != nil {
				return next, errors.Join(err, schema)
			}
			next.data = append(next.data, r)
		}
	}
	if len(moved) > 0 {
		rest, err := c.refold(ctx, moved)
		if err != nil {
			return next, err
		}
		next.again = append(next.again, rest...)
	}
	inOrder(next.again)
	return next, nil
}

// culprits finds out by the marks how far calls have come that ended with an error. It returns the refused
// transactions, of each call that of one segment, and the segments that were not tried.
func (c *Chunk) culprits(ctx context.Context, all []refused) (refusals []refused, untried []segment, err error) {
	var doubtful []segment
	for _, r := range all {
		if r.each != nil {
			doubtful = append(doubtful, r.segments...)
		}
	}
	if len(doubtful) == 0 {
		return all, nil, nil
	}
	marks, err := c.marks(ctx, doubtful)
	if err != nil {
		return nil, nil, err
	}
	for _, call := range all {
		if call.each == nil {
			refusals = append(refusals, call)
			continue
		}
		culprit := call.culprit(marks)
		for i, seg := range call.segments[:culprit] {
			c.mark([]segment{seg}, committed)
			c.countCommitted(call.each[i])
		}
		if culprit == len(call.segments) {
			continue // what went wrong came after all of it
		}
		c.mark(call.segments[culprit:], unsent)
		refusals = append(refusals, refused{unit{segments: call.segments[culprit : culprit+1 : culprit+1]}, call.why})
		untried = append(untried, call.segments[culprit+1:]...)
	}
	return refusals, untried, nil
}

// culprit is the place of the segment whose transaction ended a call; those before it are committed. Another
// instance may have brought any mark further since, so that only a refusal of our own, which names its profile,
// tells for certain. Without one it is the first segment that the marks have not passed.
func (r refused) culprit(marks map[int64]events.Position) int {
	culprit := slices.IndexFunc(r.segments, func(s segment) bool {
		if verdict.Ours(r.why) {
			return r.why.Detail == strconv.FormatInt(s.profileID, 10)
		}
		return s.last().After(marks[s.profileID])
	})
	if culprit < 0 {
		return len(r.segments)
	}
	return culprit
}

// keptOut says more about a refusal by the aggregator's own functions for a row that is not there.
func keptOut(why *pgconn.PgError) *pgconn.PgError {
	table := "genre_score, topic_score or cumulative_mbti_score"
	if why.Code == verdict.ProfileGone {
		table = "child_personality_history"
	}
	return &pgconn.PgError{
		Code: why.Code, Message: "a row that was inserted into " + table + " is not there: a trigger or a rule keeps it out",
	}
}

// lookAgain looks for a profile that a transaction did not find, and says whether it is there now.
func (c *Chunk) lookAgain(ctx context.Context, profileID int64) (bool, error) {
	ctx, cancel := c.applier.bounded(ctx)
	defer cancel()
	c.applier.Catalogue.Forget(profileID)
	found, err := c.applier.Catalogue.Profiles(ctx, []int64{profileID})
	if err != nil {
		return false, err
	}
	_, there := found[profileID]
	if !there {
		delete(c.known.profiles, profileID)
	}
	return there, nil
}

// refold reads the marks of segments that were not where they were seen, and returns the events that the
// marks have not passed.
func (c *Chunk) refold(ctx context.Context, moved []segment) ([]segment, error) {
	c.applier.Conflicts(len(moved))
	marks, err := c.marks(ctx, moved)
	if err != nil {
		return nil, err
	}
	c.applier.resolve(marks)
	var again []segment
	for _, seg := range moved {
		mark := marks[seg.profileID]
		if seg.seen.After(mark) {
			return nil, fmt.Errorf("the mark of profile %d went back from %s to %s: PostgreSQL lost commits",
				seg.profileID, seg.seen, mark)
		}
		rest := seg.after(mark)
		c.counted += c.applier.left.before(seg, mark)
		if c.replace(rest); len(rest.events) > 0 {
			again = append(again, rest)
		}
	}
	return again, nil
}

// inOrder sorts segments by profile: transactions on several profiles take them in this order.
func inOrder(segments []segment) {
	slices.SortFunc(segments, func(a, b segment) int { return cmp.Compare(a.profileID, b.profileID) })
}
