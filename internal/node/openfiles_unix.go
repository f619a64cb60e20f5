//go:build unix

package node

import "syscall"

// OpenFiles returns how many files and connections this process may have open; 0: that is not known.
func OpenFiles() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}
