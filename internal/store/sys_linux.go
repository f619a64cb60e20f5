package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocate makes f size bytes long, and takes the space for them where the file system can.
func allocate(f *os.File, size int64) error {
	err := eintr(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || err == nil {
		return f.Truncate(size)
	}
	return err
}

// dataSync makes what was written to f last, without its times.
func dataSync(f *os.File) error {
	return eintr(func() error { return unix.Fdatasync(int(f.Fd())) })
}

func eintr(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
