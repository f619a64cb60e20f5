package swarm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/content"
	"shoal/internal/offence"
	"shoal/internal/wire"
)

// v2hall is a server without sockets. In a bubble its time is not real.
type v2hall struct {
	t   *testing.T
	s   *V2
	ctx context.Context
	end context.CancelFunc
}

func newV2hall(t *testing.T) *v2hall {
	ctx, end := context.WithCancel(t.Context())
	none := func() [][]byte { return nil }
	h := &v2hall{t, NewV2(V2Config{
		Hello: wire.Hello{Version: 1, Instance: 1}, Removals: none, Merge: func([][]byte) int { return 0 },
		Verify:  func(r *wire.Record) (wire.PeerID, error) { return wire.PeerID{1}, nil },
		Removed: func(wire.PeerID) bool { return false }, Members: func() []wire.Member { return nil },
		Classic: func() []netip.AddrPort { return nil }, Book: offence.NewBook(slog.New(slog.DiscardHandler)),
	}), ctx, end}
	t.Cleanup(func() { end(); synctest.Wait() })
	return h
}

// guest2 is the other end of a connection to it.
type guest2 struct {
	net.Conn
	heard chan wire.Message
	ended chan struct{} // closed when the server has done with it
}

// comes brings a peer in that takes what it is told, unless it is deaf.
func (h *v2hall) comes(id wire.PeerID, instance uint64, deaf bool) *guest2 {
	ours, theirs := net.Pipe()
	g := &guest2{theirs, make(chan wire.Message, 1<<17), make(chan struct{})}
	go func() {
		defer close(g.ended)
		h.s.Serve(h.ctx, from{ours, netip.MustParseAddrPort("10.0.0.1:9")}, id, "member")
	}()
	in := bufio.NewReader(theirs)
	if deaf { // it hears what it must to come in
		go g.says(&wire.Hello{Version: 1, Instance: instance, Port: 9}, &wire.Enter{})
		g.next(in)
		g.next(in)
	} else {
		go func() {
			defer close(g.heard)
			for m := g.next(in); m != nil; m = g.next(in) {
				g.heard <- m
			}
		}()
		g.says(&wire.Hello{Version: 1, Instance: instance, Port: 9}, &wire.Enter{})
	}
	h.t.Cleanup(func() { theirs.Close() })
	synctest.Wait()
	return g
}

func (g *guest2) next(in *bufio.Reader) wire.Message {
	head := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil
	}
	h, _ := wire.ParseHeader(head)
	payload := make([]byte, h.Len)
	_, _ = io.ReadFull(in, payload)
	m, _ := wire.Parse(h.Type, payload)
	return m
}

func (g *guest2) says(ms ...wire.Message) {
	for _, m := range ms {
		_, _ = g.Write(wire.Append(nil, m))
	}
}

// all returns what has come by now, but for pings.
func (g *guest2) all() (out []wire.Message) {
	synctest.Wait()
	for {
		select {
		case m, ok := <-g.heard:
			if !ok {
				return out
			}
			if _, ping := m.(*wire.Ping); !ping {
				out = append(out, m)
			}
		default:
			return out
		}
	}
}

func (g *guest2) isGone() bool {
	synctest.Wait()
	select {
	case <-g.ended:
		return true
	default:
		return false
	}
}

// A member that pings as often as members do is not pinged by the server.
func TestAMemberThatPingsIsNotPinged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newV2hall(t)
		g := h.comes(wire.PeerID{1}, 1, false)
		for n := range uint64(40) {
			time.Sleep(v2PingEvery)
			g.says(&wire.Ping{Number: n + 1})
		}
		synctest.Wait()
		for pongs := 0; pongs < 40; {
			switch m := (<-g.heard).(type) {
			case *wire.Pong:
				pongs++
			case *wire.Ping:
				t.Fatalf("ping %d comes after %d answers", m.Number, pongs)
			}
		}
	})
}

func TestAMemberThatIsSilentIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newV2hall(t)
		silent := h.comes(wire.PeerID{1}, 1, false)
		if h.s.Count() != 1 {
			t.Fatal("it did not come in")
		}
		time.Sleep(v2Dead - time.Second)
		if silent.isGone() {
			t.Fatal("it is gone too soon")
		}
		time.Sleep(2 * time.Second)
		if !silent.isGone() || h.s.Count() != 0 {
			t.Error("it is still there")
		}
	})
}

// One that asks for much and reads nothing is dropped, and keeps nobody waiting.
func TestAMemberThatDoesNotReadIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newV2hall(t)
		holder, deaf := h.comes(wire.PeerID{1}, 1, false), h.comes(wire.PeerID{2}, 1, true)
		chain := [][]byte{make([]byte, 700), make([]byte, 700)}
		for n := range byte(24) {
			holder.says(&wire.Hold{ID: content.ID{9, n}, Size: 5, All: true})
			holder.says(&wire.Offer{Record: wire.Record{Name: fmt.Sprint("f", n), ID: content.ID{9, n}, Size: 5, Chain: chain, Sig: []byte{1}}})
		}
		holder.all()
		for n := range 1000 {
			deaf.says(&wire.Find{Query: uint64(n + 1), Prefix: content.ID{9}, Bits: 8})
			if n%100 == 0 {
				holder.says(&wire.Find{Query: uint64(n + 1), Name: "f3"})
				if got := holder.all(); len(got) != 1 || len(got[0].(*wire.Found).Entries) != 1 {
					t.Fatalf("in the meantime another is answered with %v", got)
				}
			}
		}
		time.Sleep(v2Bye)
		if !deaf.isGone() {
			t.Error("it is still there")
		}
		if n := h.s.cfg.Book.Counts()[RefusedV2Slow]; n != 1 {
			t.Errorf("counted %v", h.s.cfg.Book.Counts())
		}
	})
}

// However many processes a peer says to be, so many of a swarm are it, and no more.
func TestOnePeersPartOfASwarmIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newV2hall(t)
		id, other := wire.PeerID{1}, wire.PeerID{2}
		var all []*guest2
		for n := range maxInstances + 10 {
			all = append(all, h.comes(id, uint64(n), false))
		}
		if h.s.Count() != maxInstances {
			t.Errorf("%d came in, the bound is %d", h.s.Count(), maxInstances)
		}
		last := all[len(all)-1].all()
		if bye, is := last[len(last)-1].(*wire.Bye); !is || bye.Reason != wire.ReasonLimit {
			t.Errorf("the last one is told %v", last)
		}
		h.comes(id, 3, false) // one that is there already, and has lost its connection
		h.comes(other, 1, false)
		if h.s.Count() != maxInstances+1 {
			t.Errorf("then %d are there", h.s.Count())
		}
		for _, g := range all {
			g.Close()
		}
		time.Sleep(v2Dead + time.Second)
		synctest.Wait()
		h.s.mu.Lock()
		defer h.s.mu.Unlock()
		if n := h.s.cfg.Book.Counts()[RefusedV2Many]; n != 10 || len(h.s.of) > 0 {
			t.Errorf("%d were refused; %v are left", n, h.s.of)
		}
	})
}

// One that enters and leaves all the time, or takes up a content and lets go of it, is heard of as often as it may.
func TestAMemberThatComesAndGoesIsHeardOfSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newV2hall(t)
		h.s.retractBurst = 50
		go h.s.Run(h.ctx)
		id := content.ID{7}
		witness := h.comes(wire.PeerID{2}, 1, false)
		witness.says(&wire.Follow{ID: id, On: true})
		witness.all()
		gone := func() (n int) {
			for _, m := range witness.all() {
				if p, is := m.(*wire.Peers); is {
					n += len(p.Gone)
				}
			}
			return n
		}
		comes := func() {
			p := h.comes(wire.PeerID{1}, 1, false)
			p.says(&wire.Hold{ID: id, Size: 5, All: true})
			synctest.Wait()
			p.Close()
			time.Sleep(20 * time.Millisecond)
			witness.says(&wire.Pong{})
		}
		began := time.Now()
		for time.Since(began) < 10*time.Second {
			comes()
		}
		if n, most := gone(), turnsAtOnce+10*turnsRate+1; n > most || n < turnsAtOnce {
			t.Errorf("it went %d times in 10 seconds, the bound is %d", n, most)
		}
		p := h.comes(wire.PeerID{1}, 2, false)
		p.says(&wire.Hold{ID: id, Size: 5, All: true})
		came := func() (n int) {
			for _, m := range witness.all() {
				if p, is := m.(*wire.Peers); is {
					n += len(p.Added)
				}
			}
			return n
		}
		if n := came(); n != 0 {
			t.Errorf("it came %d times, though it comes too often", n)
		}
		for range 3 { // it is quiet for a while
			time.Sleep(turnsCalm / 2)
			witness.says(&wire.Pong{})
			p.says(&wire.Pong{})
		}
		if n := came(); n != 1 {
			t.Errorf("it has stayed, and came %d times", n)
		}
		comes()
		if n := gone(); n != 1 {
			t.Errorf("it is quiet again, and went %d times", n)
		}
		p = h.comes(wire.PeerID{3}, 1, false)
		for n := 0; !p.isGone() && n < 1000; n++ {
			p.says(&wire.Hold{ID: id, Size: 5, All: true}, &wire.Retract{ID: id})
		}
		if n := gone(); n != 51 || !p.isGone() || h.s.cfg.Book.Counts()[RefusedV2Flood] != 1 {
			t.Errorf("it let go %d times, the end of its connection among them; counted %v", n, h.s.cfg.Book.Counts())
		}
	})
}

// A draw is by chance, so who is in a swarm ten times as often as all the others hides them for a few draws at most.
func TestADrawFindsTheHonestAmongMany(t *testing.T) {
	const honest, liars = 10, 100
	for seed := range uint64(50) {
		table := NewTable(rand.New(rand.NewPCG(seed, 2)))
		table.Enter(key(200), "member", "", "", nil)
		for n := range byte(honest + liars) {
			table.Enter(key(n+1), "member", "", "", nil)
			if _, err := table.Hold(key(n+1), idOf(1), 5, true); err != nil {
				t.Fatal(err)
			}
		}
		draws := 1
		for ; ; draws++ {
			m, err := table.Follow(key(200), idOf(1))
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(m.Added, func(a wire.PeerAddr) bool { return a.ID[0] <= honest }) {
				break
			}
		}
		if draws > 5 {
			t.Errorf("seed %d: it took %d draws to see one of %d among %d", seed, draws, honest, liars)
		}
	}
}

// A peer says where it is; it cannot send others to ports that are not its own, nor to where nobody is to be sent.
func TestWhereAMemberIsDialled(t *testing.T) {
	many := make([]string, 100)
	for n := range many {
		many[n] = fmt.Sprintf("10.0.1.%d:5", n+1)
	}
	for name, c := range map[string]struct {
		from  string
		port  uint16
		named []string
		want  []string
	}{
		"where it comes from":          {"10.0.0.1", 5, nil, []string{"10.0.0.1:5"}},
		"its other addresses":          {"10.0.0.1", 5, []string{"10.1.0.1:5", "[2001:db8::1]:5"}, []string{"10.0.0.1:5", "10.1.0.1:5", "[2001:db8::1]:5"}},
		"another port":                 {"10.0.0.1", 5, []string{"10.9.0.1:22", "10.0.0.1:80"}, []string{"10.0.0.1:5"}},
		"no machine's":                 {"10.0.0.1", 5, []string{"0.0.0.0:5", "[::]:5", "224.0.0.1:5", "[ff02::1]:5", "169.254.169.254:5", "[fe80::1]:5", "[::ffff:0.0.0.0]:5", "[::ffff:169.254.169.254]:5", "0.1.2.3:5", "255.255.255.255:5"}, []string{"10.0.0.1:5"}},
		"loopback from elsewhere":      {"10.0.0.1", 5, []string{"127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5"}, []string{"10.0.0.1:5"}},
		"loopback from this machine":   {"127.0.0.1", 5, []string{"127.0.0.2:5"}, []string{"127.0.0.1:5", "127.0.0.2:5"}},
		"names, and what is no number": {"10.0.0.1", 5, []string{"victim.example:5", "10.0.0.1", ""}, []string{"10.0.0.1:5"}},
		"no port":                      {"10.0.0.1", 0, []string{"10.0.0.1:0"}, nil},
		"too many":                     {"10.0.0.1", 5, many, append([]string{"10.0.0.1:5"}, many[:8]...)},
	} {
		got := dialable(net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(c.from), 999)), c.port, c.named)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
