package certs_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/certs"
)

// What cannot be read is warned of once, by whichever pool comes first, and again after it was right.
func TestFiles(t *testing.T) {
	var log bytes.Buffer
	logger := certs.NewLog(slog.New(slog.NewTextHandler(&log, nil)))
	now, failure := "1", error(nil)
	read := func() (string, error) { return now, failure }
	same := func(a, b string) bool { return a == b }
	first, second := certs.New("a", "1", read, same, logger), certs.New("a", "1", read, same, logger)
	logged := func(level string) int { return strings.Count(log.String(), "level="+level) }

	require.Equal(t, "1", first.Now())
	require.Empty(t, log.String())
	failure = errors.New("broken")
	for range 3 {
		require.Equal(t, "1", first.Now())
		require.Equal(t, "1", second.Now())
	}
	require.Equal(t, 1, logged("WARN"), log.String())
	failure = errors.New("missing")
	require.Equal(t, "1", first.Now())
	require.Equal(t, 2, logged("WARN"), "for another reason")

	now, failure = "2", nil
	require.Equal(t, "2", first.Now())
	require.Equal(t, "2", first.Now())
	require.Equal(t, 1, logged("INFO"), log.String())
	failure = errors.New("missing")
	require.Equal(t, "2", first.Now())
	require.Equal(t, 3, logged("WARN"), "it was right in between")
	other := certs.New("a", "2", read, same, certs.NewLog(slog.New(slog.NewTextHandler(&log, nil))))
	require.Equal(t, "2", other.Now())
	require.Equal(t, 4, logged("WARN"), "of another owner")
	require.Equal(t, "1", certs.New("a", "1", read, same, nil).Now())
	require.Equal(t, 4, logged("WARN"))
}

func TestSame(t *testing.T) {
	a := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{{Certificate: [][]byte{{1}}}}}
	require.True(t, certs.Same(a, a.Clone()))
	require.True(t, certs.Same(nil, nil))
	require.False(t, certs.Same(a, nil))
	require.False(t, certs.Same(&tls.Config{}, a))
	b := a.Clone()
	b.Certificates = []tls.Certificate{{Certificate: [][]byte{{2}}}}
	require.False(t, certs.Same(a, b))
	b = a.Clone()
	b.RootCAs = nil
	require.False(t, certs.Same(a, b))
}
