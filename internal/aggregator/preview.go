package aggregator

import (
	"cmp"
	"context"
	"slices"
	"time"

	"aggregator/internal/events"
	"aggregator/internal/ledger"
	"aggregator/internal/scores"
)

// Preview is what a drain would do.
type Preview struct {
	Read    int64                   `json:"read"`
	Applied int64                   `json:"applied"`
	Skipped int64                   `json:"settled_before"` // events that the marks have passed
	Dead    map[events.Reason]int64 `json:"dead"`
	Deltas  []scores.Delta          `json:"-"` // by rising profile id
}

// Preview reads what Drain would, up to maxEvents entries (0: all), and adds it up without writing anything
// to either server. It holds one delta for each profile in memory. It cannot foresee which events PostgreSQL
// would refuse for their data, except those that make a sum of this preview too large for a number.
func (a *Aggregator) Preview(ctx context.Context, maxEvents int64) (Preview, error) {
	total := Preview{Dead: make(map[events.Reason]int64)}
	deltas := make(map[int64]*scores.Delta)
	m := mode{once: true}
	if maxEvents > 0 {
		m.budget = &budget{}
		m.budget.left.Store(maxEvents)
	}
	for i := range a.sources {
		if err := a.partition(i).preview(ctx, m, &total, deltas); err != nil {
			return Preview{}, err
		}
	}
	for _, d := range deltas {
		total.Deltas = append(total.Deltas, *d)
	}
	slices.SortFunc(total.Deltas, func(a, b scores.Delta) int { return cmp.Compare(a.ProfileID, b.ProfileID) })
	return total, nil
}

func (p *partition) preview(ctx context.Context, m mode, total *Preview, deltas map[int64]*scores.Delta) error {
	start, err := p.start(ctx, p.source)
	if err != nil {
		return err
	}
	r := p.reader(peeked{p.source, p.source.Peek()}, m)
	after := start.Position
	for {
		batch := &events.Batch{Last: after}
		for r.policy.room() > 0 {
			if err := r.page(ctx, batch, 0); err != nil {
				return err
			}
		}
		if batch.Entries == 0 {
			return nil
		}
		now := time.Now()
		r.policy.handed(now)
		r.policy.freed(now, 0)
		after = batch.Last
		if err := p.foldChunk(ctx, start, batch, total, deltas); err != nil {
			return err
		}
	}
}

// peeked is a source of which nothing is moved when it is read.
type peeked struct {
	stream
	peeker *events.Peeker
}

func (s peeked) Read(ctx context.Context, batch *events.Batch, limit int, _ time.Duration) (int, error) {
	return s.peeker.Read(ctx, batch, limit)
}

func (p *partition) foldChunk(
	ctx context.Context, from ledger.Checkpoint, batch *events.Batch, total *Preview, deltas map[int64]*scores.Delta,
) error {
	total.Read += int64(batch.Entries)
	for _, r := range batch.Rejected {
		total.Dead[r.Reason]++
	}
	chunk, err := p.lookUp(ctx, from, batch)
	if err != nil {
		return err
	}
	total.Skipped += int64(len(batch.Events))
	before := func(profileID int64) scores.Delta {
		if d, found := deltas[profileID]; found {
			return *d
		}
		return scores.Delta{ProfileID: profileID}
	}
	for delta, folded := range chunk.Folded(before) {
		for _, letter := range folded.Dead {
			total.Dead[letter.Reason]++
		}
		total.Skipped -= int64(folded.Events)
		total.Applied += int64(folded.Events - len(folded.Dead))
		if delta.Events > 0 {
			deltas[delta.ProfileID] = &delta
		}
	}
	return nil
}
