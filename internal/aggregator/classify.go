package aggregator

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"aggregator/internal/history"
	"aggregator/internal/ledger"
	"aggregator/internal/postgres"
	"aggregator/internal/scores"
)

// Verdict says what is to be done about an error.
type Verdict int

const (
	// Retry: the infrastructure failed. Start again from the checkpoint, for ever.
	Retry Verdict = iota
	// Halt: the deployment is wrong (schema, permission, events that are none). Nothing helps but a person.
	Halt
	// Moved: a profile's mark was elsewhere. Read it and fold the profile anew.
	Moved
	// Gone: a profile does not exist any more.
	Gone
	// Incomplete: a score of a profile has no row yet.
	Incomplete
	// Data: PostgreSQL refuses the data of one profile.
	Data
	// Settled: somebody else has settled a dead letter.
	Settled
)

// Classify is the one place that judges errors: those of PostgreSQL by SQLSTATE, those
// of Redis by their first word. What it does not know is worth another try.
func Classify(err error) Verdict {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return classifySQLState(pg.Code)
	}
	var tripped *tooManyDead
	if errors.As(err, &tripped) || errors.Is(err, postgres.ErrIndex) {
		return Halt
	}
	var reply redis.Error
	if errors.As(err, &reply) && !errors.Is(err, context.DeadlineExceeded) {
		return classifyReply(reply.Error())
	}
	return Retry
}

// advice is what a person may do about an error that halts, for the end of a line; empty if
// the error says so itself.
func advice(err error) string {
	var tripped *tooManyDead
	if errors.As(err, &tripped) {
		return ""
	}
	return "; aggregator doctor says what is missing: mend it and start again"
}

func classifySQLState(code string) Verdict {
	switch code {
	case ledger.MarkMoved:
		return Moved
	case history.ProfileGone:
		return Gone
	case scores.RowMissing:
		return Incomplete
	case ledger.LetterSettled:
		return Settled
	}
	switch code[:min(2, len(code))] {
	case "42", // syntax error or access rule violation: schema or permission
		"3F", // invalid schema name
		"3D", // invalid catalog name
		"28": // invalid authorization
		return Halt
	case "22", // data exception
		"23", // integrity constraint violation
		"44", // WITH CHECK OPTION violation
		"P0": // raised by a trigger of the application's
		return Data
	}
	return Retry
}

func classifyReply(message string) Verdict {
	word, _, _ := strings.Cut(message, " ")
	switch word {
	case "WRONGTYPE", "NOPERM", "NOAUTH", "WRONGPASS":
		return Halt
	}
	return Retry
}
