package main

import (
	"context"
	"fmt"
	"net"

	"aggregator/internal/admin"
)

// listen takes http.addr, before anything else is begun; nil if it is empty.
func (a *app) listen(ctx context.Context) (net.Listener, error) {
	if a.cfg.HTTP.Addr == "" {
		return nil, nil //nolint:nilnil // it is an optional part
	}
	listener, err := admin.Listen(ctx, a.cfg.HTTP.Addr)
	if err != nil {
		return nil, fmt.Errorf("http.addr = %q: %w", a.cfg.HTTP.Addr, err)
	}
	return listener, nil
}

// serveAdmin answers at the listener until stop is called: longer than ctx, for what is in
// hand then still goes on. It connects to both servers; errors as openEngine.
func (a *app) serveAdmin(ctx context.Context, listener net.Listener, engine *engine) (stop func(), err error) {
	pool, err := a.openPostgres(ctx, 2)
	if err != nil {
		return nil, err
	}
	client, err := a.openRedis(ctx, 2)
	if err != nil {
		pool.Close()
		return nil, err
	}
	sources, err := a.sources(client)
	if err != nil {
		pool.Close()
		_ = client.Close()
		return nil, err
	}
	server := admin.New(admin.Options{
		Loop: engine.Aggregator, Pool: pool, Redis: client, Sources: sources,
		Version: version, MaxWait: a.cfg.Chunk.MaxWait, Log: a.log,
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	a.log.Info("listening", "http.addr", listener.Addr())
	go func() {
		defer close(ended)
		if err := server.Serve(ctx, listener); err != nil {
			a.log.Error("health checks and metrics are not answered any more", "error", err)
		}
	}()
	return func() {
		cancel()
		<-ended
		pool.Close()
		_ = client.Close()
	}, nil
}
