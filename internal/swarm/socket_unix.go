//go:build unix

package swarm

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// tryWrite writes what the socket takes at once, and returns how much that was.
func tryWrite(conn net.Conn, b []byte) (n int, err error) {
	tcp, ok := bare(conn).(*net.TCPConn)
	if !ok {
		return 0, nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	var writeErr error
	err = raw.Write(func(fd uintptr) (done bool) {
		n, writeErr = unix.Write(int(fd), b)
		return true
	})
	if errors.Is(writeErr, unix.EAGAIN) || errors.Is(writeErr, unix.EINTR) {
		writeErr = nil
	}
	return max(n, 0), errors.Join(err, writeErr)
}

// isShortage says whether an accept failed for want of descriptors or memory, which may pass.
func isShortage(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) ||
		errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ECONNABORTED)
}
