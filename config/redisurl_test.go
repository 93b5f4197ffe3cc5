package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedisModes(t *testing.T) {
	for name, tc := range map[string]struct{ mode, url, want string }{
		"standalone":          {"standalone", "redis://u:p@h:1/3", ""},
		"socket":              {"standalone", "unix:///run/redis.sock", ""},
		"sentinel":            {"sentinel", "redis://h:1/3?master_name=m&addr=i:1&username=u&password=p", ""},
		"cluster":             {"cluster", "rediss://u:p@h:1?addr=i:1", ""},
		"cluster, database 0": {"cluster", "redis://h:1/0", ""},
		"default, more hosts": {
			"", "redis://h:1?addr=i:1", `redis.url: ?addr= is for redis.mode = "sentinel" or "cluster"`,
		},
		"default, Sentinels": {
			"", "redis://h:1?master_name=m", `redis.url: ?master_name= is for redis.mode = "sentinel"`,
		},
		"sentinel, no name": {
			"sentinel", "redis://hunter2:hunter2@h:1", `redis.url: redis.mode = "sentinel" needs ?master_name=`,
		},
		"sentinel, socket":  {"sentinel", "unix:///s?master_name=m", `not a valid Redis URL`},
		"cluster, socket":   {"cluster", "unix:///s", `redis.url: not a URL for redis.mode = "cluster"`},
		"cluster, database": {"cluster", "redis://h:1/3", "redis.url: a Redis Cluster has no databases but 0"},
		"cluster, replicas": {
			"cluster", "redis://h:1?route_randomly=true", "redis.url: route_randomly: events are read from the master alone",
		},
		"sentinel, replicas": {
			"sentinel", "redis://h:1?master_name=m&replica_only=true",
			"redis.url: replica_only: events are read from the master alone",
		},
		"sentinel, no such setting": {"sentinel", "redis://h:1?master_name=m&hunter2=1", "not a valid Redis URL"},
		"no such mode": {
			"replicated", "redis://h:1",
			`redis.mode = "replicated" (env AGGREGATOR_REDIS_MODE): want one of standalone, sentinel, cluster`,
		},
		"scheme of another client": {"sentinel", "redis+sentinel://h:1/m", "not a valid Redis URL"},
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

func TestRedisURLsThatAreNone(t *testing.T) {
	const url = "redis://u:hunter2@h:6379/0"
	for _, text := range []string{
		`"` + url + `"`, "'" + url + "'", url + `"`, "redis://h'", " " + url, url + " ", "redis://h ", url + "\n",
		"redis://h\n", "\ufeff" + url,
		"redis+sentinel://h:26379/m", "redis-sentinel://h:26379/m", "redis-cluster://h:6379", "tcp://h:6379", "http://h:6379",
		"postgres://u:hunter2@h/app", "valkey://h:6379",
		"redis:h:6379", "redis:/h:6379", "redis//h:6379", "redis:", "//h:6379", "h:6379", "localhost", "u:hunter2@h:6379",
		"h1:6379,h2:6379", "redis://h1:6379,h2:6379", "redis://h1,h2/0",
		"REDIS_URL=" + url, "redis-cli -u " + url, "${REDIS_URL}", " ", "redis://u:hunter2#@h:6379/0",
		"redis://h:6379/x", "redis://h:6379/-1", "redis://h:6379/0/1", "redis://h:6379/0x1", "redis://u:hunter2@h:99999/0",
		"redis://h:0",
	} {
		t.Run(text, func(t *testing.T) {
			isolate(t)
			t.Setenv("REDIS_URL", text)
			_, err := load(t)
			requireOneLine(t, err, "redis.url (env REDIS_URL): not a valid Redis URL")
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	for _, text := range []string{
		"redis://", "redis:///1", "redis://:hunter2@/1", "redis://:hunter2@:6380", "redis://h", "redis://h:6379/",
		"redis://h?db=3", "REDIS://h:6379", "redis://[::1]:6379/0",
		"redis://u:hun'ter,2%20%22@h:6379", "unix:///run/redis.sock?db=1", "unix://u:hunter2@/run/redis.sock",
		"redis://h/0?client_name=a",
	} {
		t.Run(text, func(t *testing.T) {
			isolate(t)
			t.Setenv("REDIS_URL", text)
			_, err := load(t)
			require.NoError(t, err)
		})
	}
}

func TestPostgresURLsThatAreNone(t *testing.T) {
	const url = "postgres://u:hunter2@h:5432/app?sslmode=disable"
	for _, text := range []string{
		`"` + url + `"`, " " + url, url + " ", "postgresql+asyncpg://u:hunter2@h/app?x=y", "redis://:hunter2@h?x=y",
		"localhost:5432",
	} {
		for origin, set := range map[string]func(t *testing.T){
			"env DATABASE_URL":            func(t *testing.T) { t.Setenv("DATABASE_URL", text) },
			"env AGGREGATOR_POSTGRES_URL": func(t *testing.T) { t.Setenv("AGGREGATOR_POSTGRES_URL", text) },
			"aggregator.yaml:2": func(t *testing.T) {
				writeFile(t, "aggregator.yaml", fmt.Sprintf("postgres:\n  url: %q\n", text))
			},
			"file url": func(t *testing.T) {
				writeFile(t, "url", text)
				t.Setenv("AGGREGATOR_POSTGRES_URL_FILE", "url")
			},
			"file ./postgres-url": func(t *testing.T) {
				writeFile(t, "postgres-url", text)
				t.Setenv("CREDENTIALS_DIRECTORY", ".")
			},
		} {
			t.Run(text+" "+origin, func(t *testing.T) {
				isolate(t)
				set(t)
				_, err := load(t)
				if strings.HasPrefix(origin, "file ") && strings.TrimSpace(text) == url { // what a file holds is trimmed
					require.NoError(t, err)
					return
				}
				requireOneLine(t, err, "postgres.url ("+strings.Replace(origin, "./", "", 1)+"): not a valid PostgreSQL URL")
				require.NotContains(t, err.Error(), "hunter2")
			})
		}
	}
}
