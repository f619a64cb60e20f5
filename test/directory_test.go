//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"io/fs"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// directory makes a directory of many small files and a few large ones.
func (h host) directory(name string) string {
	h.t.Helper()
	dir := h.path(name)
	chance := mrand.NewChaCha8([32]byte{1})
	put := func(name string, size int) {
		b := make([]byte, size)
		_, _ = chance.Read(b)
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			h.t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
	for i := range 300 {
		put(fmt.Sprintf("small/%d/%d.txt", i%7, i), i*97)
	}
	for i := range 3 {
		put(fmt.Sprintf("big/%d.bin", i), 6<<20+i)
	}
	put("empty", 0)
	return dir
}

// sameTree compares two directories.
func sameTree(t *testing.T, got, want string) error {
	t.Helper()
	count := func(dir string) (n int) {
		_ = filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { n++; return nil })
		return n
	}
	if a, b := count(got), count(want); a != b {
		return fmt.Errorf("%d entries, want %d", a, b)
	}
	return filepath.WalkDir(want, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(want, path)
		a, err := os.ReadFile(filepath.Join(got, name))
		b, _ := os.ReadFile(path)
		if err != nil || !bytes.Equal(a, b) {
			return fmt.Errorf("%s: %d bytes, want %d (%v)", name, len(a), len(b), err)
		}
		return nil
	})
}

// A directory that is fetched is killed at any instant: under its name it is whole or not there, and what has come is not fetched again.
func TestADirectorySurvivesBeingKilledAtAnyInstant(t *testing.T) {
	t.Parallel()
	a := newHost(t, nil)
	dir := a.directory("d")
	_, link := a.share(dir)
	seed := uint64(time.Now().UnixNano())
	chance := mrand.New(mrand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for killed := 0; killed < 33; {
		b := newHost(t, nil)
		for range 8 {
			p := b.get(link)
			select {
			case <-p.done:
			case <-time.After(time.Duration(chance.Int64N(int64(400 * time.Millisecond)))):
			}
			p.kill()
			killed++
			if _, err := os.Lstat(b.path("d")); err == nil {
				if err := sameTree(t, b.path("d"), dir); err != nil {
					t.Fatalf("seed %d: it has its name, and is not whole: %v", seed, err)
				}
			}
		}
		b.get(link).succeeds()
		if err := sameTree(t, b.path("d"), dir); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		onlyFile(t, b.dir, "d")
		if done := b.get(link).succeeds(); !done.Already {
			t.Errorf("seed %d: a rerun is not complete already", seed)
		}
	}
}

// It is stopped by a signal in the middle: then the rerun fetches what is missing, and no more than that.
func TestADirectoryThatIsStoppedGoesOn(t *testing.T) {
	t.Parallel()
	a := newHost(t, nil)
	dir := a.directory("d")
	_, link := a.share(dir)
	b := newHost(t, nil)
	var fetched int64
	for range 5 {
		p := b.get(link)
		p.await("start", func(e event) bool { return e.T == "start" || e.T == "done" })
		p.signal(os.Interrupt)
		p.exit()
		if _, err := os.Lstat(b.path("d")); err == nil {
			break
		}
	}
	done := b.get(link).succeeds()
	if fetched = done.Fetched; done.Resumed+fetched < done.Size {
		t.Errorf("%d kept and %d fetched, of %d", done.Resumed, fetched, done.Size)
	}
	if err := sameTree(t, b.path("d"), dir); err != nil {
		t.Error(err)
	}
}
