// Package certs lets new connections use certificates, keys and authorities as their files are at
// that moment, so that the files may be replaced while the program runs.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
)

// Files are the certificates for one server, in a form that its client takes. They are safe for
// concurrent use.
type Files[T any] struct {
	server string
	read   func() (T, error)
	same   func(a, b T) bool
	log    *Log

	mu   sync.Mutex
	last T
}

// Log is told of certificates. Several pools of connections read the same files; those with one Log warn once.
// It is safe for concurrent use. nil is told nothing.
type Log struct {
	log    *slog.Logger
	warned sync.Map // by server, the error that was last logged
}

// NewLog returns a Log that writes to log.
func NewLog(log *slog.Logger) *Log { return &Log{log: log} }

// New returns files that were read with success just now. read reads them again; its errors are
// logged, and must not hold secrets. same says whether both have the same certificates.
func New[T any](server string, now T, read func() (T, error), same func(a, b T) bool, log *Log) *Files[T] {
	if log == nil {
		log = NewLog(slog.New(slog.DiscardHandler))
	}
	return &Files[T]{server: server, last: now, read: read, same: same, log: log}
}

// Now reads the files, and returns them. While they cannot be read, or make no sense, it returns
// what it did before, and logs a warning: once for each error, however many pools share the log. Safe to repeat.
func (f *Files[T]) Now() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, err := f.read()
	if err != nil {
		f.log.warn(f.server, err)
		return f.last
	}
	if !f.same(f.last, now) {
		f.log.log.Info("the certificates have changed; new connections use the new ones", "server", f.server)
	}
	f.log.warned.Delete(f.server)
	f.last = now
	return now
}

func (l *Log) warn(server string, err error) {
	if before, _ := l.warned.Swap(server, err.Error()); before != err.Error() {
		l.log.Warn("the certificates cannot be read again; new connections use those from before", "server", server,
			"error", err)
	}
}

// Same says whether two configurations have the same certificates and authorities. Either may be nil.
func Same(a, b *tls.Config) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.RootCAs.Equal(b.RootCAs) && slices.EqualFunc(a.Certificates, b.Certificates, func(a, b tls.Certificate) bool {
		return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
	})
}

// Untrusted says, in one line, why the certificate of a server is not trusted.
func Untrusted(err *tls.CertificateVerificationError) string {
	reason := fmt.Sprintf("its certificate is not trusted: %s", err.Err)
	var unknown x509.UnknownAuthorityError
	if !errors.As(err.Err, &unknown) {
		return reason
	}
	if system, err := x509.SystemCertPool(); err != nil || system.Equal(x509.NewCertPool()) {
		reason += "; this system has no CA certificates, as an image may lack them"
	}
	return reason
}
