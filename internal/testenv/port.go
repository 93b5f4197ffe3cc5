package testenv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports below the range that the kernel hands to outgoing connections and to listeners on
// port 0: a server that is down for a moment finds its port free again.
const (
	firstPort = 21000
	lastPort  = 25999
	portTries = 100
)

// FreeAddress is a loopback address that nobody listens on, and that no other process with this package gets before
// the test has ended.
func FreeAddress(t testing.TB) string {
	t.Helper()
	port, reserved, err := reservePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reserved.Close() })
	return address(port)
}

// reservePort returns a port that nobody listens on. No other process with this package gets it
// before what reserves it is closed: neither before its server listens, nor while that is down.
func reservePort(ctx context.Context) (port int, reserved net.Listener, err error) {
	var config net.ListenConfig
	for range portTries {
		port = firstPort + rand.IntN(lastPort-firstPort+1)
		// An abstract name: one socket of the machine has it, until it is closed or its process ends.
		reserved, err = config.Listen(ctx, "unix", fmt.Sprintf("@aggregator-testenv-port-%d", port))
		if err != nil {
			continue
		}
		if free(ctx, port) {
			return port, reserved, nil
		}
		_ = reserved.Close()
	}
	return 0, nil, fmt.Errorf("no free port from %d to %d", firstPort, lastPort)
}

func free(ctx context.Context, port int) bool {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address(port))
	if err != nil {
		return false
	}
	_ = listener.Close()
	return true
}

func address(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
