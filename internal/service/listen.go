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
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/admin"
	"aggregator/internal/apply"
	"aggregator/internal/certs"
	"aggregator/internal/deadletter"
	"aggregator/internal/doctor"
	"aggregator/internal/events"
	"aggregator/internal/page"
	"aggregator/internal/schedule"
	"aggregator/internal/scores"
)

// The connections to PostgreSQL of health checks and metrics, and of the page with what it has begun.
const (
	surveyConnections = 2
	pageConnections   = 4
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
	files := certs.New("http.addr", first, i.config.HTTPCertificate, same, i.certificates)
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return files.Now(), nil },
	}, nil
}

// serveAdmin answers at the listener until stop is called. That is later than the end of ctx, because what is
// in flight then still goes on. It connects to both servers; errors as connect.
func (s *Service) serveAdmin(ctx context.Context, listener net.Listener) (stop func(), err error) {
	instance, engine := s.instance, s.engine.Load()
	to, err := instance.Connect(ctx, surveyConnections, 2)
	if err != nil {
		return nil, err
	}
	server := admin.New(admin.Options{
		Loop: s, Pool: to.Pool, Redis: to.Redis.Client, Sources: to.Sources,
		Version: instance.version, Reloaded: s.reloaded.Load, Due: s.due.all, Leases: s.leases,
		Pprof: instance.config.HTTP.Pprof, Log: instance.log,
		LoopPool: engine.Pool, LoopRedis: engine.Redis.Client, Meter: s.meter,
	})
	shown, err := s.newPage(ctx, server, to.Sources)
	if err != nil {
		to.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended, remembered := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(remembered)
		shown.Run(ctx)
	}()
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
		<-remembered
		shown.Pool.Close()
		to.Close()
	}, nil
}

// newPage returns the operator page, with connections of its own, and has the server show it to whom the settings
// let in. Errors are those of OpenPostgres, or have config.ErrInvalid.
func (s *Service) newPage(ctx context.Context, server *admin.Server, sources []*events.Source) (*page.Page, error) {
	i := s.instance
	guard, err := i.config.Access(i.log, "/zone")
	if err != nil {
		return nil, err
	}
	pool, err := i.OpenPostgres(ctx, pageConnections)
	if err != nil {
		return nil, err
	}
	now := func() *Instance { return s.engine.Load().instance } // with the settings in force
	shown := page.New(page.Options{
		Pool: pool, Sources: sources, Catalogue: i.SmallCatalogue(pool), Group: i.Group(),
		Preferred: func() scores.Preference { return now().config.History.Preferred },
		Survey:    server.Survey, Status: s.Status, Stages: s.meter.Stages, Complaints: server.Complaints,
		Examine: func(ctx context.Context) ([]doctor.Finding, error) { return now().Examine(ctx) },
		Retry: func(ctx context.Context, chosen deadletter.Choice, by, key string) (apply.Retried, error) {
			return now().RetryLetters(ctx, pool, chosen, Asked{by, key})
		},
		Drop: func(ctx context.Context, chosen deadletter.Choice, by, key string) (int64, error) {
			return now().DropLetters(ctx, pool, chosen, Asked{by, key})
		},
		Zone: func() *time.Location {
			zone, err := schedule.Zone(now().config.Schedule.TimeZone)
			if err != nil { // it was there when the settings were read
				return time.UTC
			}
			return zone
		},
		CanLogIn: guard.Login(), Version: i.version, Name: i.name, Log: i.log,
	})
	server.Show(guard.Wrap(shown))
	return shown, nil
}

// SmallCatalogue is one to look up some thousand books and profiles.
func (i *Instance) SmallCatalogue(pool *pgxpool.Pool) *scores.Catalogue {
	const some = 10_000
	return scores.NewCatalogue(pool, i.log, scores.CatalogueOptions{Books: some, Profiles: some, TTL: time.Minute})
}
