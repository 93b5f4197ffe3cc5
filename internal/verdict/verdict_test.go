package verdict

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"

	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

func TestOf(t *testing.T) {
	states := map[Verdict][]string{
		Retry: {
			"08000", "08003", "08006", "08P01", "25006", "25P02", "40001", "40P01", "40003", "53000", "53100", "53200", "53300",
			"55P03", "55006", "57014", "57P01", "57P02", "57P03", "57P05", "58000", "58030", "XX000", "XX001", "26000", "",
		},
		Halt: {
			"0A000", "42P01", "42703", "42501", "42883", "42P10", "3F000", "3D000", "28P01", "28000", "55000",
		},
		Data: {
			"21000", "22003", "22P02", "22021", "23505", "23503", "23514", "23502", "27000", "2F005", "38000", "39000", "44000",
			"54000", "P0001",
		},
		Moved: {"LG001"},
		Gone:  {"LG002"},

		Settled:    {"LG003"},
		Incomplete: {"LG004"},
	}
	for want, codes := range states {
		for _, code := range codes {
			t.Run("SQLSTATE "+code, func(t *testing.T) {
				assert.Equal(t, want, Of(fmt.Errorf("applying: %w", &pgconn.PgError{Code: code})))
			})
		}
	}
	changed := &pgconn.PgError{Code: "0A000", Routine: "RevalidateCachedQuery"}
	assert.Equal(t, Retry, Of(fmt.Errorf("applying: %w", changed)), "a table has changed under a prepared statement")
	for _, err := range []error{
		postgres.ErrIndex, postgres.ErrSchema, ErrType, &Misconfiguration{What: "wrong"},
		pgx.ScanArgError{Err: errors.New("cannot scan NULL")},
	} {
		assert.Equal(t, Halt, Of(fmt.Errorf("doing: %w", err)))
	}
	replies := map[Verdict][]string{
		Retry: {
			"LOADING Redis is loading the dataset in memory", "OOM command not allowed when used memory > 'maxmemory'.",
			"BUSY Redis is busy running a script",
			"READONLY You can't write against a read only replica.", "MASTERDOWN Link with MASTER is down",
			"CLUSTERDOWN The cluster is down",
			"MISCONF Redis is configured to save RDB snapshots", "TRYAGAIN Multiple keys request",
			"ERR max number of clients reached", "NOREPLICAS Not enough good replicas to write.",
		},
		Halt: {
			"WRONGTYPE Operation against a key holding the wrong kind of value", "NOAUTH Authentication required.",
			"NOPERM this user has no permissions", "WRONGPASS invalid username-password pair",
		},
	}
	for want, messages := range replies {
		for _, message := range messages {
			t.Run(message, func(t *testing.T) {
				assert.Equal(t, want, Of(fmt.Errorf("reading: %w", reply(message))))
			})
		}
	}
	for _, err := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.DeadlineExceeded, redis.ErrClosed, redis.ErrPoolTimeout,
		&net.OpError{Op: "dial", Err: errors.New("connection refused")}, errors.New("something else"),
		// A certificate of ours has expired, or that of its authority.
		&net.OpError{Op: "remote error", Err: tls.AlertError(45)},
	} {
		t.Run(err.Error(), func(t *testing.T) { assert.Equal(t, Retry, Of(fmt.Errorf("doing: %w", err))) })
	}
}

// Advice is for what a person can do something about: an error that says so itself needs none.
func TestAdvice(t *testing.T) {
	const doctor = "; aggregator doctor says what is missing: fix it and start again"
	for _, c := range []struct {
		err  error
		want string
	}{
		{&Misconfiguration{What: "wrong"}, ""},
		{postgres.ErrSchema, ""},
		{postgres.ErrIndex, doctor},
		{&pgconn.PgError{Code: "42501"}, doctor},
		{ErrType, doctor},
		{reply("NOAUTH Authentication required."), "; redis.url needs a user and a password"},
		{reply("LOADING Redis is loading the dataset in memory"), doctor},
	} {
		assert.Equal(t, c.want, Advice(fmt.Errorf("doing: %w", c.err)), c.err.Error())
	}
}

// What is known for certain comes first: a misconfiguration, whatever it wraps; PostgreSQL before Redis; and a time
// that is over says nothing of the server.
func TestOfSeveralErrors(t *testing.T) {
	data, wrong := &pgconn.PgError{Code: "23514"}, &Misconfiguration{What: "wrong"}
	halting := reply("NOAUTH Authentication required.")
	for _, c := range []struct {
		errs []error
		want Verdict
	}{
		{[]error{data, wrong}, Halt},
		{[]error{io.EOF, data}, Data},
		{[]error{halting, data}, Data},
		{[]error{&pgconn.PgError{Code: "40001"}, ErrType}, Retry},
		{[]error{io.EOF, ErrType}, Halt},
		{[]error{halting, io.EOF}, Halt},
		{[]error{halting, context.DeadlineExceeded}, Retry},
		{[]error{context.Canceled}, Retry},
		{nil, Retry},
	} {
		assert.Equal(t, c.want, Of(errors.Join(c.errs...)), "%v", c.errs)
	}
}

// Only the refusals of our own functions name a profile.
func TestOurs(t *testing.T) {
	for code, want := range map[string]bool{
		MarkMoved: true, ProfileGone: true, RowMissing: true, "LG003": true,
		"P0001": false, "23514": false, "L": false, "": false,
	} {
		assert.Equal(t, want, Ours(&pgconn.PgError{Code: code}), code)
	}
}

func TestBlame(t *testing.T) {
	fromRedis := func(err error) error { return fmt.Errorf("reading: %w", errors.Join(events.ErrRedis, err)) }
	for want, all := range map[string][]error{
		"Redis does not answer": {
			fromRedis(io.EOF), fromRedis(&net.OpError{Op: "dial", Err: errors.New("refused")}),
			fromRedis(context.DeadlineExceeded),
		},
		"Redis refused a command": {fromRedis(reply("LOADING Redis is loading the dataset in memory"))},
		"PostgreSQL does not answer": {
			&net.OpError{Op: "read", Err: errors.New("reset")}, fmt.Errorf("applying: %w", io.ErrUnexpectedEOF),
			&pgconn.ConnectError{},
		},
		"PostgreSQL is stopping or starting": {
			&pgconn.PgError{Code: "57P01"}, fmt.Errorf("applying: %w", &pgconn.PgError{Code: "57P03"}),
		},
		"PostgreSQL refused a statement": {&pgconn.PgError{Code: "55P03"}},
		"":                               {errors.New("anything"), &pgconn.PgError{Code: MarkMoved}},
	} {
		for _, err := range all {
			assert.Equal(t, want, Blame(err), "%#v", err)
		}
	}
}
