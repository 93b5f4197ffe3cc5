package main

import (
	"errors"
	"syscall"

	"aggregator/config"
	"aggregator/internal/appschema"
	"aggregator/internal/cluster"
	"aggregator/internal/postgres"
	"aggregator/internal/service"
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
  78  invalid configuration; also a password or a certificate that is refused, or a
      lease.name that another instance has
  130, 143  ended by SIGINT or SIGTERM before it was done. run, drain, purge and
      search-text, which continue the next time where they stopped, then exit with 0`

var (
	errUsage      = errors.New("invalid usage")
	errEventsLeft = errors.New("stopped with events left")
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
		errors.Is(err, postgres.ErrKind), errors.Is(err, postgres.ErrDistribute), errors.Is(err, appschema.ErrChoice),
		errors.Is(err, cluster.ErrNameTaken):
		return exitConfig
	case errors.Is(err, service.ErrRedisUnreachable), errors.Is(err, postgres.ErrUnreachable):
		if service.Refused(err) {
			return exitConfig
		}
		return exitUnreachable
	case errors.Is(err, errEventsLeft), errors.Is(err, service.ErrElsewhere):
		return exitEventsLeft
	case errors.Is(err, errReaderGone):
		return exitDone
	}
	return exitFailed
}

func tag(sentinel, err error) error { return verdict.Tag(sentinel, err) }
