package apply

import (
	"cmp"
	"context"
	"slices"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// uncertain is what is left of a chunk whose attempt failed: transactions that were committed, or may be,
// because PostgreSQL may go on with a transaction whose connection was given up. Later attempts see from the
// marks which of them were committed, only for the report.
type uncertain struct {
	epoch    int64
	chunk    events.Position // where the chunk ends
	rejected int             // entries of it that are no events, if its checkpoint may have been moved
	moves    []uncertainMove
	counted  map[int64]events.Position // by profile: up to where its events are in the report already
	until    events.Position           // the position after which nothing is counted yet
}

type uncertainMove struct {
	profileID int64
	to        events.Position
	Tally
}

// Failed remembers what is left of a chunk whose attempt has failed, beside what is left of those before.
// moved says that its checkpoint may have been moved in spite of the failure.
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
	sent := make(map[int64]bool)
	for i, seg := range c.due {
		if c.stages[i] != unsent && len(seg.events) > 0 {
			u.moves = append(u.moves, uncertainMove{seg.profileID, seg.last(), c.known.tally(seg)})
			sent[seg.profileID] = true
		}
	}
	if before != nil { // what was not sent again may still be committed
		for _, m := range before.moves {
			if !sent[m.profileID] {
				u.moves = append(u.moves, m)
			}
		}
	}
	if moved {
		u.rejected = len(c.batch.Rejected)
	}
	c.applier.left = u
}

// Resolve tells Resolved what earlier, failed attempts have done without counting it. It finds that out from
// the marks, as far as a checkpoint that was read since allows. What it cannot find out is left out: only the
// report depends on it. What is committed later is found when its profiles' marks are read again, in the
// chunk that has their events. After an error Resolve may be called again.
func (a *Applier) Resolve(ctx context.Context, checkpoint ledger.Checkpoint) error {
	u := a.left
	if u == nil {
		return nil
	}
	if u.epoch != checkpoint.Epoch {
		a.left = nil
		return nil
	}
	ids := make([]int64, len(u.moves))
	for i, m := range u.moves {
		ids[i] = m.profileID
	}
	marks, err := ledger.Marks(ctx, a.Pool, checkpoint, ids)
	if err != nil {
		return err
	}
	a.resolve(marks)
	if u.chunk == checkpoint.Position && u.rejected > 0 { // hence it was this checkpoint whose answer was lost
		a.Resolved(Tally{Dead: u.rejected})
		u.rejected = 0
	}
	a.forget(checkpoint.Position) // else it is read again, but what is counted is not counted again
	return nil
}

// resolve counts what earlier, failed attempts have done, by the marks of some profiles.
func (a *Applier) resolve(marks map[int64]events.Position) {
	if a.left == nil || len(a.left.moves) == 0 {
		return
	}
	var done Tally
	a.left.moves = slices.DeleteFunc(a.left.moves, func(m uncertainMove) bool {
		mark, read := marks[m.profileID]
		if !read || m.to.After(mark) {
			return false // it was never committed, or lost, or may still be committed
		}
		done.plus(m.Tally)
		a.left.counted[m.profileID] = m.to
		return true
	})
	if done != (Tally{}) {
		a.Resolved(done)
	}
}

// Uncertain says whether there is something to Resolve.
func (a *Applier) Uncertain() bool { return a.left != nil }

// forget drops what failed attempts have left if the checkpoint has passed it.
func (a *Applier) forget(at events.Position) {
	if a.left != nil && !a.left.until.After(at) {
		a.left = nil
	}
}

// Done ends a chunk whose checkpoint was moved. The marks of its profiles are where this attempt has moved
// them, or has found them and counted why: what earlier ones had sent for them cannot be committed any more.
func (c *Chunk) Done() {
	if u := c.applier.left; u != nil {
		u.moves = slices.DeleteFunc(u.moves, func(m uncertainMove) bool {
			_, done := slices.BinarySearchFunc(c.segments, m.profileID, func(seg segment, id int64) int {
				return cmp.Compare(seg.profileID, id)
			})
			return done
		})
	}
	c.applier.forget(c.batch.Last)
}

// before counts the events of a segment, with the mark at a position, that are in the report already.
func (u *uncertain) before(seg segment, mark events.Position) int {
	if u == nil {
		return 0
	}
	to, found := u.counted[seg.profileID]
	if !found {
		return 0
	}
	if mark.Compare(to) < 0 {
		to = mark
	}
	n := 0
	for _, e := range seg.events {
		if !e.Position.After(to) {
			n++
		}
	}
	return n
}
