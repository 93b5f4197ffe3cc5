package testenv

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

const slots = 16384

// Cluster is a Redis Cluster: three masters with a third of the slots each, in rising
// order, and one replica each, which takes over when its master has been silent for a
// second.
type Cluster struct {
	Masters, Replicas []*RedisServer // as they were at first
}

// NewCluster starts the six nodes, ended after the test. The options are those of each. It
// returns when all nodes say that the cluster is well.
func NewCluster(t testing.TB, opts ...RedisOption) *Cluster {
	t.Helper()
	c := &Cluster{}
	opts = append(opts, clusterNode)
	for range 3 {
		c.Masters = append(c.Masters, NewRedis(t, opts...))
		c.Replicas = append(c.Replicas, NewRedis(t, opts...))
	}
	all := append(c.Masters[:3:3], c.Replicas...)
	for i, node := range all {
		// A node that two others told different numbers before they met would need time.
		c.do(t, node, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		if i > 0 {
			c.do(t, all[0], "CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
		}
	}
	for i, master := range c.Masters {
		c.do(t, master, "CLUSTER", "ADDSLOTSRANGE", i*slots/3, (i+1)*slots/3-1)
	}
	for i, replica := range c.Replicas {
		id := c.do(t, c.Masters[i], "CLUSTER", "MYID")
		eventually(t, "the replica knows its master", func(ctx context.Context) error {
			return command(ctx, replica, "CLUSTER", "REPLICATE", id).Err()
		})
	}
	for _, node := range all {
		eventually(t, "the cluster is well", func(ctx context.Context) error {
			info, err := command(ctx, node, "CLUSTER", "INFO").Text()
			if err == nil && (!strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:6")) {
				err = fmt.Errorf("it is not:\n%s", info)
			}
			return err
		})
		eventually(t, "all nodes have their role", func(ctx context.Context) error {
			nodes, err := command(ctx, node, "CLUSTER", "NODES").Text()
			if err == nil && strings.Count(nodes, "slave ") != 3 {
				err = fmt.Errorf("they have not:\n%s", nodes)
			}
			return err
		})
	}
	for _, replica := range c.Replicas {
		eventually(t, "the replica has what its master has", func(ctx context.Context) error {
			info, err := command(ctx, replica, "INFO", "replication").Text()
			if err == nil && !strings.Contains(info, "master_link_status:up") {
				err = fmt.Errorf("it has not:\n%s", info)
			}
			return err
		})
	}
	return c
}

// clusterNode makes a server a node.
func clusterNode(s *RedisServer) {
	s.cluster = true
	s.args = append(s.args, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
}

// URL leads to the cluster, with redis.mode = "cluster".
func (c *Cluster) URL() string {
	return fmt.Sprintf("%s://%s?addr=%s", c.Masters[0].scheme(), address(c.Masters[0].port), address(c.Masters[1].port))
}

func (c *Cluster) do(t testing.TB, node *RedisServer, args ...any) any {
	t.Helper()
	reply, err := command(t.Context(), node, args...).Result()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return reply
}

// command asks a single server.
func command(ctx context.Context, server *RedisServer, args ...any) *redis.Cmd {
	client := redis.NewClient(server.own())
	defer func() { _ = client.Close() }()
	return client.Do(ctx, args...)
}
