package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	folderPrefix = "aggregator-testenv-"
	lockName     = "owner"
	// A folder younger than this may belong to a process that has not locked it yet.
	abandonedAfter = time.Minute
)

// folder holds everything of one server. Its owner keeps a lock in it for as long as it
// lives, so that others can tell a folder in use from one left by a killed process.
type folder struct {
	path string
	lock *os.File
	cred *syscall.Credential // of the servers; nil means ours

	ports []net.Listener // hold the ports of the servers, see reservePort
}

func newFolder() (folder, error) { return newFolderIn(os.TempDir()) }

// memory is where files are in memory, if that has room for the databases of a test process; else where all are.
func memory() string {
	const dir, room = "/dev/shm", 2 << 30
	var at unix.Statfs_t
	if unix.Statfs(dir, &at) != nil || at.Type != unix.TMPFS_MAGIC || at.Bavail*uint64(at.Bsize) < room ||
		unix.Access(dir, unix.W_OK|unix.X_OK) != nil {
		return os.TempDir()
	}
	return dir
}

func newFolderIn(dir string) (folder, error) {
	removeAbandoned(dir)
	path, err := os.MkdirTemp(dir, folderPrefix)
	if err != nil {
		return folder{}, fmt.Errorf("make server folder: %w", err)
	}
	f := folder{path: path}
	if f.lock, err = os.Create(filepath.Join(path, lockName)); err == nil {
		err = syscall.Flock(int(f.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil && os.Geteuid() == 0 {
		if f.cred, err = unprivileged(); err == nil {
			err = os.Chown(path, int(f.cred.Uid), int(f.cred.Gid))
		}
	}
	if err != nil {
		_ = f.remove()
		return folder{}, fmt.Errorf("prepare server folder: %w", err)
	}
	return f, nil
}

// command prepares a program that runs in the folder as its user, in an environment that
// says nothing about servers.
func (f folder) command(ctx context.Context, bin string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = f.path
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: f.cred}
	return cmd
}

// write makes a file that the folder's user alone may read, and returns its name.
func (f folder) write(name string, content []byte) (string, error) {
	path := filepath.Join(f.path, name)
	err := os.WriteFile(path, content, 0o600)
	if err == nil && f.cred != nil {
		err = os.Chown(path, int(f.cred.Uid), int(f.cred.Gid))
	}
	return path, err
}

// give makes another folder that of our user too; none if the path is empty.
func (f folder) give(path string) error {
	if path == "" || f.cred == nil {
		return nil
	}
	return os.Chown(path, int(f.cred.Uid), int(f.cred.Gid))
}

// reservePort returns a port for a server, which is its own until the folder is removed.
func (f *folder) reservePort(ctx context.Context) (int, error) {
	port, reserved, err := reservePort(ctx)
	if err == nil {
		f.ports = append(f.ports, reserved)
	}
	return port, err
}

func (f folder) remove() error {
	err := os.RemoveAll(f.path)
	for _, port := range f.ports {
		_ = port.Close()
	}
	if f.lock != nil {
		_ = f.lock.Close()
	}
	return err
}

// unprivileged is the user that servers run as when we are root.
func unprivileged() (*syscall.Credential, error) {
	account, err := user.Lookup("postgres")
	if err != nil {
		if account, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("servers do not run as root: %w", err)
		}
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// removeAbandoned clears away what processes left there that were killed before they could. It
// does what it can: a folder that belongs to another user stays.
func removeAbandoned(dir string) {
	paths, _ := filepath.Glob(filepath.Join(dir, folderPrefix+"*"))
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < abandonedAfter {
			continue
		}
		lock, err := os.Open(filepath.Join(path, lockName))
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(path)
		}
		_ = lock.Close()
	}
}
