package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"shoal/internal/content"

	"github.com/bits-and-blooms/bitset"
	"lukechampine.com/blake3"
)

// Errors of a verified download that a caller decides by.
var (
	ErrComplete = errors.New("the target is complete already")
	ErrBadPiece = errors.New("the piece has not the bytes that its manifest says")
)

// sameFiles is os.SameFile; the simulated disk of the tests has files of its own kind.
var sameFiles = os.SameFile

// DownloadConfig says what a [Download] is of and where it goes.
type DownloadConfig struct {
	Dir, Target string
	Manifest    *content.Manifest
	Key         string            // what is downloaded, as far as a rerun must find it again
	Overwrite   bool              // an existing target is replaced at the end, a directory's files each; what is equal in it is not fetched
	Restart     bool              // throw away what an earlier run left
	Reserve     int64             // bytes of the disk that are left free
	Directory   bool              // the content is a directory: see Unfold
	Scratch     bool              // nothing of it is to outlive Close: nothing is made last
	Workers     int               // that hash what is there; 0: as many as there are cores
	Unsure      func()            // told once if the file system cannot make bytes last: a loss of power may take what is complete; nil: nobody
	Checked     func(bytes int64) // told how many more bytes of what is there were hashed; from several goroutines
	Disk        Disk              // nil: [System]
}

// Download is a verified download under way. Its methods may be called from any goroutine, but for Complete and Close.
type Download struct {
	cfg  DownloadConfig
	m    *content.Manifest
	root Folder
	dir  string // name of the hidden folder
	lock File
	log  File // the journal
	end  int64
	sum  uint32 // of the journal's header
	data File

	tree    *tree  // of a directory: it is data as well
	chosen  []bool // of a directory that is unfolded: its entries that are wanted
	already bool   // it was complete before

	mu      sync.Mutex     // guards what follows
	want    *bitset.BitSet // nil: all
	have    *bitset.BitSet
	news    *bitset.BitSet // of those: what the journal does not say yet
	writers map[uint32]*PieceWriter
	begun   map[uint32]int64 // of pieces that are not verified: bytes from the first on that are
	count   uint

	lasting lasting

	using   sync.RWMutex // held for reading while the data file is used, for writing while it is closed
	place   sync.Mutex   // held while the data file is written: a place has one writer at a time
	syncing sync.Mutex   // held while records are written: guards log, end, failed and earlier
	failed  error        // what made a sync fail: nothing is believed to be synced after it
	earlier bool         // a crash can bring back the journal as an earlier run left it, its clean stop and all

	published bool

	arrived chan struct{} // holds one when a piece was verified since somebody looked: for Await
}

// OpenDownload begins a download or resumes it. What is there already, of an earlier run or in the target that is to be
// replaced, is hashed, unless an earlier run was stopped properly. A target that has the content is [ErrComplete].
func OpenDownload(ctx context.Context, cfg DownloadConfig) (*Download, error) {
	if cfg.Disk == nil {
		cfg.Disk = System()
	}
	if cfg.Checked == nil {
		cfg.Checked = func(int64) {}
	}
	if !canHave(runtime.GOOS, cfg.Target) {
		return nil, fmt.Errorf("%w: %q", ErrNames, cfg.Target)
	}
	root, err := cfg.Disk.OpenFolder(cfg.Dir)
	if err != nil {
		return nil, err
	}
	n := uint(cfg.Manifest.Geo.Pieces)
	d := &Download{
		cfg: cfg, m: cfg.Manifest, root: root, dir: PartialDir(cfg.Key), have: bitset.New(n), news: bitset.New(n),
		writers: make(map[uint32]*PieceWriter), begun: make(map[uint32]int64), arrived: make(chan struct{}, 1), lasting: lasting{unsure: cfg.Unsure},
	}
	open := d.open
	if cfg.Directory {
		open = d.openDirectory
	}
	if err := open(ctx); err != nil {
		return nil, errors.Join(inside(cfg.Dir, err), d.closeFiles())
	}
	return d, nil
}

func (d *Download) open(ctx context.Context) error {
	equal, err := d.lookAtTarget(ctx)
	if errors.Is(err, ErrComplete) {
		d.sweep()
	}
	if err != nil {
		return err
	}
	if err := d.enterFolder(); err != nil {
		return err
	}
	if err := d.keepManifest(); err != nil {
		return err
	}
	if err := d.openData(ctx); err != nil {
		return err
	}
	return d.reuse(ctx, equal)
}

// lookAtTarget looks at what has the target's name. With Overwrite it returns which pieces are equal in it.
func (d *Download) lookAtTarget(ctx context.Context) (equal []bool, err error) {
	fi, err := d.root.Lstat(d.cfg.Target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s: %w, and is no ordinary file", d.Path(), ErrExists)
	case fi.Size() != d.m.Geo.Size && !d.cfg.Overwrite:
		return nil, fmt.Errorf("%s: %w, and is another file", d.Path(), ErrExists)
	}
	f, err := d.openTarget()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if equal, err = matching(ctx, f, d.m, d.cfg.Workers, nil, d.cfg.Checked); err != nil {
		return nil, err
	}
	all := fi.Size() == d.m.Geo.Size
	for _, is := range equal {
		all = all && is
	}
	switch {
	case all:
		return nil, fmt.Errorf("%s: %w", d.Path(), ErrComplete)
	case !d.cfg.Overwrite:
		return nil, fmt.Errorf("%s: %w, and is another file", d.Path(), ErrExists)
	}
	return equal, nil
}

// sweep removes what an earlier run left that was stopped between giving the file its name and removing its traces.
func (d *Download) sweep() {
	if _, err := d.root.Lstat(d.dir); err != nil {
		return
	}
	if d.enterFolder() == nil {
		_ = d.removeTraces()
	}
}

// enterFolder makes the hidden folder, and makes this process the only one in it.
func (d *Download) enterFolder() error {
	if err := d.root.Mkdir(d.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	fi, err := d.root.Lstat(d.dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() || !isOurs(fi) {
		return fmt.Errorf("%s: %w, and is no folder of this user", filepath.Join(d.cfg.Dir, d.dir), ErrExists)
	}
	if d.lock, err = d.root.Open(d.name("lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := d.lock.Lock(); err != nil && !isLocked(err) {
		return fmt.Errorf("lock %s: %w", filepath.Join(d.cfg.Dir, d.name("lock")), err)
	} else if err != nil {
		pid := make([]byte, 20)
		n, _ := d.lock.ReadAt(pid, 0)
		return fmt.Errorf("%s: %w, number %s", d.Path(), ErrLocked, strings.TrimSpace(string(pid[:n])))
	}
	// The other may have finished, and removed the folder, between our open and our lock.
	own, err := d.lock.Stat()
	if err != nil {
		return err
	}
	if fi, err := d.root.Lstat(d.name("lock")); err != nil || !sameFiles(own, fi) {
		return fmt.Errorf("%s: %w, which has just finished", d.Path(), ErrLocked)
	}
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	_, err = d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func (d *Download) name(file string) string { return filepath.Join(d.dir, file) }

// keepManifest writes the manifest beside the data, so that a later run needs nobody to tell it again.
func (d *Download) keepManifest() error {
	want := d.m.Append(nil)
	f, err := d.root.Open(d.name("manifest"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	have := make([]byte, len(want)+1)
	if n, _ := f.ReadAt(have, 0); bytes.Equal(have[:n], want) {
		return nil
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(want, 0)
	return err // it proves itself when it is read: it needs no sync
}

// LoadManifest returns the manifest that an earlier run of a download has kept, nil if there is none that is whole.
func LoadManifest(dir, key string, id content.ID) (*content.Manifest, error) {
	root, err := System().OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if fi, err := root.Lstat(PartialDir(key)); err != nil || !fi.IsDir() || !isOurs(fi) {
		return nil, nil // what another user has put there could be a pipe, which never opens
	}
	f, err := root.Open(filepath.Join(PartialDir(key), "manifest"), os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	const most = 16 << 20
	b, err := io.ReadAll(io.NewSectionReader(f, 0, most))
	if err != nil {
		return nil, err
	}
	m, err := content.ParseManifest(id, b)
	if err != nil {
		return nil, nil // torn: it is fetched again
	}
	return m, nil
}

// openData opens the data and the journal of an earlier run, and finds out what of it is there.
func (d *Download) openData(ctx context.Context) error {
	if d.cfg.Restart {
		for _, name := range []string{"journal", "data"} {
			if err := d.root.Remove(d.name(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	var err error
	if d.data, err = d.root.Open(d.name("data"), os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return err
	}
	fi, err := d.data.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%s: %w, and is no ordinary file", filepath.Join(d.cfg.Dir, d.name("data")), ErrExists)
	}
	if target, err := d.root.Lstat(d.cfg.Target); err == nil && sameFiles(target, fi) {
		// It was published, and then changed by its owner: it is not ours to write to.
		d.data.Close()
		if err := d.root.Remove(d.name("data")); err != nil {
			return err
		}
		if d.data, err = d.root.Open(d.name("data"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666); err != nil {
			return err
		}
		if fi, err = d.data.Stat(); err != nil {
			return err
		}
	}
	clean, err := d.readJournal(d.have, func() (uint64, error) { return stampOf(fi), nil })
	if err != nil {
		return err
	}
	clean = clean && fi.Size() == d.m.Geo.Size
	if fi.Size() > 0 && !clean {
		have, err := matching(ctx, d.data, d.m, d.cfg.Workers, func(p uint32) bool {
			return d.m.Geo.Offset(p)+d.m.Geo.Len(p) <= fi.Size()
		}, d.cfg.Checked)
		if err != nil {
			return err
		}
		d.have.ClearAll()
		for p, is := range have {
			if is {
				d.have.Set(uint(p))
			}
		}
	}
	d.count = d.have.Count()
	need := d.m.Geo.Size - min(allocated(fi), d.m.Geo.Size)
	if free, err := d.root.Free(); err == nil && need > 0 && need > free-d.cfg.Reserve {
		if d.count == 0 {
			defer d.abandon()
		}
		return &SpaceError{Path: d.Path(), Need: need, Free: max(free-d.cfg.Reserve, 0)}
	}
	if !clean {
		if err := d.beginJournal(); err != nil {
			return err
		}
	}
	if d.m.Geo.Size > 0 {
		if err := d.data.Allocate(d.m.Geo.Size); err != nil {
			if d.count == 0 {
				defer d.abandon()
			}
			return fmt.Errorf("reserve %d bytes for %s: %w", d.m.Geo.Size, d.Path(), err)
		}
	}
	return nil
}

// abandon leaves no traces of a download that could not even begin.
func (d *Download) abandon() { _ = d.removeTraces() }

func (d *Download) header() journal {
	layout := OneFile
	if d.cfg.Directory {
		layout = Directory
	}
	return journal{Layout: layout, UnitSize: d.m.Geo.Piece, Size: d.m.Geo.Size, Name: d.cfg.Key}
}

// readJournal says whether the last run was stopped properly, and nothing has touched the data since: then what the journal
// has is there, which have takes. Stamp is that of the data now.
func (d *Download) readJournal(have *bitset.BitSet, stamp func() (uint64, error)) (clean bool, err error) {
	_, err = d.root.Lstat(d.name("journal"))
	d.earlier = !errors.Is(err, fs.ErrNotExist)
	if d.log, err = d.root.Open(d.name("journal"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return false, err
	}
	var stopped uint64
	isLast := false
	whole, err := replay(io.NewSectionReader(d.log, 0, 1<<40), func(j journal) error {
		if j != d.header() {
			return fmt.Errorf("%w: %v, wanted %v", ErrMismatch, j, d.header())
		}
		return nil
	}, func(kind recordKind, first, count uint32) {
		isLast = kind == recordClean
		switch kind {
		case recordClean:
			stopped = uint64(first)<<32 | uint64(count)
		case recordThere:
			for u := uint64(first); u < min(uint64(first)+uint64(count), uint64(have.Len())); u++ {
				have.Set(uint(u))
			}
		}
	})
	switch {
	case errors.Is(err, errTorn):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%s: %w", filepath.Join(d.cfg.Dir, d.dir), err)
	}
	d.end = whole
	_, d.sum = d.header().append(nil)
	if !isLast {
		return false, nil
	}
	now, err := stamp()
	return err == nil && now == stopped, err
}

// stampOf returns 64 bits that change when a file is another one or was changed.
func stampOf(fi fs.FileInfo) uint64 {
	sum := blake3.Sum256(stamp(fi))
	return binary.BigEndian.Uint64(sum[:])
}

// beginJournal writes the journal anew: its header, and what is there, which is hashed.
func (d *Download) beginJournal() error {
	b, sum := d.header().append(nil)
	d.sum = sum
	if err := d.log.Truncate(0); err != nil {
		return err
	}
	if _, err := d.log.WriteAt(b, 0); err != nil {
		return err
	}
	d.end = int64(len(b))
	d.news = d.have.Clone() // the next sync writes it: after the data
	// The names that lead to the data must last, or a crash takes what was synced with them. The journal's own bytes need not yet: after
	// a crash it is not believed, or nothing was synced since the clean stop that it brings back.
	return errors.Join(d.root.SyncDir(d.dir), d.root.SyncDir("."))
}

// reuse copies what is equal in the target that is to be replaced.
func (d *Download) reuse(ctx context.Context, equal []bool) error {
	if equal == nil {
		return nil
	}
	f, err := d.openTarget()
	if err != nil {
		return err
	}
	defer f.Close()
	return d.copyEqual(ctx, f, equal)
}

// openTarget opens the file that has the target's name, to read. What it was when it was looked at it need not be any more: a pipe would
// never open.
func (d *Download) openTarget() (File, error) {
	f, err := d.root.Open(d.cfg.Target, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s: %w, and is no ordinary file", d.Path(), ErrExists))
	}
	return f, nil
}

// copyEqual takes the pieces that are equal from where they are.
func (d *Download) copyEqual(ctx context.Context, f io.ReaderAt, equal []bool) error {
	g := d.m.Geo
	return eachPiece(ctx, g.Pieces, d.cfg.Workers, func(p uint32) bool { return equal[p] && !d.Have(p) }, func(h *hasher, piece uint32) error {
		w := d.Begin(piece)
		defer w.Abort()
		for off := int64(0); off < g.Len(piece); {
			n, _ := f.ReadAt(h.buffer()[:min(readSize, g.Len(piece)-off)], g.Offset(piece)+off)
			if n == 0 {
				return nil // it was cut short in the meantime
			}
			if err := w.Write(h.buf[:n]); err != nil {
				return err
			}
			off += int64(n)
		}
		if _, err := w.Commit(); err != nil && !errors.Is(err, ErrBadPiece) {
			return err
		}
		return nil
	})
}

// Path returns where the file will be, or is.
func (d *Download) Path() string { return sibling(d.cfg.Dir, d.cfg.Target) }

// Have says whether a piece is verified.
func (d *Download) Have(piece uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.have.Test(uint(piece))
}

// HaveAll says whether every piece is.
func (d *Download) HaveAll() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count == uint(d.m.Geo.Pieces)
}

// Done says whether every piece that is wanted is verified.
func (d *Download) Done() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.want == nil {
		return d.count == uint(d.m.Geo.Pieces)
	}
	return d.want.DifferenceCardinality(d.have) == 0
}

// Wanted says whether a piece is to be fetched: of a directory the listing, and then what was chosen.
func (d *Download) Wanted(piece uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.want == nil || d.want.Test(uint(piece))
}

// Snapshot returns which pieces are verified.
func (d *Download) Snapshot() []bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]bool, d.m.Geo.Pieces)
	for p, ok := d.have.NextSet(0); ok; p, ok = d.have.NextSet(p + 1) {
		out[p] = true
	}
	return out
}

// Bytes returns how many bytes are verified.
func (d *Download) Bytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bytes(d.have, d.count)
}

// WantedBytes returns how many bytes the pieces have that are wanted.
func (d *Download) WantedBytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.want == nil {
		return d.m.Geo.Size
	}
	return d.bytes(d.want, d.want.Count())
}

func (d *Download) bytes(pieces *bitset.BitSet, count uint) int64 {
	n := int64(count) * d.m.Geo.Piece
	if last := d.m.Geo.Pieces; last > 0 && pieces.Test(uint(last-1)) {
		n += d.m.Geo.Len(last-1) - d.m.Geo.Piece
	}
	return n
}

// Verified returns how many bytes of a piece are verified, from its first on. They are never less again.
func (d *Download) Verified(piece uint32) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.have.Test(uint(piece)) {
		return d.m.Geo.Len(piece)
	}
	return d.begun[piece]
}

// ReadAt reads bytes that are verified.
func (d *Download) ReadAt(b []byte, off int64) (int, error) {
	g := d.m.Geo
	end := off + int64(len(b))
	if off < 0 || end > g.Size {
		return 0, io.ErrUnexpectedEOF
	}
	for p := off / g.Piece; p*g.Piece < end; p++ {
		if start := p * g.Piece; d.Verified(uint32(p)) < min(end-start, g.Piece) {
			return 0, fmt.Errorf("%s: piece %d is not there yet", d.Path(), p)
		}
	}
	d.using.RLock()
	defer d.using.RUnlock()
	if d.data == nil {
		return 0, fmt.Errorf("read %s: %w", d.Path(), fs.ErrClosed)
	}
	return d.data.ReadAt(b, off)
}

// PieceWriter takes one copy of a piece, in order. The first one of a piece writes through to its place; any other is collected
// in memory until it is known to be good. What is verified in the place is not written again.
type PieceWriter struct {
	d     *Download
	piece uint32
	h     *hasher
	at    int64
	own   bool        // the place is this writer's; guarded by d.place
	gone  atomic.Bool // it was, and is not any more
	mem   []byte
	proof []content.CV // of its parts; nil: there is none
	good  int          // parts that were found to be as the proof says
	ended bool
}

// Begin begins a copy of a piece. Who begins one commits or aborts it.
func (d *Download) Begin(piece uint32) *PieceWriter {
	w := &PieceWriter{d: d, piece: piece, h: hashers.Get().(*hasher)}
	w.h.h.Reset(d.m.Geo, piece)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.writers[piece] == nil && !d.have.Test(uint(piece)) {
		d.writers[piece], w.own = w, true
	} else {
		w.mem = []byte{} // it grows with what comes: that may be nothing
	}
	return w
}

// Prove takes the values of the piece's parts, by which each part is verified when it has come. Values that do not prove themselves are
// [ErrBadPiece].
func (w *PieceWriter) Prove(parts []content.CV) error {
	if w.ended {
		return errEnded
	}
	if !w.d.m.Proves(w.piece, parts) {
		return ErrBadPiece
	}
	w.proof = parts
	return nil
}

// Write takes the next bytes. More than the piece has is [ErrBadPiece], and so is a part that is not what was proven.
func (w *PieceWriter) Write(p []byte) error {
	if w.ended {
		return errEnded
	}
	if w.at+int64(len(p)) > w.d.m.Geo.Len(w.piece) {
		w.at = w.d.m.Geo.Len(w.piece) + 1
		return ErrBadPiece
	}
	_, _ = w.h.h.Write(p)
	off := w.at
	w.at += int64(len(p))
	if w.proof != nil {
		for parts := w.h.h.Parts(); w.good < len(parts); w.good++ {
			if parts[w.good] != w.proof[w.good] {
				w.at = w.d.m.Geo.Len(w.piece) + 1
				return ErrBadPiece
			}
		}
	}
	if w.mem != nil {
		w.mem = append(w.mem, p...)
		return nil
	}
	w.d.place.Lock()
	defer w.d.place.Unlock()
	if !w.own || w.gone.Load() {
		return nil // another copy was good first, or has taken its place
	}
	if skip := min(max(w.d.Verified(w.piece)-off, 0), int64(len(p))); skip < int64(len(p)) {
		if err := w.d.write(p[skip:], w.d.m.Geo.Offset(w.piece)+off+skip); err != nil {
			return err
		}
	}
	if w.good > 0 {
		w.d.grow(w.piece, min(int64(w.good)*w.d.m.Geo.Part(), w.d.m.Geo.Len(w.piece)))
	}
	return nil
}

// grow takes in that so many bytes of a piece are verified, from its first on.
func (d *Download) grow(piece uint32, bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if bytes > d.begun[piece] {
		d.begun[piece] = bytes
	}
}

var errEnded = errors.New("store: write to a piece that has ended")

func (d *Download) write(p []byte, off int64) error {
	d.using.RLock()
	defer d.using.RUnlock()
	if d.data == nil {
		return fmt.Errorf("write %s: %w", d.Path(), fs.ErrClosed)
	}
	_, err := d.data.WriteAt(p, off)
	if isFull(err) {
		free, _ := d.root.Free()
		return &SpaceError{Path: d.Path(), Need: int64(len(p)), Free: free}
	}
	return err
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// Commit verifies the copy. First says that the piece is there now because of it, and was not before.
func (w *PieceWriter) Commit() (first bool, err error) {
	if w.ended {
		return false, errEnded
	}
	good := w.at <= w.d.m.Geo.Len(w.piece) && w.d.m.Verify(w.piece, &w.h.h)
	defer w.Abort()
	if !good {
		return false, ErrBadPiece
	}
	d := w.d
	d.place.Lock()
	defer d.place.Unlock()
	if d.Have(w.piece) {
		return false, nil
	}
	if w.mem != nil {
		d.mu.Lock()
		if other := d.writers[w.piece]; other != nil {
			other.own = false
			delete(d.writers, w.piece)
		}
		d.mu.Unlock()
		if err := d.write(w.mem, d.m.Geo.Offset(w.piece)); err != nil {
			return false, err
		}
	} else if !w.own || w.gone.Load() {
		return false, nil // it has not written all of it: another took the place over, and failed, or the download has stopped
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.have.Set(uint(w.piece))
	d.news.Set(uint(w.piece))
	delete(d.begun, w.piece)
	d.count++
	select {
	case d.arrived <- struct{}{}:
	default:
	}
	return true, nil
}

// Await waits until a range of the stream is verified. One goroutine at a time may.
func (d *Download) Await(ctx context.Context, off, n int64) error {
	for n > 0 {
		if p := uint32(off / d.m.Geo.Piece); d.Have(p) {
			next := d.m.Geo.Offset(p) + d.m.Geo.Len(p)
			off, n = next, n-(next-off)
			continue
		}
		select {
		case <-d.arrived:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Yield gives the place up to the next copy that begins. What still comes of this one is not kept. It may be called from any goroutine, and does not wait for the disk.
func (w *PieceWriter) Yield() {
	w.gone.Store(true)
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if w.d.writers[w.piece] == w {
		delete(w.d.writers, w.piece)
	}
}

// Good returns how many parts of the copy were found to be right, and can be read. Of one that is collected in memory it is 0.
func (w *PieceWriter) Good() int {
	if w.mem != nil {
		return 0
	}
	return w.good
}

// Parts returns the values of the parts that have come. They are valid until the copy is committed or aborted.
func (w *PieceWriter) Parts() []content.CV {
	if w.ended {
		return nil
	}
	return w.h.h.Parts()
}

// Abort gives the copy up. After a commit it does nothing.
func (w *PieceWriter) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	hashers.Put(w.h)
	w.h, w.mem = nil, nil
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if w.d.writers[w.piece] == w {
		delete(w.d.writers, w.piece)
	}
}

// Sync makes the verified pieces last: first their data, then the journal that says so.
func (d *Download) Sync() error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	if d.failed == nil && d.log != nil && !d.cfg.Scratch {
		d.failed = d.sync()
	}
	return d.failed
}

func (d *Download) sync() error {
	d.mu.Lock()
	news := d.news
	d.news = bitset.New(news.Len())
	d.mu.Unlock()
	if news.None() {
		return nil
	}
	err := d.data.DataSync()
	if d.tree == nil { // which looks at each of its files
		err = d.lasting.pass(err)
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", d.Path(), err)
	}
	var b []byte
	for p, ok := news.NextSet(0); ok; {
		end, more := news.NextClear(p)
		if !more {
			end = news.Len()
		}
		b = appendRecord(b, d.sum, recordThere, uint32(p), uint32(end-p))
		p, ok = news.NextSet(end)
	}
	if err := d.appendLog(b); err != nil || !d.earlier {
		return err
	}
	// A sync of the data leaves its times: a crash can bring back those that an earlier clean stop has, and it would be believed if it
	// were still the journal's last record. So the first records of this run must last; what comes after them need not.
	if err := d.lasting.pass(d.log.DataSync()); err != nil {
		return fmt.Errorf("sync journal of %s: %w", d.Path(), err)
	}
	d.earlier = false
	return nil
}

func (d *Download) appendLog(b []byte) error {
	if _, err := d.log.WriteAt(b, d.end); err != nil {
		return fmt.Errorf("write journal of %s: %w", d.Path(), err)
	}
	d.end += int64(len(b))
	return nil
}

// Complete gives the file or directory its name, and removes all traces of the download. It can be read from afterwards.
func (d *Download) Complete(ctx context.Context) error {
	if !d.Done() || d.cfg.Directory && d.chosen == nil {
		panic("store: complete of an incomplete download")
	}
	if d.published {
		return nil
	}
	if err := d.Sync(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	publish := func(context.Context) error { return d.publish() }
	if d.tree != nil {
		publish = d.publishTree
	}
	if err := publish(ctx); err != nil {
		return inside(d.cfg.Dir, err)
	}
	d.published = true
	if err := d.root.SyncDir("."); err != nil {
		return err
	}
	return d.removeTraces()
}

func (d *Download) publish() error {
	fi, err := d.root.Lstat(d.cfg.Target)
	if err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("%s: %w, and is no ordinary file", d.Path(), ErrExists)
	}
	if d.cfg.Overwrite {
		return d.root.Rename(d.name("data"), d.cfg.Target)
	}
	err = d.root.Link(d.name("data"), d.cfg.Target)
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", d.Path(), ErrExists)
	}
	// No links here: take the name with an empty file that nobody else can have made, and rename over that.
	f, err := d.root.Open(d.cfg.Target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", d.Path(), ErrExists)
	} else if err != nil {
		return err
	}
	f.Close()
	if err := d.root.Rename(d.name("data"), d.cfg.Target); err != nil {
		return errors.Join(err, d.root.Remove(d.cfg.Target))
	}
	return nil
}

// removeTraces removes the hidden folder. The lock's name goes last: until then nobody can begin in the folder.
func (d *Download) removeTraces() error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	var err error
	if d.log != nil {
		err = d.log.Close()
		d.log = nil
	}
	if d.cfg.Directory {
		for _, name := range []string{"tree", "umask"} {
			err = errors.Join(err, d.root.RemoveAll(d.name(name)))
		}
	}
	for _, name := range []string{"journal", "manifest", "data", "head", "rest", "lock"} {
		if e := d.root.Remove(d.name(name)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	_ = d.root.Remove(d.dir) // another may have begun in it: then it is not empty, and stays
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
		d.lock = nil
	}
	return err
}

// Close ends the work on a download. One that is not complete can be resumed, without hashing if nothing touches it.
func (d *Download) Close() error {
	d.place.Lock()
	d.mu.Lock()
	for _, w := range d.writers { // what they still write would not fit the stamp
		w.own = false
	}
	d.mu.Unlock()
	d.place.Unlock()
	err := d.Sync()
	if err == nil && d.log != nil && !d.published && !d.cfg.Scratch {
		err = d.stopClean()
	}
	return errors.Join(err, d.closeFiles())
}

// stopClean journals the stamp of the data file, which nobody writes to any more.
func (d *Download) stopClean() error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	stamp, err := d.stamp()
	if err != nil {
		return err
	}
	return d.appendLog(appendRecord(nil, d.sum, recordClean, uint32(stamp>>32), uint32(stamp)))
}

func (d *Download) stamp() (uint64, error) {
	if d.tree != nil {
		return d.tree.stamp()
	}
	fi, err := d.data.Stat()
	if err != nil {
		return 0, err
	}
	return stampOf(fi), nil
}

func (d *Download) closeFiles() error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	d.using.Lock()
	defer d.using.Unlock()
	var errs []error
	for _, f := range []*File{&d.log, &d.data, &d.lock} {
		if *f != nil {
			errs = append(errs, (*f).Close())
			*f = nil
		}
	}
	errs = append(errs, d.root.Close())
	return errors.Join(errs...)
}
