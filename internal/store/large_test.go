package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"shoal/internal/content"
)

// marked makes a file with holes, in which only a few bytes are not zero: those around an offset.
func marked(t *testing.T, size int64, at ...int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "shared"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	err = f.Truncate(size)
	for _, off := range at {
		_, e := f.WriteAt([]byte("here"), off)
		err = errors.Join(err, e)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// edged makes a manifest that is right for the pieces around some offsets of a file, and says anything of the others: to hash 4 GiB takes long.
func edged(t *testing.T, f *os.File, size int64, at []int64) *content.Manifest {
	t.Helper()
	if os.Getenv("SHOAL_LONG") != "" {
		m, err := Hash(t.Context(), f, size, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	g, err := content.GeometryOf(size)
	if err != nil {
		t.Fatal(err)
	}
	cvs := make([]content.CV, g.Pieces)
	h := hashers.Get().(*hasher)
	defer hashers.Put(h)
	for _, off := range at {
		for _, piece := range []int64{off / g.Piece, (off + 3) / g.Piece} {
			if err := h.piece(f, g, uint32(piece), nil); err != nil {
				t.Fatal(err)
			}
			cvs[piece], _ = h.h.Sum()
		}
	}
	last := make([]byte, g.Len(g.Pieces-1))
	if _, err := f.ReadAt(last, g.Offset(g.Pieces-1)); err != nil {
		t.Fatal(err)
	}
	return content.NewManifest(g, cvs, last)
}

// Beyond 2^31 and 2^32 bytes nothing wraps: what lies there is written and read back where it is, and each piece proves itself. Most of the file is zeros.
func TestAFileBeyondFourGibibytesIsTheSameFile(t *testing.T) {
	for _, size := range []int64{1<<31 - 1, 1 << 31, 1<<31 + 1, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1<<32 + 9} {
		edges := []int64{0, min(1<<31-2, size-4), min(1<<32-2, size-4), size - 4}
		from := marked(t, size, edges...)
		m := edged(t, from, size, edges)
		if parsed, err := content.ParseManifest(m.ID, m.Append(nil)); err != nil || parsed.Geo.Size != size {
			t.Errorf("%d: its manifest is not read as it was written: %v", size, err)
		}
		d, err := OpenDownload(t.Context(), DownloadConfig{
			Dir: t.TempDir(), Target: "f", Key: "k", Manifest: m, Workers: 1, Disk: sparse{System()},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range edges {
			for _, at := range []int64{off, off + 3} {
				if err := fetchPiece(d, from, uint32(at/m.Geo.Piece)); err != nil {
					t.Fatal(size, at, err)
				}
			}
			got := make([]byte, 4)
			if _, err := d.ReadAt(got, off); err != nil || !bytes.Equal(got, []byte("here")) {
				t.Errorf("%d: at %d there is %q, %v", size, off, got, err)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// sparse is a disk that takes no space before it is written.
type sparse struct{ Disk }

type (
	sparseFolder struct{ Folder }
	sparseFile   struct{ File }
)

func (d sparse) OpenFolder(path string) (Folder, error) {
	f, err := d.Disk.OpenFolder(path)
	return sparseFolder{f}, err
}

func (f sparseFolder) Open(name string, flag int, perm os.FileMode) (File, error) {
	file, err := f.Folder.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return sparseFile{file}, nil
}

func (f sparseFolder) Free() (int64, error)    { return 1 << 40, nil }
func (f sparseFile) Allocate(size int64) error { return f.Truncate(size) }
