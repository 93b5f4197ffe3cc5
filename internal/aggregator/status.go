package aggregator

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"aggregator/internal/apply"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// State is what the loop of a source is doing.
type State string

// A loop that backs off stays in that state until a chunk is processed, or nothing is found to do. A loop
// that fails again and again does not look as if it worked in between.
const (
	Starting   State = "starting"
	Working    State = "working" // also when there is nothing to do
	StandingBy State = "standing by"
	BackingOff State = "backing off"
	Halted     State = "halted" // and Run ends
	Stopped    State = "stopped"
	Resting    State = "resting" // until its schedule wants it
)

// Status is the state of one source's loop at one moment.
type Status struct {
	Source   *events.Source
	State    State
	Since    time.Time
	Reason   string        // standing by: for which instance; resting: until when; backing off or halted: why
	LastTurn time.Time     // when it was last seen alive, with a monotonic reading; see Hangs
	Rest     time.Duration // how long it may wait between two turns, beyond a minute
	Leased   bool          // this instance holds the lease

	Stats                   // of this source; Retried is not known by source
	Causes map[string]int64 // how many Restarts had each cause: see cause
}

// lifeSign is longer than each wait of a loop, except that of a chunk to fill up.
const lifeSign = time.Minute

// Hangs says whether the loop has not turned for longer than any of its waits. Whatever the servers do, this
// is a reason to kill the process. A loop that has ended does not hang.
func (s Status) Hangs() bool {
	ended := s.State == Halted || s.State == Stopped || s.State == Resting
	return !ended && time.Since(s.LastTurn) > lifeSign+s.Rest
}

// Status returns the status of every source. It may be called at any time, also while Run
// does not run, and waits for nothing.
func (a *Aggregator) Status() []Status {
	all := make([]Status, len(a.sources))
	for i, source := range a.sources {
		all[i] = a.trackers[i].status()
		all[i].Source, all[i].Rest = source, a.options.ChunkMaxWait
	}
	return all
}

// Rest says of all loops, while none of them runs, that they are not to run, and why.
func (a *Aggregator) Rest(reason string) {
	for _, s := range a.trackers {
		s.enter(Resting, reason)
	}
}

// moment is a time that is remembered by the monotonic clock: a wall clock that is set must neither look like
// a hang nor hide one. The zero value is the start of the process. It is safe for concurrent use.
type moment struct{ since atomic.Int64 } // nanoseconds after processStart

var processStart = time.Now()

// pass says that the moment is now.
func (m *moment) pass() { m.since.Store(int64(time.Since(processStart))) }

// ago is how long ago it was.
func (m *moment) ago() time.Duration { return time.Since(processStart) - time.Duration(m.since.Load()) }

// tracker is where the loop of one source says what it is doing.
type tracker struct {
	count counters
	turn  moment // when the reader, or the wait for a lease, last went round
	// A loop with a chunk in flight may have to wait for long until the other partitions give a connection
	// back. It is taken to be alive as long as any loop commits a transaction.
	taken, done atomic.Int64 // chunks of this attempt that were handed over, and that are processed
	worked      *moment      // when a transaction of any source was last committed
	spans       *timeline
	log         *slog.Logger

	mu     sync.Mutex
	state  State
	since  time.Time
	reason string
	leased bool
	causes map[string]int64 // how many restarts had each
}

func newTracker(worked *moment, log *slog.Logger) *tracker {
	s := &tracker{
		worked: worked, spans: newTimeline(), log: log, state: Starting, since: time.Now(),
		causes: make(map[string]int64),
	}
	s.turned()
	return s
}

func (s *tracker) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := s.turn.ago()
	if s.busy() {
		idle = max(idle, s.worked.ago())
	}
	return Status{
		State: s.state, Since: s.since, Reason: s.reason, LastTurn: time.Now().Add(-idle), Leased: s.leased,
		Stats: s.count.stats(), Causes: maps.Clone(s.causes),
	}
}

// enter changes the state. To enter the same state again changes only the reason.
func (s *tracker) enter(state State, reason string) {
	s.turned()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == BackingOff && state == Working {
		s.log.Info("working again", "down_for", time.Since(s.since).Round(time.Millisecond))
	}
	if s.state != state {
		s.state, s.since = state, time.Now()
	}
	s.reason = reason
}

// attemptBegan says that an attempt has begun, which alone does not end a series of failures.
func (s *tracker) attemptBegan() {
	s.mu.Lock()
	failing := s.state == BackingOff
	s.mu.Unlock()
	if !failing {
		s.enter(Working, "")
	}
}

// idle says that there is nothing to read. The chunk in flight, if any, may still fail.
func (s *tracker) idle() {
	if !s.busy() {
		s.enter(Working, "")
	}
}

// fail says that the loop begins again, because of an error.
func (s *tracker) fail(err error) {
	s.count.restarts.Add(1)
	s.enter(BackingOff, err.Error())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.causes[cause(err)]++
}

func (s *tracker) lease(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leased = held
}

// turned says that the reader is alive.
func (s *tracker) turned() { s.turn.pass() }

// progressed says that the applier is alive.
func (s *tracker) progressed() { s.worked.pass() }

// chunkTaken is for the reader to call when it has handed over a chunk. Because the reader calls it itself,
// it knows of the chunk when it finds nothing more to read.
func (s *tracker) chunkTaken() {
	s.progressed()
	s.taken.Add(1)
}

// chunkDone says that a chunk is processed.
func (s *tracker) chunkDone() {
	s.enter(Working, "")
	s.done.Add(1)
}

// attemptEnded says that no attempt is under way any more.
func (s *tracker) attemptEnded() {
	s.taken.Store(0)
	s.done.Store(0)
}

func (s *tracker) busy() bool { return s.taken.Load() != s.done.Load() }

// statementTimedOut is the SQLSTATE of a statement that PostgreSQL has given up.
const statementTimedOut = "57014"

// timedOut says whether a server has not answered in time, or has given up itself.
func timedOut(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == statementTimedOut
	}
	var network net.Error // as context.DeadlineExceeded is
	return errors.Is(err, apply.ErrStalled) || errors.As(err, &network) && network.Timeout()
}

// cause sorts the errors that make a loop begin again into a few kinds, for counting.
func cause(err error) string {
	var (
		pg      *pgconn.PgError
		connect *pgconn.ConnectError
		reply   redis.Error
	)
	switch {
	case errors.Is(err, ledger.ErrRefused):
		return "checkpoint_refused"
	case errors.Is(err, errWentBack):
		return "stream_behind"
	case timedOut(err):
		return "timeout"
	case errors.As(err, &pg):
		return "postgres_error"
	case errors.As(err, &connect):
		return "postgres_connection"
	case errors.As(err, &reply):
		return "redis_error"
	}
	return "connection"
}
