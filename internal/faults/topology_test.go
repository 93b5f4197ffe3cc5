package faults_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

// sentinelSet is a Redis with a replica, behind Sentinels.
type sentinelSet struct{ *testenv.Sentinel }

func newSentinelSet(t *testing.T) sentinelSet {
	t.Helper()
	return sentinelSet{testenv.NewSentinel(t, testenv.AppendOnly(), testenv.Users(""))}
}

func (s sentinelSet) mode() string { return "sentinel" }
func (s sentinelSet) url() string  { return s.URL() }

// as is the URL for a user of the Redis. Before the @ would be one of the Sentinels.
func (s sentinelSet) as(user string) string {
	return s.URL() + "&" + url.Values{"username": {user}, "password": {testenv.RedisPassword}}.Encode()
}

// cluster is a Redis Cluster.
type cluster struct{ *testenv.Cluster }

func newCluster(t *testing.T) cluster {
	t.Helper()
	return cluster{testenv.NewCluster(t, testenv.AppendOnly(), testenv.Users(""))}
}

func (c cluster) mode() string { return "cluster" }
func (c cluster) url() string  { return c.URL() }

func (c cluster) as(user string) string {
	return strings.Replace(c.URL(), "redis://", fmt.Sprintf("redis://%s:%s@", user, testenv.RedisPassword), 1)
}

func dialTopology(t *testing.T, to topology) redis.UniversalClient {
	t.Helper()
	var client redis.UniversalClient
	if to.mode() == "cluster" {
		o, err := redis.ParseClusterURL(to.url())
		require.NoError(t, err)
		client = redis.NewClusterClient(o)
	} else {
		o, err := redis.ParseFailoverURL(to.url())
		require.NoError(t, err)
		client = redis.NewFailoverClient(o)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// spread has a partition on each node of a cluster: those of {0}, {1} and {2}, and {3} are
// in the slots of different masters.
var (
	spread     = source{"stream", "left", 4}
	spreadList = source{"list", "left", 4}
)

func TestSentinel(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	for _, from := range []source{stream, listLeft} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			drainAndRun(t, newWorld(t, setup{source: from, topology: newSentinelSet(t)}))
		})
	}
}

func TestCluster(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	for _, from := range []source{listRight, spread, spreadList} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			drainAndRun(t, newWorld(t, setup{source: from, topology: newCluster(t)}))
		})
	}
}

func TestPgBouncer(t *testing.T) {
	testenv.Long(t)
	t.Parallel()
	for _, from := range []source{stream, partitioned} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			drainAndRun(t, newWorld(t, setup{source: from, pooled: true}))
		})
	}
}

// drainAndRun drains once, and has the service drain more.
func drainAndRun(t *testing.T, w *world) {
	t.Helper()
	w.push(1000)
	w.drain()
	require.EqualValues(t, 1000, w.exact().Pushed)
	d := w.start("run")
	w.push(1000)
	w.emptied()
	d.stop()
	require.EqualValues(t, 2000, w.exact().Pushed)
	for _, command := range []string{"verify", "status", "doctor"} {
		d := w.start(command)
		require.Zero(t, d.wait(), "%s", d.tail())
	}
}
