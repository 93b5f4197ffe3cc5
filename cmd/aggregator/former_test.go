package main

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"aggregator/internal/doctor"
	"aggregator/internal/testenv"
)

// set gives settings to all commands that follow; the later of two for a name holds.
func (s *pair) set(settings ...string) {
	s.env = append(s.env[:len(s.env):len(s.env)], settings...)
}

// asAdmin has the commands use a Redis user that may do anything: kinds change in these tests.
func (s *pair) asAdmin() {
	s.env[1] = "AGGREGATOR_REDIS_URL=" + s.adminURL() + "/0"
}

func (s *pair) pushTo(key string, n int) {
	s.t.Helper()
	for range n {
		require.NoError(s.t, s.redis.XAdd(
			s.t.Context(), &redis.XAddArgs{Stream: key, Values: []any{"event", "1:1:LIKE"}}).Err())
	}
}

func (s *pair) listTo(key string, n int) {
	s.t.Helper()
	for range n {
		require.NoError(s.t, s.redis.LPush(s.t.Context(), key, "1:1:LIKE").Err())
	}
}

// Entries that wait in former sources of the same key are drained, by a drain and by the service.
func TestFormerSourcesAreDrained(t *testing.T) {
	testenv.Long(t)
	for name, tc := range map[string]struct {
		before, after []string
		push          func(s *pair)
		entries       int64
	}{
		"partitions 1 to 2": {nil, []string{"AGGREGATOR_SOURCE_PARTITIONS=2"}, func(s *pair) {
			s.pushTo("book-like-events", 5)
		}, 5},
		"partitions 2 to 1": {
			[]string{"AGGREGATOR_SOURCE_PARTITIONS=2"},
			[]string{"AGGREGATOR_SOURCE_PARTITIONS=1"},
			func(s *pair) {
				s.pushTo("book-like-events:{0}", 3)
				s.pushTo("book-like-events:{1}", 4)
			}, 7,
		},
		"partitions 4 to 2": {
			[]string{"AGGREGATOR_SOURCE_PARTITIONS=4"},
			[]string{"AGGREGATOR_SOURCE_PARTITIONS=2"},
			func(s *pair) {
				s.pushTo("book-like-events:{1}", 1)
				s.pushTo("book-like-events:{2}", 2)
				s.pushTo("book-like-events:{3}", 4)
			}, 7,
		},
		"a partition that was never drained": {nil, nil, func(s *pair) {
			s.pushTo("book-like-events:{2}", 4)
		}, 4},
		"list to stream, moved": {
			[]string{"AGGREGATOR_SOURCE_KIND=list"}, []string{"AGGREGATOR_SOURCE_KIND=stream"}, func(s *pair) {
				s.pushTo("{book-like-events}:stream", 4) // as a move leaves them
			}, 4,
		},
		"list to stream, another number of partitions": {
			[]string{"AGGREGATOR_SOURCE_KIND=list", "AGGREGATOR_SOURCE_PARTITIONS=2"},
			[]string{"AGGREGATOR_SOURCE_KIND=stream", "AGGREGATOR_SOURCE_PARTITIONS=1"},
			func(s *pair) {
				s.listTo("book-like-events:{1}", 4)
				s.pushTo("book-like-events:{0}:stream", 3)
			}, 7,
		},
		"stream to list, another number of partitions": {
			nil, []string{"AGGREGATOR_SOURCE_KIND=list", "AGGREGATOR_SOURCE_PARTITIONS=2"}, func(s *pair) {
				s.pushTo("book-like-events", 4)
			}, 4,
		},
	} {
		for _, by := range []string{"drain", "run"} {
			t.Run(name+" by "+by, func(t *testing.T) {
				s := scored(t)
				s.asAdmin()
				s.set("AGGREGATOR_SOURCE_KEY=book-like-events")
				s.set(tc.before...)
				s.drained(exitDone)
				tc.push(s)
				s.set(tc.after...)
				s.doctorFinds(doctor.Warning, "a former source of the same key, ")
				if by == "drain" {
					report, _ := s.drained(exitDone)
					require.Equal(t, tc.entries, report.Applied)
					require.Zero(t, report.Left)
				} else {
					p := s.start()
					require.Eventually(t, func() bool { return s.number(scoreOfBori) == 2*tc.entries },
						time.Minute+patience, 20*time.Millisecond) // a busy server may not answer the first time
					require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
					require.NoError(t, p.cmd.Wait())
				}
				require.Equal(t, 2*tc.entries, s.number(scoreOfBori))
				s.program("verify").requireDone(t)
				s.drained(exitDone)
				require.Equal(t, 2*tc.entries, s.number(scoreOfBori))
			})
		}
	}
}

// With the limit of events, what is left of former sources is told.
func TestFormerSourcesWithinLimits(t *testing.T) {
	s := scored(t)
	s.pushTo("book-like-events", 3)
	s.pushTo("book-like-events:{1}", 5)
	s.pushTo("book-like-events:{2}", 5)
	for _, left := range []int64{9, 5, 1} {
		report, _ := s.drained(exitEventsLeft, "--max-events", "4")
		require.EqualValues(t, 4, report.Read)
		require.Equal(t, left, report.Left)
	}
	report, _ := s.drained(exitDone, "--max-events", "4")
	require.EqualValues(t, 1, report.Read)
	require.EqualValues(t, 26, s.number(scoreOfBori))
}

// The key of a source holds the other kind: nothing can be drained, and it is said what waits and
// what to set.
func TestKindChangedOnTheSameKey(t *testing.T) {
	testenv.Long(t)
	for name, tc := range map[string]struct {
		kind string
		push func(s *pair, key string, n int)
		want string
	}{
		"stream to list": {
			"list", (*pair).pushTo,
			"source.kind is list, but the key k holds a stream, with 4 entries that are not processed: set source.kind to " +
				"stream and drain it",
		},
		"list to stream": {
			"stream", (*pair).listTo,
			"source.kind is stream, but the key k holds a list, with 4 entries that are not processed: set source.kind to " +
				"list and drain it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := scored(t)
			s.asAdmin()
			was := map[string]string{"list": "stream", "stream": "list"}[tc.kind]
			s.set("AGGREGATOR_SOURCE_KEY=k", "AGGREGATOR_SOURCE_KIND="+was)
			tc.push(s, "k", 2)
			s.drained(exitDone)
			tc.push(s, "k", 4)
			s.set("AGGREGATOR_SOURCE_KIND=" + tc.kind)
			r := s.program("drain")
			require.Equal(t, exitFailed, r.code)
			require.Contains(t, r.stderr, tc.want)
			require.Contains(t, s.program("status").stdout, tc.want)
			s.set("AGGREGATOR_SOURCE_KIND=" + was)
			s.drained(exitDone)
			require.EqualValues(t, 12, s.number(scoreOfBori))
		})
	}
}

// A typo in the key: entries wait at the one that was drained so far, and nothing ever was at this.
func TestWrongKey(t *testing.T) {
	testenv.Long(t)
	s := scored(t)
	s.asAdmin()
	s.pushMany(3, "1:1:LIKE")
	s.drained(exitDone)
	s.pushMany(2, "1:1:LIKE")
	s.set("AGGREGATOR_SOURCE_KEY=book-like-event")
	const listed = "book-like-events, which the settings do not name: 2 entries wait"
	for range 2 { // the first one makes a checkpoint
		_, r := s.drained(exitFailed)
		require.Contains(t, r.stderr,
			"nothing was ever pushed to book-like-event in this Redis, and PostgreSQL has processed entries of "+listed)
	}
	require.Contains(t, s.program("status").stdout, "elsewhere: "+listed)
	s.doctorFinds(doctor.Warning, "the settings do not name it, 2 entries wait")
	s.set("AGGREGATOR_SOURCE_KEY=book-like-events")
	s.drained(exitDone)
	require.EqualValues(t, 10, s.number(scoreOfBori))

	// Two keys in use on one database are no mistake.
	s.pushTo("other", 1)
	s.set("AGGREGATOR_SOURCE_KEY=other")
	s.pushMany(2, "1:1:LIKE")
	s.drained(exitDone)
	require.Contains(t, s.program("status").stdout, "elsewhere: "+listed)
}

// Entries that a raise kept are listed until they are drained or deleted. A user of Redis who may not look
// at a key gets to know that.
func TestKeptEntriesAreListed(t *testing.T) {
	testenv.Long(t)
	s := scored(t)
	s.pushMany(3, "1:1:LIKE")
	s.drained(exitDone)
	require.NoError(t, s.redis.Del(t.Context(), "book-like-events").Err())
	s.add("1-0", "1:1:LIKE")
	s.drained(exitFailed)
	require.Regexp(t, `elsewhere: \{book-like-events\}:behind:\d+-\d+, which the settings do not name: 1 entry waits`,
		s.program("status").stdout)

	s.exec(`INSERT INTO aggregator.checkpoint (source, position_ms, position_seq, base, entries) VALUES ('theirs', 1, ` +
		`1, 0, 1), ('book-like-events@1', 1, 1, 0, 1)`)
	require.Contains(t, s.program("status").stdout,
		"elsewhere: theirs, which the settings do not name: it is not known whether entries wait: the Redis user has no "+
			"right to look")
}

// scoredInACluster is scored whose Redis is a cluster, with a client of its own.
func scoredInACluster(t *testing.T, options ...testenv.RedisOption) (*pair, *redis.ClusterClient) {
	t.Helper()
	cluster := testenv.NewCluster(t, options...)
	parsed, err := redis.ParseClusterURL(cluster.URL())
	require.NoError(t, err)
	client := redis.NewClusterClient(parsed)
	t.Cleanup(func() { _ = client.Close() })
	s := scored(t)
	s.env[1] = "AGGREGATOR_REDIS_URL=" + cluster.URL()
	s.set("AGGREGATOR_REDIS_MODE=cluster")
	return s, client
}

// In a cluster each key is asked of its own node.
func TestFormerSourcesInACluster(t *testing.T) {
	testenv.Long(t)
	s, client := scoredInACluster(t)
	s.set("AGGREGATOR_SOURCE_PARTITIONS=2")
	ctx := context.WithoutCancel(t.Context())
	for i := range 6 {
		require.NoError(t, client.XAdd(
			ctx, &redis.XAddArgs{Stream: fmt.Sprintf("book-like-events:{%d}", i), Values: []any{"event", "1:1:LIKE"}}).Err())
	}
	require.NoError(t, client.XAdd(
		ctx, &redis.XAddArgs{Stream: "book-like-events", Values: []any{"event", "1:1:LIKE"}}).Err())
	report, _ := s.drained(exitDone)
	require.EqualValues(t, 7, report.Applied)
	require.EqualValues(t, 14, s.number(scoreOfBori))
}

// Of a cluster, each node that holds a source is asked to write its append-only file anew.
func TestRewriteInACluster(t *testing.T) {
	testenv.Long(t)
	s, client := scoredInACluster(t, testenv.AppendOnly())
	s.set("AGGREGATOR_SOURCE_PARTITIONS=4")
	drain := s.program("drain")
	drain.requireCode(t, exitDone)
	nodes := map[string]bool{} // two sources may be on one
	for i := range 4 {
		key := fmt.Sprintf("book-like-events:{%d}", i)
		node, err := client.MasterForKey(t.Context(), key)
		require.NoError(t, err)
		info, err := node.InfoMap(t.Context(), "server").Result()
		require.NoError(t, err)
		id := info["Server"]["run_id"]
		nodes[id] = true
		require.Contains(t, drain.stderr, "run_id="+id)
	}
	require.Greater(t, len(nodes), 1)
}
