package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"aggregator/internal/certs"
)

// ErrUnreachable is in every error of a server that does not answer or does not let us in.
var ErrUnreachable = errors.New("PostgreSQL is not reachable")

// connectError is a failed connection in one line. pgx tells the same over several, one for
// each host and again for each with and without TLS.
type connectError struct {
	server string
	err    error
}

func (e *connectError) Error() string {
	var pgErr *pgconn.PgError
	if errors.As(e.err, &pgErr) {
		if fromPooler(pgErr) {
			return fmt.Sprintf("%s: PgBouncer at %s refused the connection: %s; %s", ErrPooler, e.server, pgErr.Message,
				aroundPooler)
		}
		return fmt.Sprintf("PostgreSQL at %s refused the connection: %s (SQLSTATE %s); see postgres.url", e.server,
			pgErr.Message, pgErr.Code)
	}
	return fmt.Sprintf("PostgreSQL at %s is not reachable: %s", e.server, reason(e.err))
}

func (e *connectError) Unwrap() []error {
	var pgErr *pgconn.PgError
	if errors.As(e.err, &pgErr) && fromPooler(pgErr) {
		return []error{ErrPooler, e.err}
	}
	return []error{ErrUnreachable, e.err}
}

// fromPooler knows the words with which PgBouncer refuses settings of a session.
func fromPooler(e *pgconn.PgError) bool {
	return e.Code == "08P01" && strings.HasPrefix(e.Message, "unsupported startup parameter")
}

// reachable turns an error of connecting into one that names the server and has
// ErrUnreachable. Every other error is returned as it is, also the caller's own
// cancellation.
func reachable(cfg *pgx.ConnConfig, err error) error {
	var connErr *pgconn.ConnectError
	if !errors.As(err, &connErr) || errors.Is(err, context.Canceled) {
		return err
	}
	return &connectError{server: describe(cfg), err: err}
}

func reason(err error) string {
	var errno syscall.Errno
	var dnsErr *net.DNSError
	var certErr *tls.CertificateVerificationError
	var opErr *net.OpError
	switch {
	case errors.As(err, &certErr):
		return certs.Untrusted(certErr)
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &dnsErr):
		return dnsErr.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &opErr) && opErr.Op == "remote error": // what the server says of our side of TLS
		return opErr.Error()
	}
	var connErr *pgconn.ConnectError
	if errors.As(err, &connErr) {
		err = connErr.Unwrap()
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
