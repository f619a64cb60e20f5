package store

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bits-and-blooms/bitset"
	"lukechampine.com/blake3"
)

// Layout says where the units of a download lie until it is complete.
type Layout byte

// The layouts.
const (
	OneFile   Layout = 1 // all at their final place in one hidden file
	UnitFiles Layout = 2 // each in a file <index>.p2p in the target's folder, as the original's users know it
	Directory Layout = 3 // at their final places in the files of a hidden directory
)

// Errors of a download that a caller decides by.
var (
	ErrExists   = errors.New("target exists")
	ErrLocked   = errors.New("in use by another process")
	ErrMismatch = errors.New("the partial download is of something else")
)

// SpaceError is a download that does not fit on its disk.
type SpaceError struct {
	Path       string
	Need, Free int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%s needs %d bytes more, %d are free", e.Path, e.Need, e.Free)
}

// PartialConfig says what a download is of and where it goes.
type PartialConfig struct {
	Dir      string // folder of the target; it must exist
	Target   string // name of the file in Dir
	Key      string // what is downloaded, as far as a rerun must find it again: the same key, the same partial download
	Layout   Layout
	UnitSize int64  // bytes in each unit but the last
	Size     int64  // bytes in all, at least 1
	Restart  bool   // throw away what an earlier run left, instead of resuming
	Unsure   func() // told once if the file system cannot make bytes last; nil: nobody
}

// Units returns how many units the content has.
func (c PartialConfig) Units() uint32 { return uint32((c.Size + c.UnitSize - 1) / c.UnitSize) }

// Partial is a download under way. WriteAt, Mark, Have and Sync may be called from several goroutines at once, as long as
// only one writes to a unit; the rest only while nobody else does anything.
type Partial struct {
	cfg  PartialConfig
	root *os.Root // the target's folder: nothing is touched outside it
	dir  string   // name of the hidden folder in root
	lock *os.File
	log  *os.File // the journal
	sum  uint32   // its header's
	data dataFiles

	lasting lasting

	mu   sync.Mutex     // guards have and news
	have *bitset.BitSet // units that are complete
	news *bitset.BitSet // those of them that the journal does not say yet
	made *bitset.BitSet // units whose files are ours; only with UnitFiles

	writing sync.Mutex // held while records are written: guards log and failed
	failed  error      // what made a sync fail: nothing is believed to be synced after it
}

// dataFiles is where the bytes of units lie: one for each [Layout].
type dataFiles interface {
	begin() (there int64, err error)                // look at what an earlier run left: bytes that need no more space
	reserve() error                                 // take the space for the rest
	writeAt(unit uint32, b []byte, off int64) error // off is within the unit
	finish(unit uint32) error                       // the unit is whole: let go of what was held for it
	sync(units *bitset.BitSet) error                // make what was written for these units last
	has(unit uint32, size int64) bool               // whether a unit that the journal has can be there
	assemble(ctx context.Context) error             // make the one file "data" of it, synced
	cleanup() error                                 // remove what lies outside the hidden folder
	close() error
}

// FreeSpace returns how many bytes this user can still write below a folder; [math.MaxInt64] if its file system has no bound of its own.
func FreeSpace(dir string) (int64, error) { return freeSpace(dir) }

// Spare returns how many bytes of a folder's disk are left free by who does not say otherwise: 1 GiB, or 2 % of a disk of which that is less.
func Spare(dir string) int64 {
	const most = 1 << 30
	size, err := diskSize(dir)
	if err != nil {
		return most
	}
	return min(most, size/50)
}

// PartialDir returns the name of the hidden folder in which a download of this key is kept: ".shoal-" and 26 base32
// characters, the first 128 bits of the key's BLAKE3 hash.
func PartialDir(key string) string {
	sum := blake3.Sum256([]byte(key))
	return ".shoal-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// OpenPartial begins a download or resumes it. It reserves the space for all of it before it returns. A partial download
// of the same key but of another size or unit size is [ErrMismatch], and stays as it is.
func OpenPartial(cfg PartialConfig) (*Partial, error) {
	if cfg.Size < 1 || cfg.UnitSize < 1 || (cfg.Size-1)/cfg.UnitSize >= 1<<32-1 {
		return nil, fmt.Errorf("a download of %d bytes in units of %d", cfg.Size, cfg.UnitSize)
	}
	if cfg.Layout == UnitFiles && strings.HasSuffix(cfg.Target, unitSuffix) {
		return nil, fmt.Errorf("%s: %w as the name of a chunk file may be", filepath.Join(cfg.Dir, cfg.Target), ErrExists)
	}
	if !canHave(runtime.GOOS, cfg.Target) {
		return nil, fmt.Errorf("%w: %q", ErrNames, cfg.Target)
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, err
	}
	p := &Partial{cfg: cfg, root: root, dir: PartialDir(cfg.Key), lasting: lasting{unsure: cfg.Unsure}}
	if err := p.open(); err != nil {
		p.Close()
		return nil, inside(cfg.Dir, err)
	}
	return p, nil
}

// SweepPartial removes the traces of a run that was killed after it had given the file its name, where they are all that it has left: no
// other run would, since the target exists.
func SweepPartial(dir, target, key string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	p := &Partial{cfg: PartialConfig{Dir: dir, Target: target, Key: key}, root: root, dir: PartialDir(key)}
	defer p.Close()
	if !p.tracesOnly() {
		return nil
	}
	if err := p.takeLock(); err != nil || !p.tracesOnly() {
		return err
	}
	if err := errors.Join(syncDir(root, "."), p.wipe()); err != nil {
		return err
	}
	return errors.Join(removeFile(root, filepath.Join(p.dir, "lock")), root.Remove(p.dir))
}

// tracesOnly says whether the hidden folder is there, and has nothing that a download would resume from.
func (p *Partial) tracesOnly() bool {
	if fi, err := p.root.Lstat(p.dir); err != nil || !fi.IsDir() || !isOurs(fi) {
		return false
	}
	_, data := p.root.Lstat(filepath.Join(p.dir, "data"))
	_, journal := p.root.Lstat(filepath.Join(p.dir, "journal"))
	return p.wasPublished() || errors.Is(data, fs.ErrNotExist) && errors.Is(journal, fs.ErrNotExist)
}

func (p *Partial) open() error {
	if err := p.checkTarget(); err != nil {
		return err
	}
	if err := p.root.Mkdir(p.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if fi, err := p.root.Lstat(p.dir); err != nil {
		return err
	} else if !fi.IsDir() || !isOurs(fi) {
		return fmt.Errorf("%s: %w, and is no folder of this user", filepath.Join(p.cfg.Dir, p.dir), ErrExists)
	}
	if err := p.takeLock(); err != nil {
		return err
	}
	if p.cfg.Restart || p.wasPublished() {
		if err := p.wipe(); err != nil {
			return err
		}
	}
	// Nothing is allocated for what is claimed before it is known to fit on the disk.
	if err := p.openData(); err != nil {
		return err
	}
	fresh, err := p.readJournal()
	if err != nil {
		return err
	}
	if !fresh && p.dropWhatIsGone() {
		fresh = true
	}
	// A journal that is not to be believed is replaced before the data file has its size again, by which it is believed.
	if fresh {
		if err := p.beginJournal(); err != nil {
			return err
		}
	}
	if err := p.data.reserve(); err != nil {
		p.abandonIfEmpty()
		return fmt.Errorf("reserve %d bytes for %s: %w", p.cfg.Size, p.TargetPath(), err)
	}
	return nil
}

// wasPublished says whether an earlier run gave the data its name, and was stopped before it removed its traces: then the
// data is the user's file, and not ours to write to.
func (p *Partial) wasPublished() bool {
	data, err := p.root.Lstat(filepath.Join(p.dir, "data"))
	if err != nil {
		return false
	}
	target, err := p.root.Lstat(p.cfg.Target)
	return err == nil && os.SameFile(data, target)
}

// openData opens what an earlier run left, and checks that the rest fits on the disk.
func (p *Partial) openData() error {
	_, err := p.root.Lstat(filepath.Join(p.dir, "journal"))
	resumed := err == nil
	if p.cfg.Layout == UnitFiles {
		p.data = &unitFiles{p: p, open: make(map[uint32]*os.File), resumed: resumed, began: time.Now()}
	} else {
		p.data = &oneFile{p: p}
	}
	there, err := p.data.begin()
	if err != nil {
		return err
	}
	need := p.cfg.Size - there
	if p.cfg.Layout == UnitFiles {
		need += p.cfg.Size // the merged file, while the unit files are still there
	}
	if free, err := freeSpace(p.cfg.Dir); err == nil && need > free {
		if !resumed {
			p.abandonIfEmpty()
		}
		return &SpaceError{Path: p.TargetPath(), Need: need, Free: free}
	}
	return nil
}

// checkTarget refuses a target that is there and is no ordinary file: no option makes us replace such a thing.
func (p *Partial) checkTarget() error {
	fi, err := p.root.Lstat(p.cfg.Target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%s: %w, and is no ordinary file", p.TargetPath(), ErrExists)
	}
	return nil
}

// takeLock makes this process the only one at this download.
func (p *Partial) takeLock() error {
	name := filepath.Join(p.dir, "lock")
	f, err := p.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	p.lock = f
	if err := lockFile(f); err != nil && !isLocked(err) {
		return fmt.Errorf("lock %s: %w", filepath.Join(p.cfg.Dir, name), err)
	} else if err != nil {
		pid := make([]byte, 20)
		n, _ := f.ReadAt(pid, 0)
		return fmt.Errorf("%s: %w, number %s", p.TargetPath(), ErrLocked, strings.TrimSpace(string(pid[:n])))
	}
	// The other may have finished, and removed the folder, between our open and our lock.
	if fi, err := p.root.Stat(name); err != nil || !sameFile(f, fi) {
		return fmt.Errorf("%s: %w, which has just finished", p.TargetPath(), ErrLocked)
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func sameFile(f *os.File, fi os.FileInfo) bool {
	own, err := f.Stat()
	return err == nil && os.SameFile(own, fi)
}

// wipe removes what earlier runs left. The lock is kept. Unit files are removed only if the journal has them as ours.
func (p *Partial) wipe() error {
	if f, err := p.root.OpenFile(filepath.Join(p.dir, "journal"), os.O_RDONLY|noWait, 0); err == nil {
		var units uint32
		var removed error
		_, err := replay(f, func(j journal) error {
			if j.Layout != UnitFiles {
				return nil
			}
			units = PartialConfig{Size: j.Size, UnitSize: j.UnitSize}.Units()
			return nil
		}, func(kind recordKind, first, count uint32) {
			for u := first; kind == recordMade && u-first < count && u < units; u++ {
				removed = errors.Join(removed, removeFile(p.root, unitName(u)))
			}
		})
		f.Close()
		if removed != nil {
			return removed
		}
		if err != nil && !errors.Is(err, errTorn) && !errors.Is(err, ErrNewer) {
			return err
		}
	}
	for _, name := range []string{"journal", "data"} {
		if err := p.root.RemoveAll(filepath.Join(p.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// readJournal takes over what an earlier run left, and cuts off what a crash tore. A journal that proves nothing is fresh.
func (p *Partial) readJournal() (fresh bool, err error) {
	units := uint(p.cfg.Units())
	p.have, p.news, p.made = bitset.New(units), bitset.New(units), bitset.New(units)
	p.log, err = p.root.OpenFile(filepath.Join(p.dir, "journal"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, err
	}
	var header journal
	whole, err := replay(p.log, func(j journal) error {
		header = j
		if j != p.header() {
			return fmt.Errorf("%w: %v, wanted %v", ErrMismatch, j, p.header())
		}
		return nil
	}, func(kind recordKind, first, count uint32) {
		for u := uint64(first); u < min(uint64(first)+uint64(count), uint64(units)); u++ {
			switch kind {
			case recordThere:
				p.have.Set(uint(u))
			case recordMade:
				p.made.Set(uint(u))
			}
		}
	})
	switch {
	case errors.Is(err, errTorn):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("%s: %w", filepath.Join(p.cfg.Dir, p.dir), err)
	}
	_, p.sum = header.append(nil)
	if err := p.log.Truncate(whole); err != nil {
		return false, err
	}
	_, err = p.log.Seek(whole, io.SeekStart)
	return false, err
}

func (p *Partial) header() journal {
	return journal{Layout: p.cfg.Layout, UnitSize: p.cfg.UnitSize, Size: p.cfg.Size, Name: p.cfg.Key}
}

// beginJournal writes the journal's header, and makes it and the names that lead to it last.
func (p *Partial) beginJournal() error {
	b, sum := p.header().append(nil)
	p.sum = sum
	if err := p.log.Truncate(0); err != nil {
		return err
	}
	if _, err := p.log.WriteAt(b, 0); err != nil {
		return err
	}
	if _, err := p.log.Seek(int64(len(b)), io.SeekStart); err != nil {
		return err
	}
	if err := p.record(recordMade, p.made); err != nil { // those of the journal that this one replaces
		return err
	}
	if err := p.lasting.pass(p.log.Sync()); err != nil {
		return err
	}
	return errors.Join(syncDir(p.root, p.dir), syncDir(p.root, "."))
}

// abandonIfEmpty leaves no traces of a download that could not even begin.
func (p *Partial) abandonIfEmpty() {
	if p.have == nil || p.have.None() {
		_ = p.root.RemoveAll(p.dir)
	}
}

// dropWhatIsGone forgets units that the journal has but whose bytes somebody took away. If there are such, the journal
// is to be written anew, lest the next run believe it.
func (p *Partial) dropWhatIsGone() (dropped bool) {
	for u, ok := p.have.NextSet(0); ok; u, ok = p.have.NextSet(u + 1) {
		if !p.data.has(uint32(u), p.unitSize(uint32(u))) {
			p.have.Clear(u)
			dropped = true
		}
	}
	if dropped {
		p.news = p.have.Clone()
	}
	return dropped
}

func (p *Partial) unitSize(unit uint32) int64 {
	return min(p.cfg.UnitSize, p.cfg.Size-int64(unit)*p.cfg.UnitSize)
}

// TargetPath returns where the file will be.
func (p *Partial) TargetPath() string { return filepath.Join(p.cfg.Dir, p.cfg.Target) }

// Have says whether a unit is there.
func (p *Partial) Have(unit uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.have.Test(uint(unit))
}

// Bytes returns how many bytes of complete units are there.
func (p *Partial) Bytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := int64(p.have.Count()) * p.cfg.UnitSize
	if last := p.cfg.Units() - 1; p.have.Test(uint(last)) {
		n += p.unitSize(last) - p.cfg.UnitSize
	}
	return n
}

// WriteAt writes some bytes of a unit that is not there yet, off bytes into it.
func (p *Partial) WriteAt(unit uint32, b []byte, off int64) error {
	if unit >= p.cfg.Units() || off < 0 || off+int64(len(b)) > p.unitSize(unit) {
		panic("store: write outside a unit")
	}
	return p.data.writeAt(unit, b, off)
}

// Mark says that a unit has been written whole. It is in the journal after the next [Partial.Sync].
func (p *Partial) Mark(unit uint32) error {
	if err := p.data.finish(unit); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.have.Set(uint(unit))
	p.news.Set(uint(unit))
	return nil
}

// Sync makes the units that have been marked last: first their data, then the journal that says so. After an error they
// count as not there for the next run.
func (p *Partial) Sync() error {
	p.writing.Lock()
	defer p.writing.Unlock()
	if p.failed == nil {
		p.failed = p.sync()
	}
	return p.failed
}

func (p *Partial) sync() error {
	p.mu.Lock()
	news := p.news
	p.news = bitset.New(news.Len())
	p.mu.Unlock()
	if news.None() {
		return nil
	}
	if err := p.data.sync(news); err != nil {
		return fmt.Errorf("sync %s: %w", p.TargetPath(), err)
	}
	if err := p.record(recordThere, news); err != nil {
		return err
	}
	if err := p.lasting.pass(dataSync(p.log)); err != nil {
		return fmt.Errorf("sync journal of %s: %w", p.TargetPath(), err)
	}
	return nil
}

// record appends records of units to the journal: one for each run of them.
func (p *Partial) record(kind recordKind, units *bitset.BitSet) error {
	var b []byte
	for u, ok := units.NextSet(0); ok; {
		end, more := units.NextClear(u)
		if !more {
			end = units.Len()
		}
		b = appendRecord(b, p.sum, kind, uint32(u), uint32(end-u))
		u, ok = units.NextSet(end)
	}
	if _, err := p.log.Write(b); err != nil {
		return fmt.Errorf("write journal of %s: %w", p.TargetPath(), err)
	}
	return nil
}

// Assemble makes one file of a download whose units are all there, and synced. It still has no name.
func (p *Partial) Assemble(ctx context.Context) error {
	if p.have.Count() != uint(p.cfg.Units()) {
		panic("store: assemble of an incomplete download")
	}
	return p.data.assemble(ctx)
}

// Hash feeds the assembled file to h. It tells progress, if that is not nil, how many bytes it has read.
func (p *Partial) Hash(ctx context.Context, h hash.Hash, progress func(bytes int64)) error {
	f, err := p.root.OpenFile(filepath.Join(p.dir, "data"), os.O_RDONLY|noWait, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return hashFile(ctx, f, h, progress)
}

// HashFile feeds the file at path to h. It tells progress, if that is not nil, how many bytes it has read.
func HashFile(ctx context.Context, path string, h hash.Hash, progress func(bytes int64)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return hashFile(ctx, f, h, progress)
}

// hashFile feeds f to h until its end.
func hashFile(ctx context.Context, f io.Reader, h hash.Hash, progress func(bytes int64)) error {
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if progress != nil {
			progress(int64(n))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Publish gives the assembled file its name, removes all traces, and closes the download. An existing file of that
// name is [ErrExists], unless it is to be overwritten: then it is replaced in one step.
func (p *Partial) Publish(overwrite bool) error {
	if err := p.checkTarget(); err != nil {
		return err
	}
	data := filepath.Join(p.dir, "data")
	if overwrite {
		if err := p.root.Rename(data, p.cfg.Target); err != nil {
			return inside(p.cfg.Dir, err)
		}
	} else if err := p.linkNew(data); err != nil {
		return inside(p.cfg.Dir, err)
	}
	if err := syncDir(p.root, "."); err != nil {
		return err
	}
	return p.remove()
}

// linkNew gives the file its name unless something has that already.
func (p *Partial) linkNew(data string) error {
	err := p.root.Link(data, p.cfg.Target)
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", p.TargetPath(), ErrExists)
	}
	// No links here: take the name with an empty file that nobody else can have made, and rename over that.
	f, err := p.root.OpenFile(p.cfg.Target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", p.TargetPath(), ErrExists)
	} else if err != nil {
		return err
	}
	f.Close()
	if err := p.root.Rename(data, p.cfg.Target); err != nil {
		return errors.Join(err, p.root.Remove(p.cfg.Target))
	}
	return nil
}

// remove takes away all traces but the target, and closes the download.
func (p *Partial) remove() error {
	err := errors.Join(p.data.cleanup(), p.data.close(), p.log.Close())
	p.data, p.log = nil, nil
	// The lock's name goes last: until then nobody can begin in the folder, and who has opened the lock before sees, when he
	// gets it, that it has no name any more. A folder that another has begun to use after that is not empty, and stays.
	for _, name := range []string{"journal", "data", "lock"} {
		err = errors.Join(err, removeFile(p.root, filepath.Join(p.dir, name)))
	}
	_ = p.root.Remove(p.dir)
	return errors.Join(err, p.Close())
}

// removeFile removes a file, if it is there.
func removeFile(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Close ends the work on a download, which can be resumed. What was not synced is not in the journal. To close twice
// does nothing.
func (p *Partial) Close() error {
	var errs []error
	if p.data != nil {
		errs = append(errs, p.data.close())
		p.data = nil
	}
	for _, f := range []**os.File{&p.log, &p.lock} {
		if *f != nil {
			errs = append(errs, (*f).Close())
			*f = nil
		}
	}
	if p.root != nil {
		errs = append(errs, p.root.Close())
		p.root = nil
	}
	return errors.Join(errs...)
}
