package main

import (
	"crypto/tls"
	"errors"

	"aggregator/config"
	"aggregator/internal/aggregator"
	"aggregator/internal/postgres"
)

// The exit codes, those of sysexits(3) where it has one. Scripts and the systemd unit rely
// on them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 64
	exitUnreachable = 69
	exitEventsLeft  = 75
	exitConfig      = 78
)

const exitCodesHelp = `Exit codes:
  0   done
  1   failed
  64  wrong usage
  69  Redis or PostgreSQL is not reachable
  75  stopped by a limit with events left, or rows to purge; or the job is running elsewhere
  78  wrong configuration; also a password or a certificate that is refused`

var (
	errUsage            = errors.New("wrong usage")
	errRedisUnreachable = errors.New("Redis is not reachable")
	errEventsLeft       = errors.New("stopped with events left")
	errElsewhere        = errors.New("running elsewhere")
)

// exitCode is the only place that decides how the program ends.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, config.ErrInvalid), errors.Is(err, postgres.ErrURL), errors.Is(err, postgres.ErrPooler):
		return exitConfig
	case errors.Is(err, errRedisUnreachable), errors.Is(err, postgres.ErrUnreachable):
		if refused(err) {
			return exitConfig
		}
		return exitUnreachable
	case errors.Is(err, errEventsLeft), errors.Is(err, errElsewhere):
		return exitEventsLeft
	}
	return exitFailed
}

// refused says whether a server could be reached, but does not let us in, or is not to be
// trusted: to try again does not help.
func refused(err error) bool {
	var certErr *tls.CertificateVerificationError
	return errors.As(err, &certErr) || aggregator.Classify(err) == aggregator.Halt
}

// tagged is an error that also is a sentinel, without its text.
type tagged struct {
	error
	tag error
}

func (e *tagged) Unwrap() []error { return []error{e.tag, e.error} }

func tag(sentinel, err error) error { return &tagged{err, sentinel} }
