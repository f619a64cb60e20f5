package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"shoal/internal/content"

	"lukechampine.com/blake3"
)

const (
	// maxCached bounds the manifests that a cache keeps.
	maxCached = 50_000
	// pruneEvery is after how many new entries their number is looked at.
	pruneEvery = 256
	// maxCachedFile bounds one of them, in bytes.
	maxCachedFile = 16 << 20
	// racyTime is how old a change must be before its stamp is trusted: clocks of file systems are coarse.
	racyTime = 2 * time.Second
)

// Cache keeps manifests of files by their stamps, so that a file is not hashed again while it is unchanged. What is in it
// proves itself; it may be removed at any time.
type Cache struct {
	dir  string
	kept atomic.Uint32 // entries that were written
}

// OpenCache returns the cache in a folder, which is made when it is needed.
func OpenCache(dir string) *Cache { return &Cache{dir: dir} }

// Learn keeps the manifest of a file that is known to have it: it was just downloaded. A nil cache learns nothing.
func (c *Cache) Learn(path string, m *content.Manifest) {
	fi, err := os.Stat(path)
	if c == nil || err != nil || fi.Size() != m.Geo.Size || time.Since(fi.ModTime()) <= racyTime {
		return
	}
	c.put(keyOf(fi).String(), m)
}

// stampKey is what the cache knows a file by: a hash of its stamp.
type stampKey [16]byte

func (k stampKey) String() string { return hex.EncodeToString(k[:]) }

func keyOf(fi os.FileInfo) stampKey {
	sum := blake3.Sum256(stamp(fi))
	return stampKey(sum[:])
}

// Manifest returns the manifest of an open file: a known one, or that of its bytes. A file that changes meanwhile is
// [ErrChanged]. A nil cache knows nothing.
func (c *Cache) Manifest(ctx context.Context, f *os.File, workers int, progress func(int64)) (m *content.Manifest, hit bool, err error) {
	k, err := c.manifest(ctx, f, workers, progress)
	return k.m, k.hit, err
}

// known is a file's manifest, and where it is from.
type known struct {
	m    *content.Manifest
	key  stampKey
	hit  bool // the cache had it
	kept bool // the cache has it now
}

func (c *Cache) manifest(ctx context.Context, f *os.File, workers int, progress func(int64)) (k known, err error) {
	before, err := f.Stat()
	if err != nil {
		return k, err
	}
	k.key = keyOf(before)
	if m := c.get(k.key.String(), before.Size()); m != nil {
		k.m, k.hit, k.kept = m, true, true
		return k, nil
	}
	m, err := Hash(ctx, f, before.Size(), workers, progress)
	if err != nil {
		return k, err
	}
	after, err := f.Stat()
	if err != nil {
		return k, err
	}
	if keyOf(after) != k.key {
		return k, fmt.Errorf("%s: %w while it was hashed", f.Name(), ErrChanged)
	}
	k.m = m
	if time.Since(after.ModTime()) > racyTime {
		k.kept = c.put(k.key.String(), m)
	}
	return k, nil
}

// get returns what is kept under a key, of a content of that size; nil: nothing.
func (c *Cache) get(key string, size int64) *content.Manifest {
	if c == nil {
		return nil
	}
	return readCached(filepath.Join(c.dir, key), size)
}

// put keeps a manifest under a key, if it can.
func (c *Cache) put(key string, m *content.Manifest) bool {
	return c != nil && c.keep(filepath.Join(c.dir, key), m)
}

// readCached reads an entry, if it is whole and of a file of that size.
func readCached(path string, size int64) *content.Manifest {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCachedFile))
	if err != nil || len(b) < 32 {
		return nil
	}
	m, err := content.ParseManifest(content.ID(b[:32]), b[32:])
	if err != nil || m.Geo.Size != size {
		return nil
	}
	return m
}

// keep writes an entry. A cache that cannot be written is no reason to fail.
func (c *Cache) keep(path string, m *content.Manifest) bool {
	if os.MkdirAll(c.dir, 0o700) != nil {
		return false
	}
	f, err := os.CreateTemp(c.dir, ".new-*")
	if err != nil {
		return false
	}
	_, err = f.Write(m.Append(m.ID[:]))
	if f.Close() != nil || err != nil || os.Rename(f.Name(), path) != nil {
		os.Remove(f.Name())
		return false
	}
	if c.kept.Add(1)%pruneEvery == 1 {
		c.prune()
	}
	return true
}

// prune removes the oldest entries when there are too many.
func (c *Cache) prune() {
	entries, err := os.ReadDir(c.dir)
	if err != nil || len(entries) <= maxCached {
		return
	}
	age := func(e os.DirEntry) time.Time {
		fi, err := e.Info()
		if err != nil {
			return time.Time{}
		}
		return fi.ModTime()
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return age(a).Compare(age(b)) })
	for _, e := range entries[:len(entries)-maxCached*9/10] {
		os.Remove(filepath.Join(c.dir, e.Name()))
	}
}
