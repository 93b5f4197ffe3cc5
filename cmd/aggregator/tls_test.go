package main

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/config"
	"aggregator/internal/postgres"
	"aggregator/internal/service"
	"aggregator/internal/testenv"
)

// secured is a Redis and a PostgreSQL that speak TLS only, with certificates of one
// authority, and ask for passwords.
type secured struct {
	authority          *testenv.Authority
	redisURL, database string // of the daemon, with its passwords
	admin              *pgx.Conn
	redis              redis.UniversalClient // of the administrator
}

func newSecured(t *testing.T, cert func(*testenv.Authority) testenv.Certificate) *secured {
	t.Helper()
	s := &secured{authority: testenv.NewAuthority(t, "the right one")}
	issued := cert(s.authority)
	redisServer := testenv.NewRedis(t, testenv.RedisTLS(s.authority, issued), testenv.Users("book-like-events"))
	s.redisURL = withUser(t, redisServer.URL(), "aggregator_stream", testenv.RedisPassword)
	cfg := config.Default()
	cfg.Redis.URL = config.URL(redisServer.URL() + "?skip_verify=true")
	cfg.Redis.TLSCertFile, cfg.Redis.TLSKeyFile = s.clientFiles(t)
	to, err := service.New(cfg, slog.New(slog.DiscardHandler), "").NewRedis(1)
	require.NoError(t, err)
	s.redis = to.Client
	t.Cleanup(func() { _ = s.redis.Close() })

	server := testenv.NewPostgres(t, testenv.PostgresTLS(s.authority, issued))

	admin, err := server.CreateDatabase(t.Context(), "app", "")
	require.NoError(t, err)
	require.NoError(t, postgres.Migrate(t.Context(), postgres.Options{URL: admin}))
	require.NoError(t, testenv.Grant(t.Context(), admin))
	s.admin, err = pgx.Connect(t.Context(), admin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.admin.Close(context.WithoutCancel(t.Context())) })
	_, err = s.admin.PgConn().Exec(t.Context(), `ALTER ROLE aggregator_daemon PASSWORD 'hunter2';
		INSERT INTO child_profile (id, name) VALUES (1, 'Bori'); INSERT INTO book (id, title) VALUES (1, 'b')`).ReadAll()
	require.NoError(t, err)
	s.database = strings.Replace(admin, "postgres@", "aggregator_daemon:hunter2@", 1)
	return s
}

// clientFiles are a certificate that Redis trusts, and its key.
func (s *secured) clientFiles(t *testing.T) (cert, key string) {
	t.Helper()
	return s.authority.Issue("aggregator", time.Now().Add(time.Hour)).Files(t)
}

func withUser(t *testing.T, text, user, password string) string {
	t.Helper()
	u, err := url.Parse(text)
	require.NoError(t, err)
	u.User = url.UserPassword(user, password)
	return u.String()
}

func (s *secured) trusting(ca string) string {
	return strings.Replace(s.database, "sslmode=require", "sslmode=verify-full&sslrootcert="+url.QueryEscape(ca), 1)
}

func valid(a *testenv.Authority) testenv.Certificate {
	return a.Issue("server", time.Now().Add(time.Hour))
}

func expired(a *testenv.Authority) testenv.Certificate {
	return a.Issue("server", time.Now().Add(-time.Minute))
}

func TestDrainOverTLS(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	s := newSecured(t, valid)
	ca := s.authority.File()
	cert, key := s.clientFiles(t)
	env := func(more ...string) []string {
		return append([]string{
			"AGGREGATOR_REDIS_URL=" + s.redisURL, "AGGREGATOR_REDIS_TLS_CA_FILE=" + ca,
			"AGGREGATOR_POSTGRES_URL=" + s.trusting(ca),
			"AGGREGATOR_REDIS_TLS_CERT_FILE=" + cert, "AGGREGATOR_REDIS_TLS_KEY_FILE=" + key,
		}, more...)
	}
	push(t, s, "1:1:LIKE")
	r := program(t, env(), "drain")
	r.requireDone(t)
	require.Regexp(t, `drained 1 event(?s:.*)applied +1\n`, r.stdout)

	redisAt, postgresAt := address(t, s.redisURL), address(t, s.database)
	other := testenv.NewAuthority(t, "the wrong one")
	foreignCert, foreignKey := other.Issue("aggregator", time.Now().Add(time.Hour)).Files(t)
	oldCert, oldKey := expired(s.authority).Files(t)
	for name, tc := range map[string]struct {
		env  []string
		want string
	}{
		"Redis, wrong authority": {
			env("AGGREGATOR_REDIS_TLS_CA_FILE=" + other.File()),
			"Redis at " + redisAt + " is not reachable: its certificate is not trusted: x509: certificate signed by unknown " +
				"authority",
		},
		"Redis, the system's authorities": {
			env("AGGREGATOR_REDIS_TLS_CA_FILE="),
			"Redis at " + redisAt + " is not reachable: its certificate is not trusted: x509: certificate signed by unknown " +
				"authority",
		},
		"Redis, another name": {
			env("AGGREGATOR_REDIS_TLS_SERVER_NAME=elsewhere"),
			"Redis at " + redisAt + " is not reachable: its certificate is not trusted: x509: certificate is valid for " +
				"server, not elsewhere",
		},
		"Redis, certificate of ours missing": {
			env("AGGREGATOR_REDIS_TLS_CERT_FILE=", "AGGREGATOR_REDIS_TLS_KEY_FILE="),
			"Redis at " + redisAt + " refused the client certificate: tls: certificate required; see redis.tls_cert_file",
		},
		"Redis, certificate of ours not trusted": {
			env("AGGREGATOR_REDIS_TLS_CERT_FILE="+foreignCert, "AGGREGATOR_REDIS_TLS_KEY_FILE="+foreignKey),
			"Redis at " + redisAt + " refused the client certificate: tls: unknown certificate authority; see " +
				"redis.tls_cert_file",
		},
		"Redis, plain": {
			env("AGGREGATOR_REDIS_URL="+strings.Replace(s.redisURL, "rediss://", "redis://", 1), "AGGREGATOR_REDIS_TLS_CA_FILE=",
				"AGGREGATOR_REDIS_TLS_CERT_FILE=", "AGGREGATOR_REDIS_TLS_KEY_FILE="),
			"Redis at " + redisAt + " is not reachable: ",
		},
		"PostgreSQL, wrong authority": {
			env("AGGREGATOR_POSTGRES_URL=" + s.trusting(other.File())),
			"PostgreSQL at " + postgresAt +
				"/app is not reachable: its certificate is not trusted: x509: certificate signed by unknown authority",
		},
		"PostgreSQL, another name": {
			env("AGGREGATOR_POSTGRES_URL=" + strings.Replace(s.trusting(ca), "127.0.0.1", "localhost", 1)),
			"is not reachable: its certificate is not trusted: x509: certificate is valid for server, not localhost",
		},
		"PostgreSQL, certificate of ours expired": {
			env("AGGREGATOR_POSTGRES_URL=" + s.trusting(ca) + "&sslcert=" + url.QueryEscape(oldCert) + "&sslkey=" +
				url.QueryEscape(oldKey)),
			"PostgreSQL at " + postgresAt + "/app is not reachable: remote error: tls: expired certificate",
		},
		"PostgreSQL, plain": {
			env("AGGREGATOR_POSTGRES_URL=" + strings.Replace(s.database, "sslmode=require", "sslmode=disable", 1)),
			"PostgreSQL at " + postgresAt + "/app refused the connection: no pg_hba.conf entry",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(tc.want, "certificate") || strings.Contains(tc.want, "refused") {
				requireRefusal(t, tc.env, tc.want)
				return
			}
			r := program(t, tc.env, "drain")
			r.requireFailure(t, exitUnreachable, tc.want)
			require.NotContains(t, r.stderr, testenv.RedisPassword)
		})
	}
}

// requireRefusal drains with wrong settings of TLS: one line, and not to be tried again. A server
// that refuses our certificate closes the connection on what we have said meanwhile, and the
// reset may overtake the reason: then it is tried again here, as systemd would.
func requireRefusal(t *testing.T, env []string, want string) result {
	t.Helper()
	r := program(t, env, "drain")
	for range 20 {
		if r.code != exitUnreachable {
			break
		}
		r = program(t, env, "drain")
	}
	r.requireFailure(t, exitConfig, want)
	require.NotContains(t, r.stderr, testenv.RedisPassword)
	return r
}

func TestExpiredCertificates(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	s := newSecured(t, expired)
	ca := s.authority.File()
	cert, key := s.clientFiles(t)
	own := []string{
		"AGGREGATOR_REDIS_URL=" + s.redisURL, "AGGREGATOR_REDIS_TLS_CA_FILE=" + ca,
		"AGGREGATOR_REDIS_TLS_CERT_FILE=" + cert, "AGGREGATOR_REDIS_TLS_KEY_FILE=" + key,
	}
	const want = " is not reachable: its certificate is not trusted: x509: certificate has expired or is not yet valid"
	program(t, append(own, "AGGREGATOR_POSTGRES_URL="+s.trusting(ca)), "drain").
		requireFailure(t, exitConfig, "PostgreSQL at "+address(t, s.database)+"/app"+want)
	// Without a look at PostgreSQL's certificate the turn is Redis'.
	program(t, append(own, "AGGREGATOR_POSTGRES_URL="+s.database), "drain").
		requireFailure(t, exitConfig, "Redis at "+address(t, s.redisURL)+want)
}

func address(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	require.NoError(t, err)
	return u.Host
}

func push(t *testing.T, s *secured, events ...string) {
	t.Helper()
	for _, event := range events {
		require.NoError(t, s.redis.XAdd(
			t.Context(), &redis.XAddArgs{Stream: "book-like-events", Values: []any{"event", event}}).Err())
	}
}

// What the URL leaves out, or no URL at all, is as with every program of PostgreSQL's:
// variables, a service file, a password file, certificates.
func TestLibpqVariables(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	s := newSecured(t, valid)
	at, err := url.Parse(s.database)
	require.NoError(t, err)
	cert, key := s.clientFiles(t)
	redis := []string{
		"AGGREGATOR_REDIS_URL=" + s.redisURL, "AGGREGATOR_REDIS_TLS_CA_FILE=" + s.authority.File(),
		"AGGREGATOR_REDIS_TLS_CERT_FILE=" + cert, "AGGREGATOR_REDIS_TLS_KEY_FILE=" + key,
	}
	dir := t.TempDir()
	passwords, services := filepath.Join(dir, "pgpass"), filepath.Join(dir, "pg_service.conf")
	require.NoError(t, os.WriteFile(passwords, []byte(at.Host+":app:aggregator_daemon:hunter2\n"), 0o600))
	require.NoError(t, os.WriteFile(services, []byte("[books]\nhost="+at.Hostname()+"\nport="+at.Port()+
		"\ndbname=app\nuser=aggregator_daemon\nsslmode=verify-full\n"), 0o600))
	variables := []string{
		"PGHOST=" + at.Hostname(), "PGPORT=" + at.Port(), "PGDATABASE=app", "PGUSER=aggregator_daemon",
		"PGSSLROOTCERT=" + s.authority.File(),
	}
	for name, env := range map[string][]string{
		"variables":       append(variables[:5:5], "PGSSLMODE=verify-full", "PGPASSWORD=hunter2"),
		"a password file": append(variables[:5:5], "PGSSLMODE=verify-full", "PGPASSFILE="+passwords),
		"a service": {
			"PGSERVICEFILE=" + services, "PGSERVICE=books", "PGPASSFILE=" + passwords, "PGSSLROOTCERT=" + s.authority.File(),
		},
		"a service by keyword": {
			"AGGREGATOR_POSTGRES_URL=service=books", "PGSERVICEFILE=" + services, "PGPASSWORD=hunter2",
			"PGSSLROOTCERT=" + s.authority.File(),
		},
		"a URL without a user": {
			"AGGREGATOR_POSTGRES_URL=postgres://" + at.Host + "/app?sslmode=require", "PGUSER=aggregator_daemon",
			"PGPASSWORD=hunter2",
		},
		"keywords and a passwd": {
			"AGGREGATOR_POSTGRES_URL=host=" + at.Hostname() + " port=" + at.Port() +
				" dbname=app user=aggregator_daemon sslmode=require passfile=" + passwords,
		},
	} {
		t.Run(name, func(t *testing.T) {
			program(t, append(redis[:4:4], env...), "drain").requireDone(t)
		})
	}
	program(t, append(redis[:4:4], append(variables, "PGSSLMODE=disable", "PGPASSWORD=hunter2")...), "drain").
		requireFailure(t, exitConfig, "PostgreSQL at "+at.Host+"/app refused the connection: no pg_hba.conf entry")
	program(t, append(redis[:4:4], "PGSERVICEFILE="+services, "PGSERVICE=other"), "drain").
		requireFailure(t, exitConfig, "not a valid PostgreSQL URL")
}
