package aggregator

import (
	"context"
	"slices"
	"time"

	"aggregator/internal/events"
)

const (
	// pageEntries is how many entries one read asks for. Redis cannot be asked for a number of bytes, and
	// entries may suddenly be of a megabyte each. Ten times as many entries would take gigabytes then, and
	// are no faster.
	pageEntries = 100
	// pageBytes is what a reply should not exceed, as far as the entries before it tell.
	pageBytes = 4 << 20
	// idleWait is how long one wait for new entries lasts; a stop waits for it.
	idleWait = 500 * time.Millisecond
)

// stream is the reading half of a source; see events.Source.
type stream interface {
	Read(ctx context.Context, batch *events.Batch, limit int, patience time.Duration) (int, error)
	Inspect(ctx context.Context) (events.State, error)
}

// exchange is how the reader and the applier of an attempt meet. For each chunk that the applier has taken
// and processed, it says since when it is free.
type exchange struct {
	chunks chan *events.Batch // without a buffer; closed by the reader when it ends
	free   chan time.Time     // with room for one
}

func newExchange() exchange { return exchange{make(chan *events.Batch), make(chan time.Time, 1)} }

// reader gathers the entries of a source into chunks, as its policy says, and hands them over.
type reader struct {
	tracker *tracker
	source  stream
	policy  batchPolicy
	limit   func() int                         // of the policy, after each chunk
	smaller func(entries int, err error) error // told of a read that failed; see partition.smaller
	budget  *budget                            // entries that may be read
	timeout time.Duration                      // of a read
	ahead   *prefetcher
	taken   int // from the budget
	size    int // bytes of an entry of the last page, on average
}

func (p *partition) reader(source stream, m mode) *reader {
	limit := func() int { return int(p.limit.Load()) }
	return &reader{
		tracker: p.tracker, source: source, limit: limit, smaller: p.smaller,
		budget: m.budget, timeout: p.options.Timeout,
		ahead: &prefetcher{catalogue: p.catalogue, timeout: p.options.Timeout, log: p.log},
		policy: batchPolicy{
			maxEvents: p.options.ChunkMaxEvents, maxBytes: p.options.ChunkMaxBytes, maxWait: p.options.ChunkMaxWait,
			once: m.once, limit: limit(),
		},
	}
}

// read reads from after the position on and hands chunks over, one at a time; while one is being processed
// the next one grows. It returns how many entries it took from the budget. It ends without an error when ctx
// ends, or when there is nothing left and the mode says so.
func (r *reader) read(ctx context.Context, after events.Position, to exchange) (taken int, err error) {
	defer r.ahead.parts.Wait()
	for {
		batch := &events.Batch{Last: after}
		handed, err := r.gather(ctx, batch, to)
		switch {
		case ctx.Err() != nil:
			return r.taken, nil // what was interrupted failed because of that
		case err != nil || !handed:
			return r.taken, err
		}
		after = batch.Last
	}
}

// gather fills one batch and hands it over. If it does not, there is nothing more to do.
func (r *reader) gather(ctx context.Context, batch *events.Batch, to exchange) (handed bool, err error) {
	ahead := chunkPrefetch{prefetcher: r.ahead}
	// Of a source that was drained it is known that there is nothing to read at once.
	for read, patience := !r.policy.drained, time.Duration(0); ctx.Err() == nil; {
		r.tracker.turned()
		if read {
			if err := r.page(ctx, batch, patience); err != nil {
				return false, err
			}
			if ctx.Err() != nil { // what came during the wait is read again by the next attempt
				break
			}
			ahead.look(ctx, batch.Events)
		}
		read, patience = true, 0
		r.await(ctx, to, 0)
		switch what, d := r.policy.next(time.Now()); what {
		case end:
			return false, nil
		case idle:
			r.tracker.idle()
			patience = idleWait
		case wait:
			if r.await(ctx, to, d) {
				read = !r.policy.due().After(time.Now()) // else it waits on, and reads then
			}
		case handOver:
			select {
			case to.chunks <- batch:
				r.policy.handed(time.Now())
				r.tracker.chunkTaken()
				return true, nil
			case <-ctx.Done():
			}
		}
	}
	return false, nil
}

// await waits until the applier is free, but no longer than d, and says whether it has become free.
func (r *reader) await(ctx context.Context, to exchange, d time.Duration) bool {
	select {
	case at := <-to.free:
		r.policy.freed(at, r.limit())
		return true
	default:
	}
	if d == 0 {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case at := <-to.free:
		r.policy.freed(at, r.limit())
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// page reads what comes next into the batch, if it may. If nothing is there it waits for so long.
func (r *reader) page(ctx context.Context, batch *events.Batch, patience time.Duration) error {
	want := min(r.policy.room(), pageEntries, max(1, pageBytes/(r.size+1)))
	if want == 0 {
		return nil
	}
	if want = r.budget.take(want); want == 0 {
		r.policy.spent()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout+patience)
	defer cancel()
	if err := r.makeRoom(ctx, batch, want); err != nil {
		r.budget.giveBack(want)
		return err
	}
	replies, held, watch := batch.Replies, batch.Held, stopwatch{r.tracker.spans, time.Now()}
	n, err := r.source.Read(ctx, batch, want, patience)
	r.budget.giveBack(want - n)
	r.taken += n
	if err != nil {
		return r.smaller(want, err)
	}
	if n > 0 {
		if patience == 0 { // else it was a wait most of the time
			batch.Took += watch.lap(PhaseRead)
		}
		r.size = (batch.Replies - replies) / n
	}
	r.policy.add(want, n, batch.Held-held)
	return nil
}

// makeRoom lets a batch that grows long grow at once by as much as waits in the stream.
// Growing step by step would take twice the memory.
func (r *reader) makeRoom(ctx context.Context, batch *events.Batch, want int) error {
	const long = 10_000
	if len(batch.Events) < long || len(batch.Events)+want <= cap(batch.Events) {
		return nil
	}
	state, err := r.source.Inspect(ctx)
	if err != nil {
		return err
	}
	most := min(r.policy.maxEvents, batch.Entries*r.policy.mostBytes()/batch.Held)
	batch.Events = slices.Grow(batch.Events, max(want, min(int(state.Length), most-batch.Entries)))
	return nil
}
