package service

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"aggregator/config"
	"aggregator/internal/admin"
	"aggregator/internal/aggregator"
	"aggregator/internal/cluster"
	"aggregator/internal/runs"
	"aggregator/internal/scores"
)

// Options say how a service is run. The zero value works, but then the service cannot reload.
type Options struct {
	// Next reads the settings for a reload. It is called by Run, while the engine works on. After an error
	// the current settings stay in force.
	Next func() (config.Config, error)
	// Level, if there is one, is that of the log: a reload sets it to log.level.
	Level *slog.LevelVar
}

// Service is an engine that is kept running, and after each reload of the settings another one on the same
// connections. Several services, also in one process, share the sources: on each source one works and the
// others stand by.
type Service struct {
	options  Options
	instance *Instance // with the settings in force; only Run changes it
	clock    clock
	manager  manager
	engine   atomic.Pointer[Engine]
	meter    *admin.Meter  // of all engines
	reloaded atomic.Bool   // whether the latest reload succeeded; true before the first
	due      dues          // of the jobs that have a schedule
	reload   chan struct{} // has one while a reload is wanted
	addr     net.Addr      // of the health checks; nil: there are none
	stop     func()        // ends them; nil: there are none

	sharing *sharing                       // nil: it shares nothing; only Run changes it
	keeper  atomic.Pointer[cluster.Keeper] // that of sharing, for other goroutines

	mu     sync.Mutex
	before runs.Counts // of the engines that have ended
}

// Open takes http.addr, connects to both servers, and answers health checks from then on. Errors
// are those of OpenEngine, or say that the address cannot be taken. The caller closes the service.
func Open(ctx context.Context, instance *Instance, options Options) (*Service, error) {
	s := &Service{
		options: options, instance: instance, clock: clockBy(time.Now), manager: manager{instance.log},
		meter: admin.NewMeter(), reload: make(chan struct{}, 1),
	}
	s.reloaded.Store(true)
	listener, err := instance.listen(ctx) // before anything else is begun
	if err != nil {
		return nil, err
	}
	engine, err := instance.OpenEngine(ctx, s.meter.Observe)
	if err != nil {
		if listener != nil {
			_ = listener.Close()
		}
		return nil, err
	}
	s.engine.Store(engine)
	instance.logStart(engine.Redis)
	if listener != nil {
		s.addr = listener.Addr()
		if s.stop, err = s.serveAdmin(ctx, listener); err != nil {
			_ = listener.Close()
			engine.Close()
			return nil, err
		}
	}
	return s, nil
}

// Close ends the health checks and closes the connections. Run must have returned, or never have
// been called.
func (s *Service) Close() {
	if s.stop != nil {
		s.stop()
	}
	s.engine.Load().Close()
}

// Addr is where it answers health checks and the like; nil if it does not.
func (s *Service) Addr() net.Addr { return s.addr }

// Reload has Run read the settings again, soon. It does not wait, and may be called at any time.
func (s *Service) Reload() {
	select {
	case s.reload <- struct{}{}:
	default: // a reload that is wanted already will read the current settings
	}
}

// Status is that of the current engine, as are Stats and Waiting.
func (s *Service) Status() []aggregator.Status { return s.engine.Load().Status() }

// Stats start from zero with each reload.
func (s *Service) Stats() aggregator.Stats { return s.engine.Load().Stats() }

// Caches start from zero, too.
func (s *Service) Caches() []scores.CacheUse { return s.engine.Load().Caches() }

// Waiting counts the entries that are not processed.
func (s *Service) Waiting(ctx context.Context) (int64, error) { return s.engine.Load().Waiting(ctx) }

// counts are those of all engines so far, except of drains that have a record of their own.
func (s *Service) counts() runs.Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.before.Plus(s.engine.Load().counts())
}

// replace goes on with another engine.
func (s *Service) replace(next *Engine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = s.before.Plus(s.engine.Load().counts())
	s.engine.Store(next)
}

// Run drains until ctx ends, through every reload, with a record of it. With a schedule it drains when that
// says so. Beside that, it does the jobs that have a schedule. During an outage of a server it waits.
//
// When ctx ends it finishes the chunk in flight within shutdown.grace, and returns nil. An error is one
// that needs a person: a source has halted, a scheduled drain has failed, or another instance has its
// name (cluster.ErrNameTaken). With run.on_halt: stay it returns the first two only when ctx ends. Run
// may be called once.
func (s *Service) Run(ctx context.Context) error {
	job := runs.Job{Kind: runs.KindService, Counts: s.counts}
	return s.instance.Recorder(s.engine.Load().Pool).Record(ctx, job, func() (runs.Outcome, error) {
		return runs.Stopped, s.serve(ctx)
	})
}

func (s *Service) serve(ctx context.Context) (err error) {
	telling, stop := context.WithCancel(ctx)
	defer stop()
	go s.manager.keepTelling(telling, s)
	s.manager.ready()
	defer func() { err = cmp.Or(err, s.part()) }()
	for {
		next, err := s.drain(ctx)
		if next == nil && err != nil && ctx.Err() == nil && s.instance.config.Run.OnHalt == config.Stay &&
			!errors.Is(err, cluster.ErrNameTaken) {
			_ = s.part() // other instances may be able to do what this one cannot
			next = s.stay(ctx, err)
		}
		if next == nil {
			return err
		}
		s.replace(next)
		s.manager.ready()
	}
}

// drain runs the engine until ctx ends, it fails, or new settings want another engine, which it returns.
// The chunk in flight is processed first. Between the two nothing needs to be handed over: each engine
// begins at the checkpoint.
func (s *Service) drain(ctx context.Context) (next *Engine, err error) {
	running, end := context.WithCancel(ctx)
	defer end()
	engine, log := s.engine.Load(), s.instance.log
	if source := s.instance.config.Source; !engine.scheduled {
		log.Info("draining", "kind", source.Kind, "key", source.Key, "partitions", source.Partitions)
	}
	go logProgress(running, engine.Stats, log)
	ended := make(chan error, 1)
	s.share(ctx, engine)
	work := s.work(engine)
	go func() { ended <- work(running) }()
	defer func() {
		t := engine.Stats()
		log.Info("stopped", "read", t.Read, "applied", t.Applied, "dead", t.Dead, "retried", t.Retried, "settled_before",
			t.Skipped)
	}()
	for {
		select {
		case <-ctx.Done():
			s.manager.stopping(s.instance.config.Shutdown.Grace)
			return nil, <-ended
		case err := <-ended:
			return nil, err
		case err := <-s.keeperEnded():
			s.sharing = nil
			if ctx.Err() != nil { // it was told to end, as this drain was
				s.manager.stopping(s.instance.config.Shutdown.Grace)
			}
			end()
			return nil, cmp.Or(err, <-ended)
		case <-s.reload:
		}
		grace := s.instance.config.Shutdown.Grace // which is that of the engine that runs
		s.manager.reloading()
		if next = s.renew(false); next == nil {
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

// work returns what the current settings say. That is to drain all the time, unless there is a schedule for
// that, and to do the jobs that have one, until ctx ends or a job or a source fails for good.
func (s *Service) work(engine *Engine) func(ctx context.Context) error {
	schedules, err := engine.instance.config.Schedules()
	if err != nil {
		return func(context.Context) error { return err }
	}
	var all []func(ctx context.Context) error
	if engine.scheduled {
		engine.Rest("its schedule is being looked up")
	} else {
		all = append(all, engine.Run)
	}
	for _, job := range engine.jobs() {
		if when, scheduled := schedules[job.kind]; scheduled {
			t := &timetable{Instance: engine.instance, job: job, schedule: when, due: &s.due, pool: engine.Pool, clock: s.clock}
			all = append(all, t.keep)
		}
	}
	return func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		for _, do := range all {
			group.Go(func() error { return do(ctx) })
		}
		return group.Wait()
	}
}

// renew reads the settings again and puts those in force that need no restart. It returns an engine for them
// if the one that runs does not have them, or if the parameter says that another one is wanted in any case.
// With wrong settings nothing changes.
func (s *Service) renew(anew bool) *Engine {
	if s.options.Next == nil {
		return s.notReloaded(errors.New("there is nothing to read them from"))
	}
	read, err := s.options.Next()
	if err != nil {
		return s.notReloaded(err)
	}
	settings, applied, pending := s.instance.config.Reload(read)
	instance := s.instance.with(settings)
	var next *Engine
	if anew || slices.ContainsFunc(applied, func(key string) bool { return key != "log.level" }) {
		if next, err = instance.newEngine(s.engine.Load().Servers, s.meter.Observe); err != nil {
			return s.notReloaded(err)
		}
	}
	s.instance = instance
	if s.options.Level != nil {
		_ = s.options.Level.UnmarshalText([]byte(settings.Log.Level)) // it is one of those that there are
	}
	s.reloaded.Store(true)
	s.instance.log.Info("reloaded the settings", "applied", applied, "need_restart", pending)
	return next
}

func (s *Service) notReloaded(err error) *Engine {
	s.reloaded.Store(false)
	s.instance.log.Error("reload failed: the settings are invalid; keeping the current ones", "error", err)
	return nil
}

// logProgress logs a line every ten seconds in which something was processed.
func logProgress(ctx context.Context, stats func() aggregator.Stats, log *slog.Logger) {
	before := stats()
	every(ctx, 10*time.Second, func() {
		now := stats()
		if now.Read != before.Read {
			log.Info("settled", "read", now.Read-before.Read, "applied", now.Applied-before.Applied, "dead",
				now.Dead-before.Dead,
				"settled_before", now.Skipped-before.Skipped, "chunks", now.Chunks-before.Chunks, "profiles",
				now.Profiles-before.Profiles)
		}
		before = now
	})
}
