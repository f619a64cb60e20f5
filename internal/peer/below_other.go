//go:build !linux

package peer

import "net"

// limitUnsent does nothing where the system lacks the option.
func limitUnsent(net.Conn, int) {}

// unsent returns 0: it is not known.
func unsent(net.Conn) int { return 0 }

// acked returns 0: it is not known.
func acked(net.Conn) int64 { return 0 }

// wakeFor does nothing: a reader is woken for every packet.
func wakeFor(net.Conn, int) {}
