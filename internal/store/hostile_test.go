package store

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"shoal/internal/content"
)

// races is how often a race is tried. They are rare: with SHOAL_LONG it takes half an hour.
func races() int {
	if os.Getenv("SHOAL_LONG") != "" {
		return 1_000_000
	}
	return 400
}

// swapping lets somebody who may write to a folder change it all the time, with pauses, until the returned function is called. That says how
// often it was done.
func swapping(t *testing.T, swap func(i int)) (stop func() int64) {
	var ended atomic.Bool
	var n atomic.Int64
	var all sync.WaitGroup
	all.Go(func() {
		chance := rand.New(rand.NewPCG(3, 4))
		for i := 0; !ended.Load(); i++ {
			swap(i)
			n.Add(1)
			for range chance.IntN(20_000) { // some tries go through, some are hit
				runtime.Gosched()
			}
		}
	})
	stop = func() int64 { ended.Store(true); all.Wait(); return n.Load() }
	t.Cleanup(func() { stop() })
	return stop
}

// canary is a folder that is nobody's business, with files of the names that are used, which must stay as they are.
func canary(t *testing.T) (dir string, check func()) {
	dir = t.TempDir()
	for _, name := range []string{"file", "data", "lock", "journal", "manifest", "head", "rest", "a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := look(t, dir)
	return dir, func() {
		t.Helper()
		if after := look(t, dir); after != before {
			t.Fatalf("something outside was touched:\n%s\nwas\n%s", after, before)
		}
	}
}

// Somebody else may write to the folder, and changes what has the target's name and the hidden folder's whenever it looks best: for links
// that lead elsewhere, files, folders and pipes. Nothing outside the folder is read as ours, made, changed or removed, and nothing hangs.
func TestARaceForTheTargetLeadsNowhere(t *testing.T) {
	outside, check := canary(t)
	f := newFetching(t)
	f.want = f.want[:1000]
	var err error
	if f.m, err = Hash(t.Context(), bytes.NewReader(f.want), 1000, 1, nil); err != nil {
		t.Fatal(err)
	}
	target, folder := filepath.Join(f.dir, "file"), filepath.Dir(f.hidden("x"))
	stop := swapping(t, func(i int) {
		name, aside := []string{target, folder}[i%2], filepath.Join(f.dir, "aside")
		os.Rename(name, aside)
		switch (i / 2) % 7 {
		case 0:
			os.Symlink(outside, name)
		case 1:
			os.Symlink(filepath.Join(outside, "file"), name)
		case 2:
			os.Symlink("../"+filepath.Base(outside)+"/data", name)
		case 3:
			mkfifo(name, 0o666)
		case 4:
			os.Mkdir(name, 0o700)
		case 5:
			os.Mkdir(name, 0o700)
			for _, name := range []string{"lock", "manifest", "journal", "data"} {
				mkfifo(filepath.Join(f.dir, filepath.Base(folder), name), 0o666)
			}
		case 6:
			os.WriteFile(name, []byte("other"), 0o600)
		}
		for range i % 100 {
			runtime.Gosched()
		}
		os.RemoveAll(name)
		os.Rename(aside, name)
	})
	completed := 0
	try := func(i int) {
		if i%4 < 3 {
			os.RemoveAll(target) // of a link, the link
		}
		d, err := f.try(func(c *DownloadConfig) { c.Overwrite, c.Restart = i%2 == 1, i%3 == 0 })
		if err == nil {
			if _, err = d.Begin(0).commit(f.want); err == nil && d.Complete(t.Context()) == nil {
				completed++
			}
			d.Close()
		}
	}
	for i := range races() {
		if try(i); i%50 == 0 {
			check()
		}
	}
	swaps := stop()
	check()
	t.Logf("%d tries, %d complete, %d swaps", races(), completed, swaps)
	os.RemoveAll(folder)
	if completed = 0; swaps > 0 {
		try(0)
	}
	if completed == 0 {
		t.Error("nothing was swapped, or none can be complete: this tests nothing")
	}
}

// The same of a directory that is fetched into one that is there: what its folders are is changed while files are given their places.
func TestARaceForAFolderInADirectoryLeadsNowhere(t *testing.T) {
	outside, check := canary(t)
	k := newTaking(t, map[string]int{"sub/a": 3000, "sub/b": 10, "x": 70_000})
	k.must(k.all())
	root, err := os.OpenRoot(k.dir) // nothing is written elsewhere by this test itself
	k.must(err)
	defer root.Close()
	sub, hidden := k.target("sub"), ""
	stop := swapping(t, func(i int) {
		if hidden == "" || i%16 == 0 {
			all, _ := filepath.Glob(filepath.Join(k.dir, ".shoal-*"))
			if hidden = ""; len(all) > 0 {
				hidden = all[0]
			}
		}
		name := sub
		if i%2 == 1 && hidden != "" {
			name = filepath.Join(hidden, "tree", "sub")
		}
		os.Rename(name, name+"-aside")
		to := outside
		if i%4 >= 2 {
			to = strings.Repeat("../", 8) + strings.TrimPrefix(outside, "/")
		}
		os.Symlink(to, name)
		for range i % 100 {
			runtime.Gosched()
		}
		os.Remove(name)
		os.Rename(name+"-aside", name)
	})
	completed := 0
	try := func(i int) {
		root.WriteFile("d/sub/a", []byte("changed"), 0o644)
		k.change = func(c *DownloadConfig) { c.Overwrite, c.Restart = true, i%3 == 0 }
		if k.all() == nil {
			completed++
		}
	}
	for i := range races() / 8 {
		if try(i); i%20 == 0 {
			check()
		}
	}
	swaps := stop()
	check()
	t.Logf("%d tries, %d complete, %d swaps", races()/8, completed, swaps)
	k.must(os.RemoveAll(k.dir))
	k.must(os.Mkdir(k.dir, 0o700))
	if completed = 0; swaps > 0 {
		try(0)
	}
	if completed == 0 {
		t.Error("nothing was swapped, or none can be complete: this tests nothing")
	}
}

// A folder that is moved while a download runs takes it along; what has its name then is another.
func TestAFolderThatIsMovedTakesTheDownloadAlong(t *testing.T) {
	outside, check := canary(t)
	for name, replace := range map[string]func(path string) error{
		"nothing":        func(string) error { return nil },
		"another folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"a link":         func(path string) error { return os.Symlink(outside, path) },
	} {
		f := newFetching(t)
		f.dir = filepath.Join(f.dir, "in")
		if err := os.Mkdir(f.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		d := f.open(nil)
		f.fill(d, 0, 1)
		moved := f.dir + "-moved"
		if err := errors.Join(os.Rename(f.dir, moved), replace(f.dir)); err != nil {
			t.Fatal(err)
		}
		f.fill(d, 2, 3, 4)
		if err := errors.Join(d.Sync(), d.Complete(t.Context()), d.Close()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(filepath.Join(moved, "file")); !bytes.Equal(got, f.want) || names(t, moved) != "file" {
			t.Errorf("%s: in the folder that was moved there is %s", name, names(t, moved))
		}
		if there, err := os.ReadDir(f.dir); name != "a link" && err == nil && len(there) > 0 {
			t.Errorf("%s: something was made in what has its name: %v", name, there)
		}
		check()
	}
}

// A file that is fetched is as any that this user makes, whatever it was where it comes from.
func TestAFileHasThePermissionsOfThisUser(t *testing.T) {
	f := newFetching(t)
	plain := filepath.Join(f.dir, "plain")
	if err := os.WriteFile(plain, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat(plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, overwrite := range []bool{false, true} {
		if overwrite { // not those of the one that is replaced either: it may have been anybody's
			if err := errors.Join(os.WriteFile(filepath.Join(f.dir, "file"), []byte("x"), 0o600), os.Chmod(filepath.Join(f.dir, "file"), 0o755|fs.ModeSetuid)); err != nil {
				t.Fatal(err)
			}
		}
		d := f.open(func(c *DownloadConfig) { c.Overwrite = overwrite })
		f.fill(d, 0, 1, 2, 3, 4)
		if err := errors.Join(d.Complete(t.Context()), d.Close()); err != nil {
			t.Fatal(err)
		}
		got, err := os.Stat(filepath.Join(f.dir, "file"))
		if err != nil || got.Mode() != want.Mode() || got.Mode()&0o111 != 0 {
			t.Errorf("overwrite %v: %v, a file of this user's has %v", overwrite, got.Mode(), want.Mode())
		}
	}
}

// Which names Windows would take for something else is known everywhere, so that it is tested here.
func TestNamesThatASystemCannotHave(t *testing.T) {
	for _, name := range []string{
		"CON", "con.txt", "Nul", "aux .img", "COM1", "com9.tar.gz", "LPT0", "COM¹", "CONIN$", "a:b", "a.img:stream", "C:", "a.", "a ", "...", "a?", "a*b", `a"b`, "a<b", "a|b",
		`a\b`, "a/b", "a\x01",
	} {
		if canHave("windows", name) {
			t.Errorf("%q is taken on Windows", name)
		}
	}
	for _, name := range []string{"a.img", "CONSOLE", "com", "COM10", "COMA", "nul-1", ".x", "a b", "ä", "auxiliary.CON", strings.Repeat("x", 255)} {
		if !canHave("windows", name) {
			t.Errorf("%q is refused on Windows", name)
		}
	}
	if !canHave("linux", "CON") || !canHave("darwin", "a:b") {
		t.Error("what is no trouble is refused")
	}
}

// The longest name there can be is a file's; one that is longer than the file system has is an error before anything is made.
func TestTheLongestName(t *testing.T) {
	f := newFetching(t)
	long := strings.Repeat("n", 255)
	d := f.open(func(c *DownloadConfig) { c.Target = long })
	f.fill(d, 0, 1, 2, 3, 4)
	if err := errors.Join(d.Complete(t.Context()), d.Close()); err != nil || names(t, f.dir) != long {
		t.Errorf("%v, %s", err, names(t, f.dir))
	}
	if _, err := f.try(func(c *DownloadConfig) { c.Target = long + "n" }); err == nil || names(t, f.dir) != long {
		t.Errorf("%v, %s", err, names(t, f.dir))
	}
}

// folding is a disk on which the two ways to write é are one, as on some systems.
type folding struct{ Disk }

type foldingFolder struct{ Folder }

func fold(name string) string { return strings.ReplaceAll(name, "e\u0301", "\u00e9") }

func (d folding) OpenFolder(path string) (Folder, error) {
	f, err := d.Disk.OpenFolder(path)
	return foldingFolder{f}, err
}

func (f foldingFolder) Lstat(name string) (fs.FileInfo, error) { return f.Folder.Lstat(fold(name)) }
func (f foldingFolder) Mkdir(name string, perm fs.FileMode) error {
	return f.Folder.Mkdir(fold(name), perm)
}
func (f foldingFolder) Remove(name string) error { return f.Folder.Remove(fold(name)) }
func (f foldingFolder) Chmod(name string, perm fs.FileMode) error {
	return f.Folder.Chmod(fold(name), perm)
}
func (f foldingFolder) SyncDir(name string) error { return f.Folder.SyncDir(fold(name)) }
func (f foldingFolder) Open(name string, flag int, perm fs.FileMode) (File, error) {
	return f.Folder.Open(fold(name), flag, perm)
}

// Two names of a directory that a file system takes for one are an error, at the first try and at any later one: never one file for both.
func TestNamesThatAreOneHereAreRefused(t *testing.T) {
	for name, entries := range map[string]map[string]int{
		"files":   {"caf\u00e9": 70_000, "cafe\u0301": 70_000, "x": 1},
		"folders": {"caf\u00e9/a": 70_000, "cafe\u0301/b": 70_000, "x": 1},
	} {
		k := newTaking(t, entries)
		k.must(k.all())
		k.must(os.RemoveAll(k.target("")))
		k.change = func(c *DownloadConfig) { c.Disk = folding{System()} }
		for range 2 {
			if err := k.all(); !errors.Is(err, ErrNames) || names(t, k.dir) != "" {
				t.Errorf("%s: %v; left: %s", name, err, names(t, k.dir))
			}
		}
		// A run that was killed in the middle has left some of them.
		k.change = nil
		k.sel.Except = []string{"cafe\u0301"}
		d, err := k.open()
		k.must(err)
		k.must(d.closeFiles())
		hidden := PartialDir("v2d:d" + k.sel.String())
		k.sel.Except = nil
		k.must(os.Rename(filepath.Join(k.dir, hidden), filepath.Join(k.dir, PartialDir("v2d:d"+k.sel.String()))))
		k.change = func(c *DownloadConfig) { c.Disk = folding{System()} }
		if err := k.all(); !errors.Is(err, ErrNames) {
			t.Errorf("%s, after a crash: %v", name, err)
		}
		if _, err := os.Stat(k.target("")); err == nil {
			t.Errorf("%s: there is a directory", name)
		}
	}
}

// What fits once is allowed no more than once: who resumes what has its space already needs none, however little is left.
func TestAResumeNeedsNoSpaceThatItHas(t *testing.T) {
	f := newFetching(t)
	reserve := func(c *DownloadConfig) { c.Reserve = 1 << 20 }
	f.disk.free = int64(len(f.want)) + 1<<20 - 1
	var full *SpaceError
	if _, err := f.try(reserve); !errors.As(err, &full) || full.Free != int64(len(f.want))-1 || names(t, f.dir) != "" {
		t.Errorf("what is to be left free is used: %v", err)
	}
	f.disk.free++
	d := f.open(reserve)
	f.fill(d, 0)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	f.disk.free = 0
	d = f.open(reserve)
	f.has(d, "0")
}

// No wrong bit is taken for right, wherever it is: with SHOAL_LONG a million.
func TestNoWrongBitIsTaken(t *testing.T) {
	f := newFetching(t)
	m := f.m
	chance := rand.New(rand.NewPCG(1, 2))
	b := bytes.Clone(f.want)
	for range races() {
		p := chance.Uint32N(m.Geo.Pieces)
		at := m.Geo.Offset(p) + chance.Int64N(m.Geo.Len(p))
		b[at] ^= 1 << chance.UintN(8)
		var h content.PieceHash
		h.Reset(m.Geo, p)
		h.Write(b[m.Geo.Offset(p) : m.Geo.Offset(p)+m.Geo.Len(p)])
		if m.Verify(p, &h) {
			t.Fatalf("piece %d is taken, and has a wrong bit at %d", p, at)
		}
		b[at] = f.want[at]
	}
}
