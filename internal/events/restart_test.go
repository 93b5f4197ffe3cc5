package events_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/events"
	"aggregator/internal/testenv"
)

// rewritten waits until the file of a server has been written anew since it started.
func rewritten(t *testing.T, client *redis.Client) {
	t.Helper()
	require.Eventually(t, func() bool {
		info, err := client.InfoMap(t.Context(), "persistence").Result()
		file := info["Persistence"]
		return err == nil && file["aof_rewrites"] == "1" && file["aof_rewrite_in_progress"] == "0" &&
			file["aof_last_bgrewrite_status"] == "ok"
	}, 30*time.Second, time.Millisecond)
}

// Once after each start the file is written anew, whoever asks.
func TestRewriteOnceAStart(t *testing.T) {
	t.Parallel()
	server := testenv.NewRedis(t, testenv.AppendOnly())
	options := events.Options{Kind: events.KindList, Key: "l", PushSide: events.PushLeft, Partitions: 2}
	last := ""
	for range 2 {
		client := connect(t, server.URL())
		for i, source := range open(t, client, options) {
			done, err := source.Rewrite(t.Context())
			require.NoError(t, err)
			require.Equal(t, i == 0, done.Asked, "the second partition finds it done")
			require.NotEqual(t, last, done.RunID, "another after each start")
			rewritten(t, client)
			if i > 0 {
				last = done.RunID
			}
		}
		require.NoError(t, server.Kill())
		require.NoError(t, server.Start(t.Context()))
	}
}

func TestRewriteWhereThereIsNoFile(t *testing.T) {
	t.Parallel()
	done, err := open(t, connect(t, testenv.Redis(t)), events.Options{Kind: events.KindStream, Key: "s"})[0].Rewrite(
		t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, done.RunID)
	require.False(t, done.Asked)
}

// Without a right the server is named if it can be: whoever logs that can say it once.
func TestRewriteNotAllowed(t *testing.T) {
	t.Parallel()
	server := testenv.NewRedis(t, testenv.AppendOnly()).URL()
	user := testenv.RedisAs(t, server, "aggregator_list", "l")
	admin := connect(t, server)
	source := open(t, connectPlainly(t, user),
		events.Options{Kind: events.KindList, Key: "l", PushSide: events.PushLeft})[0]

	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "aggregator_list", "-bgrewriteaof").Err())
	done, err := source.Rewrite(t.Context())
	require.ErrorContains(t, err, "NOPERM")
	require.NotEmpty(t, done.RunID)

	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "aggregator_list", "-info").Err())
	done, err = source.Rewrite(t.Context())
	require.ErrorContains(t, err, "NOPERM")
	require.Empty(t, done.RunID)
}

// Of a cluster the node is asked that holds the source.
func TestRewriteInACluster(t *testing.T) {
	t.Parallel()
	cluster := testenv.NewCluster(t, testenv.AppendOnly())
	options, err := redis.ParseClusterURL(cluster.URL())
	require.NoError(t, err)
	options.MaxRetries = -1
	client := redis.NewClusterClient(options)
	t.Cleanup(func() { _ = client.Close() })
	source := open(t, client, events.Options{Kind: events.KindStream, Key: "s"})[0]
	done, err := source.Rewrite(t.Context())
	require.NoError(t, err)
	require.True(t, done.Asked)
	node, err := client.MasterForKey(t.Context(), "s")
	require.NoError(t, err)
	rewritten(t, node)
	info, err := node.InfoMap(t.Context(), "server").Result()
	require.NoError(t, err)
	require.Equal(t, info["Server"]["run_id"], done.RunID)
}

// A client for one server that is led to a cluster says so, for no retry mends it.
func TestOneServerIsACluster(t *testing.T) {
	t.Parallel()
	options, err := redis.ParseClusterURL(testenv.NewCluster(t).URL())
	require.NoError(t, err)
	moved := 0
	for _, addr := range options.Addrs {
		client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
		t.Cleanup(func() { _ = client.Close() })
		_, err := open(t, client, events.Options{Kind: events.KindStream, Key: "s"})[0].Inspect(t.Context())
		if err == nil {
			continue // it has the key
		}
		require.ErrorIs(t, err, events.ErrCluster)
		require.ErrorContains(t, err, "MOVED")
		moved++
	}
	require.Positive(t, moved)
}
