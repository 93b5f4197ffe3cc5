// Package verdict judges errors: whether to try again, to halt, or to blame the data of one child
// profile. It is the only place that reads SQLSTATEs and the replies of Redis for that.
package verdict

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"aggregator/internal/deadletter"
	"aggregator/internal/events"
	"aggregator/internal/postgres"
)

// Verdict says what is to be done about an error.
type Verdict int

const (
	// Retry: the infrastructure failed. Start again from the checkpoint, without end.
	Retry Verdict = iota
	// Halt: a misconfiguration (schema, permission, entries that are no events). Only a person can help.
	Halt
	// Moved: a profile's mark was at another position. Read it and fold the profile again.
	Moved
	// Gone: a profile does not exist any more.
	Gone
	// Incomplete: a score of a profile has no row yet.
	Incomplete
	// Data: PostgreSQL refuses the data of one profile. Where no profile is concerned, Halt.
	Data
	// Settled: another transaction has settled a dead letter.
	Settled
)

// The SQLSTATEs with which the functions of migration 11 refuse a transaction. Their DETAIL
// is the child profile.
const (
	MarkMoved   = "LG001" // another transaction has moved it since it was read, or PostgreSQL lost it
	ProfileGone = "LG002" // it was deleted after we had looked for it
	RowMissing  = "LG004" // not every score could be added
)

// Misconfigured is in errors that tell of a misconfiguration.
type Misconfigured interface {
	error
	Misconfigured()
}

// Misconfiguration is what is wrong with a deployment, the same for all events.
type Misconfiguration struct{ What string }

func (e *Misconfiguration) Error() string { return "misconfiguration: " + e.What }

// Misconfigured marks it for Of.
func (e *Misconfiguration) Misconfigured() {}

// ErrType says that a column is not of the type that we write.
var ErrType = errors.New("PostgreSQL expects another type")

// Of judges an error: those of PostgreSQL by SQLSTATE, those of Redis by their text. An error that it does
// not know is worth another try.
func Of(err error) Verdict {
	var pg *pgconn.PgError
	var wrong Misconfigured
	var unreadable pgx.ScanArgError
	var reply redis.Error
	switch {
	case errors.As(err, &wrong), errors.Is(err, postgres.ErrIndex), errors.Is(err, postgres.ErrSchema):
		return Halt
	case errors.As(err, &pg):
		return classifyPostgres(pg)
	case errors.As(err, &unreadable), errors.Is(err, ErrType): // a column of another type than it should be
		return Halt
	case errors.As(err, &reply) && !errors.Is(err, context.DeadlineExceeded):
		if halts, _ := haltsRedis(reply.Error()); halts {
			return Halt
		}
	}
	return Retry
}

// Advice is what a person may do about an error that halts, for the end of a line; empty if the error
// says so itself.
func Advice(err error) string {
	var wrong Misconfigured
	var reply redis.Error
	switch {
	case errors.As(err, &wrong), errors.Is(err, postgres.ErrSchema):
		return ""
	case errors.As(err, &reply):
		if _, what := haltsRedis(reply.Error()); what != "" {
			return "; " + what
		}
	}
	return "; aggregator doctor says what is missing: fix it and start again"
}

// Blame says in a few words which server failed, for the beginning of a line about an error that is
// retried; empty if neither did, or that is not known.
func Blame(err error) string {
	var pg *pgconn.PgError
	var reply redis.Error
	var connecting *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.Is(err, events.ErrRedis) && errors.As(err, &reply):
		return "Redis refused a command"
	case errors.Is(err, events.ErrRedis):
		return "Redis does not answer"
	case errors.As(err, &pg) && strings.HasPrefix(pg.Code, "57P"): // admin_shutdown, crash_shutdown, cannot_connect_now
		return "PostgreSQL is stopping or starting"
	case errors.As(err, &pg) && !Ours(pg):
		return "PostgreSQL refused a statement"
	case errors.As(err, &connecting), errors.As(err, &network), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF),
		pgconn.SafeToRetry(err), pgconn.Timeout(err):
		return "PostgreSQL does not answer"
	}
	return ""
}

// Ours says whether a function of ours has refused.
func Ours(e *pgconn.PgError) bool { return strings.HasPrefix(e.Code, "LG") }

func classifyPostgres(e *pgconn.PgError) Verdict {
	switch e.Code {
	case MarkMoved:
		return Moved
	case ProfileGone:
		return Gone
	case RowMissing:
		return Incomplete
	case deadletter.AlreadySettled:
		return Settled
	case "55000": // object not in prerequisite state, as of an UPDATE that a publication cannot send on
		return Halt
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "0A": // feature not supported
		if e.Routine == "RevalidateCachedQuery" { // a table has changed under a statement that is prepared
			return Retry
		}
		return Halt
	case "42", // syntax error or access rule violation: schema or permission
		"3F", // invalid schema name
		"3D", // invalid catalog name
		"28": // invalid authorization
		return Halt
	case "21", // cardinality violation: a query that should find one row finds more
		"22", // data exception
		"23", // integrity constraint violation
		"27", // triggered data change violation
		"2F", // SQL routine exception
		"38", // external routine exception
		"39", // external routine invocation exception
		"44", // WITH CHECK OPTION violation
		"54", // program limit exceeded, as by a value too long for an index
		"P0": // raised by a trigger of the application's
		return Data
	}
	return Retry
}
