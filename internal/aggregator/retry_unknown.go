package aggregator

import (
	"context"
	"errors"
	"time"

	"aggregator/internal/apply"
	"aggregator/internal/deadletter"
)

// keepRetrying tries unknown profiles and books again, at once and then at intervals, until ctx ends.
func (a *Aggregator) keepRetrying(ctx context.Context) {
	if a.options.RetryUnknownFor == 0 {
		return
	}
	ticker := time.NewTicker(a.options.RetryEvery)
	defer ticker.Stop()
	for {
		a.retryUnknown(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// retryUnknown is one round. It applies the dead letters of our sources on unknown profiles and books that
// are there by now: the application may have committed them after it pushed the events. It takes one
// connection, and a page of dead letters at a time. What fails is logged, once, and is due again in the next
// round; an outage has no other effect.
func (a *Aggregator) retryUnknown(ctx context.Context) {
	if a.options.RetryUnknownFor == 0 {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(a.options.Timeout, func() { cancel(apply.ErrStalled) })
	defer stall.Stop()
	retrier := apply.Retrier{
		Pool: a.pool, Catalogue: a.catalogue, Decoder: a.sources[0].Decoder(), Preferred: a.options.Preferred,
		Journal: a.options.Journal, Timeout: a.options.Timeout,
	}
	known := deadletter.Filter{NewerThan: a.options.RetryUnknownFor, Known: true}
	for _, source := range a.sources {
		known.Sources = append(known.Sources, source.Name())
	}
	var done apply.Retried
	err := func() error {
		for letters, err := range deadletter.Pages(ctx, a.pool, known, apply.RetryPage) {
			if err != nil {
				return err
			}
			stall.Reset(a.options.Timeout)
			page, err := retrier.Retry(ctx, letters)
			a.retried.Add(int64(page.Applied))
			done.Add(page)
			if err != nil {
				return err
			}
		}
		return nil
	}()
	switch {
	case err != nil && (ctx.Err() == nil || errors.Is(context.Cause(ctx), apply.ErrStalled)):
		a.log.Warn("could not retry all dead letters of unknown profiles and books", "error", err, "applied", done.Applied,
			"failed", done.StillDead())
	case done.StillDead() > 0:
		a.log.Warn("some dead letters still cannot be applied, though their profiles and books exist now",
			"applied", done.Applied, "failed", done.StillDead(), "why", done.Failed)
	case done.Applied > 0:
		a.log.Info("applied dead letters whose profiles and books exist now", "applied", done.Applied)
	}
}
