package aggregator

import (
	"context"
	"errors"
	"time"

	"aggregator/internal/cluster"
)

// leased is an attempt under the lease of the source: it waits until the keeper says that the source is this
// instance's, and works until the source is to be given up. It returns nil when ctx or the lease ended. After
// an error the lease stays: the next attempt is this instance's, too.
func (p *partition) leased(ctx, work context.Context, m mode) error {
	hold, err := p.standBy(ctx)
	if hold == nil {
		return err
	}
	p.lease(true)
	p.log.Info("holding the lease")
	err = p.attempt(hold.Context(), work, m)
	p.lease(false)
	why := context.Cause(hold.Context())
	hold.Done()
	switch {
	case why == nil:
	case ctx.Err() != nil:
		p.log.Info("gave up the lease", "because", cluster.ErrLeaving)
	case errors.Is(why, cluster.ErrSurplus), errors.Is(why, cluster.ErrLeaving), errors.Is(why, cluster.ErrUnable):
		p.enter(StandingBy, why.Error())
		p.log.Info("gave up the lease", "because", why)
	default:
		p.enter(StandingBy, why.Error())
		p.log.Warn("lost the lease", "because", why)
	}
	return err
}

// standBy waits for the lease. Its error says why it is not known which instance has it. If there is neither
// a hold nor an error, ctx has ended.
func (p *partition) standBy(ctx context.Context) (*cluster.Hold, error) {
	told := ""
	for ctx.Err() == nil {
		p.turned()
		now := p.keeper.Ask(ctx, p.source.Name())
		switch holder := now.Holder; {
		case now.Hold != nil:
			return now.Hold, nil
		case now.Err != nil:
			return nil, now.Err
		case holder != "" && holder != told:
			told = holder
			p.enter(StandingBy, "the lease is with "+holder)
			p.log.Info("standing by: another instance holds the lease", "holder", holder)
		}
		select {
		case <-ctx.Done():
		case <-now.Changed:
		case <-time.After(time.Second): // the loop is alive
		}
	}
	return nil, nil
}
