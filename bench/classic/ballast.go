//go:build linux

package main

import (
	"context"
	"fmt"
	"os"

	"shoal/bench/internal/lab"

	"golang.org/x/sys/unix"
)

// Every so many bytes of a ballast one page stays taken.
const (
	ballastStep = 128 << 10
	ballastPage = 4 << 10
)

// newBallast has so many bytes of free memory ready, until the returned file is closed. A virtual machine gives large
// blocks of free memory back to its host, and to get them again costs a copy more than all else that it does: whether a
// copy is fast depends on who used memory before it. So this memory is taken, and given back to the kernel but for one page
// in each small block: those that are left are too small to be given to the host, and are what the kernel takes first.
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
