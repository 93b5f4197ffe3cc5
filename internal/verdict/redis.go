package verdict

import (
	"strings"

	"aggregator/internal/events"
)

// haltsRedis says whether what Redis answers is a misconfiguration, which no retry repairs, and what to set
// then. It takes the text of a redis.Error.
func haltsRedis(message string) (halts bool, advice string) {
	const cluster = "the server is a node of a cluster: set redis.mode to cluster, and leave the database out of redis.url"
	for _, known := range []struct{ prefix, advice string }{
		{"WRONGTYPE", "the key is of another type: check source.kind and source.key"},
		{"NOPERM", "give the user the rights in config/redis.acl"},
		{"ERR ACL failure in script", "give the user the rights in config/redis.acl"},               // 7.2
		{"ERR The user executing the script can't", "give the user the rights in config/redis.acl"}, // 7.0
		{"NOAUTH", "redis.url needs a user and a password"},
		{"WRONGPASS", "redis.url has a wrong user or password"},
		{"ERR unknown command", needed},
		{"ERR unknown subcommand", needed},
		{"ERR Unknown Redis command called from script", needed},
		{"ERR Error compiling script", needed},
		{events.ErrCluster.Error(), cluster},
		{"ERR SELECT is not allowed in cluster mode", cluster},
		{
			"ERR This instance has cluster support disabled",
			"the server is not a node of a cluster: set redis.mode to standalone",
		},
		{"ERR DB index is out of range", "the server has no database of that number: fix it in redis.url"},
		{"CROSSSLOT", "the keys of a source are in several slots: give source.key a hash tag"},
	} {
		if strings.HasPrefix(message, known.prefix) {
			return true, known.advice
		}
	}
	return false, ""
}

const needed = "Redis lacks a command or a form of it: it must be 7.0 or later, with no command of config/redis.acl " +
	"renamed or disabled (rename-command)"
