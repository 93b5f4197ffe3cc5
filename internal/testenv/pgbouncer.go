package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// PgBouncer is a pooler in transaction mode before a PostgreSQL. With more clients than
// servers, as here, they share.
type PgBouncer struct {
	folder  folder
	port    int
	process *process
}

// NewPgBouncer starts one before the server of that URL, ended after the test. It has three
// connections for each role and database. Settings are lines of its configuration, as in
// "ignore_startup_parameters = lock_timeout".
func NewPgBouncer(t testing.TB, serverURL string, settings ...string) *PgBouncer {
	t.Helper()
	b, err := startPgBouncer(t.Context(), serverURL, settings)
	if err != nil {
		t.Fatalf("start PgBouncer: %v", err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Errorf("close PgBouncer: %v", err)
		}
	})
	return b
}

// Before returns the URL of the same database as the same role, by way of the pooler.
func (b *PgBouncer) Before(t testing.TB, serverURL string) string {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = address(b.port)
	return u.String()
}

func startPgBouncer(ctx context.Context, serverURL string, settings []string) (*PgBouncer, error) {
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		bin, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		return nil, errors.New("PgBouncer is not installed: run scripts/provision")
	}
	server, err := url.Parse(serverURL)
	if err != nil {
		return nil, err
	}
	b := &PgBouncer{}
	if b.folder, err = newFolder(); err != nil {
		return nil, err
	}
	if b.port, err = b.folder.reservePort(ctx); err == nil {
		err = b.start(ctx, bin, server, settings)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *PgBouncer) start(ctx context.Context, bin string, server *url.URL, settings []string) error {
	var users strings.Builder
	for _, role := range []string{
		"postgres", "aggregator_migrate", "aggregator_daemon", "aggregator_purge", "aggregator_reader",
	} {
		fmt.Fprintf(&users, "%q \"\"\n", role)
	}
	list, err := b.folder.write("users.txt", []byte(users.String()))
	if err != nil {
		return err
	}
	file, err := b.folder.write("pgbouncer.ini", fmt.Appendf(nil, `[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = transaction
default_pool_size = 3
max_client_conn = 200
server_login_retry = 1
%s
`, server.Hostname(), server.Port(), b.port, list, strings.Join(settings, "\n")))
	if err != nil {
		return err
	}
	p, err := startProcess(ctx, b.folder, syscall.SIGKILL, bin, file)
	if err != nil {
		return err
	}
	err = p.ready(ctx, func(ctx context.Context) bool {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address(b.port))
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	if err != nil {
		return errors.Join(err, p.end(syscall.SIGKILL))
	}
	b.process = p
	return nil
}

func (b *PgBouncer) close() error {
	var err error
	if b.process != nil {
		err = b.process.end(syscall.SIGKILL)
	}
	return errors.Join(err, b.folder.remove())
}
