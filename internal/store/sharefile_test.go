package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"shoal/internal/content"
)

// shared makes a file of some pieces that is old enough for the cache, and shares it.
func shared(t *testing.T, cache *Cache) (s *SharedFile, b []byte) {
	t.Helper()
	b = bytes.Repeat([]byte("0123456789abcdef"), 3*content.MinPiece/16)[:3*content.MinPiece-100]
	path := filepath.Join(t.TempDir(), "f")
	replace(t, path, b)
	s, _, err := ShareFile(t.Context(), path, cache, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, b
}

func replace(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path+".new", then, then); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestASharedFileHasItsManifestOnDisk(t *testing.T) {
	cache := OpenCache(t.TempDir())
	s, b := shared(t, cache)
	if !s.Manifest.IsBare() {
		t.Error("it has all of it in memory")
	}
	check := func(when string) {
		t.Helper()
		if m, err := s.Whole(t.Context()); err != nil || m.IsBare() || m.ID != s.Manifest.ID {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("at first")
	if err := os.RemoveAll(cache.dir); err != nil {
		t.Fatal(err)
	}
	check("when the cache is lost")
	if n := len(entriesOf(t, cache.dir)); n != 1 {
		t.Errorf("the cache has %d entries again", n)
	}
	os.RemoveAll(cache.dir)
	replace(t, s.Path, append([]byte("other"), b[5:]...))
	s.Rest()
	if _, err := s.Whole(t.Context()); !errors.Is(err, ErrChanged) {
		t.Errorf("when the file is another as well: %v", err)
	}
	if s, _ := shared(t, nil); s.Manifest.IsBare() {
		t.Error("without a cache the manifest is nowhere")
	}
}

func entriesOf(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// While it is read, a file is the one that was opened, whatever takes its path; after a rest, another one is found out by its bytes.
func TestASharedFileIsWhatWasHashed(t *testing.T) {
	s, b := shared(t, OpenCache(t.TempDir()))
	reads := func(want []byte) {
		t.Helper()
		got := make([]byte, 10)
		if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, want[:10]) {
			t.Errorf("it reads %q: %v", got, err)
		}
	}
	reads(b)
	other := append([]byte("other"), b[5:]...)
	replace(t, s.Path, other)
	if s.Same() {
		t.Error("another file at the path passes for it")
	}
	reads(b)
	if err := s.CheckPiece(0); err != nil {
		t.Errorf("the open file: %v", err)
	}
	s.Rest()
	reads(other)
	if err := s.CheckPiece(0); !errors.Is(err, ErrChanged) {
		t.Errorf("a piece that differs: %v", err)
	}
	if err := s.CheckPiece(2); err != nil {
		t.Errorf("a piece that does not: %v", err)
	}
	s.Rest()
	os.Remove(s.Path)
	if err := s.CheckPiece(0); !errors.Is(err, ErrChanged) {
		t.Errorf("a file that is gone: %v", err)
	}
	replace(t, s.Path, b)
	if err := s.CheckPiece(0); err != nil {
		t.Errorf("the same bytes in another file: %v", err)
	}
	s.Close()
	if _, err := s.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("it is read when it is closed")
	}
}
