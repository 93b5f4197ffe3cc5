package aggregator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"aggregator/internal/apply"
	"aggregator/internal/cluster"
	"aggregator/internal/events"
	"aggregator/internal/postgres"
	"aggregator/internal/runs"
	"aggregator/internal/scores"
	"aggregator/internal/verdict"
)

// Options say how to work. All fields are required except those that say otherwise.
type Options struct {
	ChunkMaxEvents int // entries in a chunk, at most
	// ChunkMaxBytes is how much memory the chunk in flight and the one that is being read may hold,
	// for each source.
	ChunkMaxBytes          int
	ChunkMaxWait           time.Duration     // how long a chunk that is not full waits for more
	Workers                int               // connections that apply a chunk
	ProfilesPerTransaction int               // see apply.Options
	Coalesce               bool              // a profile's last event on a book in a chunk is its only one
	Preferred              scores.Preference // which genres and topics are favorites
	Journal                bool              // the events of a row of history are kept with it
	Retain                 time.Duration     // how long to keep processed entries in Redis; may be 0
	TrimEvery              time.Duration     // how often to look for more to trim while nothing comes
	Grace                  time.Duration     // to finish the chunk in flight when asked to stop
	Timeout                time.Duration     // after which a server that does not answer is given up
	DeadWindow             int               // how many of the latest entries of a source DeadMaxShare looks at
	// DeadMaxShare is the largest share of these entries that may be dead letters; with more the source
	// halts. 1, or a window of 0: never.
	DeadMaxShare float64
	// RetryUnknownFor is how long events on unknown profiles and books are tried again; 0: not at all.
	RetryUnknownFor time.Duration
	RetryEvery      time.Duration // how often, while Run works; unused if RetryUnknownFor is 0
	Observe         func(Chunk)   // called with each chunk that was processed; optional, and must not wait
	// Schema is called with the schema of each attempt and chunk. It is optional, and must not wait.
	Schema func(postgres.Schema)
}

// Aggregator drains sources into PostgreSQL.
type Aggregator struct {
	pool      *pgxpool.Pool
	sources   []*events.Source
	catalogue *scores.Catalogue
	options   Options
	log       *slog.Logger
	trackers  []*tracker      // one for each source
	keeper    *cluster.Keeper // see Share
	worked    moment          // see tracker
	retried   atomic.Int64
	refused   sync.Map // run ids of the Redis servers whose refusal was logged, see partition.rewrite

	moreWorkers chan struct{} // holds one for each worker beyond the first of a partition
}

// Connections is how many connections to PostgreSQL an Aggregator uses: a worker for each
// partition, the other workers that they share, and some for look-ups, checkpoints,
// leases and retries, which are short and must not wait for workers.
func Connections(workers, partitions int) int { return partitions + (workers - 1) + 4 }

// New returns an Aggregator. The pool must have room for its Connections, and commit
// asynchronously (synchronous_commit=off).
func New(pool *pgxpool.Pool, sources []*events.Source, catalogue *scores.Catalogue, options Options,
	log *slog.Logger,
) *Aggregator {
	a := &Aggregator{pool: pool, sources: sources, catalogue: catalogue, options: options, log: log}
	a.moreWorkers = make(chan struct{}, options.Workers-1)
	for _, source := range sources {
		a.trackers = append(a.trackers, newTracker(&a.worked, log.With("source", source.Name())))
	}
	return a
}

// Share has Run work on a source only while the keeper says that it is this instance's. It must be called
// before Run. Drain works on all sources, whichever instance has them.
func (a *Aggregator) Share(keeper *cluster.Keeper) { a.keeper = keeper }

// Stats count what became of entries, since New. Read is the sum of Applied, Dead and
// Skipped. Their JSON names are those of the report of a drain.
type Stats struct {
	runs.Counts // of processed chunks; Profiles are those of a chunk that changed their scores

	Skipped   int64 `json:"settled_before"` // events that were processed before: by an earlier try or another instance
	Conflicts int64 `json:"conflicts"`      // transactions folded again because a mark had moved
	Restarts  int64 `json:"restarts"`       // times that a loop began again from the checkpoint
	InFlight  int64 `json:"-"`              // events of chunks in flight whose transactions are committed
	Trimmed   int64 `json:"-"`              // entries trimmed in Redis
	Retried   int64 `json:"retried"`        // dead letters that a retry applied; Applied does not count them
}

// Plus returns the sums.
func (s Stats) Plus(t Stats) Stats {
	return Stats{
		Counts: s.Counts.Plus(t.Counts), Skipped: s.Skipped + t.Skipped, Conflicts: s.Conflicts + t.Conflicts,
		Restarts: s.Restarts + t.Restarts, InFlight: s.InFlight + t.InFlight, Trimmed: s.Trimmed + t.Trimmed,
		Retried: s.Retried + t.Retried,
	}
}

type counters struct {
	read, applied, dead, skipped, profiles, chunks, conflicts, restarts, inFlight, trimmed atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{
		Counts: runs.Counts{
			Read: c.read.Load(), Applied: c.applied.Load(), Dead: c.dead.Load(), Profiles: c.profiles.Load(),
			Chunks: c.chunks.Load(),
		},
		Skipped: c.skipped.Load(), Conflicts: c.conflicts.Load(), Restarts: c.restarts.Load(), InFlight: c.inFlight.Load(),
		Trimmed: c.trimmed.Load(),
	}
}

// Stats may be called at any time.
func (a *Aggregator) Stats() Stats {
	sum := Stats{Retried: a.retried.Load()}
	for _, s := range a.trackers {
		sum = sum.Plus(s.count.stats())
	}
	return sum
}

// Caches says what the catalogue has remembered, since New.
func (a *Aggregator) Caches() []scores.CacheUse { return a.catalogue.Use() }

// Run drains without end, and tries unknown profiles and books again now and then. It returns nil when ctx
// ends, after the chunks in flight are processed or the grace is over, and an error if a source halts (see
// Halted). During an outage of a server it waits.
func (a *Aggregator) Run(ctx context.Context) error {
	retrying, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		a.keepRetrying(retrying)
	}()
	defer func() {
		stop()
		<-stopped
	}()
	return a.loops(ctx, mode{})
}

// Limits end a drain early.
type Limits struct {
	MaxEvents   int64         // 0: no limit
	MaxDuration time.Duration // 0: no limit; the chunk in flight is still processed
}

// Drain drains until nothing is left, or a limit or ctx ends it, and tries unknown profiles and books once
// more. It returns how many entries it left, of those that it knows of. During an outage of a server it
// waits, as Run does.
func (a *Aggregator) Drain(ctx context.Context, limits Limits) (left int64, err error) {
	m := mode{once: true}
	if limits.MaxEvents > 0 {
		m.budget = &budget{}
		m.budget.left.Store(limits.MaxEvents)
	}
	if limits.MaxDuration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limits.MaxDuration)
		defer cancel()
	}
	for {
		if err := a.loops(ctx, m); err != nil {
			return 0, err
		}
		left, err = a.Waiting(context.WithoutCancel(ctx))
		// One partition may have found nothing left of the budget, and another has given some of it back since.
		if err != nil || ctx.Err() != nil {
			return left, err
		}
		if left == 0 || m.budget == nil || m.budget.left.Load() == 0 {
			a.retryUnknown(ctx)
			return left, nil
		}
	}
}

// Waiting counts the entries of all sources that are not processed yet. See events.Source.Waiting.
func (a *Aggregator) Waiting(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, a.options.Timeout)
	defer cancel()
	var total int64
	for _, source := range a.sources {
		start, err := a.start(ctx, source)
		if err != nil {
			return 0, err
		}
		n, err := source.Waiting(ctx, start.Position, start.Entries)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// mode is how a loop ends.
type mode struct {
	once   bool    // when nothing is left
	budget *budget // when it is used up; nil: never
}

// budget is a number of entries that several readers share.
type budget struct{ left atomic.Int64 }

// take takes up to n entries from the budget; it is safe on nil, which has no limit.
func (b *budget) take(n int) int {
	if b == nil {
		return n
	}
	for {
		left := b.left.Load()
		taken := min(int64(n), left)
		if taken <= 0 {
			return 0
		}
		if b.left.CompareAndSwap(left, left-taken) {
			return int(taken)
		}
	}
}

func (b *budget) giveBack(n int) {
	if b != nil {
		b.left.Add(int64(n))
	}
}

// loops runs the loop of every partition, and the watch on the catalogue beside them.
func (a *Aggregator) loops(ctx context.Context, m mode) error {
	watch, stopWatching := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		a.catalogue.Watch(watch)
	}()
	defer func() {
		stopWatching()
		<-watched
	}()
	all, ctx := errgroup.WithContext(ctx)
	for i := range a.sources {
		p := a.partition(i)
		all.Go(func() error { return p.loop(ctx, m) })
	}
	return all.Wait()
}

// partition is the loop of one source.
type partition struct {
	*Aggregator
	*tracker
	source   *events.Source
	log      *slog.Logger
	dead     breaker
	applier  *apply.Applier
	inFlight atomic.Int64 // events of the chunk in flight whose transactions are committed

	seen      events.Seen // of the stream, in this attempt
	untrimmed untrimmed
	limit     atomic.Int64 // entries that a chunk may have after a time-out; 0: as many as the options say
}

func (a *Aggregator) partition(i int) *partition {
	source := a.sources[i]
	p := &partition{
		Aggregator: a, tracker: a.trackers[i], source: source, log: a.trackers[i].log,
		dead: breaker{share: a.options.DeadMaxShare, window: a.options.DeadWindow},
	}
	p.applier = &apply.Applier{
		Pool: a.pool, Catalogue: a.catalogue, Source: source.Name(), More: a.moreWorkers,
		Options: apply.Options{
			Workers: a.options.Workers, ProfilesPerTransaction: a.options.ProfilesPerTransaction,
			Coalesce: a.options.Coalesce, Preferred: a.options.Preferred, Journal: a.options.Journal,
			Timeout: a.options.Timeout,
		},
		Committed: p.committed,
		Took:      p.spans.committed,
		Conflicts: func(profiles int) { p.count.conflicts.Add(int64(profiles)) },
		Resolved:  p.report,
	}
	return p
}

// committed counts a committed transaction.
func (p *partition) committed(t apply.Tally) {
	p.progressed()
	p.inFlight.Add(int64(t.Applied + t.Dead))
	p.count.inFlight.Add(int64(t.Applied + t.Dead))
}

func (p *partition) observe(chunk Chunk) {
	if p.options.Observe != nil {
		p.options.Observe(chunk)
	}
}

// dropInFlight forgets the count of the chunk in flight: it is processed, or will be read again.
func (p *partition) dropInFlight() {
	p.count.inFlight.Add(-p.inFlight.Swap(0))
}

// loop begins attempts until the mode or ctx ends it.
func (p *partition) loop(ctx context.Context, m mode) (err error) {
	// The chunk in flight may be finished within the grace after ctx has ended.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer func() {
		p.resolveLast(work)
		if err == nil {
			p.enter(Stopped, "")
		}
	}()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(p.options.Grace, cancel) })()

	pauses := newPauses()
	for {
		p.turned()
		chunks, began := p.count.chunks.Load(), time.Now()
		err := p.turn(ctx, work, m)
		if err == nil {
			if m.once || ctx.Err() != nil {
				return nil
			}
			pauses.forget()
			continue // the lease has ended
		}
		if ctx.Err() != nil {
			p.log.Warn("stopped before the chunk in flight was processed; it will be read again", "error", err)
			return nil
		}
		if is := verdict.Of(err); is == verdict.Halt || is == verdict.Data { // of no single profile
			p.enter(Halted, err.Error())
			return fmt.Errorf("source %s halted: %w%s", p.source.Name(), err, verdict.Advice(err))
		}
		if p.count.chunks.Load() > chunks {
			pauses.forget()
		}
		p.fail(err)
		pause := pauses.next(time.Since(began))
		p.log.Warn(headline(err)+"retrying from the checkpoint", "error", err, "retry_in", pause.Round(time.Millisecond))
		p.pool.Reset() // its connections may be to a server that is no more
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// headline returns the beginning of a log line about an error that is retried: the server that failed, as far
// as that is known.
func headline(err error) string {
	if who := verdict.Blame(err); who != "" {
		return who + "; "
	}
	return ""
}

// turn is an attempt, under a lease if Run is to have one. A drain was asked for by a person or a schedule:
// it does not stand by.
func (p *partition) turn(ctx, work context.Context, m mode) error {
	if m.once || p.keeper == nil {
		return p.attempt(ctx, work, m)
	}
	return p.leased(ctx, work, m)
}

// errWentBack says that the stream's last id is before the checkpoint, or the bookmark before where we left it.
var errWentBack = errors.New("the stream is missing, or its last id or bookmark is before the checkpoint")
