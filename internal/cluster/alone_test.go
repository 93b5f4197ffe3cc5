package cluster_test

import (
	"context"
	"errors"
	"flag"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"aggregator/internal/cluster"
	"aggregator/internal/postgres"
	"aggregator/internal/testenv"
)

// Most tests wait for a lease to run out, all of them at the same time.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "16") // which is there
	testenv.Main(m)
}

func connect(t *testing.T) *pgxpool.Pool {
	t.Helper()
	t.Parallel()
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Database(t), MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

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
		leases, err := cluster.Leases(t.Context(), pool)
		require.NoError(t, err)
		require.Equal(t, tc.holder == "dead", leases[0].Held(time.Now()), tc.ends)
		for range 2 { // safe to repeat
			held, err := cluster.Acquire(t.Context(), pool, "s", "other", 30*time.Second)
			require.NoError(t, err)
			require.Equal(t, tc.holder, held.Holder, tc.ends)
		}
	}

	// The holder who was taken for dead finds out when it renews, and does not take it back.
	held, err := cluster.Acquire(t.Context(), pool, "s", "dead", 30*time.Second)
	require.NoError(t, err)
	require.Equal(t, "other", held.Holder)
	// The longest lease that there is can be renewed, and holds.
	_, err = cluster.Acquire(t.Context(), pool, "s", "other", cluster.Longest)
	require.NoError(t, err)
	held, err = cluster.Acquire(t.Context(), pool, "s", "dead", cluster.Longest)
	require.NoError(t, err)
	require.Equal(t, "other", held.Holder)
}

// So it is with the lease of a job.
func TestAloneAfterAWrongClock(t *testing.T) {
	pool := connect(t)
	exec(t, pool, `INSERT INTO aggregator.lease (source, holder, acquired_at, expires_at) VALUES ('job:x', 'dead', `+
		`now(), now() + interval '1 day')`)
	done := false
	require.NoError(t, cluster.Alone(t.Context(), pool, "job:x", "a", 3*time.Second, func(context.Context) error {
		done = true
		return nil
	}))
	require.True(t, done)
}

// Who holds a lease is told as soon as he shows that he lives; one who does not is waited
// for until his time is over.
func TestAlone(t *testing.T) {
	pool := connect(t)
	const ttl = 3 * time.Second
	holder := func() string {
		all, err := cluster.Leases(t.Context(), pool)
		require.NoError(t, err)
		if len(all) == 0 {
			return ""
		}
		return all[0].Holder
	}
	require.NoError(t, cluster.Alone(t.Context(), pool, "job:x", "a", ttl, func(context.Context) error {
		require.Equal(t, "a", holder())
		err := cluster.Alone(t.Context(), pool, "job:x", "b", ttl, nil)
		var held *cluster.HeldError
		require.ErrorAs(t, err, &held)
		require.Equal(t, "a", held.Lease.Holder)
		return nil
	}))
	require.Empty(t, holder())

	_, err := cluster.Acquire(t.Context(), pool, "job:x", "dead", time.Second)
	require.NoError(t, err)
	failure := errors.New("failure")
	require.Equal(t, failure, cluster.Alone(t.Context(), pool, "job:x", "b", ttl, func(context.Context) error {
		return failure
	}))
	require.Empty(t, holder())

	// One who was away for too long is told that another has it.
	require.NoError(t, cluster.Alone(t.Context(), pool, "job:x", "a", ttl, func(ctx context.Context) error {
		exec(t, pool, `UPDATE aggregator.lease SET holder = 'usurper', expires_at = now() + interval '1 hour'`)
		<-ctx.Done()
		return nil
	}))
	require.Equal(t, "usurper", holder())

	// A lease that nobody renews, and that is longer than it should be, is waited for no
	// longer than ours would take.
	var held *cluster.HeldError
	require.ErrorAs(t, cluster.Alone(t.Context(), pool, "job:x", "b", time.Second, nil), &held)
	require.Equal(t, "usurper", held.Lease.Holder)
}
