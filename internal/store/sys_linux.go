package store

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"syscall"

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

// syncAll makes all that was written in a folder's file system last.
func syncAll(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return eintr(func() error { return unix.Syncfs(int(d.Fd())) })
}

func eintr(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// noFollow keeps an open from following a symbolic link.
const noFollow = unix.O_NOFOLLOW

// noWait keeps an open from waiting for the other end of a pipe.
const noWait = unix.O_NONBLOCK

// stamp returns what changes when a file is another one or was changed: device, inode, size, times.
func stamp(fi fs.FileInfo) (b []byte) {
	put := func(v int64) { b = binary.BigEndian.AppendUint64(b, uint64(v)) }
	put(fi.Size())
	put(fi.ModTime().UnixNano())
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		put(int64(st.Dev))
		put(int64(st.Ino))
		put(st.Ctim.Nano())
	}
	return b
}
