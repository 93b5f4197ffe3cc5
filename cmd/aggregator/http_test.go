package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"aggregator/internal/aggregator"
	"aggregator/internal/testenv"
)

// served is a service over TLS, with a login.
type served struct {
	*process
	cert, key, users string
}

// write puts a certificate in the place of the one that is there.
func (s *served) write(a *testenv.Authority) {
	s.t.Helper()
	issued := a.Issue("aggregator", time.Now().Add(time.Hour))
	require.NoError(s.t, os.WriteFile(s.cert, issued.Cert, 0o600))
	require.NoError(s.t, os.WriteFile(s.key, issued.Key, 0o600))
}

// ask asks on a new connection, and trusts the authority alone.
func (s *served) ask(a *testenv.Authority, path, user, password string) (int, http.Header, error) {
	s.t.Helper()
	text, err := os.ReadFile(a.File())
	require.NoError(s.t, err)
	trusted := x509.NewCertPool()
	require.True(s.t, trusted.AppendCertsFromPEM(text))
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: trusted},
	}}
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	require.NoError(s.t, err)
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	require.NoError(s.t, response.Body.Close())
	return response.StatusCode, response.Header, nil
}

// Everything at http.addr is over TLS then, also what status asks; its files may be replaced.
func TestServiceOverTLS(t *testing.T) {
	testenv.Long(t)
	s := newPair(t)
	dir := t.TempDir()
	r := &served{
		process: &process{t: t},
		cert:    filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), users: filepath.Join(dir, "users.yaml"),
	}
	first, next := testenv.NewAuthority(t, "first"), testenv.NewAuthority(t, "next")
	r.write(first)
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(r.users, []byte("operators: {ann: "+string(hash)+"}\n"), 0o600))
	s.env = append(s.env, "AGGREGATOR_HTTP_TLS_CERT_FILE="+r.cert, "AGGREGATOR_HTTP_TLS_KEY_FILE="+r.key)
	r.process = s.start("--http-users-file=" + r.users)
	at := "AGGREGATOR_HTTP_ADDR=" + strings.TrimPrefix(r.url, "http://")
	r.url = strings.Replace(r.url, "http://", "https://", 1)

	for _, path := range []string{"/healthz", "/metrics", "/version", "/"} {
		code, header, err := r.ask(first, path, "", "")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, code, path)
		require.Equal(t, path == "/", header.Get("Content-Security-Policy") != "", path)
	}
	code, _, err := r.ask(first, "/", "ann", "wrong")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, code)
	code, _, err = r.ask(first, "/", "ann", "right")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	_, _, err = r.ask(next, "/", "", "")
	require.ErrorContains(t, err, "unknown authority")
	dialer := tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
	}}
	_, err = dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(r.url, "https://"))
	require.ErrorContains(t, err, "protocol version not supported")
	plain := process{t, nil, strings.Replace(r.url, "https://", "http://", 1)}
	code, _ = plain.get("/metrics")
	require.Equal(t, http.StatusBadRequest, code)

	asked := func(env ...string) bool {
		_, report := s.status(append([]string{at}, env...)...)
		return report.Sources[0].Service != nil && report.Sources[0].Service.State == aggregator.Working
	}
	require.True(t, asked())
	require.NoError(t, os.Chmod(r.key, 0)) // root may read it all the same: it is not asked for
	require.True(t, asked("AGGREGATOR_HTTP_TLS_KEY_FILE=/nowhere"))
	require.NoError(t, os.Chmod(r.key, 0o600))
	foreign, foreignKey := next.Issue("aggregator", time.Now().Add(time.Hour)).Files(t)
	require.False(t, asked("AGGREGATOR_HTTP_TLS_CERT_FILE="+foreign, "AGGREGATOR_HTTP_TLS_KEY_FILE="+foreignKey))
	require.False(t, asked("AGGREGATOR_HTTP_TLS_CERT_FILE=", "AGGREGATOR_HTTP_TLS_KEY_FILE="))

	r.write(next)
	_, _, err = r.ask(next, "/", "", "")
	require.NoError(t, err)
	require.True(t, asked())
	require.NoError(t, os.WriteFile(r.key, []byte("half of a k"), 0o600))
	_, _, err = r.ask(next, "/", "", "")
	require.NoError(t, err, "the pair from before")

	require.NoError(t, os.WriteFile(r.users, nil, 0o600))
	code, _, err = r.ask(next, "/", "ann", "right")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, code, "a user who was removed")
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, r.cmd.Wait())
}

// What is wrong with the files ends the service before it connects, and config check says the same.
func TestWrongFilesOfHTTP(t *testing.T) {
	dir := t.TempDir()
	authority := testenv.NewAuthority(t, "ca")
	cert, _ := authority.Issue("aggregator", time.Now().Add(time.Hour)).Files(t)
	_, foreign := authority.Issue("aggregator", time.Now().Add(time.Hour)).Files(t)
	users := filepath.Join(dir, "users.yaml")
	require.NoError(t, os.WriteFile(users, []byte("viewers: {ann: hunter2}\n"), 0o600))
	for name, tc := range map[string]struct {
		env  []string
		want string
	}{
		"no such file": {
			[]string{"AGGREGATOR_HTTP_TLS_CERT_FILE=nowhere", "AGGREGATOR_HTTP_TLS_KEY_FILE=" + foreign},
			`http.tls_cert_file = "nowhere": no such file or directory`,
		},
		"not a pair": {
			[]string{"AGGREGATOR_HTTP_TLS_CERT_FILE=" + cert, "AGGREGATOR_HTTP_TLS_KEY_FILE=" + foreign},
			`http.tls_cert_file = "` + cert + `", http.tls_key_file = "` + foreign + `": tls: private key does not match`,
		},
		"a password in place of a hash": {
			[]string{"AGGREGATOR_HTTP_USERS_FILE=" + users},
			`http.users_file = "` + users + `": line 1: want a bcrypt hash`,
		},
		"a header from nowhere": {
			[]string{"AGGREGATOR_HTTP_TRUSTED_HEADER=X-Forwarded-User"},
			`http.trusted_header = "X-Forwarded-User": http.trusted_proxies is missing`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, command := range [][]string{{"run", "--http-addr=127.0.0.1:0"}, {"config", "check"}} {
				program(t, tc.env, command...).requireFailure(t, exitConfig, tc.want)
			}
		})
	}
}
