package admin

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"aggregator/internal/aggregator"
	"aggregator/internal/audit"
	"aggregator/internal/events"
	"aggregator/internal/ledger"
)

// books are the latest balances of the sources that this instance works on. Drawing them up reads all marks,
// hence not with every scrape.
type books struct {
	mu       sync.Mutex
	balances map[string]audit.Balance // by source
}

// Complaints say what does not reconcile, by source, of the sources that this instance works on.
func (s *Server) Complaints() map[string]string {
	complaints := make(map[string]string)
	for source, balance := range s.books.latest() {
		if !balance.Even() {
			complaints[source] = balance.Complaint()
		}
	}
	return complaints
}

// An audit reads all marks and holds up each checkpoint for a moment. It takes a hundredth of the time at most, unless
// that made it rarer than auditLatest.
const (
	auditSoonest = 5 * time.Second // as old as the survey of a scrape may be
	auditLatest  = 30 * time.Second
)

// pauseAfter is how long no audit follows one that took so long.
func pauseAfter(took time.Duration) time.Duration {
	return min(max(auditSoonest, 100*took), auditLatest)
}

func (b *books) latest() map[string]audit.Balance {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.balances)
}

// keepAuditing audits until ctx ends, and more often at first, until the loop works.
func (b *books) keepAuditing(ctx context.Context, s *Server) {
	for {
		starting := slices.ContainsFunc(s.Loop.Status(), func(of aggregator.Status) bool {
			return of.State == aggregator.Starting
		})
		began := time.Now()
		b.audit(ctx, s)
		pause := pauseAfter(time.Since(began))
		if starting {
			pause = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// audit draws up the balance of each source that this instance works on; the others are audited by the
// instances that work on them. Counts that do not agree are logged once, and again when they change.
func (b *books) audit(ctx context.Context, s *Server) {
	before := b.latest()
	now := make(map[string]audit.Balance)
	for _, status := range s.Loop.Status() {
		name := status.Source.Name()
		source := find(s.Sources, name)
		if status.State != aggregator.Working && status.State != aggregator.Resting || source == nil {
			continue
		}
		balance, err := aggregator.Reconcile(ctx, s.Pool, source, s.Log)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ledger.ErrNoCheckpoint):
			continue
		case err != nil:
			s.Log.Warn("could not reconcile the source", "source", name, "error", err)
			continue
		}
		now[name] = balance
		old, known := before[name]
		same := known && old.Difference() == balance.Difference() && old.Vanished() == balance.Vanished()
		switch {
		case same, balance.Even() && !known:
		case balance.Even():
			s.Log.Info("reconciled again", "source", name)
		default:
			s.Log.Error("reconciliation failed: "+balance.Complaint(), "source", name,
				"difference", balance.Difference(), "vanished", balance.Vanished())
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.balances = now
}

func find(sources []*events.Source, name string) *events.Source {
	for _, source := range sources {
		if source.Name() == name {
			return source
		}
	}
	return nil
}
