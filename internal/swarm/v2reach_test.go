package swarm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"shoal/internal/wire"
)

// A server connects only to where the asker comes from and says that it listens.
func TestNobodySendsAServerToSomebodyElse(t *testing.T) {
	from := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 40000}
	for _, c := range []struct {
		from  net.Addr
		port  uint16
		named []string
		want  string
	}{
		{from, 50002, []string{"10.0.0.7:50002"}, "10.0.0.7:50002"},
		{from, 50002, []string{"192.168.0.1:50002", "10.0.0.7:50002"}, "10.0.0.7:50002"},
		{from, 50002, []string{"10.0.0.8:50002"}, ""},
		{from, 50002, []string{"10.0.0.7:22"}, ""},
		{from, 50002, nil, ""},
		{from, 0, []string{"10.0.0.7:50002"}, ""},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:10.0.0.7"), Port: 1}, 50002, []string{"10.0.0.7:50002"}, "10.0.0.7:50002"},
		{&net.TCPAddr{IP: net.ParseIP("fd00::7"), Port: 1}, 50002, []string{"[fd00::7]:50002"}, "[fd00::7]:50002"},
		{&net.UnixAddr{Name: "x"}, 50002, []string{"10.0.0.7:50002"}, ""},
	} {
		want := netip.AddrPort{}
		if c.want != "" {
			want = netip.MustParseAddrPort(c.want)
		}
		if got := newReach(c.from, c.port, c.named).target; got != want {
			t.Errorf("from %v, port %d, %v: %v, want %v", c.from, c.port, c.named, got, want)
		}
	}
}

func TestAServerSaysWhetherItReachesAMember(t *testing.T) {
	var mu sync.Mutex
	var tried []string
	outcome := make(chan error, 10)
	reach := func(ctx context.Context, addr string, _ wire.PeerID) error {
		mu.Lock()
		tried = append(tried, addr)
		mu.Unlock()
		select {
		case err := <-outcome:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l := newV2lab(t, func(cfg *V2Config) { cfg.Reach = reach })
	ask := func(instance uint64, addrs ...string) func() (*wire.Reached, error) {
		c := NewV2Client(V2ClientConfig{
			Hello: wire.Hello{Version: 1, Instance: instance, Port: 9}, Removals: func() [][]byte { return nil },
			Dial: func(ctx context.Context) (*V2Link, error) {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.ln.Addr().String())
				return &V2Link{Conn: conn, Addrs: addrs}, err
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = c.Run(ctx, func(V2Event) {}) })
		t.Cleanup(func() { cancel(); running.Wait() })
		return func() (*wire.Reached, error) { return c.Reach(ctx) }
	}
	named := ask(1, "127.0.0.1:9")
	for _, c := range []struct {
		err  error
		want wire.Way
	}{
		{nil, wire.WayOpen},
		{fmt.Errorf("x: %w", syscall.ECONNREFUSED), wire.WayRefused},
		{errors.New("another's certificate"), wire.WayOther},
	} {
		outcome <- c.err
		r, err := named()
		if err != nil || r.Way != c.want || r.Addr != "127.0.0.1:9" || netip.MustParseAddrPort(r.From).Addr() != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("%v: %+v, %v", c.err, r, err)
		}
		if skew := time.Since(time.UnixMilli(r.Now)); skew < 0 || skew > time.Minute {
			t.Errorf("the server's clock is %v off", skew)
		}
	}
	if r, err := named(); err != nil || r.Way != wire.WayLimit || r.Addr != "" { // that was one more than may be at once
		t.Errorf("asked too often: %+v, %v", r, err)
	}
	if r, err := ask(2, "10.9.9.9:9")(); err != nil || r.Way != wire.WayElsewhere || r.Addr != "" {
		t.Errorf("another's address: %+v, %v", r, err)
	}
	// What cannot be reached keeps the server from nothing else, and its end is not waited for by anybody.
	silent := ask(3, "127.0.0.1:9")
	if r, err := silent(); err != nil || r.Way != wire.WaySilent {
		t.Errorf("nobody answers: %+v, %v", r, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(tried) != 4 {
		t.Errorf("tried %v", tried)
	}
}

func TestOneAttemptAtATimeAndFewInAll(t *testing.T) {
	l := newV2lab(t, func(cfg *V2Config) {
		cfg.Reach = func(ctx context.Context, _ string, _ wire.PeerID) error { <-ctx.Done(); return ctx.Err() }
	})
	for range maxReaching {
		l.server.reaching <- struct{}{}
	}
	c, s := net.Pipe()
	defer c.Close()
	m := &v2member{v2conn: newV2conn(s, nil), reach: newReach(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 1}, 9, []string{"10.0.0.7:9"})}
	ctx, cancel := context.WithCancel(t.Context())
	said := func(n int) (ways []wire.Way) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for b := m.outbox; len(b) > 0; {
			h, err := wire.ParseHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			msg, err := wire.Parse(h.Type, b[wire.HeaderSize:wire.HeaderSize+h.Len])
			if err != nil {
				t.Fatal(err)
			}
			ways = append(ways, msg.(*wire.Reached).Way)
			b = b[wire.HeaderSize+h.Len:]
		}
		if len(ways) != n {
			t.Fatalf("said %v, want %d", ways, n)
		}
		return ways
	}
	l.server.tryReach(ctx, m, &wire.Reach{Query: 1})
	if said(1)[0] != wire.WayLimit {
		t.Error("more than the server tries at once")
	}
	<-l.server.reaching
	l.server.tryReach(ctx, m, &wire.Reach{Query: 2})
	l.server.tryReach(ctx, m, &wire.Reach{Query: 3})
	if said(2)[1] != wire.WayLimit {
		t.Error("two at once of one member")
	}
	cancel()
	m.reach.running.Wait()
	if said(3); len(l.server.reaching) != maxReaching-1 || len(m.reach.busy) != 0 {
		t.Error("its place is not free again")
	}
}

func TestAnOlderServerIsNotAsked(t *testing.T) {
	l := newV2lab(t)
	c, events := l.client(1)
	<-events
	if _, err := c.Reach(t.Context()); !errors.Is(err, ErrNoReach) {
		t.Errorf("got %v", err)
	}
}
