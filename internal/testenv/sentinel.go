package testenv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// MasterName is what the Sentinels of NewSentinel call the server that they watch.
const MasterName = "main"

// Sentinel is a master, its replica, and three Sentinels that make the replica the master
// when the master has been silent for half a second.
type Sentinel struct {
	Master, Replica *RedisServer // as they were at first
	sentinels       []*RedisServer
}

// NewSentinel starts the five of them, ended after the test. The options are those of
// master and replica; with RedisTLS the Sentinels speak TLS, too. It returns when the Sentinels know each other and the
// replica.
func NewSentinel(t testing.TB, opts ...RedisOption) *Sentinel {
	t.Helper()
	s := &Sentinel{Master: NewRedis(t, opts...)}
	s.Replica = NewRedis(t, append(opts, RedisArgs("--replicaof", fmt.Sprintf("127.0.0.1 %d", s.Master.port)))...)
	for range 3 {
		s.sentinels = append(s.sentinels, NewRedis(t, sentinelOf(s.Master)))
	}
	for _, sentinel := range s.sentinels {
		client := redis.NewSentinelClient(sentinel.own())
		defer func() { _ = client.Close() }()
		eventually(t, "the Sentinels know each other and the replica", func(ctx context.Context) error {
			m, err := client.Master(ctx, MasterName).Result()
			if err == nil && (m["num-other-sentinels"] != "2" || m["num-slaves"] != "1") {
				err = fmt.Errorf("it knows %s other Sentinels and %s replicas", m["num-other-sentinels"], m["num-slaves"])
			}
			if err != nil {
				return err
			}
			replicas, err := client.Replicas(ctx, MasterName).Result()
			if err == nil && replicas[0]["master-link-status"] != "ok" {
				err = errors.New("the replica has no link to the master")
			}
			return err
		})
	}
	return s
}

// sentinelOf makes a server a Sentinel.
func sentinelOf(master *RedisServer) RedisOption {
	return func(s *RedisServer) {
		text := strings.NewReplacer("NAME", MasterName, "PORT", fmt.Sprint(master.port)).Replace(`
sentinel monitor NAME 127.0.0.1 PORT 2
sentinel down-after-milliseconds NAME 500
sentinel failover-timeout NAME 3000
`)
		var err error
		if s.file, err = s.folder.write("sentinel.conf", []byte(text)); err != nil {
			s.file = err.Error() // a file that is not there: the start will fail for it
		}
		s.args, s.secure = []string{"--sentinel"}, master.secure
	}
}

// URL leads to the master by way of the Sentinels, with redis.mode = "sentinel".
func (s *Sentinel) URL() string {
	return fmt.Sprintf("%s://%s/0?master_name=%s&addr=%s&addr=%s", s.Master.scheme(),
		address(s.sentinels[0].port), MasterName, address(s.sentinels[1].port), address(s.sentinels[2].port))
}

// eventually waits until try succeeds.
func eventually(t testing.TB, what string, try func(context.Context) error) {
	t.Helper()
	deadline := time.Now().Add(startTimeout)
	for {
		err := try(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is not so that %s: %v", what, err)
		}
		time.Sleep(10 * pollInterval)
	}
}
