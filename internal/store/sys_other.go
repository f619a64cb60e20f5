//go:build !linux

package store

import "os"

// allocate makes f size bytes long. The space is taken as it is written.
func allocate(f *os.File, size int64) error { return f.Truncate(size) }

// dataSync makes what was written to f last.
func dataSync(f *os.File) error { return f.Sync() }
