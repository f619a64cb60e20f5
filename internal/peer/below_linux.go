package peer

import (
	"net"

	"golang.org/x/sys/unix"
)

// limitUnsent bounds the bytes that the kernel takes and cannot send yet: what waits there can neither be overtaken by a control
// message nor be given to somebody else. What is on its way is not bounded by it.
func limitUnsent(conn net.Conn, bytes int) {
	control(conn, func(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes) })
}

// unsent returns how many bytes the kernel has taken and not sent.
func unsent(conn net.Conn) (bytes int) {
	control(conn, func(fd int) {
		if n, err := unix.IoctlGetUint32(fd, unix.SIOCOUTQNSD); err == nil { // an int of C
			bytes = int(n)
		}
	})
	return bytes
}

// acked returns how many bytes the other side has acknowledged in all.
func acked(conn net.Conn) (bytes int64) {
	control(conn, func(fd int) {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			bytes = int64(info.Bytes_acked)
		}
	})
	return bytes
}

// wakeFor has a reader that waits woken when so many bytes are there, or nothing more can come.
func wakeFor(conn net.Conn, bytes int) {
	control(conn, func(fd int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes) })
}

func control(conn net.Conn, do func(fd int)) {
	if under, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = under.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { do(int(fd)) })
	}
}
