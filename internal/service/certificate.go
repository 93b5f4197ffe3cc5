package service

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
	"syscall"

	"aggregator/internal/verdict"
)

// Refused says whether a server could be reached, but does not let us in, or is not to be trusted: to try
// again does not help.
func Refused(err error) bool {
	var certErr *tls.CertificateVerificationError
	_, ours := certificateRefused(err)
	return errors.As(err, &certErr) || ours || noTLS(err) || verdict.Of(err) == verdict.Halt
}

// noTLS says whether a PostgreSQL has no TLS and the URL wants it. Of several hosts another one may be away
// that has it. pgx has only words for it.
func noTLS(err error) bool {
	var errno syscall.Errno
	return strings.Contains(err.Error(), "server refused TLS connection") && !errors.As(err, &errno)
}

// certificateAlerts are what a server says about a certificate of ours that it does not accept, or misses.
// Before TLS 1.3, a missing certificate is reported as a handshake failure, like much else.
var certificateAlerts = []tls.AlertError{
	42,  // bad
	43,  // unsupported
	44,  // revoked
	45,  // expired
	46,  // unknown
	48,  // of an unknown authority
	49,  // of a client that has no access
	116, // required
}

// certificateRefused says whether a server has refused our certificate, or the lack of one, and why. In TLS
// 1.3 the server does so after the handshake, in answer to whatever we send first.
func certificateRefused(err error) (reason string, refused bool) {
	var said *net.OpError
	if !errors.As(err, &said) || said.Op != "remote error" {
		return "", false
	}
	reason = said.Err.Error() // of a type that crypto/tls keeps to itself
	return reason, slices.ContainsFunc(
		certificateAlerts, func(alert tls.AlertError) bool { return alert.Error() == reason })
}
