//go:build linux

package e2e_test

import (
	"net"
	"testing"

	"shoal/internal/faulty"
)

// aMoment is enough for the question how large a file is, and less than any chunk: what a holder may say before the
// download proper is held.
const aMoment = 64 << 10

// proxy is a TCP relay in front of a holder. It counts what the holder sends, and lets each connection carry only so much
// of it, until it is told to let more pass.
type proxy struct {
	*faulty.Proxy
	addr   string
	target string
}

// newProxy makes a relay, and chooses where the holder behind it is to listen: at the same port of an address of its own,
// where nobody else listens.
func newProxy(t *testing.T) *proxy {
	t.Helper()
	relay, err := faulty.New("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relay.Close() })
	_, port, _ := net.SplitHostPort(relay.Addr())
	p := &proxy{relay, relay.Addr(), ownAddress() + ":" + port}
	p.Aim(p.target)
	return p
}

// awaitHold waits until a connection has carried all that it may.
func (p *proxy) awaitHold(t *testing.T) {
	t.Helper()
	eventually(t, "a connection is held", p.Held)
}
