package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"lukechampine.com/blake3"
)

const unit = 1000

func config(dir string) PartialConfig {
	return PartialConfig{Dir: dir, Target: "file", Key: "classic:file", Layout: OneFile, UnitSize: unit, Size: 3*unit + 7}
}

func bytesFor(u uint32) []byte {
	return bytes.Repeat([]byte{byte('a' + u)}, min(unit, 3*unit+7-int(u)*unit))
}

func open(t *testing.T, cfg PartialConfig) *Partial {
	t.Helper()
	p, err := OpenPartial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func (p *Partial) fill(t *testing.T, units ...uint32) {
	t.Helper()
	for _, u := range units {
		b := bytesFor(u)
		half := len(b) / 2
		if err := errors.Join(p.WriteAt(u, b[half:], int64(half)), p.WriteAt(u, b[:half], 0), p.Mark(u)); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *Partial) there() (units []uint32) {
	for u := range p.cfg.Units() {
		if p.Have(u) {
			units = append(units, u)
		}
	}
	return units
}

func wantUnits(t *testing.T, p *Partial, want ...uint32) {
	t.Helper()
	if got := p.there(); !slices.Equal(got, want) {
		t.Fatalf("units %v are there, want %v", got, want)
	}
}

// names returns all that is in a folder.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func finish(t *testing.T, p *Partial, overwrite bool) error {
	t.Helper()
	if err := errors.Join(p.Sync(), p.Assemble(t.Context())); err != nil {
		t.Fatal(err)
	}
	return p.Publish(overwrite)
}

func wantFile(t *testing.T, path string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := slices.Concat(bytesFor(0), bytesFor(1), bytesFor(2), bytesFor(3)); !bytes.Equal(got, want) {
		t.Fatalf("%s has %d other bytes than the %d it should have", path, len(got), len(want))
	}
}

// Both layouts do the same, to the same end.
func eachLayout(t *testing.T, test func(*testing.T, PartialConfig)) {
	for name, layout := range map[string]Layout{"one file": OneFile, "unit files": UnitFiles} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t.TempDir())
			cfg.Layout = layout
			test(t, cfg)
		})
	}
}

func TestADownloadInAnyOrderBecomesTheFileAndLeavesNoTraces(t *testing.T) {
	eachLayout(t, func(t *testing.T, cfg PartialConfig) {
		p := open(t, cfg)
		p.fill(t, 3, 1, 0, 2)
		sum := sha256.New()
		if err := errors.Join(p.Sync(), p.Assemble(t.Context()), p.Hash(t.Context(), sum, nil)); err != nil {
			t.Fatal(err)
		}
		want := sha256.Sum256(slices.Concat(bytesFor(0), bytesFor(1), bytesFor(2), bytesFor(3)))
		if got := sum.Sum(nil); !bytes.Equal(got, want[:]) {
			t.Errorf("hashed to %x, want %x", got, want)
		}
		if got := names(t, cfg.Dir); strings.Contains(got, "file") {
			t.Errorf("the name is there before the end: %s", got)
		}
		if err := p.Publish(false); err != nil {
			t.Fatal(err)
		}
		wantFile(t, filepath.Join(cfg.Dir, "file"))
		if got := names(t, cfg.Dir); got != "file" {
			t.Errorf("left behind: %s", got)
		}
	})
}

func TestARunThatWasKilledResumesAtWhatWasSynced(t *testing.T) {
	eachLayout(t, func(t *testing.T, cfg PartialConfig) {
		p := open(t, cfg)
		p.fill(t, 2, 0)
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
		p.fill(t, 1) // and not synced
		p.Close()
		p = open(t, cfg)
		wantUnits(t, p, 0, 2)
		if got := p.Bytes(); got != 2*unit {
			t.Errorf("%d bytes, want %d", got, 2*unit)
		}
		p.fill(t, 1, 3)
		if err := finish(t, p, false); err != nil {
			t.Fatal(err)
		}
		wantFile(t, filepath.Join(cfg.Dir, "file"))
	})
}

// A crash may cut the journal at any byte, or change any: what is then believed was written, and never more.
func TestATornJournalProvesOnlyWhatIsWhole(t *testing.T) {
	cfg := config(t.TempDir())
	p := open(t, cfg)
	for _, u := range []uint32{0, 3, 1} {
		p.fill(t, u)
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	p.Close()
	path := filepath.Join(cfg.Dir, PartialDir(cfg.Key), "journal")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	header := len(whole) - 3*recordSize
	believed := func(b []byte) []uint32 {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		p := open(t, cfg)
		defer p.Close()
		return p.there()
	}
	order := []uint32{0, 3, 1}
	for cut := range whole {
		want := slices.Sorted(slices.Values(order[:max(0, (cut-header)/recordSize)]))
		if got := believed(whole[:cut]); !slices.Equal(got, want) {
			t.Fatalf("cut at %d of %d: units %v, want %v", cut, len(whole), got, want)
		}
	}
	for i := header; i < len(whole); i++ {
		b := bytes.Clone(whole)
		b[i] ^= 0x10
		want := slices.Sorted(slices.Values(order[:(i-header)/recordSize]))
		if got := believed(b); !slices.Equal(got, want) {
			t.Fatalf("byte %d flipped: units %v, want %v", i, got, want)
		}
	}
}

func TestAJournalThatWasCutGoesOnBehindTheCut(t *testing.T) {
	cfg := config(t.TempDir())
	p := open(t, cfg)
	p.fill(t, 0)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	p.Close()
	path := filepath.Join(cfg.Dir, PartialDir(cfg.Key), "journal")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("\x01\x00\x00\x00")
	f.Close()
	p = open(t, cfg)
	p.fill(t, 2)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	p.Close()
	wantUnits(t, open(t, cfg), 0, 2)
}

func TestAnotherSizeIsNeverMixedIn(t *testing.T) {
	cfg := config(t.TempDir())
	p := open(t, cfg)
	p.fill(t, 0)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	p.Close()
	other := cfg
	other.Size++
	if _, err := OpenPartial(other); !errors.Is(err, ErrMismatch) {
		t.Fatalf("got %v, want ErrMismatch", err)
	}
	wantUnits(t, open(t, cfg), 0) // and nothing was lost
}

func TestRestartThrowsAwayWhatWasThere(t *testing.T) {
	eachLayout(t, func(t *testing.T, cfg PartialConfig) {
		foreign := filepath.Join(cfg.Dir, "9.p2p")
		if err := os.WriteFile(foreign, []byte("theirs"), 0o600); err != nil {
			t.Fatal(err)
		}
		p := open(t, cfg)
		p.fill(t, 0)
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
		p.Close()
		cfg.Size, cfg.Restart = cfg.Size+5, true
		p = open(t, cfg)
		wantUnits(t, p)
		if b, err := os.ReadFile(foreign); err != nil || string(b) != "theirs" {
			t.Errorf("a file that is none of ours: %q, %v", b, err)
		}
	})
}

func TestUnitFilesOfSomebodyElseAreNotTouched(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Layout = UnitFiles
	foreign := filepath.Join(cfg.Dir, "1.p2p")
	if err := os.WriteFile(foreign, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := open(t, cfg)
	if err := p.WriteAt(1, []byte("ours"), 0); !errors.Is(err, ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
	if b, _ := os.ReadFile(foreign); string(b) != "theirs" {
		t.Errorf("overwritten with %q", b)
	}
}

// A run that is killed after it has made the file, and before it could note so, leaves an empty one. The next run goes on; an empty file that is
// there when a download begins, or that comes while it runs, is somebody else's.
func TestAFileOfARunThatWasKilledIsMadeAnew(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Layout = UnitFiles
	left := filepath.Join(cfg.Dir, "1.p2p")
	empty := func(at time.Time) {
		if err := errors.Join(os.WriteFile(left, nil, 0o600), os.Chtimes(left, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	empty(time.Now().Add(-time.Hour))
	p := open(t, cfg)
	if err := p.WriteAt(1, []byte("ours"), 0); !errors.Is(err, ErrExists) {
		t.Errorf("it was there before: %v", err)
	}
	p.fill(t, 0)
	if err := errors.Join(p.Sync(), p.Close()); err != nil {
		t.Fatal(err)
	}
	p = open(t, cfg)
	empty(time.Now().Add(time.Hour))
	if err := p.WriteAt(1, []byte("ours"), 0); !errors.Is(err, ErrExists) {
		t.Errorf("it came just now: %v", err)
	}
	p.Close()
	empty(time.Now().Add(-time.Hour))
	p = open(t, cfg)
	p.fill(t, 1, 2, 3)
	if err := finish(t, p, false); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(cfg.Dir, "file"))
}

// A second try finds a journal of its own, and still none that has the other's file as ours.
func TestASecondTryDoesNotTouchThemEither(t *testing.T) {
	a := config(t.TempDir())
	a.Layout = UnitFiles
	pa := open(t, a)
	pa.fill(t, 0)
	if err := pa.Sync(); err != nil {
		t.Fatal(err)
	}
	pa.Close()
	b := a
	b.Target, b.Key = "other", "classic:other"
	for range 2 {
		pb := open(t, b)
		if err := pb.WriteAt(0, []byte("b's"), 0); !errors.Is(err, ErrExists) {
			t.Fatalf("got %v, want ErrExists", err)
		}
		if pb.Have(0) {
			t.Fatal("takes the other's chunk for its own")
		}
		pb.Close()
	}
	b.Restart = true
	open(t, b).Close()
	pa = open(t, a)
	wantUnits(t, pa, 0)
	pa.fill(t, 1, 2, 3)
	if err := finish(t, pa, false); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(a.Dir, "file"))
}

func TestATargetThatIsNamedLikeAChunkFileIsRefused(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Layout, cfg.Target = UnitFiles, "0.p2p"
	if _, err := OpenPartial(cfg); !errors.Is(err, ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
}

// After a sync that failed nothing counts as synced, even if a later one would succeed: the kernel forgets what it could
// not write.
func TestAFailedSyncIsNeverForgotten(t *testing.T) {
	cfg := config(t.TempDir())
	p := open(t, cfg)
	p.fill(t, 0)
	one := p.data.(*oneFile)
	good := one.f
	bad, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	bad.Close()
	one.f = bad
	if err := p.Sync(); err == nil {
		t.Fatal("a sync of a closed file succeeds")
	}
	one.f = good
	p.fill(t, 1)
	if err := p.Sync(); err == nil {
		t.Error("the next sync succeeds")
	}
	p.Close()
	wantUnits(t, open(t, cfg))
}

// A run that was stopped between giving the file its name and removing its traces: the file is the user's from then on.
func TestAfterAStopInPublishTheFileIsTheUsers(t *testing.T) {
	cfg := config(t.TempDir())
	target := filepath.Join(cfg.Dir, "file")
	p := open(t, cfg)
	p.fill(t, 0, 1, 2, 3)
	if err := errors.Join(p.Sync(), p.Assemble(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(cfg.Dir, PartialDir(cfg.Key), "data"), target); err != nil {
		t.Fatal(err)
	}
	p.Close()
	p = open(t, cfg)
	wantUnits(t, p)
	if err := p.WriteAt(0, []byte("other"), 0); err != nil {
		t.Fatal(err)
	}
	wantFile(t, target) // untouched, although the new run writes
}

func TestDataThatWasTakenAwayIsNotBelieved(t *testing.T) {
	eachLayout(t, func(t *testing.T, cfg PartialConfig) {
		p := open(t, cfg)
		p.fill(t, 0, 1)
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
		p.Close()
		victim := filepath.Join(cfg.Dir, "0.p2p")
		if cfg.Layout == OneFile {
			victim = filepath.Join(cfg.Dir, PartialDir(cfg.Key), "data")
		}
		if err := os.Remove(victim); err != nil {
			t.Fatal(err)
		}
		for range 3 { // nor by the runs after that, which find a data file again
			p = open(t, cfg)
			if p.Have(0) {
				t.Fatal("a unit without bytes counts as there")
			}
			p.Close()
		}
	})
}

func TestTwoDownloadsOfOneTargetExcludeEachOther(t *testing.T) {
	cfg := config(t.TempDir())
	p := open(t, cfg)
	if _, err := OpenPartial(cfg); !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	p.Close()
	open(t, cfg)
}

func TestAnExistingTargetIsNeverReplacedUnasked(t *testing.T) {
	cfg := config(t.TempDir())
	target := filepath.Join(cfg.Dir, "file")
	p := open(t, cfg)
	p.fill(t, 0, 1, 2, 3)
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := finish(t, p, false); !errors.Is(err, ErrExists) {
		t.Fatalf("got %v, want ErrExists", err)
	}
	if b, _ := os.ReadFile(target); string(b) != "precious" {
		t.Fatalf("replaced by %d bytes", len(b))
	}
	p.Close()
	p = open(t, cfg)
	wantUnits(t, p, 0, 1, 2, 3) // what was fetched is kept
	if err := finish(t, p, true); err != nil {
		t.Fatal(err)
	}
	wantFile(t, target)
}

// The run of which the target is left, and traces, is the last one: what comes after it says that the target exists.
func TestTracesOfAFileThatHasItsNameAreSweptAndNothingElse(t *testing.T) {
	eachLayout(t, func(t *testing.T, cfg PartialConfig) {
		sweep := func(want string) {
			t.Helper()
			if err := SweepPartial(cfg.Dir, cfg.Target, cfg.Key); err != nil {
				t.Fatal(err)
			}
			if got := names(t, cfg.Dir); got != want {
				t.Fatalf("%q are there, want %q", got, want)
			}
		}
		sweep("")
		p := open(t, cfg)
		p.fill(t, 0, 1, 2, 3)
		if err := errors.Join(p.Sync(), p.Assemble(t.Context())); err != nil {
			t.Fatal(err)
		}
		hidden := filepath.Join(cfg.Dir, p.dir)
		if err := os.Link(filepath.Join(hidden, "data"), filepath.Join(cfg.Dir, "file")); err != nil {
			t.Fatal(err)
		}
		p.Close() // as if it had been killed
		sweep("file")
		wantFile(t, filepath.Join(cfg.Dir, "file"))

		// Killed at the very end: the lock alone is left.
		if err := errors.Join(os.Mkdir(hidden, 0o700), os.WriteFile(filepath.Join(hidden, "lock"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		sweep("file")

		// What another file's download may be resumed from is left alone.
		p = open(t, cfg)
		p.fill(t, 2)
		if err := errors.Join(p.Sync(), p.Close()); err != nil {
			t.Fatal(err)
		}
		sweep(names(t, cfg.Dir))
		p = open(t, cfg)
		wantUnits(t, p, 2)

		// Nor is a folder touched that another process uses.
		if err := os.Remove(filepath.Join(hidden, "journal")); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(filepath.Join(hidden, "data"))
		if err := SweepPartial(cfg.Dir, cfg.Target, cfg.Key); !errors.Is(err, ErrLocked) {
			t.Errorf("of a download that runs: %v", err)
		}
	})
}

func TestATargetThatIsNoFileIsRefused(t *testing.T) {
	for name, make := range map[string]func(string) error{
		"folder":  func(path string) error { return os.Mkdir(path, 0o700) },
		"symlink": func(path string) error { return os.Symlink("/etc/passwd", path) },
	} {
		cfg := config(t.TempDir())
		if err := make(filepath.Join(cfg.Dir, "file")); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenPartial(cfg); !errors.Is(err, ErrExists) {
			t.Errorf("%s: got %v, want ErrExists", name, err)
		}
	}
}

func TestAHiddenFolderThatLeadsElsewhereIsRefused(t *testing.T) {
	cfg, elsewhere := config(t.TempDir()), t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(cfg.Dir, PartialDir(cfg.Key))); err != nil {
		t.Fatal(err)
	}
	if p, err := OpenPartial(cfg); err == nil {
		p.Close()
		t.Error("followed a link")
	}
	if got := names(t, elsewhere); got != "" {
		t.Errorf("wrote %s outside the target's folder", got)
	}
}

// A claim of 2^32-1 units of 32 MB is refused before anything is allocated for it, in memory or on disk.
func TestAClaimThatCannotFitIsRefused(t *testing.T) {
	eachLayout(t, func(t *testing.T, cfg PartialConfig) {
		cfg.UnitSize, cfg.Size = 32_000_000, 32_000_000*(1<<32-1)
		var space *SpaceError
		allocs := testing.AllocsPerRun(1, func() {
			if _, err := OpenPartial(cfg); !errors.As(err, &space) {
				t.Errorf("got %v, want SpaceError", err)
			}
		})
		if allocs > 1000 {
			t.Errorf("%v allocations", allocs)
		}
		if got := names(t, cfg.Dir); got != "" {
			t.Errorf("left behind: %s", got)
		}
	})
}

func TestAJournalOfALaterVersionIsLeftAlone(t *testing.T) {
	cfg := config(t.TempDir())
	dir := filepath.Join(cfg.Dir, PartialDir(cfg.Key))
	later := []byte("shoalj99" + strings.Repeat("?", 40))
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "journal"), later, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPartial(cfg); !errors.Is(err, ErrNewer) {
		t.Errorf("got %v, want ErrNewer", err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "journal")); !bytes.Equal(b, later) {
		t.Error("it was changed")
	}
}

func TestJournalGoldenBytes(t *testing.T) {
	b, sum := journal{Layout: OneFile, UnitSize: 32_000_000, Size: 64_000_001, Name: "classic:a"}.append(nil)
	b = appendRecord(b, sum, recordThere, 1, 2)
	want := "73686f616c6a3031" + "01" + "0000000001e84800" + "0000000003d09001" + "0009" + "636c61737369633a61" + "91a080cc" +
		"01" + "00000001" + "00000002" + "48e75aae"
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func FuzzReplay(f *testing.F) {
	b, sum := journal{Layout: OneFile, UnitSize: 10, Size: 95, Name: "n"}.append(nil)
	f.Add(appendRecord(b, sum, recordThere, 3, 4))
	f.Add([]byte("shoalj02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		again := []byte(nil)
		var sum uint32
		whole, err := replay(bytes.NewReader(b),
			func(j journal) error { again, sum = j.append(nil); return nil },
			func(kind recordKind, first, count uint32) { again = appendRecord(again, sum, kind, first, count) })
		if err == nil && !bytes.Equal(again, b[:whole]) {
			t.Fatalf("%x was read as what is written %x", b[:whole], again)
		}
	})
}

func TestASharedFileThatChangesIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write := func(text string, at time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-time.Hour)
	for name, change := range map[string]func(){
		"shrunk":   func() { write("sho", then) },
		"grown":    func() { write("longer", then) },
		"modified": func() { write("other", then.Add(time.Second)) },
	} {
		write("short", then)
		l := NewLibrary()
		s, err := l.Share(path, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.InPlace(); err != nil {
			t.Errorf("%s: before: %v", name, err)
		}
		change()
		if err := s.Unchanged(); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: got %v, want ErrChanged", name, err)
		}
		l.Close()
	}
	write("short", then)
	l := NewLibrary()
	defer l.Close()
	s, err := l.Share(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write("short", then)
	if err := s.InPlace(); !errors.Is(err, ErrChanged) {
		t.Errorf("another file at the path: got %v, want ErrChanged", err)
	}
}

func TestWhatCannotBeShared(t *testing.T) {
	l, dir := NewLibrary(), t.TempDir()
	defer l.Close()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Share(path, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Share(path, "a"); !errors.Is(err, ErrShared) {
		t.Errorf("one name twice: %v", err)
	}
	if _, err := l.Share(dir, ""); err == nil {
		t.Error("shared a folder")
	}
	if _, err := l.Share(filepath.Join(dir, "none"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Share(pipe, ""); err == nil {
		t.Error("shared a pipe")
	}
	if _, err := l.Share(os.DevNull, ""); !errors.Is(err, ErrNoFile) {
		t.Errorf("a device: %v", err)
	}
}

// What takes the place of a shared file, or of the folder in which it lies, is not served under its name, whatever it is: what was opened stays what it was.
func TestWhatTakesAFilesPlaceIsNotServed(t *testing.T) {
	for name, swap := range map[string]func(folder, path string) error{
		"a link": func(_, path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.Symlink("/etc/passwd", path))
		},
		"a pipe":   func(_, path string) error { return errors.Join(os.Remove(path), mkfifo(path, 0o600)) },
		"a folder": func(_, path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"a file of its bytes": func(_, path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("shared"), 0o600))
		},
		"another folder": func(folder, path string) error {
			return errors.Join(os.Rename(folder, folder+".old"), os.Mkdir(folder, 0o700), os.WriteFile(path, []byte("secret"), 0o600))
		},
	} {
		folder := filepath.Join(t.TempDir(), "d")
		path := filepath.Join(folder, "f")
		if err := errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(path, []byte("shared"), 0o600)); err != nil {
			t.Fatal(err)
		}
		l := NewLibrary()
		s, err := l.Share(path, "")
		if err == nil {
			err = swap(folder, path)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.InPlace(); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v, want ErrChanged", name, err)
		}
		b := make([]byte, 6)
		if n, _ := s.ReadAt(b, 0); string(b[:n]) != "shared" {
			t.Errorf("%s: read %q", name, b[:n])
		}
		l.Close()
	}
}

// In a folder into which others can put things, a link and a hard link to what only we may read are not shared unasked.
func TestWhatSomebodyMayHavePutIntoAFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("who may not read a file cannot give it another name there")
	}
	secret := filepath.Join(t.TempDir(), "secret")
	for name, c := range map[string]struct {
		perm os.FileMode
		put  func(path string) error
		want error
	}{
		"a file":                           {0o600, func(path string) error { return os.Rename(secret, path) }, nil},
		"another name of what all may see": {0o644, func(path string) error { return os.Link(secret, path) }, nil},
		"another name of a secret":         {0o600, func(path string) error { return os.Link(secret, path) }, ErrLinked},
		"a link":                           {0o644, func(path string) error { return os.Symlink(secret, path) }, ErrChanged},
	} {
		path := filepath.Join(t.TempDir(), "f")
		if err := errors.Join(os.WriteFile(secret, []byte("x"), c.perm), os.Chmod(secret, c.perm), c.put(path)); err != nil {
			t.Fatal(err)
		}
		s, _, err := ShareFile(t.Context(), path, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Own(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		s.Close()
		os.Remove(secret)
	}
}

func BenchmarkHash(b *testing.B) {
	data := make([]byte, 64<<20)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := Hash(b.Context(), bytes.NewReader(data), int64(len(data)), 1, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("library", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		h := blake3.New(32, nil)
		for b.Loop() {
			h.Reset()
			for off := 0; off < len(data); off += 256 << 10 {
				_, _ = h.Write(data[off:][:256<<10])
			}
			h.Sum(nil)
		}
	})
	b.Run("library at once", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			blake3.Sum256(data)
		}
	})
}
