package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"shoal/internal/bundle"
	"shoal/internal/content"
)

// put makes a tree: a name with a slash at its end is a directory, one with " -> " a link, all others are files of so many bytes.
func put(t testing.TB, dir string, entries map[string]int) {
	t.Helper()
	for name, size := range entries {
		name, target, isLink := strings.Cut(name, " -> ")
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case isLink:
			err = os.Symlink(target, path)
		default:
			b := make([]byte, size)
			rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(len(name))}).Read(b)
			err = os.WriteFile(path, b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// look returns what is in a directory, as text.
func look(t testing.TB, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		fi, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%q %v", name, fi.Mode())
		switch fi.Mode().Type() {
		case 0:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", len(b), content.ID(hashOf(t, b)))
		case fs.ModeSymlink:
			target, _ := os.Readlink(path)
			line += " " + target
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "\n")
}

func hashOf(t testing.TB, b []byte) content.ID {
	t.Helper()
	m, err := Hash(t.Context(), bytes.NewReader(b), int64(len(b)), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m.ID
}

// sharing shares a directory.
func sharing(t testing.TB, dir string) *SharedDir {
	t.Helper()
	scanned, err := Scan(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := ShareDir(t.Context(), scanned, "d", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// taking is a directory and the folder that it is downloaded to.
type taking struct {
	t       testing.TB
	from    *SharedDir
	dir     string
	sel     bundle.Selection
	change  func(*DownloadConfig)
	hashed  atomic.Int64
	fetched int // pieces
}

func newTaking(t testing.TB, entries map[string]int) *taking {
	src := filepath.Join(t.TempDir(), "d")
	put(t, src, map[string]int{"/": 0})
	put(t, src, entries)
	return &taking{t: t, from: sharing(t, src), dir: t.TempDir()}
}

// open opens the download, and goes on until its listing is known.
func (k *taking) open() (*Download, error) {
	k.hashed.Store(0)
	k.fetched = 0
	cfg := DownloadConfig{
		Dir: k.dir, Target: "d", Manifest: k.from.Manifest, Key: "v2d:d" + k.sel.String(), Workers: 1, Directory: true,
		Checked: func(n int64) { k.hashed.Add(n) },
	}
	if k.change != nil {
		k.change(&cfg)
	}
	d, err := OpenDownload(k.t.Context(), cfg)
	if err != nil {
		return nil, err
	}
	for {
		if err := k.fill(d, -1); err != nil {
			return nil, errors.Join(err, d.Close())
		}
		if ready, err := d.Unfold(k.t.Context(), k.sel.Choose); err != nil {
			return nil, errors.Join(err, d.Close())
		} else if ready {
			return d, nil
		}
	}
}

// fill fetches pieces that are wanted: so many at the most, if it is not negative.
func (k *taking) fill(d *Download, most int) error {
	for p := range d.m.Geo.Pieces {
		if !d.Wanted(p) || d.Have(p) || most == 0 {
			continue
		}
		most--
		if err := fetchPiece(d, k.from, p); err != nil {
			return err
		}
		k.fetched++
	}
	return nil
}

func fetchPiece(d *Download, from interface {
	ReadAt(b []byte, off int64) (int, error)
}, p uint32,
) error {
	b := make([]byte, d.m.Geo.Len(p))
	if err := read(from, b, d.m.Geo.Offset(p)); err != nil {
		return err
	}
	w := d.Begin(p)
	defer w.Abort()
	for len(b) > 0 {
		n := min(len(b), 20000)
		if err := w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	_, err := w.Commit()
	return err
}

// all downloads it.
func (k *taking) all() error {
	d, err := k.open()
	if err != nil {
		return err
	}
	defer d.Close()
	if err := k.fill(d, -1); err != nil {
		return err
	}
	return d.Complete(k.t.Context())
}

func (k *taking) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *taking) target(name string) string { return filepath.Join(k.dir, "d", name) }

var oddTree = map[string]int{
	"a b": 3, "big.bin": 5*content.MinPiece + 17, "empty/": 0, "new\nline": 10, "sub/.hidden": 300, "sub/deep/m.bin": content.MinPiece,
	"sub/deep/n.json": 2, "sub/deep/up -> ../../a b": 0, "void/inner/": 0, "zero": 0, "\xff\xfe": 1, strings.Repeat("x", 255): 70000,
}

func TestADirectoryArrivesAsItIs(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no such names there")
	}
	k := newTaking(t, oddTree)
	k.must(os.Chmod(filepath.Join(k.from.Path, "sub/.hidden"), 0o600))
	k.must(os.Chmod(filepath.Join(k.from.Path, "big.bin"), 0o555))
	k.must(os.Chmod(filepath.Join(k.from.Path, "empty"), 0o700))
	k.from = sharing(t, k.from.Path)
	k.must(k.all())
	if got, want := look(t, k.dir+"/d"), look(t, k.from.Path); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := names(t, k.dir); got != "d" {
		t.Errorf("left: %s", got)
	}
	if again := sharing(t, k.target("")); again.Manifest.ID != k.from.Manifest.ID {
		t.Error("what has arrived is another content")
	}
	d, err := k.open() // it is complete, and can be given
	k.must(err)
	defer d.Close()
	if k.must(k.fill(d, -1)); !d.Already() || !d.HaveAll() || k.fetched > 1 { // the listing
		t.Errorf("already %v, all %v, %d pieces fetched", d.Already(), d.HaveAll(), k.fetched)
	}
	k.must(d.Complete(t.Context()))
	same(t, d, k.from)
}

// same compares what can be read of a download with what it is of.
func same(t testing.TB, d *Download, from *SharedDir) {
	t.Helper()
	g := d.m.Geo
	for p := range g.Pieces {
		got, want := make([]byte, g.Len(p)), make([]byte, g.Len(p))
		if err := read(from, want, g.Offset(p)); err != nil {
			t.Fatal(err)
		}
		if err := read(d, got, g.Offset(p)); d.Have(p) != (err == nil) || err == nil && !bytes.Equal(got, want) {
			t.Errorf("piece %d: there %v, read: %v", p, d.Have(p), err)
		}
	}
}

// It is given while it comes, and afterwards, wherever its files are.
func TestADirectoryIsReadWhereverItIs(t *testing.T) {
	k := newTaking(t, oddTree)
	d, err := k.open()
	k.must(err)
	defer d.Close()
	for !d.Done() {
		k.must(k.fill(d, 1))
		same(t, d, k.from)
	}
	k.must(d.Complete(t.Context()))
	same(t, d, k.from)
}

func TestTheSameTreeIsTheSameContent(t *testing.T) {
	entries := map[string]int{"b": 5, "a/x": 7, "a/y": 0, "c/": 0, "l -> a/x": 0}
	one := newTaking(t, entries)
	two := newTaking(t, entries)
	if err := os.Chtimes(filepath.Join(two.from.Path, "b"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b", "a/x"} {
		if err := os.Chmod(filepath.Join(two.from.Path, name), 0o664); err != nil {
			t.Fatal(err)
		}
	}
	if one.from.Manifest.ID != sharing(t, two.from.Path).Manifest.ID {
		t.Error("times or the habits of a machine make another content of it")
	}
	if err := os.Chmod(filepath.Join(two.from.Path, "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if one.from.Manifest.ID == sharing(t, two.from.Path).Manifest.ID {
		t.Error("that a file can be run makes no other content of it")
	}
}

func TestWhatCannotBeSharedIsLeftOutAndNamed(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]int{"a": 1, "in -> a": 0, "out -> ../x": 0, "abs -> /etc/passwd": 0, "sub/up -> ../a": 0, "sub/far -> ../../a": 0, PartialDir("k") + "/data": 5})
	if err := mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Scan(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var skipped, listed []string
	for _, skip := range s.Skipped {
		skipped = append(skipped, skip.Path)
	}
	for i := range s.Listing.Entries {
		listed = append(listed, s.Listing.Path(i))
	}
	slices.Sort(skipped)
	if got, want := strings.Join(skipped, " "), strings.Join([]string{PartialDir("k"), "abs", "out", "pipe", "sub/far"}, " "); got != want {
		t.Errorf("left out: %s, want %s", got, want)
	}
	if got := strings.Join(listed, " "); got != "a in sub sub/up" {
		t.Errorf("shared: %s", got)
	}
}

func TestADirectoryThatChangesIsNotGiven(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]int{"a": 3 * content.MinPiece, "b": 100, "c": 100})
	cache := OpenCache(filepath.Join(t.TempDir(), "cache"))
	share := func() (*SharedDir, bool) {
		scanned, err := Scan(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		s, hit, err := ShareDir(t.Context(), scanned, "d", cache, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s, hit
	}
	touch := func(name string, b []byte, ago time.Duration) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, b, 0o644), os.Chtimes(path, time.Time{}, time.Now().Add(-ago))); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := os.ReadFile(filepath.Join(dir, "a"))
	for i, name := range []string{"a", "b", "c"} {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		touch(name, b, time.Hour+time.Duration(i))
	}
	if _, hit := share(); hit {
		t.Error("it was known before it was hashed")
	}
	s, hit := share()
	if !hit {
		t.Error("it is hashed again")
	}
	touch("a", a, time.Minute) // the same bytes
	last := s.Manifest.Geo.Pieces - 1
	for p := range s.Manifest.Geo.Pieces {
		if err := s.CheckPiece(p); err != nil {
			t.Errorf("piece %d: %v", p, err)
		}
	}
	touch("b", bytes.Repeat([]byte{'x'}, 100), time.Minute)
	if err := s.CheckPiece(last); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "b: ") {
		t.Errorf("the piece of a changed file: %v", err)
	}
	if err := s.CheckPiece(1); err != nil {
		t.Errorf("the piece of another: %v", err)
	}
	if _, hit := share(); hit {
		t.Error("what was changed is taken for known")
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "a")), os.Symlink("/etc/passwd", filepath.Join(dir, "a"))); err != nil {
		t.Fatal(err)
	}
	s.files.drop()
	if err := s.CheckPiece(1); !errors.Is(err, ErrChanged) {
		t.Errorf("a file that is a link now: %v", err)
	}
	if n, err := s.ReadAt(make([]byte, 10), content.MinPiece); err == nil {
		t.Errorf("%d bytes were read through a link", n)
	}
}

func TestOnlyWhatIsChosenIsFetched(t *testing.T) {
	k := newTaking(t, oddTree)
	k.sel = bundle.Selection{Only: []string{"*.bin", "empty", "up", "zero"}, Except: []string{"big.bin"}}
	want := "empty sub sub/deep sub/deep/m.bin sub/deep/up zero"
	for _, run := range []string{"first", "again"} {
		k.must(k.all())
		var got []string
		k.must(filepath.WalkDir(k.target(""), func(path string, _ fs.DirEntry, err error) error {
			if name, _ := filepath.Rel(k.target(""), path); name != "." {
				got = append(got, filepath.ToSlash(name))
			}
			return err
		}))
		if strings.Join(got, " ") != want {
			t.Errorf("%s: there is %v", run, got)
		}
		if k.fetched > 3 {
			t.Errorf("%s: %d pieces were fetched", run, k.fetched)
		}
		if got := names(t, k.dir); got != "d" {
			t.Errorf("%s: left: %s", run, got)
		}
	}
	a, _ := os.ReadFile(k.target("sub/deep/m.bin"))
	if b, _ := os.ReadFile(filepath.Join(k.from.Path, "sub/deep/m.bin")); !bytes.Equal(a, b) {
		t.Error("it is another file")
	}
	k.sel = bundle.Selection{}
	if err := k.all(); !errors.Is(err, ErrExists) {
		t.Errorf("all of it, where some is: %v", err)
	}
	k.change = func(c *DownloadConfig) { c.Overwrite = true }
	k.must(k.all())
	if got, want := look(t, k.target("")), look(t, k.from.Path); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	k.sel = bundle.Selection{Only: []string{"nix"}}
	if err := k.all(); !errors.Is(err, bundle.ErrNothing) || names(t, k.dir) != "d" {
		t.Errorf("%v; left: %s", err, names(t, k.dir))
	}
}

// One part after the other: what is right in the directory, and not wanted this time, is in nobody's way.
func TestPartsOfADirectoryAreFetchedOneAfterTheOther(t *testing.T) {
	k := newTaking(t, map[string]int{"a": 200_000, "link -> sub/b": 0, "sub/b": 70_000})
	k.change = func(c *DownloadConfig) { c.Overwrite = true }
	for _, only := range []string{"sub", "link", "a"} {
		k.sel = bundle.Selection{Only: []string{only}}
		if err := k.all(); err != nil {
			t.Fatalf("%s: %v", only, err)
		}
	}
	if got, want := look(t, k.target("")), look(t, k.from.Path); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestADamagedDirectoryIsRepaired(t *testing.T) {
	for name, damage := range map[string]func(k *taking) error{
		"a byte": func(k *taking) error {
			b, err := os.ReadFile(k.target("big.bin"))
			b[3*content.MinPiece] ^= 1
			return errors.Join(err, os.WriteFile(k.target("big.bin"), b, 0o644))
		},
		"cut":               func(k *taking) error { return os.Truncate(k.target("big.bin"), 3*content.MinPiece) },
		"gone":              func(k *taking) error { return os.Remove(k.target("a b")) },
		"a directory gone":  func(k *taking) error { return os.RemoveAll(k.target("sub")) },
		"an empty one gone": func(k *taking) error { return os.RemoveAll(k.target("void")) },
		"not empty":         func(k *taking) error { return os.WriteFile(k.target("zero"), []byte("x"), 0o644) },
		"a link gone":       func(k *taking) error { return os.Remove(k.target("sub/deep/up")) },
		"another link": func(k *taking) error {
			return errors.Join(os.Remove(k.target("sub/deep/up")), os.Symlink("n.json", k.target("sub/deep/up")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := newTaking(t, oddTree)
			k.must(k.all())
			k.must(os.WriteFile(k.target("mine"), []byte("mine"), 0o644))
			k.must(damage(k))
			before := look(t, k.target(""))
			if err := k.all(); !errors.Is(err, ErrExists) {
				t.Errorf("unasked: %v", err)
			}
			if after := look(t, k.target("")); after != before || names(t, k.dir) != "d" {
				t.Errorf("it was changed unasked:\n%s\nleft: %s", after, names(t, k.dir))
			}
			k.change = func(c *DownloadConfig) { c.Overwrite = true }
			k.must(k.all())
			if k.fetched > 4 {
				t.Errorf("%d pieces were fetched", k.fetched)
			}
			if b, _ := os.ReadFile(k.target("mine")); string(b) != "mine" {
				t.Error("another's file is gone")
			}
			k.must(os.Remove(k.target("mine")))
			if got, want := look(t, k.target("")), look(t, k.from.Path); got != want || names(t, k.dir) != "d" {
				t.Errorf("got\n%s\nwant\n%s\nleft: %s", got, want, names(t, k.dir))
			}
		})
	}
}

// Nothing but files is replaced, and nothing is written through what leads elsewhere.
func TestADirectoryReplacesNothingButFiles(t *testing.T) {
	outside := t.TempDir()
	put(t, outside, map[string]int{"deep/n.json": 3, "a b": 5})
	before := look(t, outside)
	for name, c := range map[string]struct{ remove, link string }{
		"a directory elsewhere": {"sub", outside},
		"one inside":            {"sub", "empty"},
		"a file elsewhere":      {"a b", filepath.Join(outside, "a b")},
		"a file that is a link": {"big.bin", "a b"},
		"a file for a link":     {"sub/deep", "../empty"},
	} {
		for _, overwrite := range []bool{false, true} {
			k := newTaking(t, oddTree)
			k.must(k.all())
			k.must(errors.Join(os.RemoveAll(k.target(c.remove)), os.Symlink(c.link, k.target(c.remove))))
			k.change = func(c *DownloadConfig) { c.Overwrite = overwrite }
			if err := k.all(); !errors.Is(err, ErrExists) {
				t.Errorf("%s, overwrite %v: %v", name, overwrite, err)
			}
			if look(t, outside) != before || names(t, filepath.Join(k.target(""), "empty")) != "" {
				t.Errorf("%s, overwrite %v: something was written elsewhere", name, overwrite)
			}
			if names(t, k.dir) != "d" {
				t.Errorf("%s, overwrite %v: left: %s", name, overwrite, names(t, k.dir))
			}
		}
	}
	for name, there := range map[string]func(path string) error{
		"a file": func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
		"a link": func(path string) error { return os.Symlink(outside, path) },
		"a pipe": func(path string) error { return mkfifo(path, 0o600) },
	} {
		k := newTaking(t, oddTree)
		k.change = func(c *DownloadConfig) { c.Overwrite = true }
		k.must(there(k.target("")))
		if err := k.all(); !errors.Is(err, ErrExists) || look(t, outside) != before {
			t.Errorf("%s in its place: %v", name, err)
		}
	}
}

// The names are taken while it is under way.
func TestADirectoryThatComesTooLateReplacesNothing(t *testing.T) {
	k := newTaking(t, oddTree)
	d, err := k.open()
	k.must(err)
	k.must(k.fill(d, -1))
	put(t, k.target(""), map[string]int{"mine": 5})
	if err := d.Complete(t.Context()); !errors.Is(err, ErrExists) {
		t.Errorf("%v", err)
	}
	k.must(d.Close())
	if names(t, k.target("")) != "mine" {
		t.Errorf("there is %s", names(t, k.target("")))
	}
	k.must(os.RemoveAll(k.target("")))
	if k.must(k.all()); k.fetched > 0 {
		t.Errorf("%d pieces were fetched again", k.fetched)
	}
}

func TestADirectoryIsResumed(t *testing.T) {
	k := newTaking(t, oddTree)
	d, err := k.open()
	k.must(err)
	k.must(k.fill(d, 3))
	k.must(d.Close())
	listing := k.from.Manifest.Geo.Piece // hashed at each start
	for range 2 {
		d, err = k.open()
		k.must(err)
		if k.hashed.Load() > listing || k.fetched > 0 {
			t.Errorf("%d bytes were hashed again, %d pieces fetched", k.hashed.Load(), k.fetched)
		}
		k.must(d.Close())
	}
	// What was touched is not believed.
	hidden := filepath.Join(k.dir, PartialDir("v2d:d"+k.sel.String()), "tree", "big.bin")
	f, err := os.OpenFile(hidden, os.O_RDWR, 0)
	k.must(err)
	_, err = f.WriteAt([]byte("damaged"), 2*content.MinPiece)
	k.must(errors.Join(err, f.Close(), os.Chtimes(hidden, time.Time{}, time.Now().Add(time.Minute))))
	d, err = k.open()
	k.must(err)
	if k.hashed.Load() <= listing {
		t.Error("a file that was touched is believed")
	}
	// It is killed when it has finished its files, and not given them their name.
	k.must(k.fill(d, -1))
	k.must(os.Chmod(hidden, 0o444))
	k.must(d.closeFiles())
	k.must(k.all())
	if k.fetched > 0 {
		t.Errorf("%d pieces were fetched again", k.fetched)
	}
	if got, want := look(t, k.target("")), look(t, k.from.Path); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAFileIsNoDirectory(t *testing.T) {
	for name, b := range map[string][]byte{"short": []byte("hello"), "long": bytes.Repeat([]byte("hello"), 50000), "none": nil} {
		m, err := Hash(t.Context(), bytes.NewReader(b), int64(len(b)), 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		d, err := OpenDownload(t.Context(), DownloadConfig{Dir: dir, Target: "d", Manifest: m, Key: "k", Directory: true})
		if err == nil {
			if err := fetchPiece(d, bytes.NewReader(b), 0); err != nil {
				t.Fatal(err)
			}
			_, err = d.Unfold(t.Context(), (bundle.Selection{}).Choose)
			d.Close()
		}
		if !errors.Is(err, bundle.ErrListing) || names(t, dir) != "" {
			t.Errorf("%s: %v; left: %s", name, err, names(t, dir))
		}
	}
}

// caseless is a disk on which names that differ by case are one.
type caseless struct{ Disk }

type caselessFolder struct{ Folder }

func (d caseless) OpenFolder(path string) (Folder, error) {
	f, err := d.Disk.OpenFolder(path)
	return caselessFolder{f}, err
}

func (f caselessFolder) Lstat(name string) (fs.FileInfo, error) {
	if dir, last := filepath.Split(name); last == "TREE" {
		name = dir + "tree"
	}
	return f.Folder.Lstat(name)
}

func TestNamesThatDifferByCaseAloneAreRefusedWhereTheyAreOne(t *testing.T) {
	k := newTaking(t, map[string]int{"Readme": 1, "readme": 2, "sub/x": 3})
	k.must(k.all())
	k.must(os.RemoveAll(k.target("")))
	k.change = func(c *DownloadConfig) { c.Disk = caseless{System()} }
	if err := k.all(); !errors.Is(err, ErrNames) || !strings.Contains(err.Error(), `"Readme" and "readme"`) {
		t.Errorf("%v", err)
	}
	k.sel.Except = []string{"Readme"}
	k.must(k.all())
}

func TestADirectoryThatDoesNotFitLeavesNothing(t *testing.T) {
	k := newTaking(t, oddTree)
	k.change = func(c *DownloadConfig) { c.Disk = &faulty{Disk: System(), free: 1000} }
	var full *SpaceError
	if err := k.all(); !errors.As(err, &full) || names(t, k.dir) != "" {
		t.Errorf("%v; left: %s", err, names(t, k.dir))
	}
	k.sel.Only = []string{"zero", "n.json"} // the rest of its piece takes space as well
	if k.must(os.RemoveAll(k.dir)); true {
		k.must(os.Mkdir(k.dir, 0o700))
	}
	k.change = func(c *DownloadConfig) { c.Disk = &faulty{Disk: System(), free: 2 * content.MinPiece} }
	k.must(k.all())
}

func TestReadsOfADirectoryEndWithIt(t *testing.T) {
	k := newTaking(t, oddTree)
	d, err := k.open()
	k.must(err)
	k.must(k.fill(d, -1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Complete(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	k.must(d.Close())
	if _, err := d.ReadAt(make([]byte, 10), 0); err == nil {
		t.Error("what is closed is read")
	}
	k.must(k.all())
}
