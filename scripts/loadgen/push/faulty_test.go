package push

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

// failing dials connections that break after so many bytes read or written; -1: never.
// What was written before is still done by Redis.
func failing(read, written int) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &faulty{conn, read, written}, nil
	}
}

type faulty struct {
	net.Conn
	read, written int // still allowed
}

var errCut = errors.New("connection cut by the test")

func (f *faulty) Read(b []byte) (int, error) {
	if f.read == 0 {
		f.Close()
		return 0, errCut
	}
	if f.read > 0 && len(b) > f.read {
		b = b[:f.read]
	}
	n, err := f.Conn.Read(b)
	if f.read > 0 {
		f.read -= n
	}
	return n, err
}

func (f *faulty) Write(b []byte) (int, error) {
	if f.written >= 0 && len(b) > f.written {
		n, _ := f.Conn.Write(b[:f.written])
		f.written = 0
		f.Close()
		return n, errCut
	}
	n, err := f.Conn.Write(b)
	if f.written > 0 {
		f.written -= n
	}
	return n, err
}

// pipelineHook calls itself in place of each pipeline.
type pipelineHook func(context.Context, redis.ProcessPipelineHook, []redis.Cmder) error

func (h pipelineHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (h pipelineHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h pipelineHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return h(ctx, next, cmds) }
}
