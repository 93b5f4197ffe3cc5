package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// NewStandby is Standby for a test, ended after it.
func NewStandby(t testing.TB, primary *PostgresServer, name string, opts ...PostgresOption) *PostgresServer {
	t.Helper()
	standby, err := primary.Standby(t.Context(), name, opts...)
	if err != nil {
		t.Fatalf("start a standby: %v", err)
	}
	t.Cleanup(func() {
		if err := standby.Close(); err != nil {
			t.Errorf("close the standby: %v", err)
		}
	})
	return standby
}

// Standby starts a server that follows this one by streaming replication, from a base backup
// of it, and returns when the new server accepts connections and has all that was written by then.
// name is its application_name, by which synchronous_standby_names knows it. It has the settings
// that this server was started with, then those of opts, and those that Configure has made
// here but for synchronous_standby_names: what follows it has another name.
//
// ctx bounds the start only. On error nothing is left behind. The standby goes on when its
// primary ends; the caller closes both. A server with PostgresTLS can have no standby.
func (s *PostgresServer) Standby(ctx context.Context, name string, opts ...PostgresOption) (*PostgresServer, error) {
	// A standby that was stopped for a while finds here what it has missed.
	if err := s.Configure(ctx, "wal_keep_size", "256MB"); err != nil {
		return nil, err
	}
	dir, err := newFolder()
	if err != nil {
		return nil, err
	}
	standby := &PostgresServer{folder: dir, bin: s.bin, settings: slices.Clone(s.settings)}
	for _, opt := range opts {
		opt(standby)
	}
	if err = s.backUp(ctx, standby, name); err == nil {
		standby.port, err = standby.folder.reservePort(ctx)
	}
	if err == nil {
		err = standby.Start(ctx)
	}
	if err == nil {
		err = s.CaughtUp(ctx, name)
	}
	if err != nil {
		return nil, errors.Join(err, standby.Close())
	}
	return standby, nil
}

// backUp makes the data of a standby.
func (s *PostgresServer) backUp(ctx context.Context, standby *PostgresServer, name string) error {
	backup := standby.folder.command(ctx, filepath.Join(s.bin, "pg_basebackup"), "--no-sync", "--checkpoint=fast",
		"--write-recovery-conf", "-D", standby.data(), "-d", s.URL("postgres")+"&application_name="+name)
	if output, err := backup.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w\n%s", err, bytes.TrimSpace(output))
	}
	settings, err := os.OpenFile(filepath.Join(standby.data(), "postgresql.auto.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = settings.WriteString("synchronous_standby_names = ''\n")
	return errors.Join(err, settings.Close())
}

// Promote makes a standby a primary, and returns when it takes writes.
func (s *PostgresServer) Promote(ctx context.Context) error {
	return s.execute(ctx, "SELECT 1 / pg_promote(wait_seconds => 30)::int") // false if it took longer
}

// PauseReplay makes a standby keep what comes in without showing it, until it is promoted.
func (s *PostgresServer) PauseReplay(ctx context.Context) error {
	return s.execute(ctx, "SELECT pg_wal_replay_pause()")
}

// Configure changes a setting of a running server, primary or standby, and returns when all its
// processes know. It stays when the server is started again. One that the server was started with
// cannot be changed.
func (s *PostgresServer) Configure(ctx context.Context, name, value string) error {
	var before time.Time
	if err := s.ask(ctx, "SELECT clock_timestamp()", &before); err != nil {
		return err
	}
	value = "'" + strings.ReplaceAll(value, "'", "''") + "'"
	for _, statement := range []string{
		"ALTER SYSTEM SET " + pgx.Identifier{name}.Sanitize() + " = " + value,
		"SELECT pg_reload_conf()",
	} {
		if err := s.execute(ctx, statement); err != nil {
			return err
		}
	}
	// A new session says when the postmaster has read it, and by then has told the others.
	err := eventuallyTrue(ctx, "the server has read its settings", func() (known bool, err error) {
		return known, s.ask(ctx, "SELECT pg_conf_load_time() >= $1", &known, before)
	})
	if err != nil {
		return err
	}
	// The checkpointer says whether commits wait for standbys. Before it works it looks.
	return s.execute(ctx, "CHECKPOINT")
}

// CaughtUp waits until the standby of that name has on disk all that this server has written
// when it is called. It gives up after half a minute.
func (s *PostgresServer) CaughtUp(ctx context.Context, name string) error {
	var written string
	if err := s.ask(ctx, "SELECT pg_current_wal_insert_lsn()::text", &written); err != nil {
		return err
	}
	// What has been committed asynchronously is sent once it is on our own disk.
	const flush = "SET synchronous_commit = local; SELECT pg_logical_emit_message(true, 'caught up', '')"
	if err := s.execute(ctx, flush); err != nil {
		return err
	}
	return eventuallyTrue(ctx, "standby "+name+" has caught up", func() (has bool, err error) {
		return has, s.ask(ctx, `SELECT EXISTS (SELECT FROM pg_stat_replication
			WHERE application_name = $1 AND state = 'streaming' AND flush_lsn >= $2::pg_lsn)`, &has, name, written)
	})
}

// Freeze stops all processes of the server where they are, until Thaw or its end. Its clients see
// connections on which nothing comes.
func (s *PostgresServer) Freeze() error { return s.signalAll(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (s *PostgresServer) Thaw() error { return s.signalAll(syscall.SIGCONT) }

func (s *PostgresServer) signalAll(sig syscall.Signal) error {
	if s.process == nil {
		return errors.New("the server does not run")
	}
	return s.process.signalAll(sig)
}

// ask asks for one value.
func (s *PostgresServer) ask(ctx context.Context, query string, value any, args ...any) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	return errors.Join(conn.QueryRow(ctx, query, args...).Scan(value), conn.Close(ctx))
}

// eventuallyTrue waits until holds says so; an error of it ends that.
func eventuallyTrue(ctx context.Context, what string, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if so, err := holds(); so || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it is not so that %s: %w", what, ctx.Err())
		case <-time.After(10 * pollInterval):
		}
	}
}
