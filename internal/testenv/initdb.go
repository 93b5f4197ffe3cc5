package testenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// createCluster makes the data of the server. initdb takes 0.8 s of processor time, and what it makes is always the
// same: a test unpacks what it has made once.
func (s *PostgresServer) createCluster(ctx context.Context) error {
	dir, err := os.UserCacheDir()
	if err != nil || !testing.Testing() || os.MkdirAll(filepath.Join(dir, cacheName), 0o700) != nil {
		return s.initdb(ctx)
	}
	archive, err := s.initialized(ctx, filepath.Join(dir, cacheName))
	if err != nil {
		return err
	}
	defer func() { _ = archive.Close() }()
	unpack := s.folder.command(ctx, "tar", "-x", "-p", "-C", filepath.Dir(s.data()))
	unpack.Stdin = archive // the user of the servers may not be allowed to open it
	if output, err := unpack.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w\n%s", archive.Name(), err, bytes.TrimSpace(output))
	}
	return nil
}

const cacheName = "aggregator-testenv"

// initialized opens the archive of what initdb makes, and makes it if it is not there. There is one, for the
// PostgreSQL that was used last. Others wait meanwhile; a killed process leaves a part, which the next one replaces.
func (s *PostgresServer) initialized(ctx context.Context, cache string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(cache, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	program := filepath.Join(s.bin, "postgres")
	version, err := os.Stat(program)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(fmt.Appendln(nil, program, version.Size(), version.ModTime().UnixNano(), initdbArgs))
	path := filepath.Join(cache, fmt.Sprintf("postgres-%x.tar", key[:8]))
	if archive, err := os.Open(path); !errors.Is(err, os.ErrNotExist) {
		return archive, err
	}
	old, err := filepath.Glob(filepath.Join(cache, "postgres-*"))
	for _, path := range old {
		err = errors.Join(err, os.Remove(path)) // those who unpack it go on
	}
	if err == nil {
		err = s.initdb(ctx)
	}
	if err == nil {
		err = s.pack(ctx, path)
	}
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	return os.Open(path)
}

// pack moves the data of the server into an archive.
func (s *PostgresServer) pack(ctx context.Context, path string) error {
	part, err := os.OpenFile(path+".part", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	pack := s.folder.command(ctx, "tar", "-c", "-C", filepath.Dir(s.data()), filepath.Base(s.data()))
	var problems bytes.Buffer
	pack.Stdout, pack.Stderr = part, &problems
	if err = pack.Run(); err != nil {
		err = fmt.Errorf("tar: %w\n%s", err, bytes.TrimSpace(problems.Bytes()))
	}
	if err = errors.Join(err, part.Sync(), part.Close(), os.RemoveAll(s.data())); err != nil {
		return err
	}
	return os.Rename(part.Name(), path)
}

// initdbArgs are the options of initdb but for the locale, of which not every system knows the first.
var (
	initdbArgs    = []string{"--no-sync", "-U", "postgres", "-A", "trust", "-E", "UTF8"}
	initdbLocales = []string{"C.UTF-8", "C"}
)

func (s *PostgresServer) initdb(ctx context.Context) error {
	var err error
	for _, locale := range initdbLocales {
		var output []byte
		args := append([]string{"-D", s.data(), "--locale=" + locale}, initdbArgs...)
		initdb := s.folder.command(ctx, filepath.Join(s.bin, "initdb"), args...)
		if output, err = initdb.CombinedOutput(); err == nil {
			return nil
		}
		err = fmt.Errorf("initdb: %w\n%s", err, bytes.TrimSpace(output))
		if ctx.Err() != nil {
			break
		}
	}
	return err
}
