package main

import (
	"log/slog"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/service"
	"aggregator/internal/testenv"
)

// inTLS are the settings for a Redis of several servers, which speak TLS only, among
// themselves, too, ask for certificates, and have one for a name in place of an address.
type inTLS struct {
	*pair
	authority *testenv.Authority
	redis     redis.UniversalClient // of the administrator
}

func newInTLS(t *testing.T, mode string, start func(...testenv.RedisOption) (admin, daemon string)) *inTLS {
	t.Helper()
	t.Parallel()
	authority := testenv.NewAuthority(t, "the right one")
	database := testenv.Database(t)
	db, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(t.Context()) })
	cert, key := authority.Issue("aggregator", time.Now().Add(time.Hour)).Files(t)
	admin, daemon := start(testenv.RedisTLS(authority, authority.IssueNamed("redis.internal")),
		testenv.Users("book-like-events"))
	cfg := config.Default()
	cfg.Redis.URL = config.URL(admin)
	cfg.Redis.Mode, cfg.Redis.TLSServerName, cfg.Redis.TLSCAFile = mode, "redis.internal", authority.File()
	cfg.Redis.TLSCertFile, cfg.Redis.TLSKeyFile = cert, key
	to, err := service.New(cfg, slog.New(slog.DiscardHandler), "").NewRedis(1)
	require.NoError(t, err)
	t.Cleanup(func() { _ = to.Client.Close() })
	s := &inTLS{&pair{t: t, db: db, env: []string{
		"AGGREGATOR_POSTGRES_URL=" + testenv.As(t, database, "aggregator_daemon"),
		"AGGREGATOR_REDIS_URL=" + daemon, "AGGREGATOR_REDIS_MODE=" + mode, "AGGREGATOR_REDIS_TLS_SERVER_NAME=redis.internal",
		"AGGREGATOR_REDIS_TLS_CA_FILE=" + cfg.Redis.TLSCAFile, "AGGREGATOR_REDIS_TLS_CERT_FILE=" + cert,
		"AGGREGATOR_REDIS_TLS_KEY_FILE=" + key,
		"AGGREGATOR_LOG_FORMAT=text",
	}}, authority, to.Client}
	s.exec(`INSERT INTO child_profile (id, name) SELECT n, n FROM generate_series(1, 4) n`)
	s.exec(`INSERT INTO book (id, title) VALUES (1, 'b')`)
	return s
}

func (s *inTLS) push(stream, event string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		return s.redis.XAdd(s.t.Context(), &redis.XAddArgs{Stream: stream, Values: []any{"event", event}}).Err() == nil
	}, patience, 50*time.Millisecond)
}

// refuses tries what is wrong with the settings of TLS: one line, and not to be tried again.
func (s *inTLS) refuses(where string) {
	s.t.Helper()
	other := testenv.NewAuthority(s.t, "the wrong one")
	try := func(want string, wrong ...string) {
		s.t.Helper()
		r := requireRefusal(s.t, append(s.env[:len(s.env):len(s.env)], wrong...), want)
		require.Contains(s.t, r.said(), "aggregator: Redis at "+where)
	}
	for wrong, want := range map[string]string{
		"AGGREGATOR_REDIS_TLS_CA_FILE=" + other.File(): "x509: certificate signed by unknown authority",
		"AGGREGATOR_REDIS_TLS_SERVER_NAME=elsewhere":   "x509: certificate is valid for redis.internal, not elsewhere",
		"AGGREGATOR_REDIS_TLS_SERVER_NAME=": "x509: cannot validate certificate for 127.0.0.1 because it " +
			"doesn't contain any IP SANs",
	} {
		try(" is not reachable: its certificate is not trusted: "+want, wrong)
	}
	try(" refused the client certificate: tls: certificate required; see redis.tls_cert_file",
		"AGGREGATOR_REDIS_TLS_CERT_FILE=", "AGGREGATOR_REDIS_TLS_KEY_FILE=")
	cert, key := other.Issue("aggregator", time.Now().Add(time.Hour)).Files(s.t)
	try(" refused the client certificate: tls: unknown certificate authority; see redis.tls_cert_file",
		"AGGREGATOR_REDIS_TLS_CERT_FILE="+cert, "AGGREGATOR_REDIS_TLS_KEY_FILE="+key)
}

// Sentinels, master and replica speak TLS, also after the replica has taken over.
func TestSentinelOverTLS(t *testing.T) {
	testenv.Long(t)
	var servers *testenv.Sentinel
	s := newInTLS(t, "sentinel", func(opts ...testenv.RedisOption) (admin, daemon string) {
		servers = testenv.NewSentinel(t, opts...)
		return servers.URL(), servers.URL() + "&" + url.Values{
			"username": {"aggregator_stream"}, "password": {testenv.RedisPassword},
		}.Encode()
	})
	s.push("book-like-events", "1:1:LIKE")
	s.program("drain").requireDone(t)
	s.settled("1")
	s.refuses("main by the Sentinels at ")

	p := s.start()
	s.push("book-like-events", "1:1:LIKE")
	s.settled("2")
	require.NoError(t, servers.Master.Kill())
	s.push("book-like-events", "1:1:LIKE")
	s.settled("3")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait())
}

// The nodes of a cluster speak TLS, among themselves, too; the partitions are on different
// ones.
func TestClusterOverTLS(t *testing.T) {
	testenv.Long(t)
	s := newInTLS(t, "cluster", func(opts ...testenv.RedisOption) (admin, daemon string) {
		admin = testenv.NewCluster(t, opts...).URL()
		return admin, strings.Replace(admin, "://", "://aggregator_stream:"+testenv.RedisPassword+"@", 1)
	})
	s.env = append(s.env, "AGGREGATOR_SOURCE_PARTITIONS=4")
	for partition, event := range map[string]string{"0": "4:1:LIKE", "1": "1:1:LIKE", "2": "2:1:LIKE", "3": "3:1:LIKE"} {
		s.push("book-like-events:{"+partition+"}", event)
	}
	r := s.program("drain")
	r.requireDone(t)
	require.Regexp(t, `drained 4 events(?s:.*)applied +4\n`, r.stdout)
	s.refuses("cluster ")
}
