package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/classic"
	"shoal/internal/identity"
	"shoal/internal/offence"
	"shoal/internal/wire"
)

// idle is a connection of which a test knows whether it was closed.
type idle struct {
	net.Conn
	closed bool
}

func (c *idle) Close() error { c.closed = true; return nil }

// letIn lets one in of whom is known who it is.
func letIn(g *gate, from netip.Addr) (*pass, string) {
	p, refused := g.enter(from, &idle{})
	if p != nil {
		p.known()
	}
	return p, refused
}

func TestTheGateCounts(t *testing.T) {
	g := newGate(maxConns, maxConnsPerAddress)
	a := netip.MustParseAddr("10.0.0.1")
	var one *pass
	for range maxConnsPerAddress {
		p, r := letIn(g, a)
		if one = p; r != "" {
			t.Fatal(r)
		}
	}
	if _, r := letIn(g, a); r != RefusedTooMany {
		t.Errorf("one too many from one address: %q", r)
	}
	for i := range maxConns/2 - maxConnsPerAddress {
		letIn(g, netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + i%100)}))
	}
	if _, r := letIn(g, netip.MustParseAddr("10.0.0.200")); r != RefusedTooMany {
		t.Errorf("one too many from one network: %q", r)
	}
	for i := range maxConns / 2 {
		letIn(g, netip.AddrFrom4([4]byte{10, 1, byte(i), byte(i >> 8)}))
	}
	if _, r := letIn(g, netip.MustParseAddr("10.2.0.2")); r != RefusedFull {
		t.Errorf("one too many: %q", r)
	}
	one.leave()
	one.leave()
	if _, r := letIn(g, a); r != "" {
		t.Errorf("after one has left: %q", r)
	}
	if _, r := letIn(g, a); r != RefusedTooMany {
		t.Errorf("one that left twice made room for two: %q", r)
	}
}

func TestWhoComesTooOftenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the time stands still
		g := newGate(maxConns, 4)
		enter := func(from string) string {
			p, refused := letIn(g, netip.MustParseAddr(from))
			if p != nil {
				p.leave()
			}
			return refused
		}
		for range 16 {
			if r := enter("2001:db8::1"); r != "" {
				t.Fatal(r)
			}
		}
		if r := enter("2001:db8::2"); r != RefusedOften {
			t.Errorf("another address of that network: %q", r)
		}
		if r := enter("2001:db8:0:1::1"); r != "" {
			t.Errorf("another network: %q", r)
		}
		time.Sleep(time.Second / comeRate)
		if r := enter("2001:db8::2"); r != "" {
			t.Errorf("a moment later: %q", r)
		}
	})
}

func TestAStrangerMakesRoomForWhoComesLater(t *testing.T) {
	g := newGate(4, 4)
	from := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, n, 0, 1}) }
	member, _ := letIn(g, from(1))
	var strangers []*idle
	for n := range byte(6) {
		c := &idle{}
		strangers = append(strangers, c)
		if _, r := g.enter(from(2+n), c); r != "" {
			t.Fatalf("stranger %d: %q", n, r)
		}
	}
	for n, c := range strangers {
		if c.closed != (n < 3) {
			t.Errorf("stranger %d: closed %v", n, c.closed)
		}
	}
	for n := range byte(3) { // who shows a certificate stays
		if _, r := letIn(g, from(20+n)); r != "" {
			t.Fatal(r)
		}
	}
	if _, r := letIn(g, from(30)); r != RefusedFull {
		t.Errorf("a member had to go: %q", r)
	}
	member.leave()
	if g.total != 3 {
		t.Errorf("%d have places, want 3", g.total)
	}
}

// A crowd that connects and says nothing, or half a handshake, takes all places; a member gets in nevertheless, and stays.
func TestAMemberGetsInThroughACrowdOfSilentOnes(t *testing.T) {
	l := newLab(t)
	a := l.run(l.machine(identity.MemberRole))
	a.gate.mu.Lock()
	a.gate.max = 8
	a.gate.mu.Unlock()
	member := l.machine(identity.MemberRole)
	crowd := func() {
		for n := range 20 {
			c, err := net.Dial("tcp", a.Addr())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			if n%2 == 0 {
				_, _ = c.Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3})
			}
		}
	}
	crowd()
	r := dialRaw(t, member, a)
	r.greets(member.Self(), a.Self())
	eventually(t, "it is connected", func() bool { return a.Sessions() == 1 })
	crowd()
	r.says(&wire.Ping{Number: 77})
	for {
		m := r.next()
		if pong, is := m.(*wire.Pong); is && pong.Number == 77 {
			break
		}
		if m == nil {
			t.Fatal("it was cut off")
		}
	}
	eventually(t, "they are counted", func() bool { return a.book.Counts()[RefusedShed] > 0 })
}

// What is in a handshake is bounded by its bytes and its time, and what it may bring by what TLS 1.3 has.
func TestAHandshakeIsBounded(t *testing.T) {
	l := newLab(t)
	a := l.run(l.machine(identity.MemberRole))
	for name, says := range map[string][]byte{
		"a record too long":         {0x16, 3, 1, 0xff, 0xff, 1},
		"a hello of 16 MiB":         append([]byte{0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff}, make([]byte, 1<<14-4)...),
		"bytes that are no hello":   append([]byte{0x16, 3, 1, 0, 200}, bytes.Repeat([]byte{7}, 200)...),
		"an alert":                  {0x15, 3, 1, 0, 2, 2, 0},
		"data before a handshake":   {0x17, 3, 3, 0, 1, 0},
		"SSH":                       []byte("SSH-2.0-x\r\n"),
		"a classic peer, unasked":   {0},
		"HTTP without TLS":          []byte("GET / HTTP/1.1\r\n\r\n"),
		"the first byte of nothing": {4},
	} {
		c, err := net.Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(says)
		c.SetDeadline(time.Now().Add(handshakeTimeout / 2)) // it is not the time that ends it
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection goes on", name)
		}
		c.Close()
	}
	if n := a.book.Counts()[RefusedVoice]; n != 6 {
		t.Errorf("%d spoke nothing that is known here, want 6", n)
	}
	sw := l.machine(identity.MemberRole)
	cfg := sw.ClientConfig(identity.Peer{ID: a.Self()})
	for range 300 { // each is fine
		cfg.Certificates[0].Certificate = append(cfg.Certificates[0].Certificate, cfg.Certificates[0].Certificate[1])
	}
	tc, _, err := dialTLS(t.Context(), a.Addr(), cfg)
	if err == nil {
		if n, err := tc.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("a chain of three hundred is let in")
		}
		tc.Close()
	}
	if a.Sessions() > 0 {
		t.Error("there is a session")
	}
}

// A handshake that does not come to its end is ended, whether nothing comes, half of it, or a byte a second.
func TestAHandshakeHasAnEnd(t *testing.T) {
	l := newLab(t)
	cfg := l.server.ServerConfig()
	for name, c := range map[string]struct {
		says   []byte
		every  time.Duration
		reason string
		most   time.Duration
	}{
		"nothing":          {nil, 0, RefusedSilent, sniffTimeout},
		"half a hello":     {[]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, 0, RefusedHandshake, handshakeTimeout},
		"a byte a second":  {append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 300)...), time.Second, RefusedHandshake, handshakeTimeout + time.Second},
		"a late beginning": {[]byte{0x16, 3}, sniffTimeout - time.Second, RefusedHandshake, sniffTimeout + handshakeTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			book := offence.NewBook(slog.New(slog.DiscardHandler))
			p := &port{tls: cfg, book: book, log: slog.New(slog.DiscardHandler), gate: newGate(4, 4)}
			var speaking sync.WaitGroup
			defer func() { theirs.Close(); speaking.Wait() }()
			speaking.Go(func() {
				if c.every == 0 && len(c.says) > 0 {
					_, _ = theirs.Write(c.says)
					return
				}
				for _, b := range c.says {
					time.Sleep(c.every)
					if _, err := theirs.Write([]byte{b}); err != nil {
						return
					}
				}
			})
			began := time.Now()
			pass, _ := p.gate.enter(netip.MustParseAddr("10.0.0.1"), ours)
			p.one(t.Context(), ours, newQueue(nil), pass)
			if took := time.Since(began); took > c.most || book.Counts()[c.reason] != 1 {
				t.Errorf("%s: it took %v; counted %v", name, took, book.Counts())
			}
			if _, err := theirs.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: something is said", name)
			}
		})
	}
}

// One address that takes all the places it may have is refused more, and whoever comes from elsewhere is served as ever.
func TestOneAddressDoesNotKeepOthersFromASharer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.bin")
	if err := os.WriteFile(path, []byte("bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := New(Config{})
	defer n.Close()
	if _, err := n.Share(path, ""); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.accept(ctx, ln) }()
	defer func() { cancel(); <-done }()
	asks := func(from string) (answer classic.Header, err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		b := make([]byte, classic.HeaderSize)
		if _, err = c.Write(classic.FileRequest{Name: "f.bin"}.Append(nil)); err == nil {
			_, err = io.ReadFull(c, b)
		}
		if err != nil {
			return nil, err
		}
		return classic.ParseHeader(b)
	}
	for range maxConnsPerAddress {
		if got, err := asks("127.0.0.1"); err != nil || got != (classic.FileResponse{Chunks: 1}) {
			t.Fatalf("%v, %v", got, err)
		}
	}
	for range 20 {
		if got, err := asks("127.0.0.1"); err == nil {
			t.Fatalf("one too many is answered with %v", got)
		}
	}
	if got, err := asks("127.0.0.2"); err != nil || got != (classic.FileResponse{Chunks: 1}) {
		t.Errorf("another is answered with %v, %v", got, err)
	}
	if refused := n.Stats().Refused[RefusedTooMany]; refused != 20 {
		t.Errorf("%d were refused", refused)
	}
}
