package aggregator

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"aggregator/internal/lease"
)

// leased is a session under the lease of the source: it waits until no other instance
// holds it, renews it at a third of its time, and gives it up at the end, which it also
// does when it finds that another has it. It returns nil when ctx or the lease ended.
func (p *partition) leased(ctx, work context.Context, m mode) error {
	if err := p.standBy(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	p.lease(true)
	defer func() {
		p.lease(false)
		p.release(work)
	}()
	held, lose := context.WithCancel(ctx)
	defer lose()
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		p.renew(held, lose)
	}()
	err := p.session(held, work, m)
	lose()
	<-renewed
	return err
}

// standBy waits for the lease. Its error is one of PostgreSQL's; it returns nil without
// the lease if ctx ends.
func (p *partition) standBy(ctx context.Context) error {
	holder := ""
	for {
		p.turned()
		held, err := p.acquire(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, pgx.ErrNoRows): // its row came or went while we looked
		case err != nil:
			return err
		case held.Holder == p.options.Holder:
			p.log.Info("holding the lease", "holder", held.Holder)
			return nil
		case held.Holder != holder:
			holder = held.Holder
			p.enter(StandingBy, "the lease is with "+holder)
			p.log.Info("standing by: another instance holds the lease", "holder", holder, "until", held.Expires)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(p.options.Lease/4, time.Second)):
		}
	}
}

// renew keeps the lease until ctx ends or another has it; then it calls lose. While
// PostgreSQL does not answer it keeps trying: whether the lease is lost, the next answer
// says, and nothing depends on it.
func (p *partition) renew(ctx context.Context, lose func()) {
	ticker := time.NewTicker(p.options.Lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		held, err := p.acquire(ctx)
		if err == nil && held.Holder != p.options.Holder {
			p.log.Warn("lost the lease", "holder", held.Holder)
			lose()
			return
		}
	}
}

func (p *partition) acquire(ctx context.Context) (lease.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, p.options.Lease)
	defer cancel()
	return lease.Acquire(ctx, p.pool, p.source.Name(), p.options.Holder, p.options.Lease)
}

// release is a courtesy: without it the others wait until the time is over.
func (p *partition) release(work context.Context) {
	ctx, cancel := context.WithTimeout(work, time.Second)
	defer cancel()
	if err := lease.Release(ctx, p.pool, p.source.Name(), p.options.Holder); err != nil {
		p.log.Warn("could not release the lease; it will expire", "error", err)
	}
}
