//go:build unix

package store

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockFile takes a lock that lasts until f is closed, or fails at once when another process has it.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// isLocked says whether lockFile failed because another has the lock.
func isLocked(err error) bool { return errors.Is(err, unix.EWOULDBLOCK) }

// isOurs says whether a file belongs to this user.
func isOurs(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return !ok || int(st.Uid) == os.Geteuid()
}

// links returns how many names a file has.
func links(fi fs.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Nlink)
	}
	return 1
}

// freeSpace returns how many bytes an ordinary user can still write below dir.
func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	if st.Blocks == 0 { // ramfs, and others that have no bound of their own
		return math.MaxInt64, nil
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// diskSize returns how many bytes the disk of dir has.
func diskSize(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Blocks) * int64(st.Bsize), nil
}

// allocated returns how many bytes of the disk a file takes.
func allocated(fi fs.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int64(st.Blocks) * 512
	}
	return 0
}

// syncDir makes the names in a folder last. File systems that cannot are not our user's mistake.
func syncDir(root *os.Root, name string) error {
	// Another may have put something in its place: a pipe would never open.
	d, err := root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}

// fileKey is what only one file has at a time.
type fileKey struct{ dev, ino uint64 }

func inodeOf(fi fs.FileInfo) (key fileKey, ok bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if ok {
		key = fileKey{uint64(st.Dev), st.Ino}
	}
	return key, ok
}
