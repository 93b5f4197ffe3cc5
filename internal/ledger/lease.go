package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Lease says which instance works on a source. It saves work and nothing more: two
// instances at once, both sure of it, are as exact as one. Times are PostgreSQL's.
type Lease struct {
	Source   string
	Holder   string
	Acquired time.Time
	Expires  time.Time
}

// Acquire takes the lease of a source for the holder, or renews it, until ttl from now.
// It returns who holds it afterwards: the caller, or another whose time is not over.
// Safe to repeat, also after a lost reply.
func Acquire(ctx context.Context, pool *pgxpool.Pool, source, holder string, ttl time.Duration) (Lease, error) {
	rows, err := pool.Query(ctx, `
WITH taken AS (
    INSERT INTO aggregator.lease AS l (source, holder, acquired_at, expires_at)
    VALUES ($1, $2, now(), now() + $3::interval)
    ON CONFLICT (source) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at,
        acquired_at = CASE WHEN l.holder = excluded.holder THEN l.acquired_at ELSE excluded.acquired_at END
    WHERE l.holder = excluded.holder OR l.expires_at <= now()
    RETURNING source, holder, acquired_at, expires_at
)
SELECT * FROM taken
UNION ALL
SELECT source, holder, acquired_at, expires_at FROM aggregator.lease
WHERE source = $1 AND NOT EXISTS (SELECT FROM taken)`, source, holder, ttl)
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

// Leases returns the leases of all sources, by name, also those whose time is over.
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
