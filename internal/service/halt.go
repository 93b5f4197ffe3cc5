package service

import "context"

// stay waits, after a source has halted, until ctx ends or a reload is wanted. Health checks and metrics are
// answered meanwhile, and say why. It returns the engine to go on with, by the settings as they are then;
// nil: ctx has ended.
func (s *Service) stay(ctx context.Context, halt error) *Engine {
	s.instance.log.Error("halted; answering at http.addr until a reload or a restart", "error", halt)
	for {
		select {
		case <-ctx.Done():
			s.manager.stopping(s.instance.config.Shutdown.Grace)
			return nil
		case <-s.reload:
		}
		s.manager.reloading()
		if next := s.renew(true); next != nil {
			return next
		}
		s.manager.ready()
	}
}
