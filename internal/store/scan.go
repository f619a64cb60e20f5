package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"shoal/internal/bundle"
)

// Scanned is a directory as it was looked at.
type Scanned struct {
	Path    string
	Listing *bundle.Listing
	Skipped []Skip // what cannot be shared
	Left    int    // how many more of those there are
	stamps  []uint64
	root    *os.Root
}

// Skip is something in a directory that is not shared.
type Skip struct{ Path, Why string }

// maxSkips bounds those that are named.
const maxSkips = 20

// Scan looks at what is in a directory. Whoever calls it closes what it returns.
func Scan(ctx context.Context, path string) (*Scanned, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	s := &scanner{ctx: ctx, s: &Scanned{Path: path, root: root}, b: bundle.NewBuilder(permOf(bundle.Dir, fi))}
	if err = s.dir(".", 0); err == nil {
		s.s.Listing, err = s.b.Listing()
	}
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("share %s: %w", path, err)
	}
	return s.s, nil
}

// Close closes the directory.
func (s *Scanned) Close() error { return s.root.Close() }

func permOf(kind bundle.Kind, fi fs.FileInfo) uint16 {
	perm := uint16(fi.Mode().Perm())
	if runtime.GOOS == "windows" { // it knows only whether a file may be written to
		if perm = 0o644; kind == bundle.Dir {
			perm = 0o755
		}
	}
	return bundle.Perm(kind, perm)
}

type scanner struct {
	ctx context.Context
	s   *Scanned
	b   *bundle.Builder
}

func (s *scanner) skip(path, why string) {
	if len(s.s.Skipped) < maxSkips {
		s.s.Skipped = append(s.s.Skipped, Skip{path, why})
	} else {
		s.s.Left++
	}
}

// dir adds what is in a directory, by the bytes of the names.
func (s *scanner) dir(path string, depth int) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	d, err := s.s.root.OpenFile(path, os.O_RDONLY|noWait, 0)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := s.entry(filepath.Join(path, name), name, depth); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) entry(path, name string, depth int) error {
	if isPartialDir(name) {
		s.skip(path, "a download under way")
		return nil
	}
	fi, err := s.s.root.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w while it was looked at", path, ErrChanged)
	} else if err != nil {
		return err
	}
	switch fi.Mode().Type() {
	case 0:
		if err := s.b.File(name, permOf(bundle.File, fi), fi.Size()); err != nil {
			return err
		}
		s.s.stamps = append(s.s.stamps, stampOf(fi))
	case fs.ModeDir:
		if err := s.b.Dir(name, permOf(bundle.Dir, fi)); err != nil {
			return err
		}
		s.s.stamps = append(s.s.stamps, 0)
		if err := s.dir(path, depth+1); err != nil {
			return err
		}
		return s.b.Up()
	case fs.ModeSymlink:
		target, err := s.s.root.Readlink(path)
		if err != nil {
			return err
		}
		if target = filepath.ToSlash(target); !bundle.Inside(target, depth) {
			s.skip(path, "a link that leads out of the directory")
			return nil
		}
		if err := s.b.Link(name, target); err != nil {
			return err
		}
		s.s.stamps = append(s.s.stamps, 0)
	default:
		s.skip(path, "neither a file, a directory nor a link")
	}
	return nil
}

func isPartialDir(name string) bool {
	return strings.HasPrefix(name, PartialDir("")[:7]) && len(name) == len(PartialDir(""))
}
