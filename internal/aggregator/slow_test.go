package aggregator_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"aggregator/internal/aggregator"
	"aggregator/internal/testenv"
)

// Entries of which a page does not arrive in time are read a few at a time.
func TestPageThatTakesTooLong(t *testing.T) {
	testenv.Long(t)
	const entries, size, most = 12, 1 << 20, 8 << 20
	f := newFixture(t, stream)
	options := *f.daemon.redis.Options()
	options.Addr = slowLink(t, options.Addr, most)
	options.ReadTimeout = 500 * time.Millisecond
	f.daemon.redis = redis.NewClient(&options)
	t.Cleanup(func() { _ = f.daemon.redis.Close() })
	for range entries {
		require.NoError(t, f.redis.Do(f.ctx, "XADD", f.source.Key, "*", "event", strings.Repeat("x", size)).Err())
	}
	ctx, cancel := context.WithTimeout(f.ctx, 5*time.Minute) // it may try for ever
	defer cancel()
	a := f.new()
	_, err := a.Drain(ctx, aggregator.Limits{})
	require.NoError(t, err)
	assert.EqualValues(t, entries, a.Stats().Dead)
	assert.Positive(t, a.Stats().Restarts)
	f.requireEven()
}

// slowLink is the address of a proxy before a server, through which no more than so many bytes of a
// reply come in time, and none of the others at all.
func slowLink(t *testing.T, server string, most int64) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed by the test
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go through(client, server, most)
		}
	}()
	return listener.Addr().String()
}

func through(client net.Conn, server string, most int64) {
	defer client.Close()
	upstream, err := net.Dial("tcp", server) //nolint:noctx // closed when the client has gone
	if err != nil {
		return
	}
	defer upstream.Close()
	var passed atomic.Int64 // of the reply
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := upstream.Read(buffer)
			if err != nil || passed.Add(int64(n)) > most {
				return
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		passed.Store(0)
		if _, err := upstream.Write(buffer[:n]); err != nil {
			return
		}
	}
}
