package aggregator

import (
	"context"
	"slices"
	"time"

	"aggregator/internal/events"
)

const (
	// pageEntries is how many entries one read asks for. Nobody can ask Redis for so many
	// bytes, and entries may be of a megabyte all of a sudden: ten times as many would
	// take gigabytes then, and are no faster.
	pageEntries = 100
	// pageBytes is what a reply should not exceed, as far as the entries before tell.
	pageBytes = 4 << 20
	// chunkBytes bounds what the chunk in hand and the one that is read meanwhile hold in
	// memory together: 1.3 million events, fewer if payloads are unusual or large. The
	// one that is read gets at least an eighth.
	chunkBytes = 64 << 20
	// idleWait is how long one wait for new entries lasts; a stop waits for it.
	idleWait = 500 * time.Millisecond
)

// read gathers entries into chunks and hands them over, one at a time; while the last
// one is being settled the next one grows. It returns how many entries it took from the
// budget. It ends without an error when ctx ends, or when there is nothing left and the
// mode says so.
func (p *partition) read(ctx context.Context, after events.Position, chunks chan<- *events.Batch, m mode) (taken int, err error) {
	g := gatherer{partition: p, mode: m, source: p.source}
	for {
		batch := &events.Batch{Last: after}
		more, err := g.gather(ctx, batch, chunks)
		if err != nil || !more {
			return g.taken, err
		}
		p.take()
		after = batch.Last
	}
}

type gatherer struct {
	*partition
	mode   mode
	source reader
	taken  int // from the budget
	size   int // bytes of an entry of the last page, on average
}

// reader is the reading half of a source; see events.Source.Read.
type reader interface {
	Read(ctx context.Context, batch *events.Batch, limit int) (int, error)
}

// gather fills one batch and hands it over. It says whether there may be more.
func (g *gatherer) gather(ctx context.Context, batch *events.Batch, chunks chan<- *events.Batch) (more bool, err error) {
	var ripe <-chan time.Time // when a batch that is not full has waited long enough
	for {
		g.turned()
		read, err := g.page(ctx, batch)
		switch {
		case err != nil:
			return false, err
		case read == full || (read == nothing && g.mode.once):
			// A batch that is empty now means that nothing is left, or no budget.
			if batch.Entries == 0 {
				return false, nil
			}
			return g.handFull(ctx, chunks, batch)
		case read == wholePage || g.mode.once:
			continue // there may be more at once
		case batch.Entries == 0:
			g.idle()
			if _, err := g.partition.source.Wait(ctx, batch.Last, idleWait); err != nil {
				return false, err
			}
			if ctx.Err() != nil {
				return false, nil
			}
			ripe = time.After(g.options.ChunkMaxWait)
			continue
		}
		if ripe == nil {
			ripe = time.After(g.options.ChunkMaxWait)
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-ripe:
		}
		// From here on it goes as soon as it is wanted, and grows until then.
		again := time.NewTimer(max(g.options.ChunkMaxWait, 5*time.Millisecond))
		handed, err := hand(ctx, chunks, batch, again.C)
		again.Stop()
		if handed || err != nil || ctx.Err() != nil {
			return handed, err
		}
		ripe = closedTimer
	}
}

var closedTimer = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()

// handFull gives a batch that can take no more to whoever settles.
func (g *gatherer) handFull(ctx context.Context, chunks chan<- *events.Batch, batch *events.Batch) (bool, error) {
	alive := time.NewTicker(time.Second)
	defer alive.Stop()
	for {
		g.turned()
		if handed, err := hand(ctx, chunks, batch, alive.C); handed || err != nil || ctx.Err() != nil {
			return handed, err
		}
	}
}

// hand gives the batch to whoever settles, unless ctx ends or it is time to look for
// more entries first.
func hand(ctx context.Context, chunks chan<- *events.Batch, batch *events.Batch, look <-chan time.Time) (bool, error) {
	select {
	case chunks <- batch:
		return true, nil
	case <-ctx.Done():
		return false, nil
	case <-look:
		return false, nil
	}
}

// outcome is what became of the attempt to read a page.
type outcome int

const (
	nothing   outcome = iota // nothing was there
	partPage                 // less than was asked for
	wholePage                // as much as was asked for
	full                     // not tried: the batch can take no more
)

// page reads what comes next into the batch.
func (g *gatherer) page(ctx context.Context, batch *events.Batch) (outcome, error) {
	most := g.options.ChunkMaxEvents
	if limit := int(g.limit.Load()); limit > 0 {
		most = min(most, limit)
	}
	room := most - batch.Entries
	if room <= 0 || batch.Held >= g.mayHold() {
		return full, nil
	}
	want := min(room, pageEntries, max(1, pageBytes/(g.size+1)))
	if want = g.mode.budget.take(want); want == 0 {
		return full, nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.options.Timeout)
	defer cancel()
	if err := g.makeRoom(ctx, batch, want); err != nil {
		g.mode.budget.giveBack(want)
		return nothing, err
	}
	before, watch := batch.Replies, stopwatch{time.Now()}
	n, err := g.source.Read(ctx, batch, want)
	err = g.smaller(want, err)
	if n > 0 {
		batch.Took += watch.lap()
		g.size = (batch.Replies - before) / n
	}
	g.mode.budget.giveBack(want - n)
	g.taken += n
	switch n {
	case 0:
		return nothing, err
	case want:
		return wholePage, err
	default:
		return partPage, err
	}
}

// mayHold is how many bytes the batch that is read may hold.
func (g *gatherer) mayHold() int {
	return max(chunkBytes/8, chunkBytes-int(g.inHand.Load()))
}

// makeRoom lets a batch that grows long grow at once by as much as waits in the stream.
// Growing step by step would take twice the memory.
func (g *gatherer) makeRoom(ctx context.Context, batch *events.Batch, want int) error {
	const long = 10_000
	if len(batch.Events) < long || len(batch.Events)+want <= cap(batch.Events) {
		return nil
	}
	state, err := g.partition.source.Inspect(ctx)
	if err != nil {
		return err
	}
	most := min(g.options.ChunkMaxEvents, batch.Entries*g.mayHold()/batch.Held)
	batch.Events = slices.Grow(batch.Events, max(want, min(int(state.Length), most-batch.Entries)))
	return nil
}
