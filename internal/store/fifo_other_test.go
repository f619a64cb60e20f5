//go:build !unix

package store

import "os"

// mkfifo makes a folder where there are no pipes in the file system: that is no ordinary file either.
func mkfifo(path string, mode uint32) error { return os.Mkdir(path, os.FileMode(mode)) }
