//go:build faults

package faults_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/testenv"
)

func TestRedisCrashes(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(*world) error{
		"kill":    func(w *world) error { return w.redis.Kill() },
		"restart": func(w *world) error { return w.redis.Stop() },
	}
	for name, end := range kinds {
		for _, from := range []source{stream, listLeft, partitioned} {
			t.Run(name+", "+from.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, setup{source: from})
				pushed := w.load(500, 12*time.Second)
				d := w.start("run")
				d.said("draining")
				for range 8 {
					time.Sleep(200*time.Millisecond + rand.N(600*time.Millisecond)) // the fault
					require.NoError(t, end(w))
					require.NoError(t, w.redis.Start(t.Context()))
				}
				pushed()
				w.emptied()
				d.stop()
				w.exact()
			})
		}
	}
}

// TestRedisRollback starts Redis from an old snapshot, as a failover to a replica that
// lagged behind would.
func TestRedisRollback(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{
				source: from, volatile: true,
				redis: []testenv.RedisOption{testenv.RedisArgs("--dbfilename", "old.rdb")},
			})
			w.push(1000)
			w.drain()
			w.push(600) // in the snapshot, not applied
			snapshot := w.waiting()
			require.NoError(t, w.client.Save(t.Context()).Err())
			w.push(1000) // lost with the rollback, but applied by then
			d := w.start("run")
			w.emptied()
			require.NoError(t, w.redis.Kill())
			require.NoError(t, w.redis.Start(t.Context()))
			require.Equal(t, int64(600), snapshot)
			w.push(1000)
			w.emptied()
			d.stop()
			w.told("redis_set_back")

			if from.kind == "stream" {
				w.exact()
				return
			}
			// The elements of the snapshot are moved to the stream again, with new ids.
			r := w.compare()
			t.Log(r)
			require.Zero(t, r.Lost)
			require.Empty(t, r.Left)
			require.Equal(t, snapshot, r.Doubled)
		})
	}
}

// TestRedisLoading starts the daemon, and keeps it running, while Redis reads its data.
func TestRedisLoading(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{
		volatile: true,
		redis: []testenv.RedisOption{
			testenv.RedisArgs("--dbfilename", "slow.rdb", "--key-load-delay", "1000", "--loading-process-events-interval-bytes",
				"1024"),
		},
	})
	pipe := w.client.Pipeline()
	for i := range 3000 {
		pipe.Set(t.Context(), fmt.Sprint("key", i), strings.Repeat("x", 100), 0)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	w.push(1000)
	d := w.start("run")
	w.emptied()
	w.push(500)
	require.NoError(t, w.client.Save(t.Context()).Err())
	w.emptied()

	require.NoError(t, w.redis.Kill())
	require.NoError(t, w.redis.Start(t.Context())) // returns when it has loaded
	require.Contains(t, d.output(), "LOADING", "the daemon was told")
	w.push(1000)
	w.emptied()
	d.stop()
	w.exact()
}

// TestRedisOutOfMemory lets the daemon begin, or go on, on a server that takes no more.
func TestRedisOutOfMemory(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft, listRight} {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, first start: %t", from, before), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, setup{source: from})
				if !before {
					w.push(500)
					w.drain()
				}
				w.push(5000)
				require.NoError(t, w.client.ConfigSet(t.Context(), "maxmemory", "1mb").Err())
				require.ErrorContains(t, w.client.Set(t.Context(), "key", "value", 0).Err(), "OOM")

				d := w.start("run")
				w.emptied()
				require.NoError(t, w.client.ConfigSet(t.Context(), "maxmemory", "0").Err())
				w.push(500)
				w.emptied()
				d.stop()
				w.exact()
			})
		}
	}
}

// TestRedisOutOfMemoryWithoutStream has a list that fills the memory, and the stream beside
// it deleted by hand.
func TestRedisOutOfMemoryWithoutStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{source: listLeft})
	w.push(500)
	w.drain()
	w.push(5000)
	require.NoError(t, w.client.Del(t.Context(), w.streamOf(w.keys()[0])).Err())
	require.NoError(t, w.client.ConfigSet(t.Context(), "maxmemory", "1mb").Err())
	d := w.start("run")
	w.emptied()
	d.stop()
	w.exact()
}

func TestRedisReadOnlyReplica(t *testing.T) {
	t.Parallel()
	for _, from := range []source{stream, listLeft} {
		t.Run(from.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{source: from})
			w.push(1000)
			d := w.start("run")
			w.emptied()
			w.push(1000)
			require.NoError(t, w.client.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
			other := w.start("run")
			d.said("READONLY")
			other.said("READONLY")
			require.NoError(t, w.client.ReplicaOf(t.Context(), "NO", "ONE").Err())
			w.push(1000)
			w.emptied()
			d.stop()
			other.stop()
			w.exact()
		})
	}
}

// TestRedisKeysGone deletes what the daemon relies on while it runs, and while it does not.
func TestRedisKeysGone(t *testing.T) {
	t.Parallel()
	faults := map[string]func(*world) error{
		"stream":  func(w *world) error { return w.client.Del(w.t.Context(), w.streamOf(w.keys()[0])).Err() },
		"all":     func(w *world) error { return w.client.FlushAll(w.t.Context()).Err() },
		"scripts": func(w *world) error { return w.client.ScriptFlush(w.t.Context()).Err() },
		"bookmark": func(w *world) error {
			return w.client.XGroupDestroy(w.t.Context(), w.streamOf(w.keys()[0]), "aggregator").Err()
		},
		"renamed": func(w *world) error {
			return w.client.Rename(w.t.Context(), w.streamOf(w.keys()[0]), "elsewhere").Err()
		},
	}
	for name, fault := range faults {
		for _, running := range []bool{true, false} {
			for _, from := range []source{stream, listLeft} {
				t.Run(fmt.Sprintf("%s of a %s, running: %t", name, from, running), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, setup{source: from})
					w.push(1000)
					d := w.start("run")
					for range 3 {
						w.emptied()
						if !running {
							d.stop()
						}
						require.NoError(t, fault(w))
						w.push(500)
						if !running {
							d = w.start("run")
						}
					}
					w.emptied()
					d.stop()
					w.exact()

					groups, err := w.client.XInfoGroups(t.Context(), w.streamOf(w.keys()[0])).Result()
					require.NoError(t, err)
					require.Len(t, groups, 1, "the bookmark is there again")
					last, err := w.client.XInfoStream(t.Context(), w.streamOf(w.keys()[0])).Result()
					require.NoError(t, err)
					require.Equal(t, last.LastGeneratedID, groups[0].LastDeliveredID)
				})
			}
		}
	}
}

// TestRedisEventsDeleted deletes events that were not read: they are gone, and they alone.
func TestRedisEventsDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.push(1000)
	w.drain()
	w.push(300)
	require.NoError(t, w.client.Del(t.Context(), w.keys()[0]).Err())
	w.push(1000)
	w.told("redis_set_back")
	r := w.compare()
	t.Log(r)
	require.Equal(t, int64(300), r.Lost)
	require.Zero(t, r.Doubled)
	require.Empty(t, r.Left)
}

// TestRedisLowerIDs makes the stream anew with ids that were given before, as another Redis
// does whose clock is behind. What comes next counts; what was there is kept in a stream of
// its own, loudly, and counts once that is drained.
func TestRedisLowerIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	name := w.keys()[0]
	tomorrow := fmt.Sprintf("%d-0", time.Now().Add(24*time.Hour).UnixMilli())
	require.NoError(t, w.client.XAdd(
		t.Context(), &redis.XAddArgs{Stream: name, ID: tomorrow, Values: []any{"event", ""}}).Err())
	require.NoError(t, w.client.XTrimMaxLen(t.Context(), name, 0).Err())
	w.push(1000)
	w.drain()
	require.NoError(t, w.client.Del(t.Context(), name).Err())
	w.push(700)

	d := w.start("run")
	d.said("kept_in=")
	require.Contains(t, d.output(), "level=ERROR")
	kept := regexp.MustCompile(`kept_in=(\S+)`).FindStringSubmatch(d.output())[1]
	require.EqualValues(t, 700, w.client.XLen(t.Context(), kept).Val())
	for range 2 {
		drain := w.start("drain", "--source-kind", "stream", "--source-key", kept)
		require.Zero(t, drain.wait(), "%s", drain.tail())
	}
	w.push(300)
	w.emptied()
	d.stop()
	w.sql("UPDATE aggregator.dead_letter SET source = '" + name + "'") // where the independent sum looks for them
	w.exact()
}

// TestRedisOtherGroupLags has another consumer group, which has not read all and not
// acknowledged all that it has read: its entries stay, and are not applied again.
func TestRedisOtherGroupLags(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	key := w.keys()[0]
	require.NoError(t, w.client.XGroupCreateMkStream(t.Context(), key, "other", "0").Err())
	w.push(1500)
	read, err := w.client.XReadGroup(
		t.Context(), &redis.XReadGroupArgs{Group: "other", Consumer: "c", Streams: []string{key, ">"}, Count: 100}).Result()
	require.NoError(t, err)
	require.Len(t, read[0].Messages, 100)
	var ids []string
	for _, m := range read[0].Messages {
		ids = append(ids, m.ID)
	}

	w.drain()
	w.exact("--skip-redis")
	require.Equal(t, int64(1500), w.waiting(), "nothing of the other group's is removed")

	require.NoError(t, w.client.XAck(t.Context(), key, "other", ids[:40]...).Err())
	w.drain()
	require.Equal(t, int64(1460), w.waiting(), "what it has acknowledged may go")
	require.NoError(t, w.client.XAck(t.Context(), key, "other", ids[40:]...).Err())
	require.NoError(t, w.client.XGroupSetID(t.Context(), key, "other", "$").Err())
	w.push(500)
	w.drain()
	require.Equal(t, int64(500), w.waiting())
	require.NoError(t, w.client.XGroupDestroy(t.Context(), key, "other").Err())
	w.finish()
}
