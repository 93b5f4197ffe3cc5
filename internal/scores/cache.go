package scores

import (
	"context"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

// CacheUse says what one cache of a Catalogue was good for, since it was made.
type CacheUse struct {
	Name     string // books or profiles
	Entries  int    // that it holds, about
	Capacity int
	Hits     int64 // ids that were asked for and remembered
	Misses   int64 // ids that were looked for in PostgreSQL
}

// use counts what becomes of the ids that a cache is asked for.
type use struct{ hits, misses atomic.Int64 }

// Use may be called at any time.
func (c *Catalogue) Use() []CacheUse {
	return []CacheUse{useOf("books", c.books, &c.used.books), useOf("profiles", c.profiles, &c.used.profiles)}
}

func useOf[V any](name string, cache *otter.Cache[int64, V], u *use) CacheUse {
	return CacheUse{
		Name: name, Entries: cache.EstimatedSize(), Capacity: int(cache.GetMaximum()),
		Hits: u.hits.Load(), Misses: u.misses.Load(),
	}
}

// get returns what is known of the ids: from the cache, and the rest by one load.
func get[V any](ctx context.Context, cache *otter.Cache[int64, V], u *use, ids []int64,
	load func(context.Context, []int64) (map[int64]V, error),
) (map[int64]V, error) {
	missed := 0
	found, err := cache.BulkGet(ctx, ids, otter.BulkLoaderFunc[int64, V](func(ctx context.Context, ids []int64) (map[int64]V, error) {
		missed += len(ids)
		return load(ctx, ids)
	}))
	u.hits.Add(int64(len(ids) - missed))
	u.misses.Add(int64(missed))
	return found, err
}
