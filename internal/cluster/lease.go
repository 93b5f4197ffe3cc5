package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/postgres"
)

// Lease says which instance works on a source, or does a job.
type Lease struct {
	Source   string
	Holder   string
	Acquired time.Time
	Expires  time.Time
}

// Longest is the longest time for which a lease can be taken, and Shortest the shortest that a setting should ask for.
// Each instance has a turn within every third of it, or tries to: with a millisecond a single one kept PostgreSQL so
// busy with connections that others were not answered in time.
const (
	Longest  = time.Hour
	Shortest = time.Second
)

// latest is how far from now a lease can end. A lease that ends later was taken when the clock was ahead: it
// is not known whether its time is over.
const latest = Longest + postgres.ClockSlack

// Held says whether the lease was its holder's at that moment, by PostgreSQL's clock. A lease that ends later
// than any can is free.
func (l Lease) Held(now time.Time) bool { return lives(l.Expires, now) }

func lives(expires, now time.Time) bool { return expires.After(now) && !expires.After(now.Add(latest)) }

// Acquire takes the lease of a source for the holder, or renews it, until ttl from now, which may be up to
// Longest. It returns who holds it afterwards: the caller, or another holder; see Lease.Held. Safe to repeat,
// also after a lost reply.
func Acquire(ctx context.Context, pool *pgxpool.Pool, source, holder string, ttl time.Duration) (Lease, error) {
	rows, err := pool.Query(ctx, `
WITH taken AS (
    INSERT INTO aggregator.lease AS l (source, holder, acquired_at, expires_at)
    VALUES ($1, $2, now(), now() + $3::interval)
    ON CONFLICT (source) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at,
        acquired_at = CASE WHEN l.holder = excluded.holder THEN l.acquired_at ELSE excluded.acquired_at END
    WHERE l.holder = excluded.holder OR l.expires_at <= now() OR l.expires_at > now() + $4::interval
    RETURNING source, holder, acquired_at, expires_at
)
SELECT * FROM taken
UNION ALL
SELECT source, holder, acquired_at, expires_at FROM aggregator.lease
WHERE source = $1 AND NOT EXISTS (SELECT FROM taken)`, source, holder, ttl, latest)
	if err != nil {
		return Lease{}, fmt.Errorf("acquiring the lease of %s: %w", source, err)
	}
	lease, err := pgx.CollectOneRow(rows, pgx.RowToStructByPos[Lease])
	if err != nil {
		return Lease{}, fmt.Errorf("acquiring the lease of %s: %w", source, err)
	}
	return lease, nil
}

// Release gives the lease up if the holder has it. Safe to repeat.
func Release(ctx context.Context, pool *pgxpool.Pool, source, holder string) error {
	_, err := pool.Exec(ctx, `DELETE FROM aggregator.lease WHERE source = $1 AND holder = $2`, source, holder)
	if err != nil {
		return fmt.Errorf("releasing the lease of %s: %w", source, err)
	}
	return nil
}

// Leases returns all leases, by name, also those whose time is over.
func Leases(ctx context.Context, pool *pgxpool.Pool) ([]Lease, error) {
	rows, err := pool.Query(ctx, `SELECT source, holder, acquired_at, expires_at FROM aggregator.lease ORDER BY source`)
	if err != nil {
		return nil, fmt.Errorf("reading leases: %w", err)
	}
	leases, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Lease])
	if err != nil {
		return nil, fmt.Errorf("reading leases: %w", err)
	}
	return leases, nil
}
