//go:build !unix

package swarm

import (
	"errors"
	"net"
	"syscall"
)

// tryWrite writes nothing: where there is no write that never waits, every member with news gets a goroutine.
func tryWrite(net.Conn, []byte) (n int, err error) { return 0, nil }

// isShortage says whether an accept failed for want of descriptors or memory, which may pass.
func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED)
}
