//go:build !linux

package peer

import "net"

// limitUnsent does nothing where the system lacks the option.
func limitUnsent(net.Conn, int) {}
