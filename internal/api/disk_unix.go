//go:build unix

package api

import "golang.org/x/sys/unix"

// diskSpace returns how much can be written to the disk of a path, and how large it is, in bytes.
func diskSpace(path string) (free, size uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), uint64(st.Blocks) * uint64(st.Bsize), nil
}
