package store

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"shoal/internal/content"
)

// fetching is one content and the folder that it is downloaded to, on a real disk that can be made to fail.
type fetching struct {
	t      *testing.T
	dir    string
	want   []byte
	m      *content.Manifest
	hashed atomic.Int64
	disk   *faulty
}

func newFetching(t *testing.T) *fetching {
	want := make([]byte, 4*content.MinPiece+1000)
	for i := range want {
		want[i] = byte(rand.Uint32())
	}
	m, err := Hash(t.Context(), bytes.NewReader(want), int64(len(want)), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &fetching{t: t, dir: t.TempDir(), want: want, m: m, disk: &faulty{Disk: System(), free: 1 << 40}}
}

func (f *fetching) try(change func(*DownloadConfig)) (*Download, error) {
	f.hashed.Store(0)
	cfg := DownloadConfig{
		Dir: f.dir, Target: "file", Manifest: f.m, Key: "v2:file", Workers: 1, Disk: f.disk,
		Checked: func(n int64) { f.hashed.Add(n) },
	}
	if change != nil {
		change(&cfg)
	}
	return OpenDownload(f.t.Context(), cfg)
}

func (f *fetching) open(change func(*DownloadConfig)) *Download {
	f.t.Helper()
	d, err := f.try(change)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { d.Close() })
	return d
}

func (f *fetching) piece(p uint32) []byte {
	return f.want[f.m.Geo.Offset(p) : f.m.Geo.Offset(p)+f.m.Geo.Len(p)]
}

func (f *fetching) fill(d *Download, pieces ...uint32) {
	f.t.Helper()
	for _, p := range pieces {
		w := d.Begin(p)
		if first, err := w.commit(f.piece(p)); !first || err != nil {
			f.t.Fatalf("piece %d: %v, %v", p, first, err)
		}
	}
}

// commit writes bytes and commits them.
func (w *PieceWriter) commit(b []byte) (first bool, err error) {
	if err := w.Write(b); err != nil {
		return false, err
	}
	return w.Commit()
}

func (f *fetching) hidden(name string) string {
	return filepath.Join(f.dir, PartialDir("v2:file"), name)
}

func (f *fetching) has(d *Download, want string) {
	f.t.Helper()
	got := ""
	for p, is := range d.Snapshot() {
		if is {
			got += strconv.Itoa(p)
		}
	}
	if got != want {
		f.t.Errorf("the pieces %q are there, want %q", got, want)
	}
}

// faulty is a disk whose operations fail when the test says so.
type faulty struct {
	Disk
	free  int64
	write atomic.Pointer[error] // of each write to the data
	sync  atomic.Pointer[error] // of each sync of the data
}

type (
	faultyFolder struct {
		Folder
		disk *faulty
	}
	faultyFile struct {
		File
		disk *faulty
	}
)

func (d *faulty) OpenFolder(path string) (Folder, error) {
	f, err := d.Disk.OpenFolder(path)
	return &faultyFolder{f, d}, err
}

func (f *faultyFolder) Free() (int64, error) { return f.disk.free, nil }

func (f *faultyFolder) Open(name string, flag int, perm fs.FileMode) (File, error) {
	file, err := f.Folder.Open(name, flag, perm)
	if err == nil && filepath.Base(name) == "data" {
		file = &faultyFile{file, f.disk}
	}
	return file, err
}

func (f *faultyFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.disk.write.Load(); err != nil {
		return 0, *err
	}
	return f.File.WriteAt(b, off)
}

func (f *faultyFile) DataSync() error {
	if err := f.disk.sync.Load(); err != nil {
		return *err
	}
	return f.File.DataSync()
}

func TestAVerifiedPieceIsNeverWrittenAgain(t *testing.T) {
	f := newFetching(t)
	d := f.open(nil)
	right, wrong := f.piece(1), bytes.Repeat([]byte{'x'}, content.MinPiece)
	early, late, last := d.Begin(1), d.Begin(1), d.Begin(1)
	if err := errors.Join(early.Write(right[:1000]), late.Write(right)); err != nil {
		t.Fatal(err)
	}
	if there, _ := os.ReadFile(f.hidden("data")); !bytes.Equal(there[content.MinPiece:][:1000], right[:1000]) || there[content.MinPiece+1000] != 0 {
		t.Error("the second copy is not collected in memory")
	}
	if first, err := late.Commit(); !first || err != nil {
		t.Fatalf("%v, %v", first, err)
	}
	if err := early.Write(wrong[1000:]); err != nil {
		t.Error(err)
	}
	if _, err := early.Commit(); !errors.Is(err, ErrBadPiece) {
		t.Errorf("a wrong copy that lost: %v", err)
	}
	if first, err := last.commit(right); first || err != nil {
		t.Errorf("a right copy that lost: %v, %v", first, err)
	}
	if _, err := d.Begin(1).commit(wrong); !errors.Is(err, ErrBadPiece) {
		t.Errorf("a wrong copy of a verified piece: %v", err)
	}
	got := make([]byte, len(right))
	if _, err := d.ReadAt(got, content.MinPiece); err != nil || !bytes.Equal(got, right) {
		t.Errorf("the piece is not what it was (%v)", err)
	}
	if err := late.Write([]byte{1}); err == nil {
		t.Error("what has ended can be written to")
	}
}

// A second copy takes the place over, and cannot be written: then the first, which was not written whole, does not count either.
func TestAPieceThatNobodyHasWrittenWholeDoesNotCount(t *testing.T) {
	f := newFetching(t)
	d := f.open(nil)
	early, late := d.Begin(1), d.Begin(1)
	if err := errors.Join(early.Write(f.piece(1)[:1000]), late.Write(f.piece(1))); err != nil {
		t.Fatal(err)
	}
	f.disk.write.Store(new(error(syscall.ENOSPC)))
	var full *SpaceError
	if _, err := late.Commit(); !errors.As(err, &full) {
		t.Fatal(err)
	}
	f.disk.write.Store(nil)
	if first, err := early.commit(f.piece(1)[1000:]); first || err != nil {
		t.Errorf("%v, %v", first, err)
	}
	f.has(d, "")
	f.fill(d, 1) // as soon as there is space
	f.has(d, "1")
}

// What is verified of a piece can be read before the rest has come, and whoever sends the piece again, and wrong, does not change it.
func TestAPartIsReadAsSoonAsItIsVerified(t *testing.T) {
	f := newFetching(t)
	d := f.open(nil)
	g, right := f.m.Geo, f.piece(1)
	part := g.Part()
	parts, err := PartsOf(bytes.NewReader(f.want), g, 1)
	if err != nil {
		t.Fatal(err)
	}
	reads := func(n int64) {
		t.Helper()
		got := make([]byte, n)
		if _, err := d.ReadAt(got, g.Offset(1)); err != nil || !bytes.Equal(got, right[:n]) {
			t.Errorf("the first %d bytes are not what they were (%v)", n, err)
		}
		if _, err := d.ReadAt(make([]byte, n+1), g.Offset(1)); err == nil && n < g.Piece {
			t.Errorf("more than %d bytes are read", n)
		}
		if got := d.Verified(1); got != n {
			t.Errorf("%d bytes are verified, want %d", got, n)
		}
	}
	w := d.Begin(1)
	if err := errors.Join(w.Write(right[:part]), w.Prove(parts), w.Write(right[part:part+1])); err != nil {
		t.Fatal(err)
	}
	reads(part) // also what came before the proof
	if err := w.Write(right[part+1 : 3*part-1]); err != nil {
		t.Fatal(err)
	}
	reads(2 * part)
	if err := w.Write([]byte{right[3*part-1] ^ 1}); !errors.Is(err, ErrBadPiece) {
		t.Errorf("a wrong part is taken: %v", err)
	}
	if _, err := w.Commit(); !errors.Is(err, ErrBadPiece) {
		t.Errorf("and so is the piece: %v", err)
	}
	reads(2 * part)

	w = d.Begin(1)
	if err := w.Write(bytes.Repeat([]byte{'x'}, int(part)+1000)); err != nil {
		t.Fatal(err)
	}
	reads(2 * part)
	w.Abort()
	w = d.Begin(1)
	if err := errors.Join(w.Prove(parts), w.Write(right[:3*part])); err != nil {
		t.Fatal(err)
	}
	reads(3 * part)
	if first, err := w.commit(right[3*part:]); !first || err != nil {
		t.Errorf("%v, %v", first, err)
	}
	reads(g.Piece)
	f.has(d, "1")
}

// Who is given up, and has not ended, does not keep the place from the next one.
func TestACopyThatIsGivenUpYieldsItsPlace(t *testing.T) {
	f := newFetching(t)
	d := f.open(nil)
	part := f.m.Geo.Part()
	for piece, proven := range []bool{true, false} {
		p := uint32(piece)
		parts, err := PartsOf(bytes.NewReader(f.want), f.m.Geo, p)
		if err != nil {
			t.Fatal(err)
		}
		old := d.Begin(p)
		if err := old.Write(f.piece(p)[:1000]); err != nil {
			t.Fatal(err)
		}
		old.Yield()
		w := d.Begin(p)
		if proven {
			err = w.Prove(parts)
		}
		if err := errors.Join(err, w.Write(f.piece(p)[:2*part])); err != nil || proven && (w.Good() != 2 || d.Verified(p) != 2*part) {
			t.Errorf("%d parts are there (%v)", w.Good(), err)
		}
		if err := old.Write(bytes.Repeat([]byte{'x'}, content.MinPiece-1000)); err != nil {
			t.Error(err)
		}
		if first, err := w.commit(f.piece(p)[2*part:]); !first || err != nil {
			t.Errorf("%v, %v", first, err)
		}
		got := make([]byte, content.MinPiece)
		if _, err := d.ReadAt(got, f.m.Geo.Offset(p)); err != nil || !bytes.Equal(got, f.piece(p)) {
			t.Errorf("piece %d is not what it was (%v)", p, err)
		}
		old.Abort()
		old.Yield() // it has ended
	}
}

func TestAProofThatProvesNothingIsRefused(t *testing.T) {
	f := newFetching(t)
	d := f.open(nil)
	parts, err := PartsOf(bytes.NewReader(f.want), f.m.Geo, 1)
	if err != nil {
		t.Fatal(err)
	}
	w := d.Begin(0)
	for _, wrong := range [][]content.CV{parts, parts[1:], nil} {
		if err := w.Prove(wrong); !errors.Is(err, ErrBadPiece) {
			t.Errorf("%d values are taken: %v", len(wrong), err)
		}
	}
	if err := w.Write(f.piece(0)[:f.m.Geo.Part()]); err != nil || d.Verified(0) != 0 {
		t.Errorf("%d bytes are verified without a proof (%v)", d.Verified(0), err)
	}
}

func TestBytesThatAreNotThePieceAreBad(t *testing.T) {
	f := newFetching(t)
	d := f.open(nil)
	for name, b := range map[string][]byte{
		"none": nil, "too few": f.piece(0)[1:], "too many": append(bytes.Clone(f.piece(0)), 0), "another's": f.piece(1),
		"a flipped bit": append(bytes.Clone(f.piece(0)[1:]), f.piece(0)[0]^1),
	} {
		if first, err := d.Begin(0).commit(b); first || !errors.Is(err, ErrBadPiece) {
			t.Errorf("%s: %v, %v", name, first, err)
		}
	}
	f.has(d, "")
	if n, err := d.ReadAt(make([]byte, 1), 0); err == nil || n > 0 {
		t.Error("bytes that are not verified are read")
	}
}

func TestACleanStopIsResumedWithoutHashing(t *testing.T) {
	f := newFetching(t)
	d := f.open(nil)
	f.fill(d, 0, 2, 4)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // one that does nothing is stopped properly too
		d = f.open(nil)
		if f.has(d, "024"); f.hashed.Load() > 0 {
			t.Errorf("%d bytes were hashed again", f.hashed.Load())
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.OpenFile(f.hidden("data"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = data.WriteAt([]byte{f.want[0] ^ 1}, 0)
	if err := errors.Join(err, data.Close(), os.Chtimes(f.hidden("data"), time.Time{}, time.Now().Add(time.Minute))); err != nil {
		t.Fatal(err)
	}
	d = f.open(nil)
	if f.has(d, "24"); f.hashed.Load() == 0 {
		t.Error("a file that was touched is believed")
	}
	// One that was killed: nothing is closed properly.
	f.fill(d, 1)
	if err := d.closeFiles(); err != nil {
		t.Fatal(err)
	}
	d = f.open(nil)
	if f.has(d, "124"); f.hashed.Load() == 0 {
		t.Error("a run that was killed is believed")
	}
	f.fill(d, 0, 3)
	if err := d.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(f.dir, "file")); !bytes.Equal(got, f.want) || names(t, f.dir) != "file" {
		t.Errorf("%d bytes came of it, and there is %s", len(got), names(t, f.dir))
	}
}

// Whatever has become of the journal: what is on disk is found, and nothing else is believed.
func TestAJournalThatIsNotWholeProvesNothing(t *testing.T) {
	f := newFetching(t)
	d := f.open(nil)
	f.fill(d, 0, 2)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(f.hidden("journal"))
	if err != nil {
		t.Fatal(err)
	}
	forged := appendRecord(bytes.Clone(whole), 1, recordThere, 0, 5) // the sum of another download
	for _, b := range [][]byte{forged, nil, whole[:5], whole[:30], whole[:len(whole)-1], whole[:len(whole)-recordSize], bytes.Repeat([]byte{'x'}, 1000)} {
		if err := os.WriteFile(f.hidden("journal"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		d := f.open(nil)
		f.has(d, "02")
		if bytes.Equal(b, forged) == (f.hashed.Load() > 0) {
			t.Errorf("a journal of %d bytes: %d bytes were hashed", len(b), f.hashed.Load())
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	newer := bytes.Clone(whole)
	copy(newer[6:], "02")
	before, _ := os.ReadFile(f.hidden("data"))
	if err := os.WriteFile(f.hidden("journal"), newer, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.try(nil); !errors.Is(err, ErrNewer) {
		t.Errorf("a later version's: %v", err)
	}
	after, _ := os.ReadFile(f.hidden("data"))
	if left, _ := os.ReadFile(f.hidden("journal")); !bytes.Equal(left, newer) || !bytes.Equal(before, after) {
		t.Error("what a later version wrote is not left alone")
	}
}

// A journal that says more than is there, with all its checksums right, makes nobody believe it: what it says is hashed.
func TestAForgedJournalProvesNothing(t *testing.T) {
	for name, stamped := range map[string]bool{"after a crash": false, "with a stamp": true} {
		f := newFetching(t)
		d := f.open(nil)
		f.fill(d, 0, 2)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		forged, err := os.ReadFile(f.hidden("journal"))
		if err != nil {
			t.Fatal(err)
		}
		clean := forged[len(forged)-recordSize:]
		forged = appendRecord(bytes.Clone(forged[:len(forged)-recordSize]), d.sum, recordThere, 0, 5)
		if stamped { // of the data as it was, which has been changed to look whole
			forged = append(forged, clean...)
			if err := os.WriteFile(f.hidden("data"), bytes.Repeat([]byte{1}, len(f.want)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(f.hidden("journal"), forged, 0o600); err != nil {
			t.Fatal(err)
		}
		d = f.open(nil)
		if want := map[bool]string{false: "02", true: ""}[stamped]; f.hashed.Load() == 0 {
			t.Errorf("%s: nothing was hashed", name)
		} else {
			f.has(d, want)
		}
	}
}

func TestRestartForgetsWhatWasThere(t *testing.T) {
	f := newFetching(t)
	d := f.open(nil)
	f.fill(d, 0, 2)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	f.has(f.open(func(c *DownloadConfig) { c.Restart = true }), "")
}

func TestAManifestThatIsKeptProvesItself(t *testing.T) {
	f := newFetching(t)
	d := f.open(nil)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	load := func() *content.Manifest {
		m, err := LoadManifest(f.dir, "v2:file", f.m.ID)
		if err != nil {
			t.Error(err)
		}
		return m
	}
	if m := load(); m == nil || m.Geo != f.m.Geo {
		t.Errorf("kept: %v", m)
	}
	b := f.m.Append(nil)
	for _, torn := range [][]byte{nil, b[:7], b[:len(b)-1], append(bytes.Clone(b), 0), append([]byte{0, 0, 0, 0, 0, 0, 1}, b[7:]...)} {
		if err := os.WriteFile(f.hidden("manifest"), torn, 0o600); err != nil {
			t.Fatal(err)
		}
		if m := load(); m != nil {
			t.Errorf("of %d bytes it is believed", len(torn))
		}
	}
	if m, err := LoadManifest(t.TempDir(), "v2:file", f.m.ID); m != nil || err != nil {
		t.Errorf("where there is none: %v, %v", m, err)
	}
}

func TestADownloadReplacesNothingButAFile(t *testing.T) {
	f := newFetching(t)
	target, canary := filepath.Join(f.dir, "file"), filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func() error{
		"a link":        func() error { return os.Symlink(canary, target) },
		"a dead link":   func() error { return os.Symlink(canary+"x", target) },
		"a folder":      func() error { return os.Mkdir(target, 0o700) },
		"a pipe":        func() error { return mkfifo(target, 0o600) },
		"a link inside": func() error { return os.Symlink(".", target) },
	} {
		for _, overwrite := range []bool{false, true} {
			if err := put(); err != nil {
				t.Fatal(err)
			}
			if _, err := f.try(func(c *DownloadConfig) { c.Overwrite = overwrite }); !errors.Is(err, ErrExists) {
				t.Errorf("%s, overwrite %v: %v", name, overwrite, err)
			}
			if err := os.Remove(target); err != nil {
				t.Fatal(err)
			}
			// It comes while the download is under way.
			d := f.open(func(c *DownloadConfig) { c.Overwrite, c.Restart = overwrite, true })
			f.fill(d, 0, 1, 2, 3, 4)
			if err := put(); err != nil {
				t.Fatal(err)
			}
			if err := d.Complete(t.Context()); !errors.Is(err, ErrExists) {
				t.Errorf("%s that came later, overwrite %v: %v", name, overwrite, err)
			}
			if err := errors.Join(d.Close(), os.Remove(target)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if b, _ := os.ReadFile(canary); string(b) != "mine" || names(t, filepath.Dir(canary)) != "canary" {
		t.Error("something outside was touched")
	}
}

func TestAHiddenFolderOfSomebodyElseIsNotUsed(t *testing.T) {
	f := newFetching(t)
	folder, elsewhere := filepath.Dir(f.hidden("x")), t.TempDir()
	refused := func(what string) {
		t.Helper()
		if _, err := f.try(nil); !errors.Is(err, ErrExists) {
			t.Errorf("%s: %v", what, err)
		}
		if m, err := LoadManifest(f.dir, "v2:file", f.m.ID); m != nil || err != nil { // a pipe would never open
			t.Errorf("%s: its manifest: %v, %v", what, m, err)
		}
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(elsewhere, folder); err != nil {
		t.Fatal(err)
	}
	refused("a link")
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("a file")
	if names(t, elsewhere) != "" {
		t.Error("something was made elsewhere")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make another user's folder")
	}
	if err := errors.Join(os.Mkdir(folder, 0o777), mkfifo(f.hidden("manifest"), 0o666), os.Chown(folder, 12345, 12345)); err != nil {
		t.Fatal(err)
	}
	refused("another user's")
}

func TestADownloadThatDoesNotFitLeavesNothing(t *testing.T) {
	f := newFetching(t)
	f.disk.free = int64(len(f.want)) - 1
	var full *SpaceError
	if _, err := f.try(nil); !errors.As(err, &full) || full.Need != int64(len(f.want)) {
		t.Errorf("%v", err)
	}
	if names(t, f.dir) != "" {
		t.Errorf("left: %s", names(t, f.dir))
	}
}

// What a disk could not sync once it is never asked again: it may have thrown the bytes away.
func TestASyncThatFailedIsNotTriedAgain(t *testing.T) {
	for _, why := range []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT} {
		f := newFetching(t)
		d := f.open(nil)
		f.fill(d, 0, 1, 2, 3, 4)
		f.disk.sync.Store(&why)
		if err := d.Sync(); !errors.Is(err, why) {
			t.Fatal(err)
		}
		f.disk.sync.Store(nil)
		if err := d.Complete(t.Context()); !errors.Is(err, why) {
			t.Errorf("complete after a failed sync: %v", err)
		}
		if err := d.Close(); !errors.Is(err, why) {
			t.Errorf("close after a failed sync: %v", err)
		}
		d = f.open(nil)
		if f.hashed.Load() == 0 {
			t.Error("what was not synced is believed")
		}
		if err := d.Complete(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestADownloadHasOneProcess(t *testing.T) {
	f := newFetching(t)
	d := f.open(nil)
	f.fill(d, 0)
	for _, restart := range []bool{false, true} {
		if _, err := f.try(func(c *DownloadConfig) { c.Restart = restart }); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
			t.Errorf("restart %v: %v", restart, err)
		}
	}
	// Another content for the same target has its own folder: who is complete first has the name.
	other := newFetching(t)
	other.dir = f.dir
	e := other.open(func(c *DownloadConfig) { c.Key = "v2:other" })
	other.fill(e, 0, 1, 2, 3, 4)
	f.fill(d, 1, 2, 3, 4)
	if err := e.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Complete(t.Context()); !errors.Is(err, ErrExists) {
		t.Errorf("the second one: %v", err)
	}
	if got, _ := os.ReadFile(filepath.Join(f.dir, "file")); !bytes.Equal(got, other.want) {
		t.Error("the first one's file is not whole")
	}
}

func TestATargetStaysInItsFolder(t *testing.T) {
	f := newFetching(t)
	outside := f.dir
	f.dir = filepath.Join(outside, "in")
	if err := errors.Join(os.Mkdir(f.dir, 0o700), os.Symlink("..", filepath.Join(f.dir, "up"))); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"../x", "a/../../x", "up/x", filepath.Join(outside, "x"), "..", ""} {
		d, err := f.try(func(c *DownloadConfig) { c.Target = target })
		if err == nil {
			f.fill(d, 0, 1, 2, 3, 4)
			err = errors.Join(d.Complete(t.Context()), d.Close())
		}
		if err == nil {
			t.Errorf("%q is taken", target)
		}
	}
	if got := names(t, outside); got != "in" {
		t.Errorf("outside there is %s", got)
	}
}

// Sessions read and write until they hear of the end.
func TestADownloadThatIsClosedIsReadAndWrittenInVain(t *testing.T) {
	f := newFetching(t)
	for _, failing := range []bool{false, true} {
		d := f.open(func(c *DownloadConfig) { c.Restart = true })
		f.fill(d, 0)
		own, begun := d.Begin(1), make(chan struct{})
		var users sync.WaitGroup
		users.Go(func() {
			b := make([]byte, 1000)
			for n := 0; ; n++ {
				if _, err := d.ReadAt(b, 0); err != nil {
					return
				}
				if n == 10 {
					close(begun)
				}
			}
		})
		<-begun
		if failing {
			f.disk.sync.Store(new(error(syscall.EIO)))
		}
		if err := d.Close(); (err != nil) != failing {
			t.Error(err)
		}
		f.disk.sync.Store(nil)
		users.Wait()
		if first, err := own.commit(f.piece(1)); first || err != nil {
			t.Errorf("a copy that was under way: %v, %v", first, err)
		}
		if first, err := d.Begin(2).commit(f.piece(2)); first || !errors.Is(err, fs.ErrClosed) {
			t.Errorf("a copy that begins: %v, %v", first, err)
		}
	}
}

// Hundreds of pieces may be under way at once.
func TestACopyUnderWayNeedsLittleMemory(t *testing.T) {
	f := newFetching(t)
	d := f.open(nil)
	d.cfg.Workers = 1
	const many = 200
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	writers := make([]*PieceWriter, many)
	for i := range writers {
		writers[i] = d.Begin(0)
		writers[i].mem = nil // a second copy needs what the piece has
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / many; each > content.MinPiece+48<<10 {
		t.Errorf("%d bytes for each", each)
	}
	for _, w := range writers {
		w.Abort()
	}
}

// A file system that cannot make bytes last is used all the same, and its user is told once. One that failed to is not.
func TestADiskThatKnowsNoSyncIsUsedAndSaidSo(t *testing.T) {
	for _, none := range []error{syscall.EINVAL, syscall.ENOTSUP, syscall.ENOSYS, &fs.PathError{Op: "sync", Err: syscall.EINVAL}} {
		f := newFetching(t)
		told := 0
		d := f.open(func(cfg *DownloadConfig) { cfg.Unsure = func() { told++ } })
		f.disk.sync.Store(&none)
		f.fill(d, 0, 1, 2)
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
		f.fill(d, 3, 4)
		if err := d.Complete(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(d.Path()); err != nil || !bytes.Equal(got, f.want) || told != 1 {
			t.Errorf("%v: the file has %d bytes, %v; told %d times", none, len(got), err, told)
		}
	}
	for _, lost := range []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT} {
		l := lasting{unsure: func() { t.Errorf("%v is taken for a file system that cannot", lost) }}
		if err := l.pass(&fs.PathError{Op: "sync", Err: lost}); !errors.Is(err, lost) {
			t.Errorf("%v is passed over", lost)
		}
	}
	if err := (&lasting{}).pass(nil); err != nil {
		t.Error(err)
	}
}
