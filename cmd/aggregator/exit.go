package main

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"syscall"

	"aggregator/config"
	"aggregator/internal/appschema"
	"aggregator/internal/postgres"
	"aggregator/internal/verdict"
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

	exitSignal = 128 // and the number of the signal
)

const exitCodesHelp = `Exit codes:
  0   done
  1   failed
  64  invalid usage
  69  Redis or PostgreSQL is not reachable
  75  stopped by a limit with events left, or rows to purge; or the job is running elsewhere
  78  invalid configuration; also a password or a certificate that is refused
  130, 143  ended by SIGINT or SIGTERM before it was done. run, drain, purge and
      search-text, which continue the next time where they stopped, then exit with 0`

var (
	errUsage            = errors.New("invalid usage")
	errRedisUnreachable = errors.New("Redis is not reachable")
	errEventsLeft       = errors.New("stopped with events left")
	errElsewhere        = errors.New("running elsewhere")
)

// exitCode is the only place that decides how the program ends.
func exitCode(err error) int {
	var told stopSignal
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &told):
		if number, ok := told.Signal.(syscall.Signal); ok {
			return exitSignal + int(number)
		}
		return exitFailed
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, config.ErrInvalid), errors.Is(err, postgres.ErrURL), errors.Is(err, postgres.ErrPooler),
		errors.Is(err, appschema.ErrChoice):
		return exitConfig
	case errors.Is(err, errRedisUnreachable), errors.Is(err, postgres.ErrUnreachable):
		if refused(err) {
			return exitConfig
		}
		return exitUnreachable
	case errors.Is(err, errEventsLeft), errors.Is(err, errElsewhere):
		return exitEventsLeft
	case errors.Is(err, errReaderGone):
		return exitDone
	}
	return exitFailed
}

// refused says whether a server could be reached, but does not let us in, or is not to be
// trusted: to try again does not help.
func refused(err error) bool {
	var certErr *tls.CertificateVerificationError
	_, ours := certificateRefused(err)
	return errors.As(err, &certErr) || ours || verdict.Of(err) == verdict.Halt
}

// certificateAlerts are what a server says of a certificate of ours that it does not take,
// or misses. Before TLS 1.3 one that is missing is called a handshake failure, as much else is.
var certificateAlerts = []tls.AlertError{
	42,  // bad
	43,  // unsupported
	44,  // revoked
	45,  // expired
	46,  // unknown
	48,  // of an unknown authority
	49,  // of somebody who has no access
	116, // required
}

// certificateRefused says whether a server has refused our certificate, or the lack of one,
// and why. In TLS 1.3 it does so after the handshake, in answer to whatever we say first.
func certificateRefused(err error) (reason string, refused bool) {
	var said *net.OpError
	if !errors.As(err, &said) || said.Op != "remote error" {
		return "", false
	}
	reason = said.Err.Error() // of a type that crypto/tls keeps to itself
	return reason, slices.ContainsFunc(certificateAlerts, func(alert tls.AlertError) bool { return alert.Error() == reason })
}

// tagged is an error that also is a sentinel, without its text.
type tagged struct {
	error
	tag error
}

func (e *tagged) Unwrap() []error { return []error{e.tag, e.error} }

func tag(sentinel, err error) error { return &tagged{err, sentinel} }
