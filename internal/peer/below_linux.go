package peer

import (
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// limitUnsent bounds the bytes that the kernel takes and cannot send yet: what waits there can neither be overtaken by a control
// message nor be given to somebody else. What is on its way is not bounded by it.
func limitUnsent(conn net.Conn, bytes int) {
	control(conn, func(fd int) { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes) })
}

// held returns how many bytes the kernel has taken that the other side has not acknowledged.
func held(conn net.Conn) (bytes int) {
	control(conn, func(fd int) {
		if n, err := unix.IoctlGetUint32(fd, unix.SIOCOUTQ); err == nil { // an int of C
			bytes = int(n)
		}
	})
	return bytes
}

// acked returns how many bytes the other side has acknowledged in all.
func acked(conn net.Conn) (bytes int64) {
	if info := tcpInfo(conn); info != nil {
		bytes = int64(info.Bytes_acked)
	}
	return bytes
}

// baseRTT returns the shortest round trip of the last minutes.
func baseRTT(conn net.Conn) (d time.Duration) {
	if info := tcpInfo(conn); info != nil && info.Min_rtt != math.MaxUint32 {
		d = time.Duration(info.Min_rtt) * time.Microsecond
	}
	return d
}

func tcpInfo(conn net.Conn) (info *unix.TCPInfo) {
	control(conn, func(fd int) { info, _ = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO) })
	return info
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
