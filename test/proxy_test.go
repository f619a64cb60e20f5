//go:build linux

package e2e_test

import (
	"net"
	"sync"
	"testing"
)

// aMoment is enough for the question how large a file is, and less than any chunk: what a holder may say before the
// download proper is held.
const aMoment = 64 << 10

// proxy is a TCP relay in front of a holder. It counts what the holder sends, and lets each connection carry only so much
// of it, until it is told to let more pass.
type proxy struct {
	addr   string
	target string

	mu        sync.Mutex // guards what follows
	allowance int64      // bytes that each connection may carry; negative: all
	total     int64      // bytes carried by all
	most      int64      // bytes carried by the one that carried most
	changed   chan struct{}
}

// newProxy makes a relay, and chooses where the holder behind it is to listen: at the same port of an address of its own,
// where nobody else listens.
func newProxy(t *testing.T) *proxy {
	t.Helper()
	ln := listen(t)
	addr := ln.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	p := &proxy{addr: addr, target: ownAddress() + ":" + port, allowance: -1, changed: make(chan struct{})}
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go p.relay(conn.(*net.TCPConn), ended)
		}
	}()
	return p
}

// relay carries one connection until either end closes it.
func (p *proxy) relay(down *net.TCPConn, ended <-chan struct{}) {
	defer down.Close()
	conn, err := net.Dial("tcp4", p.target)
	if err != nil {
		return
	}
	up := conn.(*net.TCPConn)
	defer up.Close()
	// Small buffers, so that what is held here is not already with the downloader, or on its way to us.
	_ = up.SetReadBuffer(1 << 18)
	_ = down.SetWriteBuffer(1 << 18)
	hungUp := make(chan struct{})
	go func() {
		defer close(hungUp)
		defer up.Close()
		buf := make([]byte, 4096)
		for {
			n, err := down.Read(buf)
			if err != nil {
				return
			}
			if _, err := up.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 1<<16)
	for carried := int64(0); ; {
		p.mu.Lock()
		room, changed := int64(len(buf)), p.changed
		if p.allowance >= 0 {
			room = min(room, p.allowance-carried)
		}
		p.mu.Unlock()
		if room <= 0 {
			select {
			case <-changed:
				continue
			case <-hungUp:
			case <-ended:
			}
			return
		}
		n, err := up.Read(buf[:room])
		if err != nil {
			return
		}
		n, err = down.Write(buf[:n])
		carried += int64(n)
		p.mu.Lock()
		p.total += int64(n)
		p.most = max(p.most, carried)
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// allow lets each connection carry so many bytes in all; negative: all that there is.
func (p *proxy) allow(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowance = bytes
	close(p.changed)
	p.changed = make(chan struct{})
}

// carried returns how many bytes all connections have carried, and the busiest of them.
func (p *proxy) carried() (total, most int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total, p.most
}

// forget begins to count anew.
func (p *proxy) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total, p.most = 0, 0
}

// awaitHold waits until a connection has carried all that it may.
func (p *proxy) awaitHold(t *testing.T) {
	t.Helper()
	eventually(t, "a connection is held", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.allowance >= 0 && p.most >= p.allowance
	})
}
