//go:build !linux

package swarm

import (
	"net"
	"time"
)

// setUserTimeout does nothing where the system lacks the option: a vanished peer to which data is under way is missed when
// the system gives up sending that again, which may take minutes.
func setUserTimeout(*net.TCPConn, time.Duration) {}
