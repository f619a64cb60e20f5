//go:build !linux

package swarm

import (
	"net"
	"time"
)

// setUserTimeout does nothing where the system lacks the option: the write deadline bounds the same case.
func setUserTimeout(*net.TCPConn, time.Duration) {}
