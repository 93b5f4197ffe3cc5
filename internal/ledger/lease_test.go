package ledger_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"aggregator/internal/ledger"
)

// A holder that died while PostgreSQL's clock was ahead is in nobody's way when the clock is
// right again; neither a holder that lives, nor one with a longer lease than ours, is robbed.
func TestLeaseOfAWrongClock(t *testing.T) {
	pool := connect(t)
	for _, tc := range []struct {
		ends   string // from PostgreSQL's now
		holder string // who holds it after another has asked for it
	}{
		{"1 day", "other"},
		{"1 year", "other"},
		{"1000 years", "other"},
		{"1 hour 2 minutes", "other"},
		{"1 hour", "dead"},
		{"5 seconds", "dead"},
		{"-1 second", "other"},
		{"-1 year", "other"},
	} {
		exec(t, pool, `DELETE FROM aggregator.lease`)
		exec(t, pool, `INSERT INTO aggregator.lease (source, holder, acquired_at, expires_at)
			SELECT 's', 'dead', now(), now() + $1::interval`, tc.ends)
		leases, err := ledger.Leases(t.Context(), pool)
		require.NoError(t, err)
		require.Equal(t, tc.holder == "dead", leases[0].Held(time.Now()), tc.ends)
		for range 2 { // safe to repeat
			lease, err := ledger.Acquire(t.Context(), pool, "s", "other", 30*time.Second)
			require.NoError(t, err)
			require.Equal(t, tc.holder, lease.Holder, tc.ends)
		}
	}

	// The holder who was taken for dead finds out when it renews, and does not take it back.
	lease, err := ledger.Acquire(t.Context(), pool, "s", "dead", 30*time.Second)
	require.NoError(t, err)
	require.Equal(t, "other", lease.Holder)
	// The longest lease that there is can be renewed, and holds.
	_, err = ledger.Acquire(t.Context(), pool, "s", "other", ledger.LongestLease)
	require.NoError(t, err)
	lease, err = ledger.Acquire(t.Context(), pool, "s", "dead", ledger.LongestLease)
	require.NoError(t, err)
	require.Equal(t, "other", lease.Holder)
}

// So it is with the lease of a job.
func TestAloneAfterAWrongClock(t *testing.T) {
	pool := connect(t)
	exec(t, pool, `INSERT INTO aggregator.lease (source, holder, acquired_at, expires_at) VALUES ('job:x', 'dead', now(), now() + interval '1 day')`)
	done := false
	require.NoError(t, ledger.Alone(t.Context(), pool, "job:x", "a", 3*time.Second, func(context.Context) error {
		done = true
		return nil
	}))
	require.True(t, done)
}
