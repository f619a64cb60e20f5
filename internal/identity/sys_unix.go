//go:build unix

package identity

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func isOurs(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return !ok || int(st.Uid) == os.Geteuid()
}

// wide says whether others than the owner may do something with a file.
func wide(fi fs.FileInfo) bool { return fi.Mode().Perm()&0o077 != 0 }

// lockFile waits for a lock that lasts until f is closed.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) }

// tryLock takes such a lock, or fails at once.
func tryLock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	_ = d.Sync() // some file systems cannot
	return nil
}
