// Package admin shows a running service: an HTTP listener for health checks and metrics, and the survey of both
// servers that it shares with the command status.
//
//	/healthz  200 while every loop turns, whatever the servers do: 503 is a reason to kill it
//	/readyz   200 while the service does its work, or could at once; else 503, with reasons
//	/version  what is running
//	/metrics  for Prometheus
//	/debug/pprof/  what it spends time and memory on, if that was asked for
//
// It reads only and asks for no login: it must not be reachable for persons who may not know what the log tells. The
// connections are its own, so that a busy service and a curious monitor do not wait for each other. All other paths
// are those of the operator page (package page), which package access guards.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"aggregator/internal/aggregator"
	"aggregator/internal/cluster"
	"aggregator/internal/events"
	"aggregator/internal/scores"
)

// Loop is what is looked at; *aggregator.Aggregator is one.
type Loop interface {
	Status() []aggregator.Status
	Stats() aggregator.Stats
	Caches() []scores.CacheUse
}

// Options say what to show. All are required except those that say otherwise.
type Options struct {
	Loop     Loop
	Pool     *pgxpool.Pool         // not the loop's; two connections are enough
	Redis    redis.UniversalClient // not the loop's
	Sources  []*events.Source
	Version  string
	Reloaded func() bool // whether the latest reload of the settings succeeded; nil: there are none
	// Due says when the jobs are due that have a schedule, by kind: in the past if one is not
	// done yet.
	Due func() map[string]time.Time
	// Leases are the figures of the keeper; false: the loop shares no sources. nil: never.
	Leases func() (cluster.Figures, bool)
	Pprof  bool // also answer /debug/pprof/, only to this machine; may be false
	Log    *slog.Logger

	// LoopPool and LoopRedis are what the loop works with, to look at.
	LoopPool  *pgxpool.Pool
	LoopRedis redis.UniversalClient
	Meter     *Meter
}

// Server answers.
type Server struct {
	Options
	survey recent[Survey]
	books  books
	mux    *http.ServeMux
	http   http.Server
}

// Listen takes the address. The error is one line, without the address.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	var refused *net.OpError
	if errors.As(err, &refused) {
		err = refused.Err
	}
	return listener, err
}

// New returns a server that does nothing yet.
func New(o Options) *Server {
	s := &Server{Options: o}
	mux := http.NewServeMux()
	s.mux = mux
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /version", s.version)
	mux.Handle("GET /metrics", s.metrics())
	if o.Pprof {
		profiling(mux)
	}
	s.http = http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    1 << 16,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return s
}

// Show has a handler answer what is not answered here. It must be called before Serve.
func (s *Server) Show(page http.Handler) { s.mux.Handle("/", page) }

// Serve answers, and reconciles now and then, until ctx ends. It closes the listener. Its only error is that
// it cannot answer any more.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	audited := make(chan struct{})
	go func() {
		defer close(audited)
		s.books.keepAuditing(ctx, s)
	}()
	defer func() {
		cancel()
		<-audited
	}()
	defer context.AfterFunc(ctx, func() { _ = s.http.Close() })() // a health check does not have to be finished
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	err := s.http.Serve(listener)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("answering HTTP: %w", err)
}

// patience is how long a server may take before it counts as silent.
const patience = 3 * time.Second

// Survey is a survey that is a second old at most.
func (s *Server) Survey(ctx context.Context) Survey { return s.look(ctx, time.Second) }

// look is a survey that is no older than maxAge.
func (s *Server) look(ctx context.Context, maxAge time.Duration) Survey {
	return s.survey.get(maxAge, func() Survey {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience) // other requests get it too
		defer cancel()
		return Look(ctx, s.Pool, s.Redis, s.Sources)
	})
}
