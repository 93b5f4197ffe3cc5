package testenv_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

func TestSentinelPromotesTheReplica(t *testing.T) {
	t.Parallel()
	s := testenv.NewSentinel(t)
	o, err := redis.ParseFailoverURL(s.URL())
	require.NoError(t, err)
	client := redis.NewFailoverClient(o)
	defer client.Close()
	require.NoError(t, client.Set(t.Context(), "a", 1, 0).Err())
	require.NoError(t, client.Wait(t.Context(), 1, 0).Err())
	require.NoError(t, s.Master.Kill())
	require.Eventually(t, func() bool { return client.Incr(t.Context(), "a").Err() == nil }, 3*time.Minute,
		50*time.Millisecond)
	n, err := client.Get(t.Context(), "a").Int()
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, 2)
}

func TestClusterSpreadsKeys(t *testing.T) {
	t.Parallel()
	c := testenv.NewCluster(t)
	o, err := redis.ParseClusterURL(c.URL())
	require.NoError(t, err)
	client := redis.NewClusterClient(o)
	defer client.Close()
	for _, key := range []string{"{0}", "{1}", "{3}"} { // slots 13907, 9842, 1584
		require.NoError(t, client.Set(t.Context(), key, 1, 0).Err())
	}
	for _, master := range c.Masters {
		o, err := redis.ParseURL(master.URL())
		require.NoError(t, err)
		node := redis.NewClient(o)
		n, err := node.DBSize(t.Context()).Result()
		require.NoError(t, err)
		require.Positive(t, n)
		require.NoError(t, node.Close())
	}
}
