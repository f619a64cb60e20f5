package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"shoal/internal/bundle"

	"lukechampine.com/blake3"
)

// tree is the data of a directory that is downloaded: its stream, as it lies in files. It is a [File], so that a [Download] does with it what
// it does with one. Until the listing is known, there is only the head.
type tree struct {
	root    Folder
	listing *bundle.Listing // nil: not known yet
	kept    bool            // the target was there when it was looked at
	extents extents
	head    File
	rest    File // nil: nothing is in it
	files   *openFiles[File]
	lasting *lasting

	mu     sync.Mutex // guards what follows
	staged []bool     // entries whose files are in the hidden directory
	hidden string     // the hidden directory
	target string
	dirty  map[int32]bool // what was written since the last sync
}

func newTree(d *Download, hidden string, head File) *tree {
	t := &tree{root: d.root, hidden: hidden, target: d.cfg.Target, head: head, lasting: &d.lasting, dirty: make(map[int32]bool)}
	t.files = newOpenFiles(t.open)
	return t
}

// path returns where an entry is now.
func (t *tree) path(i int32) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	base := t.target
	if t.staged[i] {
		base = t.hidden
	}
	return filepath.Join(base, filepath.FromSlash(t.listing.Path(int(i))))
}

// published says that an entry is at its final place, or with -1 that all are.
func (t *tree) published(i int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i < 0 {
		clear(t.staged)
		return
	}
	t.staged[i] = false
}

func (t *tree) stays(file int32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return file >= 0 && !t.staged[file]
}

// open opens a file of an entry: to write to it while it is in the hidden directory.
func (t *tree) open(i int32) (File, error) {
	t.mu.Lock()
	flag := os.O_RDONLY | noWait
	if t.staged[i] {
		flag = os.O_RDWR
	}
	t.mu.Unlock()
	f, err := t.root.Open(t.path(i), flag, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s: %w, and is no ordinary file", t.path(i), ErrExists)
	}
	return f, nil
}

func (t *tree) use(file int32, do func(File) error) error {
	switch file {
	case inHead:
		return do(t.head)
	case inRest:
		return do(t.rest)
	}
	return t.files.use(file, do)
}

func (t *tree) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	err := t.extents.each(off, int64(len(b)), func(file int32, at, from, to int64) error {
		err := t.use(file, func(f File) error { return read(f, b[from:to], at) })
		if err == nil {
			n += int(to - from)
		}
		return err
	})
	return n, err
}

// WriteAt writes to the files that are in the hidden directory. What is at its final place is right: of a file that stays, all pieces are.
func (t *tree) WriteAt(b []byte, off int64) (int, error) {
	n := 0
	err := t.extents.each(off, int64(len(b)), func(file int32, at, from, to int64) error {
		if t.stays(file) {
			n += int(to - from)
			return nil
		}
		err := t.write(file, b[from:to], at)
		if err == nil {
			n += int(to - from)
		}
		return err
	})
	return n, err
}

// write writes to a file.
func (t *tree) write(file int32, b []byte, at int64) error {
	t.mu.Lock()
	t.dirty[file] = true
	t.mu.Unlock()
	return t.use(file, func(f File) error { _, err := f.WriteAt(b, at); return err })
}

// fewFiles is how many files are synced one by one: more of them with all that the file system has.
const fewFiles = 16

// DataSync makes what was written last.
func (t *tree) DataSync() error {
	t.mu.Lock()
	dirty := make([]int32, 0, len(t.dirty))
	for i := range t.dirty {
		dirty = append(dirty, i)
	}
	clear(t.dirty)
	t.mu.Unlock()
	if len(dirty) > fewFiles {
		if err := t.root.SyncAll(); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	slices.Sort(dirty)
	for _, i := range dirty {
		if err := t.use(i, func(f File) error { return t.lasting.pass(f.DataSync()) }); err != nil {
			return err
		}
	}
	return nil
}

// syncNames makes the names last that are in a directory, and in directories of the listing below it.
func (t *tree) syncNames(base string, dirs map[int32]bool) error {
	if err := t.root.SyncAll(); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	err := t.listing.Each(func(i int, path string) error {
		if !dirs[int32(i)] {
			return nil
		}
		return t.root.SyncDir(filepath.Join(base, filepath.FromSlash(path)))
	})
	return errors.Join(err, t.root.SyncDir(base))
}

// stamp returns 64 bits that change when anything of the data was changed, or lies elsewhere.
func (t *tree) stamp() (uint64, error) {
	h := blake3.New(8, nil)
	put := func(b []byte) { h.Write(b) }
	for _, e := range t.extents {
		b := binary.BigEndian.AppendUint64(nil, uint64(e.off))
		b = binary.BigEndian.AppendUint64(b, uint64(e.at))
		put(binary.BigEndian.AppendUint32(b, uint32(e.file)))
		var fi fs.FileInfo
		var err error
		switch e.file {
		case inHead:
			fi, err = t.head.Stat()
		case inRest:
			fi, err = t.rest.Stat()
		default:
			fi, err = t.root.Lstat(t.path(e.file))
		}
		if err != nil {
			return 0, err
		}
		put(stamp(fi))
	}
	return binary.BigEndian.Uint64(h.Sum(nil)), nil
}

func (t *tree) Stat() (fs.FileInfo, error) { return t.head.Stat() }
func (t *tree) Truncate(int64) error       { return errors.ErrUnsupported }
func (t *tree) Allocate(int64) error       { return nil } // each file was, when it was made
func (t *tree) Lock() error                { return errors.ErrUnsupported }

func (t *tree) Close() error {
	t.files.close()
	err := t.head.Close()
	if t.rest != nil {
		err = errors.Join(err, t.rest.Close())
	}
	return err
}
