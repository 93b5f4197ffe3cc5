package aggregator

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"aggregator/internal/events"
)

// prefetchEvents is how many events of a chunk are read before their profiles and books are asked
// for. The chunks of a quiet service have fewer.
const prefetchEvents = 5000

// prefetcher asks for the profiles and books of a long chunk while the rest of it is still being read: before
// the first chunk PostgreSQL has nothing else to do. It does so for one part of the chunk after the other.
// The look-up of the whole chunk follows in any case. That look-up finds in the cache what the prefetch
// brought, asks for the rest, and is the one whose errors count.
type prefetcher struct {
	catalogue interface {
		Prefetch(ctx context.Context, profiles, books []int64) (int, error)
	}
	timeout time.Duration // of a part
	log     *slog.Logger
	parts   sync.WaitGroup // in flight
}

// chunkPrefetch is the prefetch of one chunk.
type chunkPrefetch struct {
	*prefetcher
	asked  int           // events whose ids were asked for
	parted chan struct{} // closed when the part before is done; nil before the first one
	over   bool          // nothing was missing for the part before, or it failed: the rest is left
}

// look asks for what those events of the chunk need that were not looked at yet, if there are enough of them
// and the part before is done. It waits for nothing.
func (p *chunkPrefetch) look(ctx context.Context, all []events.Event) {
	if len(all)-p.asked < prefetchEvents {
		return
	}
	if p.parted != nil {
		select {
		case <-p.parted:
		default:
			return
		}
	}
	if p.over {
		return
	}
	// The applier sorts the events once it has them.
	profiles, books := make([]int64, 0, len(all)-p.asked), make([]int64, 0, len(all)-p.asked)
	for _, e := range all[p.asked:] {
		profiles, books = append(profiles, e.ProfileID), append(books, e.BookID)
	}
	p.asked = len(all)
	parted := make(chan struct{})
	p.parted = parted
	p.parts.Go(func() {
		defer close(parted)
		ctx, cancel := context.WithTimeout(ctx, p.timeout)
		defer cancel()
		n, err := p.catalogue.Prefetch(ctx, profiles, books)
		p.over = n == 0 || err != nil
		if err != nil {
			p.log.Debug("profiles and books are looked up only when the chunk is complete", "error", err)
		}
	})
}
