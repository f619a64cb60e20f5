package swarm

import (
	"net"
	"time"
)

// tune sets a connection's socket so that a peer which vanished is missed in time, and messages leave at once.
func tune(conn net.Conn, keepAlive net.KeepAliveConfig) {
	tcp, ok := bare(conn).(*net.TCPConn)
	if !ok {
		return
	}
	// What fails here the connection's next read or write will report.
	_ = tcp.SetNoDelay(true)
	_ = tcp.SetKeepAliveConfig(keepAlive)
	setUserTimeout(tcp, keepAlive.Idle+keepAlive.Interval*time.Duration(keepAlive.Count))
}

// bare returns the connection under one that only reads differently.
func bare(conn net.Conn) net.Conn {
	if under, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return under.NetConn()
	}
	return conn
}
