package swarm

import (
	"context"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// hall is a server without sockets: the test says from where somebody comes. In a bubble its time is not real.
type hall struct {
	t     *testing.T
	s     *Server
	conns chan net.Conn
	done  chan struct{}
	stop  func()
}

func (h *hall) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *hall) Close() error   { return nil }
func (h *hall) Addr() net.Addr { return &net.TCPAddr{} }

func newHall(t *testing.T, cfg ServerConfig) *hall {
	h := &hall{t: t, s: NewServer(cfg), conns: make(chan net.Conn), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = h.s.Serve(ctx, h) }()
	h.stop = func() { cancel(); close(h.done); <-ended }
	return h
}

// guest is the other end of a connection, whose reads end when nothing more comes for now.
type guest struct {
	net.Conn
	heard chan []byte
}

// from is a connection with an address of the test's choice.
type from struct {
	net.Conn
	remote netip.AddrPort
}

func (c from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }
func (c from) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.9.9.9:50001"))
}

// comes brings somebody to the server.
func (h *hall) comes(addr string) *guest {
	ours, theirs := net.Pipe()
	h.conns <- from{ours, netip.AddrPortFrom(netip.MustParseAddr(addr), 7)}
	g := &guest{theirs, make(chan []byte, 1<<16)}
	go func() {
		defer close(g.heard)
		for {
			b := make([]byte, 4096)
			n, err := g.Read(b)
			if err != nil {
				return
			}
			g.heard <- b[:n]
		}
	}()
	h.t.Cleanup(func() { theirs.Close() })
	return g
}

// says sends bytes; cut says behind which of them the connection makes a border.
func (g *guest) says(hexBytes string, cut func(i int) bool) {
	b, _ := hex.DecodeString(hexBytes)
	for len(b) > 0 {
		n := 1
		for n < len(b) && !cut(n) {
			n++
		}
		if _, err := g.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
		if len(b) > 0 {
			cut = shifted(cut, n)
		}
	}
}

func shifted(cut func(int) bool, by int) func(int) bool {
	return func(i int) bool { return cut(i + by) }
}

func whole(int) bool { return false }

// hears returns, in hex, what has come by now, and whether the connection has ended.
func (g *guest) hears() (out string, ended bool) {
	time.Sleep(5 * time.Millisecond) // for the look behind a remove
	synctest.Wait()
	for {
		select {
		case b, ok := <-g.heard:
			if !ok {
				return out, true
			}
			out += hex.EncodeToString(b)
		default:
			return out, false
		}
	}
}

// However TCP cuts what a peer says into segments, it means the same.
func TestHowMessagesAreCutMakesNoDifference(t *testing.T) {
	const add, remove = "010a00000117d5", "000a00000117d5"
	type outcome struct {
		reasons, others string
		members         int
	}
	play := func(t *testing.T, says string, hangsUp bool, cut func(int) bool) (out outcome) {
		synctest.Test(t, func(t *testing.T) {
			h := newHall(t, ServerConfig{})
			defer h.stop()
			witness := h.comes("10.0.0.2")
			witness.says("010a00000217d6", whole)
			synctest.Wait()
			p := h.comes("10.0.0.1")
			p.says(says, cut)
			if hangsUp {
				synctest.Wait()
				p.Close()
			}
			out.others, _ = witness.hears()
			for reason, n := range h.s.Stats().Refused {
				out.reasons += reason
				if n != 1 {
					t.Errorf("%s is counted %d times", reason, n)
				}
			}
			out.members = h.s.Stats().Members
		})
		return out
	}
	for _, c := range []struct {
		says    string
		hangsUp bool
		want    outcome
	}{
		{add, false, outcome{"", add, 2}},
		{add, true, outcome{"", add + remove, 1}},
		{add + remove, false, outcome{"", "", 1}},
		{add + remove + "ff", false, outcome{RefusedTrailing, "", 1}},
		{add + add, false, outcome{RefusedOrder, "", 1}},
		{add + "000a00000217d6", false, outcome{RefusedOrder, "", 1}},
		{add + "05000000000000", false, outcome{RefusedMode, "", 1}},
		{add + "000a00", true, outcome{RefusedCut, "", 1}},
		{remove, false, outcome{RefusedOrder, "", 1}},
		{"010a00000417d5", false, outcome{RefusedAddress, "", 1}},
		{"010a0000", true, outcome{RefusedCut, "", 1}},
		{"16030102000100", false, outcome{RefusedMode, "", 1}},
	} {
		for at := range len(c.says)/2 + 1 { // cut once, behind each byte; at 0 behind every one
			got := play(t, c.says, c.hangsUp, func(i int) bool { return i == at || at == 0 })
			if got.others == add+remove && c.want.others == "" { // both are told, or neither
				got.others = ""
			}
			if got != c.want {
				t.Errorf("%s cut at %d: %+v, want %+v", c.says, at, got, c.want)
			}
		}
	}
}

// Nobody can take another's entry away: not by naming it, before or after an add, and not by adding it a second time from elsewhere.
func TestOnlyWhoAddedAnEntryRemovesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, ServerConfig{})
		defer h.stop()
		victim, witness := h.comes("10.0.0.1"), h.comes("10.0.0.2")
		victim.says("010a00000117d5", whole)
		synctest.Wait() // who comes first is named first
		witness.says("010a00000217d6", whole)
		if heard, _ := witness.hears(); heard != "010a00000117d5" {
			t.Fatalf("the witness hears %s", heard)
		}
		for n, says := range []string{
			"000a00000117d5",                    // a remove of it, first thing
			"010a00000317d700" + "0a00000117d5", // behind an add of its own
			"010a00000117d5",                    // an add of it, by one who is elsewhere
		} {
			thief := h.comes("10.0.0.3")
			thief.says(says, whole)
			if _, ended := thief.hears(); !ended {
				t.Errorf("thief %d is still there", n)
			}
			if heard, _ := witness.hears(); heard != "" && heard != "010a00000317d7000a00000317d7" {
				t.Errorf("because of thief %d the witness hears %s", n, heard)
			}
		}
		if n := h.s.Stats().Refused; n[RefusedOrder] != 2 || n[RefusedAddress] != 1 {
			t.Errorf("counted %v", n)
		}
		late := h.comes("10.0.0.4")
		late.says("010a00000417d8", whole)
		if heard, _ := late.hears(); heard != "010a00000117d5010a00000217d6" {
			t.Errorf("who comes late hears %s", heard)
		}
		victim.says("000a00000117d5", whole)
		if heard, _ := witness.hears(); heard != "010a00000417d8000a00000117d5" {
			t.Errorf("when the owner goes the witness hears %s", heard)
		}
	})
}

// One that comes and goes all the time is taken as often as it may, and the others hear no more of it than that.
func TestWhoComesAndGoesIsHeardOfSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, ServerConfig{JoinBurst: 10, JoinRate: 2})
		defer h.stop()
		witness := h.comes("10.0.0.2")
		witness.says("010a00000217d6", whole)
		synctest.Wait()
		for range 1000 { // 10 seconds
			p := h.comes("10.0.0.1")
			p.says("010a00000117d5", whole)
			synctest.Wait()
			p.Close()
			time.Sleep(10 * time.Millisecond)
		}
		heard, _ := witness.hears()
		if n := len(heard) / 28; n < 28 || n > 31 {
			t.Errorf("the others hear %d times that it came and went", n)
		}
		if n := h.s.Stats().Refused[RefusedOften]; n < 960 {
			t.Errorf("%d were refused", n)
		}
		if p := h.comes("10.0.0.3"); p.Conn != nil { // others come as ever
			p.says("010a00000317d5", whole)
			if heard, _ := p.hears(); heard != "010a00000217d6" {
				t.Errorf("another hears %s", heard)
			}
		}
	})
}

func TestAModeThatIsNoneEndsItAtItsByte(t *testing.T) {
	for mode := 2; mode < 256; mode += 23 {
		for _, before := range []string{"", "010a00000117d5"} {
			synctest.Test(t, func(t *testing.T) {
				h := newHall(t, ServerConfig{})
				defer h.stop()
				p := h.comes("10.0.0.1")
				p.says(before+hex.EncodeToString([]byte{byte(mode)}), whole)
				if _, ended := p.hears(); !ended || h.s.Stats().Refused[RefusedMode] != 1 {
					t.Errorf("mode %d behind %q: it has not ended; counted %v", mode, before, h.s.Stats().Refused)
				}
			})
		}
	}
}

func TestANetworkHasHalfOfAllPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, ServerConfig{MaxMembers: 8})
		defer h.stop()
		for n, c := range []struct {
			addr string
			in   bool
		}{
			{"10.0.0.1", true},
			{"10.0.0.2", true},
			{"10.0.0.3", true},
			{"10.0.0.4", true},
			{"10.0.0.5", false},
			{"10.0.1.1", true},
		} {
			if _, ended := h.comes(c.addr).hears(); ended == c.in {
				t.Errorf("%d, %s: refused %v", n, c.addr, ended)
			}
		}
		if n := h.s.Stats().Refused[RefusedTooMany]; n != 1 {
			t.Errorf("counted %d", n)
		}
	})
}

// The server is no peer: who adds it would have everybody call it.
func TestTheServersOwnAddressIsNotAdded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, ServerConfig{})
		defer h.stop()
		p := h.comes("10.9.9.9")
		p.says("010a090909c351", whole)
		if _, ended := p.hears(); !ended || h.s.Stats().Refused[RefusedAddress] != 1 {
			t.Errorf("it is in; counted %v", h.s.Stats().Refused)
		}
		if p = h.comes("10.9.9.9"); p.Conn != nil { // a peer beside it is one
			p.says("010a090909c352", whole)
		}
		if _, ended := p.hears(); ended {
			t.Error("a peer on the server's machine is refused")
		}
	})
}

// A server that is stopped in the middle of joins has nobody half in: each has heard whole messages alone, and the books are empty.
func TestAServerThatStopsLeavesNobodyHalfIn(t *testing.T) {
	for wait := range 12 {
		synctest.Test(t, func(t *testing.T) {
			h := newHall(t, ServerConfig{})
			var all []*guest
			for n := range 12 {
				g := h.comes(netip.AddrFrom4([4]byte{10, 0, 0, byte(n + 1)}).String())
				all = append(all, g)
				go func() {
					for _, b := range []byte{1, 10, 0, 0, byte(n + 1), 1, 1} {
						if _, err := g.Write([]byte{b}); err != nil {
							return
						}
						time.Sleep(time.Duration(n%5) * time.Millisecond)
					}
				}()
			}
			time.Sleep(time.Duration(3*wait) * time.Millisecond)
			h.stop()
			for n, g := range all {
				heard, ended := g.hears()
				if len(heard)%14 != 0 || !ended {
					t.Errorf("stopped after %d ms: peer %d heard %s, and its connection has ended: %v", 3*wait, n, heard, ended)
				}
			}
			s := h.s.Stats()
			if s.Connections+s.Members+s.Entries > 0 || len(h.s.perAddress)+len(h.s.perNetwork) > 0 {
				t.Errorf("stopped after %d ms: left %+v", 3*wait, s)
			}
		})
	}
}

// A burst of joins is one log, which all read at their own pace, in whole messages.
func TestABurstOfJoinsIsToldInBatches(t *testing.T) {
	const crowd = 1000
	r := NewRegistry()
	var members []*Member
	for n := range crowd {
		members = append(members, r.Join(addr(n)))
	}
	if len(r.log) != crowd {
		t.Errorf("%d records for %d joins", len(r.log), crowd)
	}
	for n, m := range members {
		writes, told := 0, 0
		for b := r.Next(m, nil, MaxBatch); len(b) > 0; b = r.Next(m, nil, MaxBatch) {
			writes++
			told += len(b) / 7
		}
		if most := (crowd-1)/MaxBatch + 2; writes > most || told != crowd-1 {
			t.Fatalf("member %d was told of %d in %d writes, want %d in at most %d", n, told, writes, crowd-1, most)
		}
	}
}
