package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Errors of a shared file.
var (
	ErrChanged = errors.New("the file has changed since it was shared")
	ErrShared  = errors.New("a file of that name is shared already")
	ErrNoFile  = errors.New("it is no ordinary file")
	ErrLinked  = errors.New("the file has other names elsewhere")
)

// Library is what this peer shares, by name. All methods may be called at once from any goroutine.
type Library struct {
	mu     sync.Mutex // guards files
	files  map[string]*Shared
	closed bool
}

// NewLibrary makes an empty library.
func NewLibrary() *Library { return &Library{files: make(map[string]*Shared)} }

// Shared is a file that is served from where it lies. It was opened once, when it was shared, and is read through
// that: another file that takes its path later is never served under its name.
type Shared struct {
	Name  string
	Path  string
	Size  int64 // bytes
	f     *os.File
	mtime time.Time
}

// Share puts a file into the library under a name; the empty name is the file's own.
func (l *Library) Share(path, name string) (*Shared, error) {
	if name == "" {
		name = filepath.Base(path)
	}
	f, err := openOrdinary(path)
	if errors.Is(err, ErrNoFile) {
		err = fmt.Errorf("share %s: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	s := &Shared{Name: name, Path: path, Size: fi.Size(), f: f, mtime: fi.ModTime()}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		err = fs.ErrClosed
	case l.files[name] != nil:
		err = fmt.Errorf("share %s as %q: %w", path, name, ErrShared)
	default:
		l.files[name] = s
		return s, nil
	}
	f.Close()
	return nil, err
}

// Open returns the file that is shared under a name.
func (l *Library) Open(name string) (*Shared, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.files[name]
	return s, s != nil
}

// Unshare takes what is shared under a name out of the library. Reads that are under way fail.
func (l *Library) Unshare(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.files[name]; s != nil {
		s.f.Close()
		delete(l.files, name)
	}
}

// List returns all that is shared, by name.
func (l *Library) List() []*Shared {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*Shared, 0, len(l.files))
	for _, s := range l.files {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *Shared) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Close ends all sharing. Reads that are under way fail.
func (l *Library) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, s := range l.files {
		errs = append(errs, s.f.Close())
	}
	l.files, l.closed = make(map[string]*Shared), true
	return errors.Join(errs...)
}

// ReadAt reads from the file as it is now; what it reads is the shared content only if [Shared.Unchanged] holds after it.
func (s *Shared) ReadAt(b []byte, off int64) (int, error) { return s.f.ReadAt(b, off) }

// Unchanged returns [ErrChanged] when the file's size or time is no longer what it was when it was shared.
func (s *Shared) Unchanged() error {
	fi, err := s.f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != s.Size || !fi.ModTime().Equal(s.mtime) {
		return fmt.Errorf("%s: %w", s.Path, ErrChanged)
	}
	return nil
}

// InPlace returns [ErrChanged] when another file, or none, is at the path now, and otherwise what [Shared.Unchanged] does.
func (s *Shared) InPlace() error {
	own, err := s.f.Stat()
	if err != nil {
		return err
	}
	if fi, err := os.Stat(s.Path); err != nil || !os.SameFile(own, fi) {
		return fmt.Errorf("%s: %w: another file is there now, or none", s.Path, ErrChanged)
	}
	return s.Unchanged()
}
