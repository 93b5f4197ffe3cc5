package admin

import (
	"sync"
	"time"
)

// recent remembers a value for a while. Callers that ask at the same time share one reading.
type recent[T any] struct {
	mu    sync.Mutex
	at    time.Time
	value T
}

func (r *recent[T]) get(maxAge time.Duration, read func() T) T {
	asked := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at.IsZero() || asked.Sub(r.at) > maxAge {
		r.value = read()
		r.at = time.Now()
	}
	return r.value
}
