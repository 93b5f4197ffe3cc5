package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/cluster"
	"aggregator/internal/postgres"
)

// future looks for rows of ours with times that have not come yet: those of a clock that was
// ahead, unless the one of now is behind. Nothing waits for these times, but ages and lists are
// wrong until they have come: a lease that ends later than any can is free. One that does not is for the check of
// leases.
func (r *report) future(ctx context.Context, pool *pgxpool.Pool) {
	rows, _ := pool.Query(ctx,
		`SELECT place || ' up to ' || to_char(latest AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') FROM (VALUES
    ('runs', (SELECT max(greatest(due_at, started_at, seen_at)) FROM aggregator.run), $1::interval),
    ('leases', (SELECT max(expires_at) FROM aggregator.lease), $1::interval + $2::interval),
    ('members', (SELECT max(expires_at) FROM aggregator.member), $1::interval + $2::interval),
    ('checkpoints', (SELECT max(updated_at) FROM aggregator.checkpoint), $1::interval),
    ('dead letters', (SELECT max(created_at) FROM aggregator.dead_letter WHERE settled_at IS NULL), $1::interval)
) found (place, latest, slack) WHERE latest > clock_timestamp() + slack`,
		postgres.ClockSlack, cluster.Longest) // its error is also that of the rows
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		r.notSeen("times", err)
	case len(found) > 0:
		r.add("times", Warning, fmt.Sprintf("there are rows with future times: %s", strings.Join(found, ", ")),
			"if the clock is right now, it was fast: nothing waits for these times, but ages are wrong until then; if it is "+
				"slow, set it")
	default:
		r.ok("times", "no row has a time that only a clock that was ahead explains")
	}
}
