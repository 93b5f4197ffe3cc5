package disk

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// All changes go through the kernel, so that what it remembers stays right.
const valid = time.Hour

// fileSystem is what the kernel talks to.
type fileSystem struct {
	fuse.RawFileSystem // of which nothing is implemented
	*Disk
}

// enter locks the disk for an operation, once there is power. It is false if the power is gone.
func (d *Disk) enter() bool {
	d.mu.Lock()
	for d.power == frozen {
		d.changed.Wait()
	}
	if d.power == off {
		d.mu.Unlock()
		return false
	}
	return true
}

// do runs an operation on an inode.
func (f *fileSystem) do(number uint64, operation func(*inode) fuse.Status) fuse.Status {
	if !f.enter() {
		return fuse.EIO
	}
	defer f.mu.Unlock()
	n := f.inodes[number]
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	return operation(n)
}

func (n *inode) attributes(out *fuse.Attr) {
	*out = fuse.Attr{
		Ino: n.number, Size: uint64(n.size), Blocks: uint64(n.size+511) / 512, Blksize: pageSize,
		Mode: n.mode, Nlink: n.links, Owner: fuse.Owner{Uid: n.uid, Gid: n.gid},
	}
	out.SetTimes(&n.modified, &n.modified, &n.modified)
}

// answer gives the kernel an inode, which it then may ask for until it forgets it.
func (n *inode) answer(out *fuse.EntryOut) {
	n.lookups++
	out.NodeId, out.Generation = n.number, 1
	out.SetEntryTimeout(valid)
	out.SetAttrTimeout(valid)
	n.attributes(&out.Attr)
}

func (f *fileSystem) String() string { return fsName }

func (f *fileSystem) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	return f.do(in.NodeId, func(dir *inode) fuse.Status {
		n := dir.entries[name]
		if n == nil {
			return fuse.ENOENT
		}
		n.answer(out)
		return fuse.OK
	})
}

func (f *fileSystem) Forget(number, lookups uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.inodes[number]; n != nil {
		n.lookups -= min(lookups, n.lookups)
		f.dismiss(n)
	}
}

// dismiss drops an inode that nothing leads to; it may still be on the disk.
func (d *Disk) dismiss(n *inode) {
	if n.lookups == 0 && n.links == 0 {
		delete(d.inodes, n.number)
	}
}

func (f *fileSystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return f.do(in.NodeId, func(n *inode) fuse.Status {
		out.SetTimeout(valid)
		n.attributes(&out.Attr)
		return fuse.OK
	})
}

func (f *fileSystem) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return f.do(in.NodeId, func(n *inode) fuse.Status {
		if mode, ok := in.GetMode(); ok {
			n.mode = n.mode&syscall.S_IFMT | mode&^syscall.S_IFMT
		}
		if uid, ok := in.GetUID(); ok {
			n.uid = uid
		}
		if gid, ok := in.GetGID(); ok {
			n.gid = gid
		}
		if modified, ok := in.GetMTime(); ok {
			n.modified = modified
		}
		if size, ok := in.GetSize(); ok {
			n.truncate(int64(size))
		}
		out.SetTimeout(valid)
		n.attributes(&out.Attr)
		return fuse.OK
	})
}

// make adds an inode to a directory.
func (f *fileSystem) make(
	in *fuse.InHeader, mode uint32, name, target string, out *fuse.EntryOut,
) fuse.Status {
	return f.do(in.NodeId, func(dir *inode) fuse.Status {
		if dir.entries[name] != nil {
			return fuse.Status(syscall.EEXIST)
		}
		f.last++
		n := newInode(f.last, mode, in.Uid, in.Gid)
		n.target, n.size, n.kept.size = target, int64(len(target)), int64(len(target))
		f.inodes[n.number] = n
		f.change(n, edit{dir, name, n})
		n.answer(out)
		return fuse.OK
	})
}

// change changes directories and logs it.
func (d *Disk) change(about *inode, edits ...edit) {
	for _, e := range edits {
		if old := e.dir.entries[e.name]; old != nil {
			old.links--
			if old.isDir() && old != about { // it is empty, and is gone
				old.links = 0
			}
			defer d.dismiss(old)
		}
		if e.to == nil {
			delete(e.dir.entries, e.name)
		} else {
			e.dir.entries[e.name] = e.to
			e.to.links++
		}
		e.dir.modified = time.Now()
	}
	d.log = append(d.log, change{about, edits})
}

func (f *fileSystem) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	if in.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return fuse.EPERM
	}
	return f.make(&in.InHeader, in.Mode, name, "", out)
}

func (f *fileSystem) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.make(&in.InHeader, syscall.S_IFDIR|in.Mode, name, "", out)
}

func (f *fileSystem) Symlink(
	_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut,
) fuse.Status {
	return f.make(in, syscall.S_IFLNK|0o777, name, target, out)
}

func (f *fileSystem) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return f.make(&in.InHeader, syscall.S_IFREG|in.Mode, name, "", &out.EntryOut)
}

func (f *fileSystem) Readlink(_ <-chan struct{}, in *fuse.InHeader) (target []byte, status fuse.Status) {
	status = f.do(in.NodeId, func(n *inode) fuse.Status {
		target = []byte(n.target)
		return fuse.OK
	})
	return target, status
}

func (f *fileSystem) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.remove(in, name)
}

func (f *fileSystem) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.remove(in, name)
}

func (f *fileSystem) remove(in *fuse.InHeader, name string) fuse.Status {
	return f.do(in.NodeId, func(dir *inode) fuse.Status {
		n := dir.entries[name]
		if n == nil {
			return fuse.ENOENT
		}
		if len(n.entries) > 0 {
			return fuse.Status(syscall.ENOTEMPTY)
		}
		if n.isDir() {
			n.links = 1 // that by itself goes, too
		}
		f.change(n, edit{dir, name, nil})
		return fuse.OK
	})
}

func (f *fileSystem) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.do(in.NodeId, func(dir *inode) fuse.Status {
		n := f.inodes[in.Oldnodeid]
		switch {
		case n == nil:
			return fuse.ENOENT
		case dir.entries[name] != nil:
			return fuse.Status(syscall.EEXIST)
		}
		f.change(n, edit{dir, name, n})
		n.answer(out)
		return fuse.OK
	})
}

const renameNoReplace = 1 // the only flag of renameat2 that we know

func (f *fileSystem) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	return f.do(in.NodeId, func(dir *inode) fuse.Status {
		other := f.inodes[in.Newdir]
		if other == nil || dir.entries[from] == nil {
			return fuse.ENOENT
		}
		n, old := dir.entries[from], other.entries[to]
		switch {
		case in.Flags&^renameNoReplace != 0:
			return fuse.EINVAL
		case old != nil && in.Flags == renameNoReplace:
			return fuse.Status(syscall.EEXIST)
		case old == n:
			return fuse.OK
		case old != nil && len(old.entries) > 0:
			return fuse.Status(syscall.ENOTEMPTY)
		}
		f.change(n, edit{other, to, n}, edit{dir, from, nil})
		return fuse.OK
	})
}

func (f *fileSystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return f.do(in.NodeId, func(n *inode) fuse.Status {
		if in.Flags&syscall.O_TRUNC != 0 {
			n.truncate(0)
		}
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
		return fuse.OK
	})
}

func (f *fileSystem) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (result fuse.ReadResult, status fuse.Status) {
	status = f.do(in.NodeId, func(n *inode) fuse.Status {
		result = fuse.ReadResultData(n.read(int64(in.Offset), buf[:min(len(buf), int(in.Size))]))
		return fuse.OK
	})
	return result, status
}

func (f *fileSystem) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	status := f.do(in.NodeId, func(n *inode) fuse.Status {
		offset := int64(in.Offset)
		if in.Flags&syscall.O_APPEND != 0 && in.WriteFlags&fuse.WRITE_CACHE == 0 {
			offset = n.size
		}
		n.write(offset, data)
		return fuse.OK
	})
	if status != fuse.OK {
		return 0, status
	}
	return uint32(len(data)), fuse.OK
}

func (f *fileSystem) Writev(_ <-chan struct{}, _ *fuse.WriteIn, _ [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS // then it is Write
}

func (f *fileSystem) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	var delay time.Duration
	status := f.do(in.NodeId, func(n *inode) fuse.Status {
		if !f.lies && (n.unsynced() || f.about(n) > 0) {
			delay = f.delay
		}
		return fuse.OK
	})
	if status != fuse.OK {
		return status
	}
	time.Sleep(delay)
	return f.do(in.NodeId, func(n *inode) fuse.Status {
		if !f.lies {
			f.sync(n)
		}
		return fuse.OK
	})
}

func (f *fileSystem) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return f.Fsync(cancel, in)
}

// Flush is nothing that we do at a close. That a close does not have to wait for us keeps a
// fork in our own process, which closes what it does not hand down, from waiting for itself.
func (f *fileSystem) Flush(_ <-chan struct{}, _ *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// OpenDir lists the directory as it is now: a reader that removes files meanwhile sees all.
func (f *fileSystem) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return f.do(in.NodeId, func(dir *inode) fuse.Status {
		list := []fuse.DirEntry{
			{Name: ".", Ino: dir.number, Mode: dir.mode, Off: 1},
			{Name: "..", Ino: dir.number, Mode: dir.mode, Off: 2},
		}
		for name, n := range dir.entries {
			list = append(list, fuse.DirEntry{Name: name, Ino: n.number, Mode: n.mode, Off: uint64(len(list) + 1)})
		}
		f.last++
		out.Fh = f.last
		f.listings[out.Fh] = list
		return fuse.OK
	})
}

func (f *fileSystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.do(in.NodeId, func(*inode) fuse.Status {
		list := f.listings[in.Fh]
		for _, entry := range list[min(in.Offset, uint64(len(list))):] {
			if !out.AddDirEntry(entry) {
				break
			}
		}
		return fuse.OK
	})
}

func (f *fileSystem) ReleaseDir(in *fuse.ReleaseIn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.listings, in.Fh)
}

func (f *fileSystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const blocks = 1 << 20
	*out = fuse.StatfsOut{
		Blocks: blocks, Bfree: blocks, Bavail: blocks, Files: blocks, Ffree: blocks,
		Bsize: pageSize, Frsize: pageSize, NameLen: 255,
	}
	return fuse.OK
}
