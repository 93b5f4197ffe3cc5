package doctor

import (
	"context"
	"errors"

	"aggregator/internal/apply"
	"aggregator/internal/verdict"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// trial does what each event would do, as each attempt of the service does at its beginning, and rolls it back.
func (r *report) trial(ctx context.Context, pool *pgxpool.Pool, journal bool) {
	var profiles bool
	err := pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM child_profile)`).Scan(&profiles)
	if err == nil {
		err = apply.Trial(ctx, pool, "doctor", journal)
	}
	switch {
	case errors.Is(err, apply.ErrBusy):
		r.add("trial", Warning, "what each event writes could not be tried: "+err.Error(),
			"run aggregator doctor again; if it stays so, see the check locks")
	case err != nil && verdict.Of(err) == verdict.Halt:
		r.add("trial", Problem, err.Error(), trialAdvice(err))
	case err != nil:
		r.notSeen("trial", err)
	case !profiles:
		r.add("trial", Unknown, "there is no child profile yet to try with what each event writes", "")
	default:
		r.ok("trial", "PostgreSQL takes what each event writes: it was tried, and rolled back")
	}
}

func trialAdvice(err error) string {
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && refusal.Code == "42501" { // insufficient privilege, or a policy
		return "run config/roles.sql in this database; if a policy is in the way, ALTER TABLE ... DISABLE ROW " +
			"LEVEL SECURITY, or let the role pass it (BYPASSRLS)"
	}
	return "change the table so that it takes what the message names: until then a drain halts, and Redis " +
		"keeps the events"
}
