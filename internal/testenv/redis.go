package testenv

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RedisServer is a private Redis. Its methods are for one goroutine at a time.
type RedisServer struct {
	folder  folder
	bin     string
	port    int
	cluster bool   // it is a node of one
	bus     int    // where the nodes of a cluster talk to each other; zero: none
	file    string // of settings that the server itself changes; empty: none
	args    []string
	secure  *serverTLS // nil: plain
	process *process   // nil while stopped
	place   string     // of the data; empty: the folder
}

// RedisOption changes how StartRedis sets a server up.
type RedisOption func(*RedisServer)

// RedisArgs adds arguments to the command line, as in "--maxmemory", "1mb". Of two for the
// same setting the later holds.
func RedisArgs(args ...string) RedisOption {
	return func(s *RedisServer) { s.args = append(s.args, args...) }
}

// AppendOnly makes the server keep what it has acknowledged through Kill.
func AppendOnly() RedisOption { return RedisArgs("--appendonly", "yes", "--appendfsync", "always") }

// RedisIn puts the data of the server into another folder, as PostgresIn does.
func RedisIn(dir string) RedisOption { return func(s *RedisServer) { s.place = dir } }

// StartRedis starts a server in a temporary folder, without persistence unless asked for.
// ctx bounds the start only; the server runs until Stop, Kill or Close. On error nothing
// is left behind.
func StartRedis(ctx context.Context, opts ...RedisOption) (*RedisServer, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("the Redis server is not installed: run scripts/provision")
	}
	dir, err := newFolder()
	if err != nil {
		return nil, err
	}
	s := &RedisServer{folder: dir, bin: bin, args: []string{"--save", ""}}
	for _, opt := range opts {
		opt(s)
	}
	if err = s.folder.give(s.place); err == nil {
		err = s.writeCertificates()
	}
	if err == nil {
		s.port, err = s.folder.reservePort(ctx)
	}
	if err == nil && s.cluster {
		// By default the second port would be in the range that the kernel hands out.
		s.bus, err = s.folder.reservePort(ctx)
		s.args = append(s.args, "--cluster-port", strconv.Itoa(s.bus))
	}
	if err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// URL is where the server listens, or will listen again.
func (s *RedisServer) URL() string {
	return fmt.Sprintf("%s://%s/0", s.scheme(), address(s.port))
}

// PID is the process of the server; zero while it is stopped.
func (s *RedisServer) PID() int {
	if s.process == nil {
		return 0
	}
	return s.process.cmd.Process.Pid
}

// Start starts the server on the folder and the port that it had, and returns when it has
// loaded its data and answers. A running server stays as it is.
func (s *RedisServer) Start(ctx context.Context) error {
	if s.process != nil {
		return nil
	}
	var args []string
	if s.file != "" {
		args = append(args, s.file)
	}
	args = append(args, "--bind", "127.0.0.1", s.portOption(), strconv.Itoa(s.port), "--dir",
		cmp.Or(s.place, s.folder.path))
	args = append(args, s.args...)
	p, err := startProcess(ctx, s.folder, syscall.SIGKILL, s.bin, args...)
	if err != nil {
		return err
	}
	err = p.ready(ctx, func(ctx context.Context) bool { return s.answers(ctx, p.cmd.Process.Pid) })
	if err != nil {
		return errors.Join(err, p.end(syscall.SIGKILL))
	}
	s.process = p
	return nil
}

// answers tells whether the process serves commands on our port. The one that does might
// be another program's, which took the port before ours could. Spoken by hand: a client would
// retry, and complain of every attempt that comes too early.
func (s *RedisServer) answers(ctx context.Context, pid int) bool {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address(s.port))
	if err != nil {
		return false
	}
	if s.secure != nil {
		conn = tls.Client(conn, s.secure.ourselves)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(conn, "PING\r\nINFO server\r\nQUIT\r\n"); err != nil {
		return false
	}
	reply, _ := io.ReadAll(conn)
	return strings.HasPrefix(string(reply), "+PONG\r\n") &&
		strings.Contains(string(reply), fmt.Sprintf("\nprocess_id:%d\r", pid))
}

// Stop shuts the server down in order and returns when it is gone. A stopped server stays
// as it is.
func (s *RedisServer) Stop() error { return s.end(syscall.SIGTERM) }

// Kill ends the server as a crash would and returns when it is gone.
func (s *RedisServer) Kill() error { return s.end(syscall.SIGKILL) }

// CutOff is PostgresServer.CutOff for Redis.
func (s *RedisServer) CutOff(signalled func()) error {
	if s.process == nil {
		signalled()
		return nil
	}
	err := s.process.cutOff(signalled)
	s.process = nil
	return err
}

// Close ends the server and removes its data. It is safe to repeat.
func (s *RedisServer) Close() error {
	return errors.Join(s.Kill(), s.folder.remove())
}

func (s *RedisServer) end(sig syscall.Signal) error {
	if s.process == nil {
		return nil
	}
	err := s.process.end(sig)
	s.process = nil
	return err
}
