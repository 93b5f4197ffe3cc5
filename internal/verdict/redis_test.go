package verdict

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"

	"aggregator/internal/events"
)

// The texts are those of Redis 7.0.15, as the client gives them.
func TestHaltsRedis(t *testing.T) {
	for text, want := range map[string]string{
		"WRONGTYPE Operation against a key holding the wrong kind " +
			"of value": "source.kind",
		"WRONGTYPE Operation against a key holding the wrong kind of value script: a0db9943d01, on " +
			"@user_script:1.": "source.kind",
		"NOPERM this user has no permissions to run the 'xrange' " +
			"command": "config/redis.acl",
		"ERR ACL failure in script: User u has no permissions to run the 'xtrim' command script: 5, on " +
			"@user_script:": "config/redis.acl",
		"ERR The user executing the script can't run this command or subcommand script: 5, on " +
			"@user_script:": "config/redis.acl",
		"ERR The user executing the script can't access at least one of the keys mentioned in the command " +
			"arguments script: 5, on @user_script:": "config/redis.acl",
		"NOAUTH Authentication required.":                               "password",
		"WRONGPASS invalid username-password pair or user is disabled.": "password",
		"ERR unknown command 'evalsha', with args beginning with: 'ba0931' '1' 's' " +
			"'aggregator' ": "rename-command",
		"ERR unknown command 'evalsha_ro', with args beginning with: '4d406e' '1' 's' " +
			"'aggregator' ": "rename-command",
		"ERR unknown command 'eval', with args beginning with: '#!lua flags=allow-oom -- Put " +
			"before' ": "rename-command",
		"ERR unknown command 'XRANGE', with args beginning with: 's' '(0-0' '+' " +
			"'COUNT' '10' ": "rename-command",
		"ERR unknown command 'xread', with args beginning with: 'count' '1' 'block' '1' 'streams' " +
			"'s' '0-0' ": "rename-command",
		"ERR Unknown Redis command called from script script: ba093134a30, on @user_script:52.": "rename-command",
		"ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'":  "7.0 or later",
		"ERR SELECT is not allowed in cluster mode":                                             "redis.mode to cluster",
		"ERR This instance has cluster support disabled":                                        "redis.mode to standalone",
		"ERR DB index is out of range":                                                          "redis.url",
		"CROSSSLOT Keys in request don't hash to the same slot":                                 "source.key",
	} {
		halt, got := haltsRedis(text)
		assert.True(t, halt, text)
		assert.Contains(t, got, want, text)
	}
	err := fmt.Errorf("reading: %w: %w", events.ErrCluster, reply("MOVED 3828 127.0.0.1:24164"))
	assert.Equal(t, Halt, Of(err))
	assert.Contains(t, Advice(err), "redis.mode to cluster")

	for _, err := range []error{
		// The client of a cluster follows it, and gives up for now when a slot moves on.
		reply("MOVED 3828 127.0.0.1:24164"), reply("ASK 3828 127.0.0.1:24164"),
		reply("TRYAGAIN Multiple keys request during rehashing of slot"),
		reply("CLUSTERDOWN Hash slot not served"), reply("LOADING Redis is loading the dataset in memory"),
		reply("BUSY Redis is busy running a script."),
		reply("READONLY You can't write against a read only replica."),
		reply("OOM command not allowed when used memory > 'maxmemory'."),
		reply("MISCONF Errors writing to the AOF file: No space left on device"),
		reply("NOREPLICAS Not enough good replicas to write."),
		reply("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
		reply("ERR max number of clients reached"),
		reply("BUSYKEY {s}:behind:1-0 has entries that were kept before"), reply("ERR Error"),
		errors.New("ERR unknown command 'eval'"), // not Redis'
		io.EOF, context.DeadlineExceeded,
	} {
		assert.Equal(t, Retry, Of(fmt.Errorf("reading: %w", err)), err.Error())
	}
}
