package main

import (
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/service"
	"aggregator/internal/testenv"
)

// renewal is a service over TLS, whose certificates are to be replaced.
type renewal struct {
	*secured
	t             *testing.T
	ca, cert, key string // the service's files
	settledCount  int
}

func (r *renewal) write(a *testenv.Authority) {
	r.t.Helper()
	issued := a.Issue("aggregator", time.Now().Add(time.Hour))
	authority, err := os.ReadFile(a.File())
	require.NoError(r.t, err)
	for name, content := range map[string][]byte{r.ca: authority, r.cert: issued.Cert, r.key: issued.Key} {
		require.NoError(r.t, os.WriteFile(name, content, 0o600))
	}
}

// owner is how the administrator of Redis reaches it, with the service's certificate.
func (r *renewal) owner() config.Config {
	r.t.Helper()
	u, err := url.Parse(r.redisURL)
	require.NoError(r.t, err)
	u.User = nil
	cfg := config.Default()
	cfg.Redis.URL = config.URL(u.String() + "?skip_verify=true")
	cfg.Redis.TLSCertFile, cfg.Redis.TLSKeyFile = r.cert, r.key
	return cfg
}

// serverFiles gives both servers certificates of the authority, and lets in clients of it alone.
func (r *renewal) serverFiles(a *testenv.Authority) {
	r.t.Helper()
	issued := a.Issue("server", time.Now().Add(time.Hour))
	authority, err := os.ReadFile(a.File())
	require.NoError(r.t, err)
	replace := func(name string, content []byte) {
		info, err := os.Stat(name) // it keeps its owner, which is the server's user
		require.NoError(r.t, err)
		require.NoError(r.t, os.WriteFile(name, content, info.Mode()))
	}
	var cert, key, clients string
	require.NoError(r.t, r.admin.QueryRow(r.t.Context(),
		`SELECT current_setting('ssl_cert_file'), current_setting('ssl_key_file'), current_setting('ssl_ca_file')`).Scan(
		&cert, &key, &clients))
	replace(cert, issued.Cert)
	replace(key, issued.Key)
	replace(clients, authority)
	_, err = r.admin.Exec(r.t.Context(), `SELECT pg_reload_conf()`)
	require.NoError(r.t, err)

	names, err := r.redis.ConfigGet(r.t.Context(), "tls-*").Result()
	require.NoError(r.t, err)
	replace(names["tls-cert-file"], issued.Cert)
	replace(names["tls-key-file"], issued.Key)
	replace(names["tls-ca-cert-file"], authority)
	require.NoError(r.t, r.redis.Do(r.t.Context(), "CONFIG", "SET", "tls-cert-file", names["tls-cert-file"],
		"tls-key-file", names["tls-key-file"], "tls-ca-cert-file", names["tls-ca-cert-file"]).Err())
}

// disconnect ends all connections of the service, which opens new ones.
func (r *renewal) disconnect() {
	r.t.Helper()
	_, err := r.admin.Exec(r.t.Context(),
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'aggregator_daemon'`)
	require.NoError(r.t, err)
	require.NoError(r.t, r.redis.Do(r.t.Context(), "CLIENT", "KILL", "USER", "aggregator_stream").Err())
}

// applies pushes an event that the service must apply.
func (r *renewal) applies() {
	r.t.Helper()
	push(r.t, r.secured, "1:1:LIKE")
	r.settledCount++
	require.Eventually(r.t, func() bool {
		var n int
		err := r.admin.QueryRow(r.t.Context(),
			`SELECT coalesce(sum(entries - base), 0)::int FROM aggregator.checkpoint`).Scan(&n)
		return err == nil && n == r.settledCount
	}, patience, 20*time.Millisecond)
}

// Certificates and authorities are read again for each new connection; while a file is broken those from
// before are used, and that is said once.
func TestCertificatesAreReadAgain(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	dir := t.TempDir()
	r := &renewal{
		secured: newSecured(t, valid), t: t,
		ca: filepath.Join(dir, "ca.pem"), cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"),
	}
	r.write(r.authority)
	sup := supervise(t, []string{
		"AGGREGATOR_REDIS_TLS_CA_FILE=" + r.ca, "AGGREGATOR_REDIS_TLS_CERT_FILE=" + r.cert,
		"AGGREGATOR_REDIS_TLS_KEY_FILE=" + r.key,
		"AGGREGATOR_HTTP_ADDR=127.0.0.1:0", "AGGREGATOR_LOG_FORMAT=text", "AGGREGATOR_LEASE_TTL=0s",
	}, map[string]string{
		"aggregator.redis-url": r.redisURL,
		"aggregator.postgres-url": r.trusting(r.ca) + "&sslcert=" + url.QueryEscape(r.cert) + "&sslkey=" + url.QueryEscape(
			r.key),
	})
	sup.start()
	sup.await(`^READY=1$`)
	r.applies()

	require.NoError(t, os.WriteFile(r.ca, []byte("half of a certif"), 0o600))
	for range 3 {
		r.disconnect()
		r.applies()
	}
	warned := func(server string) int {
		return strings.Count(sup.said(),
			`level=WARN msg="the certificates cannot be read again; new connections use those from before" server=`+server)
	}
	require.Equal(t, 1, warned("Redis"), sup.said())
	require.Equal(t, 1, warned("PostgreSQL"), sup.said())
	require.NotContains(t, sup.said(), "hunter2")

	next := testenv.NewAuthority(t, "the next one")
	r.write(next)
	r.serverFiles(next)
	own, err := service.New(r.owner(), slog.New(slog.DiscardHandler), "").NewRedis(1)
	require.NoError(t, err)
	t.Cleanup(func() { _ = own.Client.Close() })
	r.redis = own.Client
	r.disconnect()
	r.applies()
	for _, server := range []string{"Redis", "PostgreSQL"} {
		require.Contains(t, sup.said(),
			`msg="the certificates have changed; new connections use the new ones" server=`+server)
	}
	require.Equal(t, 1, sup.started(), "without a restart")
	require.Zero(t, sup.stop())
}
