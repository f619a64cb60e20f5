package store

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"shoal/internal/bundle"
	"shoal/internal/content"

	"lukechampine.com/blake3"
)

// SharedDir is a directory that is served from where it lies. Its files are opened when they are read. Its methods may be called from any
// goroutine.
type SharedDir struct {
	Name     string
	Path     string
	Manifest *content.Manifest
	Scanned  *Scanned

	head    []byte
	extents extents
	files   *openFiles[*os.File]
}

// ShareDir makes a directory that was looked at a content: it hashes the stream, unless it is known. It takes the directory over: closed by
// [SharedDir.Close], or at once if it fails.
func ShareDir(ctx context.Context, s *Scanned, name string, cache *Cache, progress func(int64)) (d *SharedDir, hit bool, err error) {
	d = &SharedDir{Name: name, Path: s.Path, Scanned: s, head: s.Listing.Append(nil)}
	d.files = newOpenFiles(d.open)
	d.extents = append(d.extents, extent{end: s.Listing.Head, file: inHead})
	for i := range s.Listing.Entries {
		if e := &s.Listing.Entries[i]; e.Kind == bundle.File && e.Size > 0 {
			d.extents = append(d.extents, extent{off: e.Off, end: e.Off + e.Size, file: int32(i)})
		}
	}
	if d.Manifest, hit, err = d.hash(ctx, cache, progress); err != nil {
		d.Close()
		return nil, false, fmt.Errorf("share %s: %w", s.Path, err)
	}
	return d, hit, nil
}

// Close ends the sharing. Reads that are under way may fail.
func (d *SharedDir) Close() error {
	d.files.close()
	return d.Scanned.Close()
}

// hash returns the manifest of the stream: a known one, or that of its bytes.
func (d *SharedDir) hash(ctx context.Context, cache *Cache, progress func(int64)) (m *content.Manifest, hit bool, err error) {
	key := d.key()
	if m := cache.get(key, d.Scanned.Listing.Size); m != nil {
		return m, true, nil
	}
	if m, err = Hash(ctx, d, d.Scanned.Listing.Size, 0, progress); err != nil {
		return nil, false, err
	}
	newest, err := d.unchanged(ctx)
	if err != nil {
		return nil, false, err
	}
	if time.Since(newest) > racyTime {
		cache.put(key, m)
	}
	return m, false, nil
}

// key is what the cache knows the directory by: its listing, and the stamp of each file.
func (d *SharedDir) key() string { return d.Scanned.key(d.head) }

func (s *Scanned) key(head []byte) string {
	h := blake3.New(16, nil)
	h.Write([]byte("directory\x00"))
	h.Write(head)
	for _, s := range s.stamps {
		h.Write(binary.BigEndian.AppendUint64(nil, s))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// unchanged looks at every file once more, and returns when the newest was changed.
func (d *SharedDir) unchanged(ctx context.Context) (newest time.Time, err error) {
	err = d.Scanned.Listing.Each(func(i int, path string) error {
		if d.Scanned.Listing.Entries[i].Kind != bundle.File {
			return nil
		}
		fi, err := d.Scanned.root.Lstat(path)
		if err != nil || stampOf(fi) != d.Scanned.stamps[i] {
			return fmt.Errorf("%s: %w", path, ErrChanged)
		}
		if fi.ModTime().After(newest) {
			newest = fi.ModTime()
		}
		return ctx.Err()
	})
	return newest, err
}

// Same says whether the directory is what it was when it was hashed: its listing, and each file by its stamp.
func (d *SharedDir) Same() bool {
	s, err := Scan(context.Background(), d.Path)
	if err != nil {
		return false
	}
	defer s.Close()
	return s.key(s.Listing.Append(nil)) == d.key()
}

// Whole returns the manifest.
func (d *SharedDir) Whole(context.Context) (*content.Manifest, error) { return d.Manifest, nil }

// Rest closes the files that are open until they are read again.
func (d *SharedDir) Rest() { d.files.drop() }

func (d *SharedDir) open(i int32) (*os.File, error) {
	// Not what waits for its other end, nor what another file's name leads to by now.
	f, err := d.Scanned.root.OpenFile(filepath.FromSlash(d.Scanned.Listing.Path(int(i))), os.O_RDONLY|noFollow|noWait, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), ErrChanged)
	}
	return f, nil
}

// ReadAt reads from the stream as the files are now.
func (d *SharedDir) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	err := d.extents.each(off, min(int64(len(b)), d.Scanned.Listing.Size-off), func(file int32, at, from, to int64) error {
		if file == inHead {
			n += copy(b[from:to], d.head[at:])
			return nil
		}
		err := d.files.use(file, func(f *os.File) error { return read(f, b[from:to], at) })
		if err == nil {
			n += int(to - from)
		}
		return err
	})
	if err == nil && n < len(b) {
		err = fs.ErrInvalid
	}
	return n, err
}

// CheckPiece returns [ErrChanged] when the bytes of a piece are not what they were when the directory was hashed. They are looked at only
// if a file's stamp has changed.
func (d *SharedDir) CheckPiece(piece uint32) error {
	g := d.Manifest.Geo
	changed := ""
	err := d.extents.each(g.Offset(piece), g.Len(piece), func(file int32, _, _, _ int64) error {
		if file == inHead {
			return nil
		}
		path := d.Scanned.Listing.Path(int(file))
		if fi, err := d.Scanned.root.Lstat(filepath.FromSlash(path)); err != nil || stampOf(fi) != d.Scanned.stamps[file] {
			changed = path
		}
		return nil
	})
	if err != nil || changed == "" {
		return err
	}
	h := hashers.Get().(*hasher)
	defer hashers.Put(h)
	if err := h.piece(d, g, piece, nil); IsShortage(err) {
		return err
	} else if err != nil || !d.Manifest.Verify(piece, &h.h) {
		return fmt.Errorf("%s: %w", filepath.Join(d.Path, changed), ErrChanged)
	}
	return nil
}
