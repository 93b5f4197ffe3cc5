package postgres

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// otherTimeout is how long a server may take to say what it is.
const otherTimeout = time.Second

// IsPostgres says whether a PostgreSQL answers at an address, for those who expected another server
// there. It asks whether the server does TLS, to which PostgreSQL alone answers with one letter. It
// says false also of a server that does not answer within a second, or when ctx ends.
func IsPostgres(ctx context.Context, network, address string) bool {
	const code = 1234<<16 | 5679 // SSLRequest, in the documentation of the protocol
	question := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), code)
	answer := ask(ctx, network, address, question)
	return answer == "S" || answer == "N"
}

// isRedis says whether a Redis answers at an address: also one that wants a password first.
func isRedis(ctx context.Context, network, address string) bool {
	answer := ask(ctx, network, address, []byte("PING\r\n"))
	for _, known := range []string{"+PONG", "-NOAUTH", "-NOPERM", "-DENIED", "-LOADING", "-MISCONF", "-MASTERDOWN"} {
		if strings.HasPrefix(answer, known) {
			return true
		}
	}
	return false
}

// ask returns the first that a server says to a question, or nothing.
func ask(ctx context.Context, network, address string, question []byte) string {
	ctx, cancel := context.WithTimeout(ctx, otherTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return ""
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := conn.Write(question); err != nil {
		return ""
	}
	answers := bufio.NewReader(conn)
	if _, err := answers.Peek(1); err != nil {
		return ""
	}
	first, _ := answers.Peek(answers.Buffered())
	return string(first)
}

// connectTo is pgx.ConnectConfig. Where a Redis answers in place of a PostgreSQL its error has ErrURL:
// that does not pass by itself. cfg may have more than one host.
func connectTo(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	var said *pgconn.PgError
	if err == nil || ctx.Err() != nil || errors.As(err, &said) || errors.Is(err, syscall.ECONNREFUSED) ||
		!ofRedis(ctx, cfg) {
		return conn, err
	}
	return nil, fmt.Errorf("%w: the server at %s answers, but does not speak PostgreSQL: it is a Redis; have "+
		"postgres.url and redis.url been swapped?",
		ErrURL, describe(cfg))
}

// ofRedis says whether one of the hosts is a Redis.
func ofRedis(ctx context.Context, cfg *pgx.ConnConfig) bool {
	at := func(host string, port uint16) bool {
		if strings.HasPrefix(host, "/") { // the folder of a socket
			return false
		}
		return isRedis(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
	if at(cfg.Host, cfg.Port) {
		return true
	}
	for _, f := range cfg.Fallbacks {
		if (f.Host != cfg.Host || f.Port != cfg.Port) && at(f.Host, f.Port) {
			return true
		}
	}
	return false
}
