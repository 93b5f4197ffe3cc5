package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"aggregator/config"
	"aggregator/internal/certs"
	"aggregator/internal/verdict"
)

// ErrRedisUnreachable says that Redis cannot be reached, or does not let us in.
var ErrRedisUnreachable = errors.New("Redis is not reachable")

// Redis is a client that connects when it is used, and where to. It is no client itself: what takes a client
// checks which of the kinds it is.
type Redis struct {
	Client redis.UniversalClient
	where  string
}

// Where names the server, without user and password.
func (s *Redis) Where() string { return s.where }

// OpenRedis returns a client with so many connections to each server, whose server has answered
// PING. Its errors, with ErrRedisUnreachable or config.ErrInvalid, name the server and never the
// password. The caller closes the client.
func (i *Instance) OpenRedis(ctx context.Context, conns int) (*Redis, error) {
	server, err := i.NewRedis(conns)
	if err != nil {
		return nil, err
	}
	defer server.CloseAt(ctx)()
	if err := server.Client.Ping(ctx).Err(); err != nil {
		_ = server.Client.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, server.Failed(err)
	}
	return server, nil
}

// CloseAt closes the client when ctx ends, unless the returned function is called before: the client
// waits for an answer until the time-out, whatever becomes of ctx.
func (s *Redis) CloseAt(ctx context.Context) (keep func() bool) {
	return context.AfterFunc(ctx, func() { _ = s.Client.Close() })
}

// NewRedis returns a client for the server, Sentinels or cluster that the settings name, with so many
// connections to each server. Errors have config.ErrInvalid. It sends commands to masters only, whatever
// servers it is led to. Each new connection uses the certificates as their files are at that moment; a change
// of them is logged.
func (i *Instance) NewRedis(conns int) (*Redis, error) {
	cfg := i.config
	secure, err := cfg.RedisTLS()
	if err != nil {
		return nil, err
	}
	url := string(cfg.Redis.URL)
	invalid := func() (*Redis, error) { // not with the client's error: it quotes the URL
		return nil, verdict.Tag(config.ErrInvalid,
			fmt.Errorf("redis.url: not a valid URL for redis.mode = %q", cfg.Redis.Mode))
	}
	disabled := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch cfg.Redis.Mode {
	case config.RedisSentinel:
		o, err := redis.ParseFailoverURL(url)
		if err != nil {
			return invalid()
		}
		redisSettings{
			&o.TLSConfig, &o.MaxRetries, &o.DialerRetries, &o.PoolSize, &o.ContextTimeoutEnabled,
			&o.DisableIdentity, &o.ReadTimeout,
		}.set(secure, conns)
		o.Dialer = tlsDialer(cfg, o.TLSConfig, o.DialTimeout, i.certificates)
		where := fmt.Sprintf("%s by the Sentinels at %s", o.MasterName, strings.Join(o.SentinelAddrs, ","))
		return &Redis{redis.NewFailoverClient(o), where}, nil
	case config.RedisCluster:
		o, err := redis.ParseClusterURL(url)
		if err != nil {
			return invalid()
		}
		redisSettings{
			&o.TLSConfig, &o.MaxRetries, &o.DialerRetries, &o.PoolSize, &o.ContextTimeoutEnabled,
			&o.DisableIdentity, &o.ReadTimeout,
		}.set(secure, conns)
		o.Dialer = tlsDialer(cfg, o.TLSConfig, o.DialTimeout, i.certificates)
		o.MaintNotificationsConfig = disabled
		// The client follows MOVED and ASK, for which the server has refused the command. By the same counter
		// it also repeats, up to three times, what got no answer. That is sound, because all that we send may
		// be run twice, and late: reads are by position, trimming and raising only go forward to a final place,
		// and moving from a list takes what is there. (The fault suite loses the answer to each of them.)
		o.MaxRedirects = 3
		// Each of our commands names its key, and must not need the right to ask what keys are.
		o.DisableRoutingPolicies = true
		// The client is not told which server has taken over from a master that is dead.
		o.ClusterStateReloadInterval = 2 * time.Second
		return &Redis{redis.NewClusterClient(o), "cluster " + strings.Join(o.Addrs, ",")}, nil
	}
	o, err := redis.ParseURL(url)
	if err != nil {
		return invalid()
	}
	if secure != nil && secure.ServerName == "" {
		secure.ServerName = o.TLSConfig.ServerName
	}
	redisSettings{
		&o.TLSConfig, &o.MaxRetries, &o.DialerRetries, &o.PoolSize, &o.ContextTimeoutEnabled, &o.DisableIdentity,
		&o.ReadTimeout,
	}.set(secure, conns)
	o.Dialer = tlsDialer(cfg, o.TLSConfig, o.DialTimeout, i.certificates)
	o.MaintNotificationsConfig = disabled
	where := o.Addr
	if o.DB != 0 {
		where = fmt.Sprintf("%s/%d", where, o.DB)
	}
	return &Redis{redis.NewClient(o), where}, nil
}

// redisSettings are those that all three kinds of client have.
type redisSettings struct {
	tls                         **tls.Config
	retries, dialRetries, conns *int
	contextTimeout, noIdentity  *bool
	readTimeout                 *time.Duration
}

func (s redisSettings) set(secure *tls.Config, conns int) {
	if secure != nil {
		secure.InsecureSkipVerify = (*s.tls).InsecureSkipVerify // skip_verify=true in the URL
		*s.tls = secure
	}
	// After a lost reply it is not known whether the server ran the command. If the client sent it again, a
	// command that moves or trims would be run twice; we repeat only what we may.
	*s.retries = -1
	*s.dialRetries = 1
	*s.contextTimeout = true
	// These are commands that old servers and narrow access lists do not know.
	*s.noIdentity = true
	*s.conns = conns
	if *s.readTimeout == 0 {
		*s.readTimeout = 10 * time.Second // a chunk is some megabytes
	}
}

// Failed is the error, with ErrRedisUnreachable, of a server that did not do what it must.
func (s *Redis) Failed(err error) error {
	var answer redis.Error
	reason, ours := certificateRefused(err)
	switch {
	case errors.Is(err, redis.Nil): // a Sentinel's answer
		err = fmt.Errorf("Redis %s: they know no server of this name", s.where)
	case errors.As(err, &answer) && !strings.HasPrefix(answer.Error(), "LOADING"):
		err = verdict.Tag(err, fmt.Errorf(
			"Redis at %s refused the connection: %s; see redis.url and redis.mode", s.where,
			strings.TrimSuffix(answer.Error(), ".")))
	case ours:
		err = verdict.Tag(err, fmt.Errorf(
			"Redis at %s refused the client certificate: %s; see redis.tls_cert_file", s.where, reason))
	case s.isPostgres(err):
		return verdict.Tag(config.ErrInvalid,
			fmt.Errorf("the server at %s answers, but does not speak Redis: it is a PostgreSQL; "+
				"have redis.url and postgres.url been swapped?", s.where))
	default:
		err = verdict.Tag(err, fmt.Errorf("Redis at %s is not reachable: %s", s.where, networkReason(err)))
	}
	return verdict.Tag(ErrRedisUnreachable, err)
}

// networkReason leaves out what the message that it goes into has said.
func networkReason(err error) string {
	var errno syscall.Errno
	var dnsErr *net.DNSError
	var certErr *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certErr):
		return certs.Untrusted(certErr)
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &dnsErr):
		return dnsErr.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
