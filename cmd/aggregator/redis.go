package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"aggregator/config"
)

// dialRedis returns a client whose server has answered PING. Its errors, with
// errRedisUnreachable, name the server and never the password.
func dialRedis(ctx context.Context, cfg config.Config, conns int) (*redis.Client, error) {
	opts, err := redisOptions(cfg, conns)
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(opts)
	if err := client.Ping(ctx).Err(); err != nil {
		_ = client.Close()
		if errors.Is(err, context.Canceled) {
			return nil, err
		}
		return nil, tag(errRedisUnreachable, redisError(opts, err))
	}
	return client, nil
}

func redisOptions(cfg config.Config, conns int) (*redis.Options, error) {
	opts, err := redis.ParseURL(string(cfg.Redis.URL))
	if err != nil { // not wrapped: it quotes the URL
		return nil, tag(config.ErrInvalid, errors.New("redis.url: not a valid Redis URL"))
	}
	secure, err := cfg.RedisTLS()
	if err != nil {
		return nil, err
	}
	if secure != nil {
		if secure.ServerName == "" {
			secure.ServerName = opts.TLSConfig.ServerName
		}
		secure.InsecureSkipVerify = opts.TLSConfig.InsecureSkipVerify // skip_verify=true in the URL
		opts.TLSConfig = secure
	}
	// After a lost reply nobody knows whether the server ran the command. Sent again by the
	// client, one that moves or trims would be run twice; we repeat only what we may.
	opts.MaxRetries = -1
	opts.DialerRetries = 1
	opts.ContextTimeoutEnabled = true
	// Commands that old servers and narrow access lists do not know.
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	opts.PoolSize = conns
	if opts.ReadTimeout == 0 {
		opts.ReadTimeout = 10 * time.Second // a chunk is some megabytes
	}
	return opts, nil
}

func redisError(opts *redis.Options, err error) error {
	where := opts.Addr
	if opts.DB != 0 {
		where = fmt.Sprintf("%s/%d", where, opts.DB)
	}
	var answer redis.Error
	if errors.As(err, &answer) && !strings.HasPrefix(answer.Error(), "LOADING") {
		return fmt.Errorf("Redis at %s refused the connection: %w", where, answer)
	}
	return tag(err, fmt.Errorf("Redis at %s is not reachable: %s", where, networkReason(err)))
}

// networkReason leaves out what the message around it has said.
func networkReason(err error) string {
	var errno syscall.Errno
	var dnsErr *net.DNSError
	var certErr *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certErr):
		return fmt.Sprintf("its certificate is not trusted: %s", certErr.Err)
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &dnsErr):
		return dnsErr.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// redisLog takes what the client would print on its own. It repeats what it also returns
// as an error.
type redisLog struct{ log *slog.Logger }

func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.DebugContext(ctx, "redis client: "+fmt.Sprintf(format, args...))
}
