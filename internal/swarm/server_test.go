package swarm

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"shoal/internal/classic"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a server for the length of a test.
func start(t *testing.T, cfg ServerConfig) (s *Server, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = NewServer(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, ln.Addr().String()
}

// raw is a peer that speaks bytes, not our codec. What it says and hears is written in hex.
type raw struct {
	t *testing.T
	net.Conn
}

func dial(t *testing.T, addr string) raw {
	t.Helper()
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return raw{t, conn}
}

func (r raw) says(hexBytes string) {
	r.t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(hexBytes, " ", ""))
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// hears waits for one message. The original reads each with a single read of seven bytes, and so does this.
func (r raw) hears(want string) {
	r.t.Helper()
	r.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 7)
	n, err := r.Read(b)
	if got := hex.EncodeToString(b[:n]); got != strings.ReplaceAll(want, " ", "") {
		r.t.Fatalf("heard %s (%v), want %s", got, err, want)
	}
}

func (r raw) isClosed() {
	r.t.Helper()
	r.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := r.Read(make([]byte, 7))
	if n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Fatalf("read %d bytes, %v; want the end of the connection", n, err)
	}
}

// eventually waits until a figure is as wanted.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never came true: %s", what)
}

// The exchange of docs/CLASSIC.md section 8, byte for byte.
func TestGoldenExchange(t *testing.T) {
	_, addr := start(t, ServerConfig{})
	a := dial(t, addr)
	a.says("01 7f000001 17d5")
	b := dial(t, addr)
	b.says("01 7f000001 17d6")
	b.hears("01 7f000001 17d5")
	a.hears("01 7f000001 17d6")
	a.says("00 7f000001 17d5")
	a.isClosed()
	b.hears("00 7f000001 17d5")
}

func TestAPeerThatVanishesWithoutRemoveIsRemoved(t *testing.T) {
	_, addr := start(t, ServerConfig{})
	a, b := dial(t, addr), dial(t, addr)
	a.says("01 7f000001 17d5")
	b.says("01 7f000001 17d6")
	a.hears("01 7f000001 17d6")
	a.Close()
	b.hears("01 7f000001 17d5")
	b.hears("00 7f000001 17d5")
}

func TestARestartedPeerOutlivesItsPredecessorsConnection(t *testing.T) {
	s, addr := start(t, ServerConfig{})
	old := dial(t, addr)
	old.says("01 7f000001 17d5")
	watcher := dial(t, addr)
	watcher.says("01 7f000001 17d6")
	watcher.hears("01 7f000001 17d5")
	restarted := dial(t, addr)
	restarted.says("01 7f000001 17d5")
	restarted.hears("01 7f000001 17d6")
	old.Close()
	eventually(t, "the old connection is gone", func() bool { return s.Stats().Members == 2 })
	restarted.says("00 7f000001 17d5")
	watcher.hears("00 7f000001 17d5") // and nothing before it
}

func TestWhatIsWrongIsCountedAndClosed(t *testing.T) {
	for _, c := range []struct{ says, reason string }{
		{"02 7f000001 17d5", RefusedMode},
		{"16 03010200 0100", RefusedMode},
		{"01 0a000001 17d5", RefusedAddress},
		{"01 7f000001 0000", RefusedAddress},
		{"00 7f000001 17d5", RefusedOrder},
		{"01 7f000001 17d5 01 7f000001 17d7", RefusedOrder},
		{"01 7f000001 17d5 00 7f000001 17d7", RefusedOrder},
		{"01 7f000001 17d5 05 7f000001 17d5", RefusedMode},
		{"01 7f000001 17d5 00 7f000001 17d5 ff", RefusedTrailing},
	} {
		t.Run(c.says, func(t *testing.T) {
			s, addr := start(t, ServerConfig{})
			bystander := dial(t, addr)
			bystander.says("01 7f000001 17d6")
			eventually(t, "the bystander is in", func() bool { return s.Stats().Members == 1 })
			p := dial(t, addr)
			p.says(c.says)
			p.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.Copy(io.Discard, p); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("not closed")
			}
			eventually(t, "counted as "+c.reason, func() bool { return s.Stats().Refused[c.reason] == 1 })
			late := dial(t, addr) // all others go on
			late.says("01 7f000001 17d8")
			late.hears("01 7f000001 17d6")
		})
	}
}

func TestSilenceAndDripsEndAtTheDeadline(t *testing.T) {
	if testing.Short() {
		t.Skip("takes five real seconds")
	}
	s, addr := start(t, ServerConfig{})
	mute, half, drip, late := dial(t, addr), dial(t, addr), dial(t, addr), dial(t, addr)
	half.says("01 7f00")
	late.says("01 7f000001 17d5 00 7f") // a member, and then silent in the middle of a message
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for _, b := range []byte{1, 127, 0, 0, 1, 23, 213} {
			drip.Write([]byte{b})
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
			}
		}
	}()
	for _, p := range []raw{mute, half, drip, late} {
		p.isClosed()
	}
	eventually(t, "all four are counted", func() bool { return s.Stats().Refused[RefusedSilent] == 4 })
}

// A peer that never reads is dropped, and the others hear everything at once in the meantime.
func TestASlowReaderDelaysNobody(t *testing.T) {
	s, server := start(t, ServerConfig{})
	slow, quick := dial(t, server), dial(t, server)
	slow.Conn.(*net.TCPConn).SetReadBuffer(4096)
	slow.says("01 7f000001 17d5")
	quick.says("01 7f000001 17d6")
	quick.hears("01 7f000001 17d5")
	in, slowIsGone := bufio.NewReader(quick), false
	hear := func() {
		t.Helper()
		b := make([]byte, classic.MemberSize)
		if _, err := io.ReadFull(in, b); err != nil {
			t.Fatal(err)
		}
		slowIsGone = slowIsGone || hex.EncodeToString(b) == "007f00000117d5"
	}
	heard := func(messages int) {
		t.Helper()
		quick.SetReadDeadline(time.Now().Add(10 * time.Second))
		for range messages {
			hear()
		}
	}
	// The crowd comes and goes in the registry, without connections, to be quick: the sockets' buffers take megabytes.
	const crowd = 20_000
	for round := 0; s.Stats().Refused[RefusedSlow] == 0; round++ {
		if round == 1000 {
			t.Fatal("the slow reader was never dropped")
		}
		members := make([]*Member, crowd)
		s.mu.Lock()
		for n := range members {
			members[n] = s.registry.Join(addr(n))
		}
		s.mu.Unlock()
		s.wakeTeller()
		heard(crowd)
		s.mu.Lock()
		for _, m := range members {
			s.registry.Leave(m)
		}
		s.mu.Unlock()
		s.wakeTeller()
		heard(crowd)
	}
	for !slowIsGone {
		hear()
	}
}

// Whose changes pile up is dropped by their number, however long its last write may take.
func TestWhoIsTooFarBehindIsDropped(t *testing.T) {
	s := NewServer(ServerConfig{})
	c := &serverConn{member: s.registry.Join(addr(1)), busy: true}
	s.conns[c] = struct{}{}
	for n := range MaxBehind { // and its own entry
		if _, tooSlow := s.withNews(nil, nil); len(tooSlow) > 0 {
			t.Fatalf("dropped at %d changes", n)
		}
		s.registry.Join(addr(2 + n))
	}
	if _, tooSlow := s.withNews(nil, nil); len(tooSlow) != 1 {
		t.Error("not dropped")
	}
	if _, tooSlow := s.withNews(nil, nil); len(tooSlow) != 0 {
		t.Error("dropped twice")
	}
}

// A server that ends every connection at once is not hammered.
func TestAClientWaitsBeforeItComesBack(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan struct{}, 10_000)
	go func() { // ends with ln
		for n := 0; ; n++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if n == 0 { // tells of somebody, lest this count as a refusal
				conn.Write([]byte{1, 127, 0, 0, 1, 0, 9})
			}
			io.ReadFull(conn, make([]byte, 7))
			conn.Close()
			accepted <- struct{}{}
		}
	}()
	next, stop := events(t, ClientConfig{Server: ln.Addr().String(), Port: 7})
	for lost := 0; lost < 3; {
		if next() == "lost 0" {
			lost++
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	// Three losses, with waits of at least 125, 250 and 500 ms: a client that does not wait is far ahead by then.
	if n := len(accepted); n > 4 {
		t.Errorf("%d connections", n)
	}
}

// A server that is killed while it lets us in closes at once, as one that refuses us does: only one that does so again and again refuses us.
func TestAClientTellsARefusalFromAServerThatDies(t *testing.T) {
	for closes, want := range map[int]error{refusals - 1: nil, refusals: ErrClosed} {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() { // ends with ln
			for n := 1; ; n++ {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				io.ReadFull(conn, make([]byte, 7))
				if n <= closes {
					conn.Close()
					continue
				}
				conn.Write([]byte{1, 127, 0, 0, 1, 0, 9})
			}
		}()
		ctx, cancel := context.WithCancel(t.Context())
		err = NewClient(ClientConfig{Server: ln.Addr().String(), Port: 7}).Run(ctx, func(e Event) {
			if e.Kind == Came {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, want) {
			t.Errorf("closed at once %d times: %v, want %v", closes, err, want)
		}
	}
}

func TestTooManyConnectionsFromOneAddressAreRefused(t *testing.T) {
	s, addr := start(t, ServerConfig{MaxPerAddress: 2})
	a, b := dial(t, addr), dial(t, addr)
	a.says("01 7f000001 17d5")
	b.says("01 7f000001 17d6")
	b.hears("01 7f000001 17d5")
	dial(t, addr).isClosed()
	if got := s.Stats().Refused[RefusedTooMany]; got != 1 {
		t.Errorf("counted %d", got)
	}
}

// events runs a client and returns what it reports, as words.
func events(t *testing.T, cfg ClientConfig) (next func() string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	heard, done := make(chan string, 100), make(chan error, 1)
	go func() {
		done <- NewClient(cfg).Run(ctx, func(e Event) {
			heard <- fmt.Sprint([]string{"entered", "came", "gone", "lost"}[e.Kind], " ", e.Addr.Port())
		})
	}()
	next = func() string {
		t.Helper()
		select {
		case e := <-heard:
			return e
		case <-time.After(15 * time.Second):
			t.Fatal("no event")
			return ""
		}
	}
	return next, func() error { cancel(); return <-done }
}

func TestAClientHearsOfTheSwarmAndLeavesIt(t *testing.T) {
	_, addr := start(t, ServerConfig{})
	other := dial(t, addr)
	other.says("01 7f000001 0005")
	next, stop := events(t, ClientConfig{Server: addr, Port: 7})
	if got := next(); got != "entered 7" {
		t.Fatalf("got %q", got)
	}
	if got := next(); got != "came 5" {
		t.Fatalf("got %q", got)
	}
	other.hears("01 7f000001 0007")
	other.says("00 7f000001 0005")
	if got := next(); got != "gone 5" {
		t.Fatalf("got %q", got)
	}
	watcher := dial(t, addr)
	watcher.says("01 7f000001 0006")
	watcher.hears("01 7f000001 0007")
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	watcher.hears("00 7f000001 0007")
}

// The server dies and comes back without one of those who were there: the client comes back, and hears of the loss.
func TestAClientComesBackToARestartedServer(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ctx, kill := context.WithCancel(t.Context())
	dead := make(chan error, 1)
	go func() { dead <- NewServer(ServerConfig{}).Serve(ctx, ln) }()
	gone := dial(t, addr)
	gone.says("01 7f000001 0005")
	next, stop := events(t, ClientConfig{Server: addr, Port: 7})
	for _, want := range []string{"entered 7", "came 5"} {
		if got := next(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	kill()
	<-dead
	if ln, err = net.Listen("tcp4", addr); err != nil {
		t.Fatal(err)
	}
	ctx, kill = context.WithCancel(t.Context())
	go func() { dead <- NewServer(ServerConfig{}).Serve(ctx, ln) }()
	for _, want := range []string{"lost 0", "entered 7", "gone 5"} {
		if got := next(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	kill()
	<-dead
}

func TestAClientSaysWhyItCannotEnter(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	if err := NewClient(ClientConfig{Server: addr, Port: 7}).Run(t.Context(), func(Event) {}); err == nil {
		t.Error("entered a swarm without a server")
	}
}

func TestAServerThatLiesDoesNotFillTheClient(t *testing.T) {
	c := NewClient(ClientConfig{})
	for n := range MaxKnown + 1000 {
		c.hear(classic.Member{Mode: classic.Add, Addr: addr(n)}, func(Event) {})
	}
	if len(c.known) != MaxKnown {
		t.Errorf("keeps %d members, the bound is %d", len(c.known), MaxKnown)
	}
}
