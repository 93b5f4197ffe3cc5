package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedisModes(t *testing.T) {
	for name, tc := range map[string]struct{ mode, url, want string }{
		"standalone":                {"standalone", "redis://u:p@h:1/3", ""},
		"socket":                    {"standalone", "unix:///run/redis.sock", ""},
		"sentinel":                  {"sentinel", "redis://h:1/3?master_name=m&addr=i:1&username=u&password=p", ""},
		"cluster":                   {"cluster", "rediss://u:p@h:1?addr=i:1", ""},
		"cluster, database 0":       {"cluster", "redis://h:1/0", ""},
		"default, more hosts":       {"", "redis://h:1?addr=i:1", `redis.url: ?addr= is for redis.mode = "sentinel" or "cluster"`},
		"default, Sentinels":        {"", "redis://h:1?master_name=m", `redis.url: ?master_name= is for redis.mode = "sentinel"`},
		"sentinel, no name":         {"sentinel", "redis://hunter2:hunter2@h:1", `redis.url: redis.mode = "sentinel" needs ?master_name=`},
		"sentinel, socket":          {"sentinel", "unix:///s?master_name=m", `not a valid Redis URL`},
		"cluster, socket":           {"cluster", "unix:///s", `redis.url: not a URL for redis.mode = "cluster"`},
		"cluster, database":         {"cluster", "redis://h:1/3", "redis.url: a Redis Cluster has no databases but 0"},
		"cluster, replicas":         {"cluster", "redis://h:1?route_randomly=true", "redis.url: route_randomly: events are read from the master alone"},
		"sentinel, replicas":        {"sentinel", "redis://h:1?master_name=m&replica_only=true", "redis.url: replica_only: events are read from the master alone"},
		"sentinel, no such setting": {"sentinel", "redis://h:1?master_name=m&hunter2=1", "not a valid Redis URL"},
		"no such mode":              {"replicated", "redis://h:1", `redis.mode = "replicated" (env AGGREGATOR_REDIS_MODE): want one of standalone, sentinel, cluster`},
		"scheme of another client":  {"sentinel", "redis+sentinel://h:1/m", "not a valid Redis URL"},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			t.Setenv("AGGREGATOR_REDIS_URL", tc.url)
			t.Setenv("AGGREGATOR_REDIS_MODE", tc.mode)
			_, err := load(t)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			requireOneLine(t, err, tc.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}
