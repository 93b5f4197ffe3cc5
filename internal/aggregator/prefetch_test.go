package aggregator

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
)

// known counts the ids that are asked for ahead.
type known struct {
	mu              sync.Mutex
	profiles, books map[int64]int
	calls           []int // how many were not known, of each call
	fails           error
}

func (k *known) Prefetch(ctx context.Context, profiles, books []int64) (int, error) {
	time.Sleep(10 * time.Millisecond)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fails != nil {
		k.calls = append(k.calls, 0)
		return 0, k.fails
	}
	n := 0
	for _, id := range profiles {
		if k.profiles[id]++; k.profiles[id] == 1 {
			n++
		}
	}
	for _, id := range books {
		if k.books[id]++; k.books[id] == 1 {
			n++
		}
	}
	k.calls = append(k.calls, n)
	return n, ctx.Err()
}

func TestPrefetch(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		entries, maxEvents, profiles int
		fails                        error
		calls                        int
		events                       int // whose ids were asked for
	}{
		"a long chunk":               {30_000, 1_000_000, 1_000_000, nil, 6, 30_000},
		"a long chunk of few":        {30_000, 1_000_000, 7, nil, 2, 10_000},
		"two long chunks":            {24_000, 12_000, 1_000_000, nil, 4, 20_000},
		"a small chunk":              {prefetchEvents - 1, 1_000_000, 1_000_000, nil, 0, 0},
		"a large one in small parts": {30_000, prefetchEvents - 1, 1_000_000, nil, 0, 0},
		"it fails":                   {30_000, 1_000_000, 1_000_000, broken, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &known{profiles: map[int64]int{}, books: map[int64]int{}, fails: c.fails}
				pushes := every(0, c.entries)
				pushes.profiles = c.profiles
				chunks, _, err := replay(t, pushes, costs(time.Second, 0), func(r *reader) {
					r.policy.maxEvents = c.maxEvents
					r.ahead = &prefetcher{catalogue: k, timeout: time.Minute, log: slog.New(slog.DiscardHandler)}
				})
				require.NoError(t, err)
				assert.Len(t, chunks, (c.entries+c.maxEvents-1)/c.maxEvents)
				assert.Len(t, k.calls, c.calls)
				total := 0
				for _, n := range k.profiles {
					total += n
				}
				assert.InDelta(t, c.events, total, float64(c.calls)*pageEntries)
			})
		})
	}
}

// While a part is asked for reading goes on, and what came meanwhile is the next part.
func TestPrefetchDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &known{profiles: map[int64]int{}, books: map[int64]int{}}
		r := &prefetcher{catalogue: k, timeout: time.Minute, log: slog.New(slog.DiscardHandler)}
		p := chunkPrefetch{prefetcher: r}
		all := make([]events.Event, 4*prefetchEvents)
		for i := range all {
			all[i] = events.Event{ProfileID: int64(i), BookID: int64(i)}
		}
		began := time.Now()
		p.look(t.Context(), all[:prefetchEvents])
		p.look(t.Context(), all[:2*prefetchEvents])
		p.look(t.Context(), all[:3*prefetchEvents])
		assert.Equal(t, began, time.Now())
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, []int{2 * prefetchEvents}, k.calls)
		p.look(t.Context(), all[:3*prefetchEvents])
		r.parts.Wait()
		assert.Equal(t, []int{2 * prefetchEvents, 4 * prefetchEvents}, k.calls)
	})
}
