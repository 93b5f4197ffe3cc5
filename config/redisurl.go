package config

import (
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// What redis.url may lead to.
const (
	RedisStandalone = "standalone"
	RedisSentinel   = "sentinel"
	RedisCluster    = "cluster"
)

var redisModes = []string{RedisStandalone, RedisSentinel, RedisCluster}

// redisURL is a URL for one of the modes; for which, checkRedisURL knows.
type redisURL struct{ p *URL }

func (v redisURL) String() string  { return string(*v.p) }
func (v redisURL) Allowed() string { return "a redis://, rediss:// or unix:// URL" }

// redisForm is what a URL must look like before the client may read it. The client takes redis:h:1
// for the default server, and h:1,i:1 or a quote at the end for the name of a host.
var redisForm = regexp.MustCompile(
	`(?i)^(rediss?://([^/?#]*@)?[^/?#@,"'\x60\s]*([/?]([^#]*[^#"'\x60\s])?)?|unix://[^#]*[^#"'\x60\s])$`)

func (v redisURL) Set(text string) error {
	// The client's own errors quote the URL, password and all; and an unescaped # in a
	// password makes it take the start of the password for a port.
	if redisForm.MatchString(text) {
		if err := checkRedisNumbers(text); err != nil {
			return err
		}
		for _, mode := range redisModes {
			if parsesAs(mode, text) {
				*v.p = URL(text)
				return nil
			}
		}
	}
	return errors.New("not a valid Redis URL: want redis://user:password@host:6379/0; " +
		"write special characters of the password in percent form, @ as %40, / as %2F")
}

// checkRedisNumbers refuses a port or database that no server has. The client asks for database 0 in
// place of a negative one, and takes each path for that of a URL of several hosts.
func checkRedisNumbers(text string) error {
	u, err := url.Parse(text)
	if err != nil || strings.EqualFold(u.Scheme, "unix") {
		return nil
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("not a valid Redis URL: a port is 1 to 65535")
		}
	}
	database := strings.Trim(u.Path, "/")
	if _, err := strconv.ParseUint(database, 10, 31); database != "" && err != nil {
		return errors.New("not a valid Redis URL: want the number of a database after the host, as in redis://host:6379/0")
	}
	return nil
}

func parsesAs(mode, text string) bool {
	var err error
	switch mode {
	case RedisSentinel:
		_, err = redis.ParseFailoverURL(text)
	case RedisCluster:
		_, err = redis.ParseClusterURL(text)
	default:
		_, err = redis.ParseURL(text)
	}
	return err == nil
}

// Parameters that make the client read from replicas, which may be behind.
var replicaParameters = []string{
	"read_only", "replica_only", "route_by_latency", "route_by_latency_tolerance", "route_randomly",
	"use_disconnected_replicas",
}

// checkRedisURL says whether the URL fits the mode.
func (c Config) checkRedisURL() error {
	u, err := url.Parse(string(c.Redis.URL))
	if err != nil {
		return nil // Set has refused it
	}
	wrong := func(text string) error { return invalidf("redis.url: %s", text) }
	query := u.Query()
	for _, name := range replicaParameters {
		if query.Has(name) {
			return wrong(name + ": events are read from the master alone, for a replica may lag")
		}
	}
	switch {
	case c.Redis.Mode == RedisSentinel && query.Get("master_name") == "":
		return wrong("redis.mode = \"sentinel\" needs ?master_name=, the name that the Sentinels have for the server")
	case c.Redis.Mode == RedisCluster && u.Scheme != "unix" && u.Path != "" && u.Path != "/" && u.Path != "/0":
		return wrong("a Redis Cluster has no databases but 0")
	case parsesAs(c.Redis.Mode, string(c.Redis.URL)):
		return nil
	case c.Redis.Mode == RedisStandalone && query.Has("master_name"):
		return wrong("?master_name= is for redis.mode = \"sentinel\"")
	case c.Redis.Mode == RedisStandalone:
		return wrong("?addr= is for redis.mode = \"sentinel\" or \"cluster\"")
	}
	return wrong("not a URL for redis.mode = \"" + c.Redis.Mode +
		"\": want redis:// or rediss:// and parameters that this mode has")
}
