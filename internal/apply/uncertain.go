package apply

import (
	"context"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

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
	Tally
}

// Failed remembers what a chunk leaves behind whose attempt has failed, beside what is left of those
// before. moved says that its checkpoint may have been moved all the same.
func (c *Chunk) Failed(moved bool) {
	before := c.applier.left
	u := &uncertain{
		epoch: c.known.from.Epoch, chunk: c.batch.Last, until: c.batch.Last,
		counted: make(map[int64]events.Position),
	}
	if before != nil {
		u.counted = before.counted
		if before.until.After(u.until) {
			u.until = before.until
		}
	}
	for i, r := range c.due {
		if c.stages[i] != unsent && len(r.events) > 0 {
			u.moves = append(u.moves, uncertainMove{r.profileID, r.last(), c.known.tally(r)})
		}
	}
	if moved {
		u.rejected = len(c.batch.Rejected)
	}
	c.applier.left = u
}

// Resolve returns what the failed attempts before have done and nobody has counted, by the marks, as far as
// that can be told from a checkpoint that was read since. What it cannot find out is left out: nothing but the
// report depends on it. After an error it may be called again.
func (a *Applier) Resolve(ctx context.Context, checkpoint ledger.Checkpoint) (done Tally, err error) {
	u := a.left
	if u == nil {
		return done, nil
	}
	if u.epoch != checkpoint.Epoch {
		a.left = nil
		return done, nil
	}
	ids := make([]int64, len(u.moves))
	for i, m := range u.moves {
		ids[i] = m.profileID
	}
	marks, err := ledger.Marks(ctx, a.Pool, checkpoint, ids)
	if err != nil {
		return done, err
	}
	for _, m := range u.moves {
		if m.to.After(marks[m.profileID]) {
			continue // it was never committed, or lost
		}
		done.plus(m.Tally)
		u.counted[m.profileID] = m.to
	}
	u.moves = nil
	if u.chunk == checkpoint.Position { // hence it was this checkpoint whose answer was lost
		done.Dead += u.rejected
	}
	a.forget(checkpoint.Position) // else it is read again, but what is counted is not counted again
	return done, nil
}

// Uncertain says whether there is something to Resolve.
func (a *Applier) Uncertain() bool { return a.left != nil }

// forget forgets what failed attempts have left behind if the checkpoint has forget it.
func (a *Applier) forget(at events.Position) {
	if a.left != nil && !a.left.until.After(at) {
		a.left = nil
	}
}

// Done ends a chunk whose checkpoint was moved.
func (c *Chunk) Done() { c.applier.forget(c.batch.Last) }

// before counts the events of a run, with the mark at a position, that are in the report already.
func (u *uncertain) before(r segment, mark events.Position) int {
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
