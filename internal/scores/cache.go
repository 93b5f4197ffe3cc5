package scores

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// CacheUse says what one cache of a Catalogue was good for, since it was made.
type CacheUse struct {
	Name     string // books or profiles
	Entries  int    // that it holds, about
	Capacity int
	Hits     int64 // ids that were asked for and remembered; Prefetch asks for nothing
	Misses   int64 // ids that were looked for in PostgreSQL
}

// Use may be called at any time.
func (c *Catalogue) Use() []CacheUse {
	return []CacheUse{c.books.use("books"), c.profiles.use("profiles")}
}

// cache remembers rows by id, and loads those that it does not.
type cache[V any] struct {
	*otter.Cache[int64, V]
	load func(ctx context.Context, ids []int64) (map[int64]V, error) // those of the ids that exist

	hits, misses atomic.Int64

	// A row that was loaded before something was forgotten may be older than what it was forgotten
	// for: it is not remembered.
	mu        sync.Mutex
	forgotten int // how often something was
}

func newCache[V any](most int, ttl time.Duration, load func(context.Context, []int64) (map[int64]V, error)) *cache[V] {
	options := &otter.Options[int64, V]{MaximumSize: most, ExpiryCalculator: otter.ExpiryWriting[int64, V](ttl)}
	return &cache[V]{Cache: otter.Must(options), load: load}
}

func (c *cache[V]) use(name string) CacheUse {
	return CacheUse{
		Name: name, Entries: c.EstimatedSize(), Capacity: int(c.GetMaximum()),
		Hits: c.hits.Load(), Misses: c.misses.Load(),
	}
}

// get returns what is known of the ids: what is remembered, and the rest by one load, which no
// other call shares: what it finds is no older than the call.
func (c *cache[V]) get(ctx context.Context, ids []int64) (map[int64]V, error) {
	found := make(map[int64]V, len(ids))
	var missed []int64
	for _, id := range ids {
		if v, ok := c.GetIfPresent(id); ok {
			found[id] = v
		} else {
			missed = append(missed, id)
		}
	}
	c.hits.Add(int64(len(ids) - len(missed)))
	if len(missed) == 0 {
		return found, nil
	}
	loaded, err := c.loadAndRemember(ctx, unique(missed))
	maps.Copy(found, loaded)
	return found, err
}

// prefetch remembers what it can load of the ids, and returns how many it had to look for. What is
// remembered already is not displaced: if there is no room it looks for nothing.
func (c *cache[V]) prefetch(ctx context.Context, ids []int64) (int, error) {
	var missed []int64
	for _, id := range ids {
		if _, ok := c.GetIfPresent(id); !ok {
			missed = append(missed, id)
		}
	}
	missed = unique(missed)
	if len(missed) == 0 || uint64(c.EstimatedSize()+len(missed)) > c.GetMaximum() {
		return 0, nil
	}
	_, err := c.loadAndRemember(ctx, missed)
	return len(missed), err
}

func (c *cache[V]) loadAndRemember(ctx context.Context, missed []int64) (map[int64]V, error) {
	c.misses.Add(int64(len(missed)))
	c.mu.Lock()
	before := c.forgotten
	c.mu.Unlock()
	loaded, err := c.load(ctx, missed)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forgotten == before {
		for id, v := range loaded {
			c.Set(id, v)
		}
	}
	return loaded, nil
}

// unique sorts ids and leaves each once.
func unique(ids []int64) []int64 {
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (c *cache[V]) forget(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten++
	c.Invalidate(id)
}

func (c *cache[V]) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten++
	c.InvalidateAll()
}
