// Package disk is a file system in memory that forgets at a power loss what was not synced, as
// a disk behind a page cache does. Tests put the data of a server on it. It is mounted with
// FUSE: Linux only, and it takes /dev/fuse and the right to mount.
//
// A file has pages as programs see them and pages as they are on the disk; fsync and fdatasync
// copy the first over the second. The changes of directories (create, link, rename, unlink,
// mkdir, rmdir) are a log, as on a journalled file system: it is on the disk up to the last
// change that names what was synced, be it the file or a directory.
//
// A power loss takes four steps, in this order:
//
//	d.Freeze()                // from now on no operation is answered
//	...                       // kill -9 of all processes that use it
//	d.Fail()                  // blocked operations fail, so that these processes can die
//	loss, err := d.Lose(...)  // decides what was on the disk, and mounts that
//
// Several disks that are frozen one after the other, before anything else, lose their power at
// the same moment.
package disk

import (
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Survival says what becomes of data that was not synced.
type Survival int

const (
	// Nothing survives: neither data nor names.
	Nothing Survival = iota
	// Pages survive at random: each with a probability that is 0.1, 0.5 or 0.9 for the whole
	// loss, a quarter of these torn between sectors of 512 bytes. The size of a file is the old
	// or the new one. Of the changes of directories those up to a random one survive.
	Pages
	// Prefix is for files that are appended to: what was appended survives up to any byte, and
	// other changes of a file survive together or not at all. This is a file system that writes
	// data before sizes. Changes of directories survive as with Pages.
	Prefix
)

// Loss counts what a power loss did to what was not synced.
type Loss struct {
	PagesDropped, PagesKept, PagesTorn int // the torn ones are among those kept
	BytesDropped, BytesKept            int64
	NamesDropped, NamesKept            int // changes of directories
	Files                              int // with data that was not synced
}

// Add adds the counts of another loss.
func (l *Loss) Add(other Loss) {
	l.PagesDropped += other.PagesDropped
	l.PagesKept += other.PagesKept
	l.PagesTorn += other.PagesTorn
	l.BytesDropped += other.BytesDropped
	l.BytesKept += other.BytesKept
	l.NamesDropped += other.NamesDropped
	l.NamesKept += other.NamesKept
	l.Files += other.Files
}

func (l Loss) String() string {
	return fmt.Sprintf("in %d files %d pages dropped, %d kept (%d torn); "+
		"appended bytes %d dropped, %d kept; names %d dropped, %d kept",
		l.Files, l.PagesDropped, l.PagesKept, l.PagesTorn, l.BytesDropped, l.BytesKept, l.NamesDropped, l.NamesKept)
}

// power is whether operations are answered.
type power int

const (
	on power = iota
	frozen
	off
)

const (
	namePrefix = "aggregator-disk-"
	fsName     = "aggregator-disk"
)

// Disk is a file system with what is in it. Its methods are for one goroutine at a time; the
// file system itself serves any number.
type Disk struct {
	folder string
	server *fuse.Server // nil: not mounted

	mu       sync.Mutex // guards all below
	changed  sync.Cond  // of power
	power    power
	delay    time.Duration
	lies     bool
	root     *inode
	inodes   map[uint64]*inode // that the kernel may ask for
	last     uint64            // number of an inode, or of an open directory
	log      []change          // of directories, not yet on the disk
	listings map[uint64][]fuse.DirEntry
}

// Mount makes an empty disk and mounts it in a temporary folder, where only root may write
// until Folder is given to another user. An error means that there is no /dev/fuse, or no
// right to mount.
func Mount() (*Disk, error) {
	removeAbandoned()
	folder, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", namePrefix, os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("make a folder for a disk: %w", err)
	}
	d := &Disk{folder: folder}
	d.changed.L = &d.mu
	d.root = newInode(fuse.FUSE_ROOT_ID, syscall.S_IFDIR|0o755, uint32(os.Geteuid()), uint32(os.Getegid()))
	d.last = fuse.FUSE_ROOT_ID
	d.restart()
	if err := d.mount(); err != nil {
		return nil, errors.Join(err, os.Remove(folder))
	}
	return d, nil
}

// New mounts an empty disk, which is closed after the test. The test is skipped where that is not
// possible.
func New(t testing.TB) *Disk {
	t.Helper()
	d, err := Mount()
	if err != nil {
		t.Skipf("a disk that forgets takes /dev/fuse and the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close the disk: %v", err)
		}
	})
	return d
}

// Folder is where the disk is mounted; it stays the same.
func (d *Disk) Folder() string { return d.folder }

// SetDelay sets how long a sync takes that has something to do, zero at first. A power loss in
// that time finds the data not synced.
func (d *Disk) SetDelay(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = delay
}

// Lie makes the disk say of each sync that it is done and do nothing.
func (d *Disk) Lie() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lies = true
}

// Sync puts on the disk all that is in the file system, whether or not the disk lies.
func (d *Disk) Sync() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle(len(d.log))
	for _, n := range d.reachable() {
		n.sync()
	}
}

// Freeze is the moment at which the power goes. Operations that come later are blocked.
func (d *Disk) Freeze() { d.switchTo(frozen) }

// Fail lets the blocked operations fail, and all that come later.
func (d *Disk) Fail() { d.switchTo(off) }

func (d *Disk) switchTo(p power) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.power = p
	d.changed.Broadcast()
}

// Lose decides what is left and mounts that. No process may use the file system any more.
func (d *Disk) Lose(survival Survival, rng *rand.Rand) (Loss, error) {
	d.Fail()
	if err := d.unmount(); err != nil {
		return Loss{}, err
	}
	d.mu.Lock()
	loss := d.lose(survival, rng)
	d.restart()
	d.mu.Unlock()
	return loss, d.mount()
}

// Close unmounts the disk and forgets it all. It is safe to repeat.
func (d *Disk) Close() error {
	d.Fail()
	if err := d.unmount(); err != nil {
		return err
	}
	if err := os.Remove(d.folder); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// restart makes the file system what is on the disk.
func (d *Disk) restart() {
	d.power, d.log = on, nil
	d.inodes, d.listings = map[uint64]*inode{}, map[uint64][]fuse.DirEntry{}
	for _, n := range d.reachable() {
		n.restart()
		d.inodes[n.number] = n
	}
	for _, n := range d.inodes {
		for _, child := range n.entries {
			child.links++
		}
	}
}

func (d *Disk) mount() error {
	f := &fileSystem{RawFileSystem: fuse.NewDefaultRawFileSystem(), Disk: d}
	syscall.ForkLock.RLock()
	server, err := fuse.NewServer(f, d.folder, &fuse.MountOptions{
		AllowOther: true, Options: []string{"default_permissions"}, DirectMountStrict: true,
		FsName: fsName, Name: fsName, Logger: log.New(os.Stderr, "disk: ", 0),
		DisableXAttrs: true, DisableReadDirPlus: true, ExplicitDataCacheControl: true,
	})
	keepFromChildren()
	syscall.ForkLock.RUnlock()
	if err != nil {
		return fmt.Errorf("mount a disk: %w", err)
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		return errors.Join(fmt.Errorf("mount a disk: %w", err), server.Unmount())
	}
	d.server = server
	return nil
}

// unmount waits for who is about to let go of it.
func (d *Disk) unmount() error {
	if d.server == nil {
		return nil
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := d.server.Unmount()
		if err == nil {
			d.server = nil
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("unmount a disk: %w", err)
		}
	}
}

// removeAbandoned unmounts what processes left that were killed before they could. It asks these disks for
// nothing: they would not answer.
func removeAbandoned() {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != fsName {
			continue
		}
		var pid int
		_, err := fmt.Sscanf(filepath.Base(words[1]), namePrefix+"%d-", &pid)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = syscall.Unmount(words[1], syscall.MNT_FORCE) // what still waits for it fails
			_ = syscall.Unmount(words[1], syscall.MNT_DETACH)
			_ = os.Remove(words[1])
		}
	}
}

// keepFromChildren keeps what the kernel asks a file system of this process from being handed
// down to programs that we start. If a server had it, the kernel would wait for its answers
// when we are dead.
func keepFromChildren() {
	files, _ := filepath.Glob("/proc/self/fd/*")
	for _, file := range files {
		if to, _ := os.Readlink(file); to == "/dev/fuse" {
			if fd, err := strconv.Atoi(filepath.Base(file)); err == nil {
				syscall.CloseOnExec(fd)
			}
		}
	}
}
