package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"aggregator/internal/postgres"
)

// Lease says which instance works on a source, or does a job. It saves work and nothing more: two
// instances at once, both sure of it, are as exact as one. Times are PostgreSQL's.
type Lease struct {
	Source   string
	Holder   string
	Acquired time.Time
	Expires  time.Time
}

// Longest is the longest time for which a lease can be taken.
const Longest = time.Hour

// Held says whether the lease was its holder's at that moment, by PostgreSQL's clock. One that
// ends later than any can was taken when that clock was ahead: nobody knows whether its time is
// over, and it is free.
func (l Lease) Held(now time.Time) bool {
	return l.Expires.After(now) && !l.Expires.After(now.Add(Longest+postgres.ClockSlack))
}

// Acquire takes the lease of a source for the holder, or renews it, until ttl from now, which
// may be up to Longest. It returns who holds it afterwards: the caller, or another; see
// Lease.Held. Safe to repeat, also after a lost reply.
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
WHERE source = $1 AND NOT EXISTS (SELECT FROM taken)`, source, holder, ttl, Longest+postgres.ClockSlack)
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

// All returns the leases of all sources, by name, also those whose time is over.
func All(ctx context.Context, pool *pgxpool.Pool) ([]Lease, error) {
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

// HeldError says that a lease is with another, who lives.
type HeldError struct{ Lease Lease }

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s is held by %s since %s", e.Lease.Source, e.Lease.Holder, e.Lease.Acquired.UTC().Format(time.RFC3339))
}

// Alone does something under the lease of a name, which it renews meanwhile and gives up at
// the end. The context that do is given ends with ctx, or when another turns out to have
// the lease.
//
// Whether one who holds it lives shows within a third of ttl, when he renews it; then the
// error is a *HeldError. That of one who is gone runs out, within ttl, and is taken. Other
// errors are PostgreSQL's, before do is begun, or that of do.
func Alone(ctx context.Context, pool *pgxpool.Pool, name, holder string, ttl time.Duration, do func(context.Context) error) error {
	if err := take(ctx, pool, name, holder, ttl); err != nil {
		return err
	}
	holding, lose := context.WithCancel(ctx)
	defer lose()
	// It is held until do has come to its end, which may be after that of ctx.
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		renew(renewing, pool, name, holder, ttl, lose)
	}()
	err := do(holding)
	stop()
	<-renewed
	releasing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = Release(releasing, pool, name, holder) // else it runs out by itself
	return err
}

// take waits until the lease is the holder's, or somebody else's who lives.
func take(ctx context.Context, pool *pgxpool.Pool, name, holder string, ttl time.Duration) error {
	var seen Lease
	for began := time.Now(); ; {
		lease, err := Acquire(ctx, pool, name, holder, ttl)
		switch {
		case errors.Is(err, pgx.ErrNoRows): // its row came or went while we looked
		case err != nil:
			return err
		case lease.Holder == holder:
			return nil
		case seen.Holder == "":
			seen = lease
		case lease.Holder != seen.Holder, !lease.Expires.Equal(seen.Expires), time.Since(began) > ttl:
			return &HeldError{lease}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(ttl / 20):
		}
	}
}

// renew keeps the lease until ctx ends or another has it; then it calls lose. While
// PostgreSQL does not answer it keeps trying.
func renew(ctx context.Context, pool *pgxpool.Pool, name, holder string, ttl time.Duration, lose func()) {
	ticker := time.NewTicker(ttl / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		bounded, cancel := context.WithTimeout(ctx, ttl/3)
		lease, err := Acquire(bounded, pool, name, holder, ttl)
		cancel()
		if err == nil && lease.Holder != holder {
			lose()
			return
		}
	}
}
