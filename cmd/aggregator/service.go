package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"aggregator/config"
	"aggregator/internal/admin"
	"aggregator/internal/aggregator"
	"aggregator/internal/runs"
	"aggregator/internal/scores"
)

// service is what run keeps running: an engine, and after each reload of the settings
// another one on the same connections.
type service struct {
	*app
	manager  manager
	flags    *pflag.FlagSet // as given on the command line
	engine   atomic.Pointer[engine]
	meter    *admin.Meter   // of all engines
	reloaded atomic.Bool    // whether the latest reload succeeded; true before the first
	due      dues           // of the jobs that have a schedule
	hangups  chan os.Signal // SIGHUP

	mu     sync.Mutex
	before runs.Counts // of the engines that have ended
}

// newService takes SIGHUP from now on, which would end the process before.
func (a *app) newService(flags *pflag.FlagSet) *service {
	s := &service{app: a, manager: manager{a.log}, flags: flags, meter: admin.NewMeter(), hangups: make(chan os.Signal, 1)}
	s.reloaded.Store(true)
	signal.Notify(s.hangups, syscall.SIGHUP)
	return s
}

// Status is that of the engine of the moment, as are Stats and Waiting.
func (s *service) Status() []aggregator.Status { return s.engine.Load().Status() }

// Stats begin again with each reload.
func (s *service) Stats() aggregator.Stats { return s.engine.Load().Stats() }

// Caches begin again, too.
func (s *service) Caches() []scores.CacheUse { return s.engine.Load().Caches() }

// Waiting counts the entries that are not settled.
func (s *service) Waiting(ctx context.Context) (int64, error) { return s.engine.Load().Waiting(ctx) }

// counts are those of all engines so far, but of drains that have a record of their own.
func (s *service) counts() runs.Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.before.Plus(s.engine.Load().session())
}

// replace goes on with another engine.
func (s *service) replace(next *engine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = s.before.Plus(s.engine.Load().session())
	s.engine.Store(next)
}

// run drains until ctx ends, through every reload, with a record of it; errors as
// Aggregator.Run.
func (s *service) run(ctx context.Context) error {
	job := runs.Job{Kind: runs.KindService, Counts: s.counts}
	return s.recorder(s.engine.Load().pool).Record(ctx, job, func() (runs.Outcome, error) {
		return runs.Stopped, s.serve(ctx)
	})
}

func (s *service) serve(ctx context.Context) error {
	telling, stop := context.WithCancel(ctx)
	defer stop()
	go s.manager.keepTelling(telling, s)
	s.manager.ready()
	for {
		next, err := s.drain(ctx)
		if next == nil && err != nil && ctx.Err() == nil && s.cfg.Run.OnHalt == config.Stay {
			next = s.stay(ctx, err)
		}
		if next == nil {
			return err
		}
		s.replace(next)
		s.manager.ready()
	}
}

// drain runs the engine until ctx ends, it fails, or new settings want another engine, which
// it returns. The chunk in hand is settled first. Between the two nothing needs to be handed
// over: each engine begins at the checkpoint.
func (s *service) drain(ctx context.Context) (next *engine, err error) {
	running, end := context.WithCancel(ctx)
	defer end()
	engine := s.engine.Load()
	if !engine.scheduled {
		s.log.Info("draining", "kind", s.cfg.Source.Kind, "key", s.cfg.Source.Key, "partitions", s.cfg.Source.Partitions)
	}
	go s.logProgress(running, engine.Stats)
	ended := make(chan error, 1)
	work := s.work(engine)
	go func() { ended <- work(running) }()
	defer func() {
		t := engine.Stats()
		s.log.Info("stopped", "read", t.Read, "applied", t.Applied, "dead", t.Dead, "retried", t.Retried, "settled_before", t.Skipped)
	}()
	for {
		select {
		case <-ctx.Done():
			s.manager.stopping(s.cfg.Shutdown.Grace)
			return nil, <-ended
		case err := <-ended:
			return nil, err
		case <-s.hangups:
		}
		grace := s.cfg.Shutdown.Grace // which is that of the engine that runs
		s.manager.reloading()
		if next = s.reload(false); next == nil {
			s.manager.ready()
			continue
		}
		end()
		select {
		case err = <-ended:
		case <-ctx.Done():
			s.manager.stopping(grace)
			err = <-ended
		}
		if err != nil || ctx.Err() != nil {
			return nil, err
		}
		return next, nil
	}
}

// reload reads the settings again and puts those in force that need no restart. It returns
// an engine for them if the one that runs does not have them, or anew is true. With wrong settings
// nothing changes.
func (s *service) reload(anew bool) *engine {
	read, err := config.Load(s.flags)
	if err != nil {
		return s.notReloaded(err)
	}
	before := s.cfg
	now, applied, pending := before.Reload(read)
	s.cfg = now
	var next *engine
	if anew || slices.ContainsFunc(applied, func(key string) bool { return key != "log.level" }) {
		if next, err = s.newEngine(s.engine.Load().servers, s.meter.Observe); err != nil {
			s.cfg = before
			return s.notReloaded(err)
		}
	}
	s.level.Set(logLevel(now.Log.Level))
	s.reloaded.Store(true)
	s.log.Info("reloaded the settings", "applied", applied, "need_restart", pending)
	return next
}

func (s *service) notReloaded(err error) *engine {
	s.reloaded.Store(false)
	s.log.Error("reload failed: the settings are invalid; keeping the current ones", "error", err)
	return nil
}

// logProgress writes a line every ten seconds in which something was settled.
func (a *app) logProgress(ctx context.Context, stats func() aggregator.Stats) {
	before := stats()
	every(ctx, 10*time.Second, func() {
		now := stats()
		if now.Read != before.Read {
			a.log.Info("settled", "read", now.Read-before.Read, "applied", now.Applied-before.Applied, "dead", now.Dead-before.Dead,
				"settled_before", now.Skipped-before.Skipped, "chunks", now.Chunks-before.Chunks, "profiles", now.Profiles-before.Profiles)
		}
		before = now
	})
}
