//go:build !linux

package store

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
)

// allocate makes f size bytes long. The space is taken as it is written.
func allocate(f *os.File, size int64) error { return f.Truncate(size) }

// dataSync makes what was written to f last.
func dataSync(f *os.File) error { return f.Sync() }

// syncAll is not to be had: each file is synced by itself.
func syncAll(*os.Root) error { return errors.ErrUnsupported }

// noFollow is left to the folder, which does not follow links out of itself.
const noFollow = 0

// noWait is left to the look before the open.
const noWait = 0

// stamp returns what changes when a file was changed: size and time of modification.
func stamp(fi fs.FileInfo) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(fi.Size()))
	return binary.BigEndian.AppendUint64(b, uint64(fi.ModTime().UnixNano()))
}
