package main

import "context"

// stay waits, after a source has halted, until ctx ends or SIGHUP asks to try again: health checks and
// metrics are answered meanwhile, and say why. It returns the engine to go on with, by the settings as
// they are then; nil: ctx has ended.
func (s *service) stay(ctx context.Context, halt error) *engine {
	s.log.Error("halted; answering at http.addr until a reload or a restart", "error", halt)
	for {
		select {
		case <-ctx.Done():
			s.manager.stopping(s.cfg.Shutdown.Grace)
			return nil
		case <-s.hangups:
		}
		s.manager.reloading()
		if next := s.reload(true); next != nil {
			return next
		}
		s.manager.ready()
	}
}
