package service

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// A URL that wants TLS of a server that has none is a misconfiguration, unless another of its hosts is away.
func TestRefusedWithoutTLS(t *testing.T) {
	u := strings.Replace(testenv.EmptyDatabase(t), "sslmode=disable", "sslmode=require", 1)
	_, err := postgres.Open(t.Context(), postgres.Options{URL: u})
	require.ErrorContains(t, err, "server refused TLS connection")
	require.True(t, Refused(err))

	at, err := url.Parse(u)
	require.NoError(t, err)
	at.Host = "127.0.0.1:1," + at.Host
	_, err = postgres.Open(t.Context(), postgres.Options{URL: at.String()})
	require.ErrorIs(t, err, postgres.ErrUnreachable)
	require.False(t, Refused(err))
}

// What a retry cannot help is told apart from a server that is away.
func TestRefused(t *testing.T) {
	alert := func(n uint8) error {
		return fmt.Errorf("reading: %w", &net.OpError{Op: "remote error", Err: tls.AlertError(n)})
	}
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"nobody listens":               {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, false},
		"reset":                        {syscall.ECONNRESET, false},
		"an expired certificate":       {alert(45), true},
		"a certificate that misses":    {alert(116), true},
		"an internal error":            {alert(80), false},
		"an alert of ours":             {&net.OpError{Op: "local error", Err: tls.AlertError(45)}, false},
		"a server that is not it":      {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, true},
		"a wrong password":             {&pgconn.PgError{Code: "28P01"}, true},
		"a database that is not there": {&pgconn.PgError{Code: "3D000"}, true},
		"too many connections":         {&pgconn.PgError{Code: "53300"}, false},
		"a server that starts":         {&pgconn.PgError{Code: "57P03"}, false},
		"an error of another kind":     {errors.New("x"), false},
	} {
		require.Equal(t, tc.want, Refused(tc.err), name)
	}
	reason, refused := certificateRefused(alert(46))
	require.True(t, refused)
	require.Contains(t, reason, "unknown certificate")
}
