package peer

import (
	"net"

	"golang.org/x/sys/unix"
)

// limitUnsent bounds the bytes that the kernel takes and cannot send yet: what waits there can neither be overtaken by a control
// message nor be given to somebody else. What is on its way is not bounded by it.
func limitUnsent(conn net.Conn, bytes int) {
	if under, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = under.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, bytes)
	})
}
