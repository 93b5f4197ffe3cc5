package events_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/config"
)

// startWithACL starts a Redis with an ACL file and returns the path of its socket.
func startWithACL(t *testing.T, acl string) string {
	t.Helper()
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "redis.acl"), filepath.Join(dir, "s")
	require.NoError(t, os.WriteFile(file, []byte(acl), 0o600))

	server := exec.CommandContext(
		t.Context(), "redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir, "--aclfile", file)
	output, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	t.Cleanup(func() { // the context has killed it by now
		_, _ = bufio.NewReader(output).WriteTo(new(strings.Builder))
		_ = server.Wait()
	})
	var said strings.Builder
	for lines := bufio.NewScanner(output); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "ready to accept connections at") {
			return socket
		}
	}
	require.Fail(t, "Redis does not start", said.String())
	return ""
}

func TestACLFile(t *testing.T) {
	t.Parallel()
	withPasswords := regexp.MustCompile(`(?m)^user aggregator_.*$`).ReplaceAllString(config.ACL(), "$0 >hunter2")
	socket := startWithACL(t, withPasswords)
	as := func(user string) *redis.Client {
		client := redis.NewClient(
			&redis.Options{
				Network: "unix", Addr: socket, Username: user, Password: "hunter2", MaxRetries: -1,
				DisableIdentity: true,
			})
		t.Cleanup(func() { _ = client.Close() })
		return client
	}
	const streamKey, listKey, companion = "book-like-events", "BookLikeEventList", "{BookLikeEventList}:stream"

	for user, commands := range map[string]struct{ may, mayNot [][]any }{
		"aggregator_producer": {
			may: [][]any{
				{"XADD", streamKey, "*", "event", "1:2:LIKE"},
				{"XADD", streamKey + ":{3}", "*", "event", "1:2:LIKE"},
				{"LPUSH", listKey, "1:2:LIKE"},
				{"RPUSH", listKey + ":{0}", "1:2:LIKE"},
			},
			mayNot: [][]any{
				{"XRANGE", streamKey, "-", "+"},
				{"LRANGE", listKey, 0, -1},
				{"XADD", companion, "*", "event", "1:2:LIKE"},
				{"XADD", "other", "*", "event", "1:2:LIKE"},
				{"XTRIM", streamKey, "MAXLEN", 0},
				{"DEL", streamKey},
				{"RPOP", listKey},
				{"EVAL", "return 1", 0},
			},
		},
		"aggregator_stream": {
			may: [][]any{
				{"XRANGE", streamKey, "-", "+"},
				{"EVAL", "return redis.call('XTRIM', KEYS[1], 'MINID', '0')", 1, streamKey},
				{"BGREWRITEAOF"},
			},
			mayNot: [][]any{
				{"XADD", streamKey, "*", "event", "1:2:LIKE"},
				{"XREADGROUP", "GROUP", "aggregator", "c", "STREAMS", streamKey, ">"},
				{"DEL", streamKey},
				{"XGROUP", "DESTROY", streamKey, "aggregator"},
				{"LRANGE", listKey, 0, -1},
				{"XRANGE", "other", "-", "+"},
				{"XRANGE", streamKey + "2", "-", "+"},
				{"EVAL", "return redis.call('XRANGE', 'other', '-', '+')", 0},
				{"EVAL", "return redis.call('DEL', KEYS[1])", 1, streamKey},
				{"FLUSHALL"},
				{"KEYS", "*"},
				{"CONFIG", "GET", "*"},
				{"ACL", "LIST"},
				{"SCRIPT", "FLUSH"},
				{"SUBSCRIBE", "channel"},
				{"CLIENT", "LIST"},
			},
		},
		"aggregator_list": {
			may: [][]any{
				{"LRANGE", listKey, 0, -1},
				{"EVAL", "return redis.call('XADD', KEYS[1], '*', 'event', 'x')", 1, companion},
				{"BGREWRITEAOF"},
			},
			mayNot: [][]any{
				{"LPOP", listKey},
				{"LPUSH", listKey, "1:2:LIKE"},
				{"DEL", listKey},
				{"XRANGE", streamKey, "-", "+"},
				{"EVAL", "return redis.call('RPOP', KEYS[1])", 1, listKey},
				{"FLUSHDB"},
			},
		},
		"aggregator_reader": {
			may: [][]any{
				{"XRANGE", streamKey, "-", "+"},
				{"XINFO", "STREAM", streamKey},
				{"LLEN", listKey},
				{"EVAL_RO", "return redis.call('EXISTS', KEYS[1])", 1, companion},
			},
			mayNot: [][]any{
				{"XADD", streamKey, "*", "event", "1:2:LIKE"},
				{"XTRIM", streamKey, "MAXLEN", 0},
				{"LTRIM", listKey, 1, 0},
				{"EVAL", "return 1", 0},
				{"EVAL_RO", "return redis.call('XRANGE', 'other', '-', '+')", 0},
				{"GET", "other"},
				{"BGREWRITEAOF"},
				{"FLUSHALL"},
			},
		},
	} {
		t.Run(user, func(t *testing.T) {
			client := as(user)
			for _, command := range commands.may {
				err := client.Do(t.Context(), command...).Err()
				// Nothing is there yet, which is not a matter of rights.
				if err != nil && !strings.Contains(err.Error(), "already in progress") {
					assert.Contains(t, err.Error(), "no such key", command)
				}
			}
			for _, command := range commands.mayNot {
				err := client.Do(t.Context(), command...).Err()
				if assert.Error(t, err, command) {
					assert.Regexp(t, "^NOPERM|ACL failure in script|can't access at least one of the keys|can't run this command",
						err.Error(), command)
				}
			}
		})
	}
	t.Run("nobody else", func(t *testing.T) {
		client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, MaxRetries: -1, DisableIdentity: true})
		defer client.Close()
		assert.ErrorContains(t, client.Ping(t.Context()).Err(), "NOAUTH")
	})
}

// Until they are given passwords, the users of the file cannot log in.
func TestACLFileHasNoPasswords(t *testing.T) {
	t.Parallel()
	socket := startWithACL(t, config.ACL())
	for line := range strings.Lines(config.ACL()) {
		user := strings.Fields(line)[1]
		client := redis.NewClient(
			&redis.Options{Network: "unix", Addr: socket, Username: user, Password: "x", MaxRetries: -1, DisableIdentity: true})
		require.ErrorContains(t, client.Ping(t.Context()).Err(), "WRONGPASS", user)
		_ = client.Close()
	}
}
