//go:build linux

package main

import (
	"context"
	"fmt"
	"os"

	"shoal/bench/internal/lab"

	"golang.org/x/sys/unix"
)

// One page of each so many bytes of a ballast stays taken. What is left between two has room for the largest block that a
// file system caches a file in (1 MiB), and not for the smallest that a host gets back (2 MiB, on x86).
const (
	ballastStep = 2 << 20
	ballastPage = 4 << 10
)

// newBallast has so many bytes of free memory ready, until the returned file is closed. A virtual machine gives large
// blocks of free memory back to its host, and to get them again costs a copy more than all else that it does: whether a
// copy is fast depends on who used memory before it. So this memory is taken, and given back to the kernel but for a page
// here and there: the blocks that are left are too small to be given to the host, and are what the kernel takes first.
// It is a file without a name, lest it count as memory of this process.
func newBallast(ctx context.Context, size int64) (*os.File, error) {
	available, err := lab.Available()
	if err != nil {
		return nil, err
	}
	size = min(size, available/2)
	fd, err := unix.MemfdCreate("ballast", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make ballast: %w", err)
	}
	f := os.NewFile(uintptr(fd), "ballast")
	if err := fill(ctx, f, size, zeros{}); err != nil {
		f.Close()
		return nil, fmt.Errorf("fill ballast: %w", err)
	}
	for at := int64(0); at+ballastStep <= size; at += ballastStep {
		const mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		if err := unix.Fallocate(fd, mode, at+ballastPage, ballastStep-ballastPage); err != nil {
			f.Close()
			return nil, fmt.Errorf("punch ballast: %w", err)
		}
	}
	return f, nil
}
