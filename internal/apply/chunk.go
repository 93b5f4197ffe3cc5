package apply

import (
	"context"
	"iter"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/history"
	"aggregator/internal/ledger"
	"aggregator/internal/scores"
)

// Chunk is the events of a source between two positions, on their way into PostgreSQL.
type Chunk struct {
	applier  *Applier
	batch    *events.Batch
	segments []segment // of all its profiles, by rising id
	due      []segment // what the marks have not passed; each segment knows its place in it
	stages   []stage
	known    known
	counted  int // events that an earlier attempt has counted

	applied, dead, updated atomic.Int64 // by transactions that are committed
}

// stage is how far the transaction of a segment has come.
type stage uint8

const (
	unsent    stage = iota // or refused
	sentOff                // it may be committed
	committed              // as its answer says; a crash of PostgreSQL may still lose it
)

// LookUp groups the events of a batch by profile, reads the marks of these profiles, drops the events that
// the marks have passed, and looks up what is needed to apply the others. from is the checkpoint that the
// batch follows. What the caller has put onto questions is asked in the same round trip. LookUp sorts the events of the
// batch, and writes nothing.
func (a *Applier) LookUp(ctx context.Context, from ledger.Checkpoint, batch *events.Batch, questions *pgx.Batch) (
	*Chunk, error,
) {
	c := &Chunk{
		applier: a, batch: batch, segments: group(batch.Events),
		known: known{from: from, coalesce: a.Options.Coalesce, rules: rules{
			preferred: a.Options.Preferred, journal: a.Options.Journal,
		}},
	}
	types := history.QueueTypes(questions)
	var marks map[int64]events.Position
	if !from.Updated.IsZero() { // else it is a preview of what has no checkpoint yet, hence no marks
		marks = ledger.QueueMarks(questions, a.connConfig(), from, profileIDs(c.segments))
	}
	if err := a.Pool.SendBatch(ctx, questions).Close(); err != nil {
		return nil, err
	}
	c.known.rules.types = *types
	all := batch.Events
	if c.dropMarked(marks) > 0 {
		all = nil
		for _, seg := range c.due {
			all = append(all, seg.events...)
		}
	}
	c.stages = make([]stage, len(c.due))
	for i := range c.due {
		c.due[i].place = i
	}
	var err error
	if c.known.profiles, err = a.Catalogue.Profiles(ctx, profileIDs(c.due)); err != nil {
		return nil, err
	}
	c.known.books, err = a.Catalogue.Books(ctx, bookIDs(all))
	return c, err
}

// dropMarked finds out what is due, and returns how many events are not.
func (c *Chunk) dropMarked(marks map[int64]events.Position) (marked int) {
	c.applier.resolve(marks)
	c.due = make([]segment, 0, len(c.segments))
	for _, seg := range c.segments {
		rest := seg.after(marks[seg.profileID])
		c.counted += c.applier.left.before(seg, marks[seg.profileID])
		marked += len(seg.events) - len(rest.events)
		if len(rest.events) > 0 {
			c.due = append(c.due, rest)
		}
	}
	return marked
}

// Profiles is how many child profiles have events in the chunk.
func (c *Chunk) Profiles() int { return len(c.segments) }

// Counted is how many of the events that the marks have passed were counted by an earlier attempt (Resolve).
func (c *Chunk) Counted() int { return c.counted }

// Committed counts the transactions that are committed so far. It may be called at any time.
func (c *Chunk) Committed() Tally {
	return Tally{int(c.applied.Load()), int(c.dead.Load()), int(c.updated.Load())}
}

// Advance is what moves the checkpoint over the chunk once it is applied.
func (c *Chunk) Advance() ledger.Advance {
	s := ledger.Advance{
		From: c.known.from, To: c.batch.Last, Entries: c.batch.Entries, Marks: places(c.segments),
	}
	for _, r := range c.batch.Rejected {
		s.Dead = append(s.Dead, deadletter.Rejected(r))
	}
	return s
}

// Folded yields each profile that has events due: what they add up to together with what was there before,
// how many they are, and their dead letters. It writes nothing.
func (c *Chunk) Folded(before func(profileID int64) scores.Delta) iter.Seq2[scores.Delta, Folded] {
	return func(yield func(scores.Delta, Folded) bool) {
		for _, seg := range c.due {
			total, dead := c.known.foldOnto(before(seg.profileID), seg)
			if !yield(total, Folded{len(seg.events), dead}) {
				return
			}
		}
	}
}

// Folded is what a profile has due.
type Folded struct {
	Events int
	Dead   []deadletter.Content
}

// mark notes how far segments have come. At any time each segment belongs to one goroutine.
func (c *Chunk) mark(segments []segment, at stage) {
	for _, seg := range segments {
		c.stages[seg.place] = at
	}
}

// countCommitted counts a committed transaction. Several goroutines may call it at once.
func (c *Chunk) countCommitted(t Tally) {
	c.applied.Add(int64(t.Applied))
	c.dead.Add(int64(t.Dead))
	c.updated.Add(int64(t.Updated))
	c.applier.Committed(t)
}

// replace puts a segment that became shorter in the place of the one that it was.
func (c *Chunk) replace(seg segment) { c.due[seg.place] = seg }
