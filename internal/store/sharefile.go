package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"shoal/internal/content"
)

// SharedFile is a file that is served from where it lies, and whose bytes were hashed. It is open while it is read: from the first read to
// the next [SharedFile.Rest], through which another file that takes its path is not seen. Its methods may be called from any goroutine.
type SharedFile struct {
	Path     string
	Manifest *content.Manifest // a bare one, where the cache keeps all of it: [SharedFile.Whole]
	key      stampKey          // of the file when it was hashed
	cache    *Cache

	mu     sync.Mutex        // guards what follows
	f      *os.File          // nil: it is not open
	whole  *content.Manifest // that was needed since it was opened; nil: none was
	closed bool
}

// ShareFile makes a file a content: it is hashed, unless its hash is known, which hit says.
func ShareFile(ctx context.Context, path string, cache *Cache, progress func(int64)) (s *SharedFile, hit bool, err error) {
	f, err := openOrdinary(path)
	if errors.Is(err, ErrNoFile) {
		err = fmt.Errorf("share %s: %w", path, err)
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	k, err := cache.manifest(ctx, f, 0, progress)
	if err != nil {
		return nil, false, fmt.Errorf("share %s: %w", path, err)
	}
	s = &SharedFile{Path: path, Manifest: k.m, key: k.key, cache: cache}
	if k.kept {
		s.Manifest = k.m.Bare()
	}
	return s, k.hit, nil
}

// openOrdinary opens a file, and nothing else that has a path.
func openOrdinary(path string) (*os.File, error) {
	// A look before the open: to open a pipe would wait for its other end.
	fi, err := os.Stat(path)
	if err == nil && !fi.Mode().IsRegular() {
		err = ErrNoFile
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if fi, err = f.Stat(); err == nil && !fi.Mode().IsRegular() {
		err = ErrNoFile
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// file returns the open file.
func (s *SharedFile) file() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fs.ErrClosed
	}
	if s.f != nil {
		return s.f, nil
	}
	f, err := openOrdinary(s.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNoFile) {
		return nil, s.changed()
	}
	s.f = f
	return f, err
}

func (s *SharedFile) changed() error { return fmt.Errorf("%s: %w", s.Path, ErrChanged) }

// ReadAt reads from the file as it is now. What it has read is the shared content only if [SharedFile.CheckPiece] finds nothing afterwards.
func (s *SharedFile) ReadAt(b []byte, off int64) (n int, err error) {
	for {
		f, err := s.file()
		if err != nil {
			return 0, err
		}
		if n, err = f.ReadAt(b, off); !errors.Is(err, fs.ErrClosed) { // it rested just now
			return n, err
		}
	}
}

// Rest closes the file until it is read again.
func (s *SharedFile) Rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f != nil {
		s.f.Close()
	}
	s.f, s.whole = nil, nil
}

// Close ends the sharing. Reads that are under way may fail.
func (s *SharedFile) Close() error {
	s.Rest()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// Same says whether the file at the path has the stamp that it had when it was hashed.
func (s *SharedFile) Same() bool {
	fi, err := os.Stat(s.Path)
	return err == nil && keyOf(fi) == s.key
}

// Own returns why a file of a folder into which others can put things is not to be shared unasked: its path is a link, or the file has other names
// and not everybody may read it. So nobody gets at what only this process may read by giving it a name in that folder.
func (s *SharedFile) Own() error {
	f, err := s.file()
	if err != nil {
		return err
	}
	defer s.Rest()
	own, err := f.Stat()
	if err != nil {
		return err
	}
	fi, err := os.Lstat(s.Path)
	switch {
	case err != nil || !os.SameFile(own, fi):
		return fmt.Errorf("%s: %w: a link is there, or another file", s.Path, ErrChanged)
	case links(own) > 1 && own.Mode()&0o004 == 0:
		return fmt.Errorf("%s: %w, and not everybody may read it", s.Path, ErrLinked)
	}
	return nil
}

// Whole returns the manifest with all that it consists of, from the cache, or from the file's bytes where the cache has lost it.
func (s *SharedFile) Whole(ctx context.Context) (*content.Manifest, error) {
	if !s.Manifest.IsBare() {
		return s.Manifest, nil
	}
	if m := s.cache.get(s.key.String(), s.Manifest.Geo.Size); m != nil && m.ID == s.Manifest.ID {
		return m, nil
	}
	m, err := Hash(ctx, s, s.Manifest.Geo.Size, 0, nil)
	if err != nil {
		return nil, err
	}
	if m.ID != s.Manifest.ID {
		return nil, s.changed()
	}
	s.cache.put(s.key.String(), m)
	return m, nil
}

// CheckPiece returns [ErrChanged] when the bytes of a piece are not what they were when the file was hashed. They are looked at only if the
// file's stamp has changed.
func (s *SharedFile) CheckPiece(piece uint32) error {
	f, err := s.file()
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if errors.Is(err, fs.ErrClosed) {
		return s.CheckPiece(piece)
	}
	if err != nil {
		return err
	}
	if keyOf(fi) == s.key {
		return nil
	}
	m, err := s.wholeOnce()
	if err != nil {
		return err
	}
	h := hashers.Get().(*hasher)
	defer hashers.Put(h)
	if err := h.piece(s, m.Geo, piece, nil); err != nil || !m.Verify(piece, &h.h) {
		return s.changed()
	}
	return nil
}

// wholeOnce is Whole, which is read once while the file is open.
func (s *SharedFile) wholeOnce() (*content.Manifest, error) {
	s.mu.Lock()
	m := s.whole
	s.mu.Unlock()
	if m != nil {
		return m, nil
	}
	m, err := s.Whole(context.Background())
	s.mu.Lock()
	s.whole = m
	s.mu.Unlock()
	return m, err
}
