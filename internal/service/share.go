package service

import (
	"cmp"
	"context"
	"slices"

	"aggregator/internal/cluster"
)

// sharing is the part of a service that says which sources are its own. It stays the same through all its engines.
type sharing struct {
	keeper *cluster.Keeper
	stop   context.CancelFunc
	ended  chan error
}

// Group is what instances with these settings share.
func (i *Instance) Group() cluster.Group {
	return cluster.Group{Kind: i.config.Source.Kind, Key: i.config.Source.Key, Partitions: i.config.Source.Partitions}
}

// share lets the engine work on its part of the sources, unless it drains without leases, or by schedule,
// which one instance does for all. The keeper of the engine before goes on.
func (s *Service) share(ctx context.Context, engine *Engine) {
	i := engine.instance
	if engine.scheduled || i.config.Lease.TTL == 0 {
		_ = s.part() // the keeper of a name that is taken has ended already
		if !engine.scheduled {
			i.warnOfOthers(ctx, engine)
		}
		return
	}
	if s.sharing == nil {
		o := cluster.Options{
			Name: cmp.Or(i.config.Lease.Name, i.name), Version: i.version, TTL: i.config.Lease.TTL, Group: i.Group(), Log: i.log,
			// HELLO needs no right.
			Able: func(ctx context.Context) error { return engine.Redis.Client.Do(ctx, "HELLO").Err() },
		}
		for _, source := range engine.Sources {
			o.Sources = append(o.Sources, source.Name())
		}
		keeping, stop := context.WithCancel(ctx)
		next := &sharing{cluster.New(engine.Pool.Config(), o), stop, make(chan error, 1)}
		go func() { next.ended <- next.keeper.Run(keeping) }()
		s.sharing = next
		s.keeper.Store(next.keeper)
	}
	engine.Share(s.sharing.keeper)
}

// part gives up all leases, once the engine has ended. Its error is that of the keeper.
func (s *Service) part() error {
	if s.sharing == nil {
		return nil
	}
	s.sharing.stop()
	err := <-s.sharing.ended
	s.sharing = nil
	s.keeper.Store(nil)
	return err
}

// keeperEnded receives why the keeper has ended before it was told to.
func (s *Service) keeperEnded() <-chan error {
	if s.sharing == nil {
		return nil
	}
	return s.sharing.ended
}

// warnOfOthers warns that an instance without leases works beside others that have some.
func (i *Instance) warnOfOthers(ctx context.Context, engine *Engine) {
	members, now, err := cluster.Members(ctx, engine.Pool)
	if err != nil {
		return // whatever is wrong, the loops say it
	}
	others := slices.DeleteFunc(members, func(m cluster.Member) bool { return !m.Lives(now) || m.Group != i.Group() })
	if len(others) > 0 {
		i.log.Warn("lease.ttl is 0s, and other instances share these sources: this one drains all of them as well, which "+
			"is exact but double work",
			"others", len(others), "one_of_them", others[0].Instance)
	}
}

// leases are the figures of the keeper, if there is one.
func (s *Service) leases() (f cluster.Figures, shares bool) {
	keeper := s.keeper.Load()
	if keeper == nil {
		return f, false
	}
	return keeper.Figures(), true
}
