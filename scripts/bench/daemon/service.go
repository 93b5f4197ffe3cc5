package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
)

// Service is a running `aggregator run`.
type Service struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  chan struct{}
	err    error // of the process, once ended is closed
}

// Run starts the service. The caller stops it.
func (d Daemon) Run(ctx context.Context) (*Service, error) {
	s := &Service{ended: make(chan struct{})}
	d.Settings = append([]string{"AGGREGATOR_HTTP_ADDR=127.0.0.1:0"}, d.Settings...) // the usual port may be taken
	s.cmd = d.command(ctx, &s.stderr, "run")
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	return s, nil
}

// PID is that of the process.
func (s *Service) PID() int { return s.cmd.Process.Pid }

// Alive is an error if the service has ended.
func (s *Service) Alive() error {
	select {
	case <-s.ended:
		return fmt.Errorf("aggregator run ended: %w\n%s", s.err, s.stderr.Bytes())
	default:
		return nil
	}
}

// Stop ends the service in order. It is an error if it had ended by itself.
func (s *Service) Stop() error {
	if err := s.Alive(); err != nil {
		return err
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-s.ended
	if s.err != nil {
		return errors.Join(fmt.Errorf("aggregator run: %w", s.err), errors.New(s.stderr.String()))
	}
	return nil
}
