package store

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The space of a download is taken from a disk at the beginning, and from memory as it comes.
func TestSpaceIsTakenAheadOnADiskAlone(t *testing.T) {
	for _, parent := range []string{"/dev/shm", "/var/tmp"} {
		t.Run(parent, func(t *testing.T) {
			dir, err := os.MkdirTemp(parent, "shoal-test-")
			if err != nil {
				t.Skip("left out: ", err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			f, err := os.Create(dir + "/data")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			unable := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 1)
			var fs unix.Statfs_t
			if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || unable != nil {
				t.Skip("left out: this file system can take no space ahead: ", err, unable)
			}
			const size = 8 << 20
			if err := allocate(f, size); err != nil {
				t.Fatal(err)
			}
			fi, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			taken := fi.Sys().(*syscall.Stat_t).Blocks * 512
			if ahead := taken >= size; fi.Size() != size || ahead == (fs.Type == unix.TMPFS_MAGIC) {
				t.Errorf("of %d bytes %d are taken, type of the file system %#x", fi.Size(), taken, fs.Type)
			}
		})
	}
}
