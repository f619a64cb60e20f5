package store

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile takes a lock that lasts until f is closed, or fails at once when another process has it. It covers a byte far
// behind the file's end, so that others can still read whose lock it is.
func lockFile(f *os.File) error {
	const how = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	return windows.LockFileEx(windows.Handle(f.Fd()), how, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1})
}

// isLocked says whether lockFile failed because another has the lock.
func isLocked(err error) bool { return errors.Is(err, windows.ERROR_LOCK_VIOLATION) }

// links is not looked for: who may not read a file cannot give it another name there.
func links(fs.FileInfo) int { return 1 }

// isOurs is not asked here: what a user may write is decided by lists that the system keeps.
func isOurs(fs.FileInfo) bool { return true }

// freeSpace returns how many bytes this user can still write below dir.
func freeSpace(dir string) (int64, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	err = windows.GetDiskFreeSpaceEx(path, &free, nil, nil)
	return int64(min(free, 1<<63-1)), err
}

// diskSize returns how many bytes the disk of dir has.
func diskSize(dir string) (int64, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var size uint64
	err = windows.GetDiskFreeSpaceEx(path, nil, &size, nil)
	return int64(min(size, 1<<63-1)), err
}

// allocated returns how many bytes of the disk a file takes, as far as its size tells.
func allocated(fi fs.FileInfo) int64 { return fi.Size() }

// syncDir does nothing: this system makes names last with their files.
func syncDir(*os.Root, string) error { return nil }

// fileKey is not to be had of what is known of a file here.
type fileKey struct{}

func inodeOf(fs.FileInfo) (fileKey, bool) { return fileKey{}, false }
