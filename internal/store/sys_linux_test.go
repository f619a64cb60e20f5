package store

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A file system that says nothing of its size (ramfs) is not full.
func TestAFileSystemWithoutABoundTakesADownload(t *testing.T) {
	f := newFetching(t)
	if err := unix.Mount("ramfs", f.dir, "ramfs", 0, ""); err != nil {
		t.Skip("left out: only root can mount a file system: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(f.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	d := f.open(func(c *DownloadConfig) { c.Disk = System() })
	f.fill(d, 0, 1, 2, 3, 4)
	if err := d.Complete(t.Context()); err != nil {
		t.Error(err)
	}
}
