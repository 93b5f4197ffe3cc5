package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// HeldError says that another instance has a lease, and is alive.
type HeldError struct{ Lease Lease }

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s is held by %s since %s", e.Lease.Source, e.Lease.Holder,
		e.Lease.Acquired.UTC().Format(time.RFC3339))
}

// Alone does something under the lease of a name, which it renews meanwhile and gives up at the end. The
// context that do is given ends with ctx, or when another holder turns out to have the lease.
//
// Whether a holder is alive shows within a third of ttl, when it renews the lease; then the error is a
// *HeldError. The lease of a holder that is gone runs out, within ttl, and is taken. Other errors are
// PostgreSQL's, before do is begun, or that of do.
func Alone(ctx context.Context, pool *pgxpool.Pool, name, holder string, ttl time.Duration,
	do func(context.Context) error,
) error {
	if err := take(ctx, pool, name, holder, ttl); err != nil {
		return err
	}
	holding, lose := context.WithCancel(ctx)
	defer lose()
	// The lease is held until do has returned, which may be after the end of ctx.
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
	_ = Release(releasing, pool, name, holder) // otherwise it runs out by itself
	return err
}

// take waits until the lease is the holder's, or that of another holder that is alive.
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

// renew keeps the lease until ctx ends or another holder has it; then it calls lose. While PostgreSQL does
// not answer it keeps trying.
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
