package push

import (
	"context"
	"sync"
	"time"
)

// schedule hands out the events of a push to its clients, in order. With a rate, event i
// is due i/rate seconds after the start, whether Redis keeps up or not (an open loop):
// a stall is then seen by every event that it delays, not by the one that was under way.
type schedule struct {
	mu    sync.Mutex
	next  int64
	count int64
	batch int64
	rate  float64 // events a second; 0: as fast as possible
	start time.Time
}

// claim waits until an event is due and takes it together with those that are due as
// well, at most a batch. It returns first == end when there are none left or ctx is done.
func (s *schedule) claim(ctx context.Context) (first, end int64) {
	// The one who waits for the next event keeps the others waiting behind it.
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == s.count || ctx.Err() != nil {
		return 0, 0
	}
	due := s.count
	if s.rate > 0 {
		if !waitUntil(ctx, s.intended(s.next)) {
			return 0, 0
		}
		elapsed := time.Since(s.start).Seconds()
		// Due by the clock, yet at least the one just waited for.
		due = min(max(int64(elapsed*s.rate)+1, s.next+1), s.count)
	}
	first, end = s.next, min(due, s.next+s.batch)
	s.next = end
	return first, end
}

// intended is when the event was to be sent.
func (s *schedule) intended(index int64) time.Time { return Due(s.start, s.rate, index) }

// Due is when an event is to be sent of those that begin at start, with so many a second.
func Due(start time.Time, rate float64, index int64) time.Time {
	return start.Add(time.Duration(float64(index) / rate * float64(time.Second)))
}

// claimed is the number of events handed out so far.
func (s *schedule) claimed() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

func waitUntil(ctx context.Context, t time.Time) bool {
	wait := time.Until(t)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
