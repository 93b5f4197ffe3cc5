package service

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"aggregator/internal/admin"
	"aggregator/internal/certs"
)

// listen takes http.addr. It returns nil if it is not to listen: the address is empty, or it is not set and
// the default one is taken, as by a second instance that stands by on the same machine. Errors have
// config.ErrInvalid if files of the settings are wrong; else they say that the address cannot be taken.
func (i *Instance) listen(ctx context.Context) (net.Listener, error) {
	addr := i.config.HTTP.Addr
	if addr == "" {
		return nil, nil
	}
	secure, err := i.listenTLS()
	if err != nil {
		return nil, err
	}
	guard, err := i.config.Access(nil) // only whether it can be: serveAdmin has the one that is used
	if err != nil {
		return nil, err
	}
	listener, err := admin.Listen(ctx, addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && !i.config.Given("http.addr"):
		i.log.Warn("no health checks and no metrics: the default address is taken; give each instance an http.addr of "+
			"its own", "http.addr", addr)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("http.addr = %q: %w; give it an address that is free, or none", addr, err)
	case secure != nil:
		return tls.NewListener(listener, secure), nil
	}
	if at, ok := listener.Addr().(*net.TCPAddr); ok && !at.IP.IsLoopback() && guard.Logins() &&
		len(i.config.HTTP.TrustedProxies) == 0 {
		i.log.Warn("passwords and tokens can be read on the network: set http.tls_cert_file and http.tls_key_file, or let "+
			"a proxy on this machine do TLS", "http.addr", at.String())
	}
	return listener, nil
}

// listenTLS is how to speak TLS at http.addr, with the certificate as its files are when a connection comes; nil for
// not at all.
func (i *Instance) listenTLS() (*tls.Config, error) {
	first, err := i.config.HTTPCertificate()
	if first == nil || err != nil {
		return nil, err
	}
	same := func(a, b *tls.Certificate) bool { return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal) }
	files := certs.New("http.addr", first, i.config.HTTPCertificate, same, i.log)
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return files.Now(), nil },
	}, nil
}

// serveAdmin answers at the listener until stop is called. That is later than the end of ctx, because what is
// in flight then still goes on. It connects to both servers; errors as connect.
func (s *Service) serveAdmin(ctx context.Context, listener net.Listener) (stop func(), err error) {
	instance, engine := s.instance, s.engine.Load()
	guard, err := instance.config.Access(instance.log)
	if err != nil {
		return nil, err
	}
	to, err := instance.Connect(ctx, 2, 2)
	if err != nil {
		return nil, err
	}
	server := admin.New(admin.Options{
		Loop: s, Pool: to.Pool, Redis: to.Redis.Client, Sources: to.Sources,
		Version: instance.version, Reloaded: s.reloaded.Load, Due: s.due.all, Leases: s.leases,
		Pprof: instance.config.HTTP.Pprof, Guard: guard, Log: instance.log,
		LoopPool: engine.Pool, LoopRedis: engine.Redis.Client, Meter: s.meter,
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	instance.log.Info("listening", "http.addr", listener.Addr().String(), "tls", instance.config.HTTP.TLSCertFile != "")
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
