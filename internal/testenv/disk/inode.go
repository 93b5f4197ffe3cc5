package disk

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

const (
	pageSize   = 4096
	sectorSize = 512
)

type page [pageSize]byte

// inode is a file, a directory or a symbolic link. Its mode and owner are not subject to
// losses; neither is the target of a link.
type inode struct {
	number         uint64
	mode, uid, gid uint32
	modified       time.Time
	links          uint32
	lookups        uint64 // by the kernel, which has not forgotten them
	target         string // of a symbolic link

	// As programs see it. A page that is not there is zero. Pages that are not dirty are those on the disk: a
	// write copies them first.
	pages   map[int64]*page
	size    int64
	dirty   map[int64]struct{} // written or cut off since the last sync
	entries map[string]*inode

	// As it is on the disk.
	kept struct {
		pages   map[int64]*page
		size    int64
		entries map[string]*inode
	}
}

// change is one of directories, which happens wholly or not at all.
type change struct {
	about *inode
	edits []edit
}

// edit makes a name lead to an inode; to none, if that is nil.
type edit struct {
	dir  *inode
	name string
	to   *inode
}

func newInode(number uint64, mode, uid, gid uint32) *inode {
	n := &inode{number: number, mode: mode, uid: uid, gid: gid, modified: time.Now()}
	n.kept.pages, n.kept.entries = map[int64]*page{}, map[string]*inode{}
	n.restart()
	return n
}

// restart makes it what is on the disk. Its links are to be counted again.
func (n *inode) restart() {
	n.lookups, n.links = 0, 0
	if n.isDir() {
		n.links = 1 // its own name for itself
	}
	n.pages, n.size = maps.Clone(n.kept.pages), n.kept.size
	n.dirty = map[int64]struct{}{}
	n.entries = maps.Clone(n.kept.entries)
}

func (n *inode) isDir() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }

func (n *inode) unsynced() bool { return len(n.dirty) > 0 || n.size != n.kept.size }

// writable is the page of that index, to be written to.
func (n *inode) writable(i int64) *page {
	_, dirty := n.dirty[i]
	if p := n.pages[i]; p != nil && dirty {
		return p
	}
	p := new(page)
	if old := n.pages[i]; old != nil {
		*p = *old
	}
	n.pages[i], n.dirty[i] = p, struct{}{}
	return p
}

func (n *inode) write(offset int64, data []byte) {
	for end := offset + int64(len(data)); offset < end; {
		p := n.writable(offset / pageSize)
		written := copy(p[offset%pageSize:], data)
		data = data[written:]
		offset += int64(written)
	}
	n.size = max(n.size, offset)
	n.modified = time.Now()
}

func (n *inode) read(offset int64, buf []byte) []byte {
	buf = buf[:max(0, min(int64(len(buf)), n.size-offset))]
	for rest := buf; len(rest) > 0; {
		var done int
		if p := n.pages[offset/pageSize]; p != nil {
			done = copy(rest, p[offset%pageSize:])
		} else {
			done = min(len(rest), int(pageSize-offset%pageSize))
			clear(rest[:done])
		}
		rest = rest[done:]
		offset += int64(done)
	}
	return buf
}

func (n *inode) truncate(size int64) {
	if size < n.size {
		for i := range n.pages {
			if i*pageSize >= size {
				delete(n.pages, i)
				n.dirty[i] = struct{}{}
			}
		}
		if i := size / pageSize; size%pageSize != 0 && n.pages[i] != nil {
			clear(n.writable(i)[size%pageSize:])
		}
	}
	n.size = size
	n.modified = time.Now()
}

// sync puts its data on the disk.
func (n *inode) sync() {
	for i := range n.dirty {
		n.keep(i, n.pages[i])
	}
	clear(n.dirty)
	n.kept.size = n.size
}

// keep puts a page on the disk.
func (n *inode) keep(i int64, p *page) {
	if p == nil {
		delete(n.kept.pages, i)
	} else {
		n.kept.pages[i] = p
	}
}

// resize makes the file on the disk that long.
func (n *inode) resize(size int64) {
	n.kept.size = size
	for i, p := range n.kept.pages {
		switch {
		case i*pageSize >= size:
			delete(n.kept.pages, i)
		case (i+1)*pageSize > size:
			cut := *p
			clear(cut[size-i*pageSize:])
			n.kept.pages[i] = &cut
		}
	}
}

// losePages is Pages for one file.
func (n *inode) losePages(rng *rand.Rand, probability float64, loss *Loss) {
	for _, i := range slices.Sorted(maps.Keys(n.dirty)) {
		p := n.pages[i]
		switch {
		case rng.Float64() >= probability:
			loss.PagesDropped++
			continue
		case rng.IntN(4) == 0:
			p = torn(n.kept.pages[i], p, rng)
			loss.PagesTorn++
		}
		loss.PagesKept++
		n.keep(i, p)
	}
	size := n.kept.size
	if rng.IntN(2) == 0 {
		size = n.size
	}
	n.resize(size)
}

// torn has some sectors of before and some of after.
func torn(before, after *page, rng *rand.Rand) *page {
	var mixed page
	if before != nil {
		mixed = *before
	}
	if after == nil {
		after = new(page)
	}
	for at := 0; at < pageSize; at += sectorSize {
		if rng.IntN(2) == 0 {
			copy(mixed[at:at+sectorSize], after[at:])
		}
	}
	return &mixed
}

// loseTail is Prefix for one file.
func (n *inode) loseTail(rng *rand.Rand, loss *Loss) {
	before, after := n.kept.size, n.size
	if after <= before { // not appended to
		if rng.IntN(2) == 0 {
			loss.PagesKept += len(n.dirty)
			n.sync()
		} else {
			loss.PagesDropped += len(n.dirty)
		}
		return
	}
	n.sync()
	cut := before + rng.Int64N(after-before+1)
	n.resize(cut)
	loss.BytesKept += cut - before
	loss.BytesDropped += after - cut
}

// reachable are all inodes that a name on the disk leads to, in the order of their numbers.
func (d *Disk) reachable() []*inode {
	seen := map[*inode]struct{}{d.root: {}}
	for next := []*inode{d.root}; len(next) > 0; next = next[1:] {
		for _, child := range next[0].kept.entries {
			if _, again := seen[child]; !again {
				seen[child] = struct{}{}
				next = append(next, child)
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b *inode) int { return cmp.Compare(a.number, b.number) })
}

// settle puts the first n changes of directories on the disk.
func (d *Disk) settle(n int) {
	for _, c := range d.log[:n] {
		for _, e := range c.edits {
			if e.to == nil {
				delete(e.dir.kept.entries, e.name)
			} else {
				e.dir.kept.entries[e.name] = e.to
			}
		}
	}
	d.log = d.log[n:]
}

// about is how many changes of directories there are up to the last that is about a file or a
// directory.
func (d *Disk) about(n *inode) int {
	for i, c := range slices.Backward(d.log) {
		if c.about == n || slices.ContainsFunc(c.edits, func(e edit) bool { return e.dir == n }) {
			return i + 1
		}
	}
	return 0
}

// sync puts a file or directory on the disk, with all changes of directories up to the last
// that is about it.
func (d *Disk) sync(n *inode) {
	n.sync()
	d.settle(d.about(n))
}

// lose makes what is on the disk that which a power loss leaves there.
func (d *Disk) lose(survival Survival, rng *rand.Rand) (loss Loss) {
	if survival != Nothing {
		loss.NamesKept = rng.IntN(len(d.log) + 1)
	}
	loss.NamesDropped = len(d.log) - loss.NamesKept
	d.settle(loss.NamesKept)
	probability := []float64{0.1, 0.5, 0.9}[rng.IntN(3)]
	for _, n := range d.reachable() {
		if !n.unsynced() {
			continue
		}
		loss.Files++
		switch survival {
		case Nothing:
			loss.PagesDropped += len(n.dirty)
		case Pages:
			n.losePages(rng, probability, &loss)
		case Prefix:
			n.loseTail(rng, &loss)
		}
	}
	return loss
}
