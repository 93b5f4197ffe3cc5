package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"aggregator/internal/admin"
)

// listen takes http.addr. It returns nil if it is not to listen: the address is empty, or it is not set and
// the default one is taken, as by a second instance that stands by on the same machine.
func (i *Instance) listen(ctx context.Context) (net.Listener, error) {
	addr := i.config.HTTP.Addr
	if addr == "" {
		return nil, nil
	}
	listener, err := admin.Listen(ctx, addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && !i.config.Given("http.addr"):
		i.log.Warn("no health checks and no metrics: the default address is taken; give each instance an http.addr of "+
			"its own", "http.addr", addr)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("http.addr = %q: %w; give it an address that is free, or none", addr, err)
	}
	return listener, nil
}

// serveAdmin answers at the listener until stop is called. That is later than the end of ctx, because what is
// in flight then still goes on. It connects to both servers; errors as connect.
func (s *Service) serveAdmin(ctx context.Context, listener net.Listener) (stop func(), err error) {
	instance, engine := s.instance, s.engine.Load()
	to, err := instance.Connect(ctx, 2, 2)
	if err != nil {
		return nil, err
	}
	server := admin.New(admin.Options{
		Loop: s, Pool: to.Pool, Redis: to.Redis.Client, Sources: to.Sources,
		Version: instance.version, Reloaded: s.reloaded.Load, Due: s.due.all, Leases: s.leases,
		Pprof: instance.config.HTTP.Pprof, Log: instance.log,
		LoopPool: engine.Pool, LoopRedis: engine.Redis.Client, Meter: s.meter,
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	instance.log.Info("listening", "http.addr", listener.Addr().String())
	go func() {
		defer close(ended)
		if err := server.Serve(ctx, listener); err != nil {
			instance.log.Error("health checks and metrics are no longer answered", "error", err)
		}
	}()
	return func() {
		cancel()
		<-ended
		to.Close()
	}, nil
}
