package aggregator

import (
	"context"
	"time"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// flight is a chunk in flight: what of it is due, and how far each profile's transaction has come.
type flight struct {
	due    []run // by rising profile; each knows its place in it
	known  catalogue
	stages []stage // of the runs that are due
	begun  ledger.Settlement
}

// stage is how far the transaction of a run has come.
type stage uint8

const (
	unsent    stage = iota // or refused
	sentOff                // it may be committed
	committed              // as its answer says; a crash of PostgreSQL may still lose it
)

func newFlight(due []run, known catalogue, settlement ledger.Settlement) *flight {
	for i := range due {
		due[i].place = i
	}
	return &flight{due: due, known: known, stages: make([]stage, len(due)), begun: settlement}
}

// mark notes how far runs have come. Each run is one goroutine's at a time.
func (f *flight) mark(runs []run, at stage) {
	for _, r := range runs {
		f.stages[r.place] = at
	}
}

// replace puts a run that became shorter in the place of the one that it was.
func (f *flight) replace(r run) { f.due[r.place] = r }

// uncertain is what is left of a chunk whose attempt failed: transactions that were committed, or
// may have been. The next attempt reads from the marks which of them stand, for the report alone.
type uncertain struct {
	epoch    int64
	chunk    events.Position // where the chunk ends
	rejected int             // entries of it that are no events, if its checkpoint may have been moved
	moves    []uncertainMove
	counted  map[int64]events.Position // by profile: up to where its events are in the report already
	until    events.Position           // beyond which nothing is counted yet
}

type uncertainMove struct {
	profileID int64
	to        events.Position
	tally
}

// uncertain lists what the failed attempt leaves behind, beside what is left of those before.
func (f *flight) uncertain(before *uncertain) *uncertain {
	u := &uncertain{
		epoch: f.known.from.Epoch, chunk: f.begun.To, until: f.begun.To,
		counted: make(map[int64]events.Position),
	}
	if before != nil {
		u.counted = before.counted
		if before.until.After(u.until) {
			u.until = before.until
		}
	}
	for i, r := range f.due {
		if f.stages[i] != unsent && len(r.events) > 0 {
			u.moves = append(u.moves, uncertainMove{r.profileID, r.last(), f.known.tally(r)})
		}
	}
	return u
}

// resolve counts what the failed attempt before has done, by the marks. What it cannot find out
// stays uncertain and is left out of the report: nothing but the report depends on it.
func (p *partition) resolve(ctx context.Context, checkpoint ledger.Checkpoint) error {
	u := p.left
	if u == nil {
		return nil
	}
	if u.epoch != checkpoint.Epoch {
		p.left = nil
		return nil
	}
	ids := make([]int64, len(u.moves))
	for i, m := range u.moves {
		ids[i] = m.profileID
	}
	marks, err := ledger.Marks(ctx, p.pool, checkpoint, ids)
	if err != nil {
		return err
	}
	for _, m := range u.moves {
		if m.to.After(marks[m.profileID]) {
			continue // it was never committed, or lost
		}
		p.report(m.tally)
		u.counted[m.profileID] = m.to
	}
	u.moves = nil
	if u.chunk == checkpoint.Position { // hence it was this checkpoint whose answer was lost
		p.report(tally{dead: u.rejected})
	}
	if !u.until.After(checkpoint.Position) {
		p.left = nil // else it is read again, but what is counted is not counted again
	}
	return nil
}

// report adds to the report what is read and processed.
func (p *partition) report(t tally) {
	p.count.read.Add(int64(t.applied + t.dead))
	p.count.applied.Add(int64(t.applied))
	p.count.dead.Add(int64(t.dead))
	p.count.profiles.Add(int64(t.updated))
}

// resolveLast is resolve for a loop that ends; it does not wait for a server that does not answer.
func (p *partition) resolveLast(ctx context.Context) {
	if p.left == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	checkpoint, err := ledger.Load(ctx, p.pool, p.source.Name())
	if err == nil {
		err = p.resolve(ctx, checkpoint)
	}
	if err != nil {
		p.log.Debug("the report leaves out what the last chunk may have applied", "error", err)
	}
}

// before counts the events of a run, with the mark at a position, that are in the report already.
func (u *uncertain) before(r run, mark events.Position) int {
	if u == nil {
		return 0
	}
	to, found := u.counted[r.profileID]
	if !found {
		return 0
	}
	if mark.Compare(to) < 0 {
		to = mark
	}
	n := 0
	for _, e := range r.events {
		if !e.Position.After(to) {
			n++
		}
	}
	return n
}
