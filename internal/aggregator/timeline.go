package aggregator

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Timeline says what the time of a source was spent on, since New.
type Timeline struct {
	Source       string
	Chunks       int64
	Phases       [numPhases]Span // by Phase; of chunks that were processed, or not
	Transactions int64           // of profiles, or of groups of them; but not those that isolate what is refused
	P50, P95     time.Duration   // of a transaction, from when the one before on its connection was answered
}

// Phase is a step of a chunk's way. Reading goes on beside the others.
type Phase int

// The phases, in their order.
const (
	PhaseRead       Phase = iota // from Redis, and decoding, without waiting for events to come
	PhaseLookUp                  // marks, profiles and books
	PhaseApply                   // the transactions of all profiles
	PhaseCheckpoint              // until all of it is durable
	PhaseTrim
	numPhases
)

// Span is the time that a phase took: the sum, and the time between its first start and its last end.
type Span struct {
	Took     time.Duration
	From, To time.Time // zero if it never began
}

// timeline gathers a Timeline. It is safe for concurrent use.
type timeline struct {
	mu           sync.Mutex
	phases       [numPhases]Span
	transactions *hdrhistogram.Histogram // microseconds
}

func newTimeline() *timeline {
	const second = 1_000_000
	return &timeline{transactions: hdrhistogram.New(1, 600*second, 2)}
}

// spent notes that a phase went on for so long until then.
func (t *timeline) spent(phase Phase, took time.Duration, to time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.phases[phase]
	if s.From.IsZero() {
		s.From = to.Add(-took)
	}
	s.Took, s.To = s.Took+took, to
}

// committed notes that so many transactions took so long each.
func (t *timeline) committed(each time.Duration, transactions int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	us := min(max(each.Microseconds(), 1), t.transactions.HighestTrackableValue())
	_ = t.transactions.RecordValues(us, int64(transactions)) // which cannot fail within its range
}

// Timelines says of each source what its time was spent on. It may be called at any time.
func (a *Aggregator) Timelines() []Timeline {
	all := make([]Timeline, len(a.trackers))
	for i, s := range a.trackers {
		all[i] = s.spans.sum()
		all[i].Source, all[i].Chunks = a.sources[i].Name(), s.count.chunks.Load()
	}
	return all
}

func (t *timeline) sum() Timeline {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := func(percentile float64) time.Duration {
		return time.Duration(t.transactions.ValueAtQuantile(percentile)) * time.Microsecond
	}
	return Timeline{
		Phases: t.phases, Transactions: t.transactions.TotalCount(), P50: at(50), P95: at(95),
	}
}

// stopwatch tells how long one phase after the other took.
type stopwatch struct {
	spans *timeline
	since time.Time
}

func (w *stopwatch) lap(phase Phase) time.Duration {
	now := time.Now()
	took := now.Sub(w.since)
	w.since = now
	w.spans.spent(phase, took, now)
	return took
}
