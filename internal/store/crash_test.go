package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"shoal/internal/content"
)

// simDisk is a disk in memory that can be cut off from its power. What was not synced is then lost, kept or torn by chance:
// writes of bytes each for itself, in sectors; changes of names in their order, as journaling file systems keep it.
type simDisk struct {
	files map[string]*simNode // by path; folders too
	next  int

	durable map[string]*simNode // what the names would be after a crash, without pending
	pending []simName

	ops     int
	clock   int64           // goes on when the power comes back
	stopAt  int             // the operation at which the power goes; 0: never
	lying   string          // the kind of sync that does nothing
	kinds   map[string]bool // of syncs that were asked for
	stopped bool

	noSyncAll bool // there is no such call
}

type simNode struct {
	id     int
	dir    bool
	link   string // its target, of a symbolic link
	data   []byte
	synced []byte
	writes []simWrite // since the last sync
	mtime  int64
	kept   int64 // the mtime that is on the disk: a sync of a file's bytes leaves it as it is
	locked bool
}

// simWrite is bytes at an offset, or with b nil a new size.
type simWrite struct {
	off int64
	b   []byte
}

// simName is a change of names in one folder, or two.
type simName struct {
	dirs   []string
	change func(map[string]*simNode)
}

var errPower = errors.New("the power is gone")

func newSimDisk() *simDisk {
	return &simDisk{files: make(map[string]*simNode), durable: make(map[string]*simNode), kinds: make(map[string]bool)}
}

// op counts an operation, and says whether the power is still there.
func (d *simDisk) op() error {
	d.ops++
	d.clock++
	if d.stopped || d.ops == d.stopAt {
		d.stopped = true
		return errPower
	}
	return nil
}

// name changes names, now and, when it is synced or lucky, for ever.
func (d *simDisk) name(change func(map[string]*simNode), names ...string) {
	change(d.files)
	var dirs []string
	for _, n := range names {
		dirs = append(dirs, path.Dir(n))
	}
	d.pending = append(d.pending, simName{dirs, change})
}

// What becomes of the writes of a file that were not synced.
const (
	lost = iota
	kept
	torn // each by chance, in any order, and some sectors of it only
)

// crash returns the disk as it is when the power comes back.
func (d *simDisk) crash(chance *rand.Rand) *simDisk {
	return d.crashAs(chance.IntN(len(d.pending)+1), func() int { return chance.IntN(3) }, chance)
}

// crashAs is crash where so many changes of names have become durable, and how says what becomes of the writes of each file.
func (d *simDisk) crashAs(names int, how func() int, chance *rand.Rand) *simDisk {
	out := newSimDisk()
	out.next, out.noSyncAll, out.clock = d.next, d.noSyncAll, d.clock
	for _, p := range d.pending[:names] {
		p.change(d.durable)
	}
	seen := make(map[*simNode]*simNode)
	for _, p := range slices.Sorted(maps.Keys(d.durable)) { // in an order: the same seed, the same disk
		n := d.durable[p]
		if !d.leads(p) {
			continue
		}
		if seen[n] == nil {
			seen[n] = n.crash(how(), chance)
		}
		out.files[p], out.durable[p] = seen[n], seen[n]
	}
	return out
}

// leads says whether durable names lead to one.
func (d *simDisk) leads(name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if d.durable[dir] == nil {
			return false
		}
	}
	return true
}

func (n *simNode) crash(how int, chance *rand.Rand) *simNode {
	out := &simNode{id: n.id, dir: n.dir, link: n.link, mtime: n.mtime, data: bytes.Clone(n.synced)}
	if chance.IntN(2) == 0 {
		out.mtime = n.kept
	}
	out.kept = out.mtime
	for _, i := range chance.Perm(len(n.writes)) {
		w := n.writes[i]
		if how == lost || how == torn && chance.IntN(2) == 0 {
			continue
		}
		if w.b == nil {
			out.data = resize(out.data, w.off)
			continue
		}
		b := w.b
		if how == torn && len(b) > 512 { // some of its sectors
			from := chance.IntN(len(b)/512) * 512
			to := min(len(b), from+512*(1+chance.IntN(8)))
			b, w.off = b[from:to], w.off+int64(from)
		}
		out.data = resize(out.data, max(int64(len(out.data)), w.off+int64(len(b))))
		copy(out.data[w.off:], b)
	}
	out.synced = bytes.Clone(out.data)
	return out
}

func resize(b []byte, size int64) []byte {
	if int64(len(b)) >= size {
		return b[:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func (d *simDisk) OpenFolder(string) (Folder, error) { return &simFolder{d}, nil }

type simFolder struct{ d *simDisk }

func (f *simFolder) Open(name string, flag int, _ fs.FileMode) (File, error) {
	if err := f.d.op(); err != nil {
		return nil, err
	}
	n := f.d.files[name]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, fs.ErrNotExist
	case n == nil:
		f.d.next++
		n = &simNode{id: f.d.next, mtime: f.d.clock, kept: f.d.clock}
		f.d.name(func(m map[string]*simNode) { m[name] = n }, name)
	case flag&os.O_EXCL != 0:
		return nil, fs.ErrExist
	}
	return &simFile{d: f.d, n: n, name: path.Base(name)}, nil
}

func (f *simFolder) Lstat(name string) (fs.FileInfo, error) {
	if err := f.d.op(); err != nil {
		return nil, err
	}
	n := f.d.files[name]
	if n == nil {
		return nil, fs.ErrNotExist
	}
	return simInfo{n, int64(len(n.data)), n.mtime}, nil
}

func (f *simFolder) Mkdir(name string, _ fs.FileMode) error {
	if err := f.d.op(); err != nil {
		return err
	}
	if f.d.files[name] != nil {
		return fs.ErrExist
	}
	f.d.next++
	n := &simNode{id: f.d.next, dir: true}
	f.d.name(func(m map[string]*simNode) { m[name] = n }, name)
	return nil
}

func (f *simFolder) Rename(from, to string) error {
	if err := f.d.op(); err != nil {
		return err
	}
	n := f.d.files[from]
	if n == nil {
		return fs.ErrNotExist
	}
	f.d.name(func(m map[string]*simNode) {
		delete(m, from)
		m[to] = n
		for p, in := range m {
			if rest, below := strings.CutPrefix(p, from+"/"); below {
				delete(m, p)
				m[to+"/"+rest] = in
			}
		}
	}, from, to)
	return nil
}

func (f *simFolder) Link(from, to string) error {
	if err := f.d.op(); err != nil {
		return err
	}
	n := f.d.files[from]
	if f.d.files[to] != nil {
		return fs.ErrExist
	}
	f.d.name(func(m map[string]*simNode) { m[to] = n }, to)
	return nil
}

func (f *simFolder) Remove(name string) error {
	if err := f.d.op(); err != nil {
		return err
	}
	if f.d.files[name] == nil {
		return fs.ErrNotExist
	}
	for p := range f.d.files {
		if strings.HasPrefix(p, name+"/") {
			return errors.New("not empty")
		}
	}
	f.d.name(func(m map[string]*simNode) { delete(m, name) }, name)
	return nil
}

func (f *simFolder) RemoveAll(name string) error {
	if err := f.d.op(); err != nil {
		return err
	}
	f.d.name(func(m map[string]*simNode) {
		for p := range m {
			if p == name || strings.HasPrefix(p, name+"/") {
				delete(m, p)
			}
		}
	}, name)
	return nil
}

func (f *simFolder) Symlink(target, name string) error {
	if err := f.d.op(); err != nil {
		return err
	}
	if f.d.files[name] != nil {
		return fs.ErrExist
	}
	f.d.next++
	n := &simNode{id: f.d.next, link: target}
	f.d.name(func(m map[string]*simNode) { m[name] = n }, name)
	return nil
}

func (f *simFolder) Readlink(name string) (string, error) {
	if err := f.d.op(); err != nil {
		return "", err
	}
	if n := f.d.files[name]; n != nil && n.link != "" {
		return n.link, nil
	}
	return "", fs.ErrInvalid
}

func (f *simFolder) Chmod(string, fs.FileMode) error { return f.d.op() }

// SyncAll makes everything last.
func (f *simFolder) SyncAll() error {
	if f.d.noSyncAll {
		return errors.ErrUnsupported
	}
	if err := f.d.op(); err != nil {
		return err
	}
	if f.d.lies("all") {
		return nil
	}
	for _, n := range f.d.files {
		n.synced, n.writes, n.kept = bytes.Clone(n.data), nil, n.mtime
	}
	for _, p := range f.d.pending {
		p.change(f.d.durable)
	}
	f.d.pending = nil
	return nil
}

// kind tells a sync from others by what it is of, and for the target's folder by whether the target is there.
func (d *simDisk) lies(kind string) bool {
	d.kinds[kind] = true
	return kind == d.lying
}

// SyncDir makes the names of that folder last, and of no other.
func (f *simFolder) SyncDir(name string) error {
	if err := f.d.op(); err != nil {
		return err
	}
	kind := "the hidden folder's names"
	if name == "." {
		kind = "the target's folder, before the first piece"
		if f.d.files["f"] != nil && !slices.Contains([]*simNode{f.d.durable["f"]}, f.d.files["f"]) {
			kind = "the target's folder, after the name was given"
		}
	}
	if f.d.lies(kind) {
		return nil
	}
	var rest []simName
	for _, p := range f.d.pending {
		if slices.Contains(p.dirs, name) {
			p.change(f.d.durable)
		} else {
			rest = append(rest, p)
		}
	}
	f.d.pending = rest
	return nil
}

func (f *simFolder) Free() (int64, error) { return 1 << 40, nil }
func (f *simFolder) Close() error         { return nil }

type simFile struct {
	d    *simDisk
	n    *simNode
	name string
	lock bool
}

func (f *simFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.d.op(); err != nil {
		return 0, err
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *simFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.d.op(); err != nil {
		return 0, err
	}
	f.n.data = resize(f.n.data, max(int64(len(f.n.data)), off+int64(len(b))))
	copy(f.n.data[off:], b)
	f.n.writes = append(f.n.writes, simWrite{off, bytes.Clone(b)})
	f.n.mtime = f.d.clock
	return len(b), nil
}

func (f *simFile) Truncate(size int64) error {
	if err := f.d.op(); err != nil {
		return err
	}
	f.n.data = resize(f.n.data, size)
	f.n.writes = append(f.n.writes, simWrite{size, nil})
	f.n.mtime = f.d.clock
	return nil
}

func (f *simFile) Allocate(size int64) error {
	if int64(len(f.n.data)) == size {
		return nil
	}
	return f.Truncate(size)
}

func (f *simFile) Stat() (fs.FileInfo, error) {
	if err := f.d.op(); err != nil {
		return nil, err
	}
	return simInfo{f.n, int64(len(f.n.data)), f.n.mtime}, nil
}

func (f *simFile) DataSync() error {
	if err := f.d.op(); err != nil {
		return err
	}
	if f.d.lies("the bytes of " + f.name) {
		return nil
	}
	f.n.synced, f.n.writes = bytes.Clone(f.n.data), nil
	return nil
}

func (f *simFile) Lock() error {
	if err := f.d.op(); err != nil {
		return err
	}
	f.n.locked, f.lock = true, true
	return nil
}

func (f *simFile) Close() error { return nil }

// simInfo is a file at one moment.
type simInfo struct {
	n     *simNode
	size  int64
	mtime int64
}

func (i simInfo) Name() string       { return "" }
func (i simInfo) Size() int64        { return i.size }
func (i simInfo) ModTime() time.Time { return time.Unix(i.mtime, 0) }
func (i simInfo) IsDir() bool        { return i.n.dir }
func (i simInfo) Sys() any           { return i.n }

func (i simInfo) Mode() fs.FileMode {
	switch {
	case i.n.dir:
		return fs.ModeDir | 0o700
	case i.n.link != "":
		return fs.ModeSymlink | 0o777
	}
	return 0o600
}

// sameNode is os.SameFile for this disk's files too.
func init() {
	sameFiles = func(a, b fs.FileInfo) bool {
		x, isSim := a.(simInfo)
		y, _ := b.(simInfo)
		if isSim {
			return x.n == y.n
		}
		return os.SameFile(a, b)
	}
}

// crashing is a small download on such a disk.
type crashing struct {
	want, old []byte
	m         *content.Manifest
	overwrite bool
	synced    []uint32 // pieces that a Sync has made last
	done      bool     // Complete has said so
}

// crashContent is what all of them are of. Nobody changes it.
var crashContent = sync.OnceValues(func() ([]byte, *content.Manifest) {
	b := make([]byte, 4*content.MinPiece+777)
	for i := range b {
		b[i] = byte(i*7 + i>>9)
	}
	m, err := Hash(context.Background(), bytes.NewReader(b), int64(len(b)), 1, nil)
	if err != nil {
		panic(err)
	}
	return b, m
})

func newCrashing(overwrite bool) *crashing {
	c := &crashing{overwrite: overwrite}
	c.want, c.m = crashContent()
	if overwrite {
		c.old = bytes.Clone(c.want[:3*content.MinPiece])
		c.old[content.MinPiece+5] ^= 1
	}
	return c
}

// run downloads until it is complete or the power goes. It returns an error of the test, not of the disk.
func (c *crashing) run(t *testing.T, d *simDisk, stopEarly bool) error {
	p, err := OpenDownload(t.Context(), DownloadConfig{Dir: ".", Target: "f", Manifest: c.m, Key: "k", Overwrite: c.overwrite, Workers: 1, Disk: d})
	switch {
	case errors.Is(err, ErrComplete):
		c.done = true
		return nil
	case d.stopped:
		return nil
	case err != nil:
		return fmt.Errorf("open: %w", err)
	}
	defer p.Close()
	for _, piece := range c.synced {
		if !p.Have(piece) {
			return fmt.Errorf("piece %d was synced, and is gone", piece)
		}
	}
	var fetched []uint32
	for piece, have := range p.Snapshot() {
		if have {
			continue
		}
		if stopEarly && piece == 3 {
			return nil
		}
		w := p.Begin(uint32(piece))
		b := c.want[int64(piece)*c.m.Geo.Piece:][:c.m.Geo.Len(uint32(piece))]
		for len(b) > 0 {
			n := min(len(b), 20000)
			if w.Write(b[:n]) != nil {
				break
			}
			b = b[n:]
		}
		if _, err := w.Commit(); err != nil {
			w.Abort()
			if d.stopped {
				return nil
			}
			return err
		}
		fetched = append(fetched, uint32(piece))
		if piece%2 == 1 {
			if p.Sync() == nil {
				c.synced = append(c.synced, fetched...)
				fetched = nil
			}
		}
	}
	if err := p.Complete(t.Context()); err == nil {
		c.done = true
	} else if !d.stopped {
		return fmt.Errorf("complete: %w", err)
	}
	return nil
}

// check looks at what has the target's name.
func (c *crashing) check(d *simDisk) error {
	n := d.files["f"]
	switch {
	case n == nil && (c.done || c.overwrite):
		return errors.New("there is no file")
	case n == nil:
		return nil
	case bytes.Equal(n.data, c.want):
		return nil
	case c.overwrite && !c.done && bytes.Equal(n.data, c.old):
		return nil
	}
	return fmt.Errorf("the file has %d wrong bytes", len(n.data))
}

// crashes cuts the power at every operation of a download, and of the one that resumes it, and returns the first violation.
func crashes(t *testing.T, overwrite bool, lying string, seeds int) (kinds map[string]bool, violation error) {
	kinds = make(map[string]bool)
	for seed := range seeds {
		for at := 1; ; at++ {
			over, err := crashAt(t, overwrite, lying, uint64(seed), at, kinds)
			if err != nil {
				return kinds, fmt.Errorf("seed %d, power gone at operation %d, overwrite %v: %w", seed, at, overwrite, err)
			}
			if over {
				break
			}
		}
	}
	return kinds, nil
}

// older returns a disk, with the older version on it when a download is to replace one.
func (c *crashing) older() *simDisk {
	d := newSimDisk()
	if c.overwrite {
		n := &simNode{id: 1, data: bytes.Clone(c.old), synced: bytes.Clone(c.old), mtime: -9, kept: -9}
		d.files["f"], d.durable["f"], d.next = n, n, 1
	}
	return d
}

// crashAt cuts the power at one operation of a download, and at some of the two that resume it. It says whether the download was over before.
func crashAt(t *testing.T, overwrite bool, lying string, seed uint64, at int, kinds map[string]bool) (over bool, err error) {
	chance := rand.New(rand.NewPCG(seed, uint64(at)))
	c := newCrashing(overwrite)
	d := c.older()
	d.stopAt, d.lying = at, lying
	stopEarly := chance.IntN(3) == 0
	err = c.run(t, d, stopEarly)
	over = !d.stopped
	for tries := 0; err == nil && tries < 3; tries++ {
		for k := range d.kinds {
			kinds[k] = true
		}
		d = d.crash(chance)
		d.lying = lying
		if err = c.check(d); err != nil {
			break
		}
		if tries < 2 { // the one that resumes loses its power too
			d.stopAt = 1 + chance.IntN(60)
		}
		err = c.run(t, d, false)
	}
	return over, errors.Join(err, c.end(d, err))
}

// end says what is wrong when all is over, and nothing was before.
func (c *crashing) end(d *simDisk, before error) error {
	switch {
	case before != nil:
		return nil
	case !c.done:
		return errors.New("it never ends")
	case len(d.files) != 1:
		return fmt.Errorf("left behind: %d names", len(d.files)-1)
	}
	return c.check(d)
}

func TestPowerThatGoesAtAnyOperationLosesNothing(t *testing.T) {
	for _, overwrite := range []bool{false, true} {
		if _, err := crashes(t, overwrite, "", 4); err != nil {
			t.Error(err)
		}
	}
}

// Each kind of sync is needed: without any one of them, the power takes something.
func TestEverySyncIsNeeded(t *testing.T) {
	kinds, _ := crashes(t, false, "", 1)
	if len(kinds) < 4 {
		t.Errorf("only these syncs were seen: %v", kinds)
	}
	for kind := range kinds {
		if kind == "the bytes of journal" {
			continue // only after a clean stop: TestEveryWayInWhichPowerGoesOnceLosesNothing
		}
		found := false
		for _, overwrite := range []bool{false, true} {
			_, err := crashes(t, overwrite, kind, 6)
			found = found || err != nil
		}
		if !found {
			t.Errorf("without the sync of %s nothing is lost: is it needed?", kind)
		}
	}
}
