package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"aggregator/internal/admin"
)

// listen takes http.addr, before anything else is begun. It says false if nobody is to
// listen: the address is empty, or nobody has set it and the default one is taken, as by a second
// instance that stands by on the same machine.
func (a *app) listen(ctx context.Context) (net.Listener, bool, error) {
	addr := a.cfg.HTTP.Addr
	if addr == "" {
		return nil, false, nil
	}
	listener, err := admin.Listen(ctx, addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && !a.cfg.Given("http.addr"):
		a.log.Warn("no health checks and no metrics: the default address is taken; give each instance an http.addr of its own", "http.addr", addr)
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("http.addr = %q: %w; give it an address that is free, or none", addr, err)
	}
	return listener, true, nil
}

// serveAdmin answers at the listener until stop is called: longer than ctx, for what is in
// hand then still goes on. It connects to both servers; errors as connect.
func (s *service) serveAdmin(ctx context.Context, listener net.Listener) (stop func(), err error) {
	to, err := s.connect(ctx, 2, 2)
	if err != nil {
		return nil, err
	}
	server := admin.New(admin.Options{
		Loop: s, Pool: to.pool, Redis: to.redis.client, Sources: to.sources,
		Version: programVersion(), Reloaded: s.reloaded.Load, Due: s.due.all, Pprof: s.cfg.HTTP.Pprof, Log: s.log,
		LoopPool: s.engine.Load().pool, LoopRedis: s.engine.Load().redis.client, Meter: s.meter,
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	s.log.Info("listening", "http.addr", listener.Addr().String())
	go func() {
		defer close(ended)
		if err := server.Serve(ctx, listener); err != nil {
			s.log.Error("health checks and metrics are no longer answered", "error", err)
		}
	}()
	return func() {
		cancel()
		<-ended
		to.close()
	}, nil
}
