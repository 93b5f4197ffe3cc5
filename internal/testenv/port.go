package testenv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports below the range that the kernel hands to outgoing connections and to listeners on
// port 0: a server that is down for a moment finds its port free again.
const (
	firstPort = 21000
	lastPort  = 25999
	portTries = 20
)

// onFreePort calls start with free ports until it succeeds. Between our look and the
// server's bind another process may take the port, which only a second try can mend.
func onFreePort(ctx context.Context, start func(port int) error) error {
	var failures error
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if !free(ctx, port) {
			continue
		}
		err := start(port)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if free(ctx, port) {
			return err // the port was not what it failed for
		}
		failures = errors.Join(failures, err)
	}
	return fmt.Errorf("no free port after %d tries: %w", portTries, failures)
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
