package node

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"shoal/internal/throttle"
)

// comeRate is how many connections a second are taken from one origin, beyond four times those that it may have open: each costs a handshake.
const comeRate = 100

// Reasons for which a gate refuses a connection, or takes its place.
const (
	RefusedFull    = "full"
	RefusedTooMany = "too many"  // from one address, or one network
	RefusedOften   = "too often" // from one address
	RefusedShed    = "shed"      // it was the longest here of those who have not shown who they are, when one more came
)

// gate bounds the connections that are served at once. Those of whom nobody knows who they are, because their handshake is under way or they have
// shown no certificate, are strangers: when all places are taken, the stranger that has been here longest makes room. So a crowd of
// silent connections keeps nobody out who knows what to say.
type gate struct {
	max, maxPerAddress int
	visits             *throttle.Visits[netip.Addr]

	mu         sync.Mutex // guards what follows, and each pass
	total      int
	perAddress map[netip.Addr]int
	perNetwork map[netip.Addr]int
	strangers  *list.List // of *pass, the one that came first in front
}

// pass is a connection's place.
type pass struct {
	gate     *gate
	from     netip.Addr
	conn     net.Conn
	stranger *list.Element // nil: it is known, or has left
	left     bool
	shed     bool
}

func newGate(most, mostPerAddress int) *gate {
	return &gate{
		max: most, maxPerAddress: mostPerAddress, visits: throttle.NewVisits[netip.Addr](4*mostPerAddress, comeRate),
		perAddress: make(map[netip.Addr]int), perNetwork: make(map[netip.Addr]int), strangers: list.New(),
	}
}

// enter gives a connection a place, or says why not.
func (g *gate) enter(from netip.Addr, conn net.Conn) (p *pass, refused string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.perAddress[from] >= g.maxPerAddress:
		return nil, RefusedTooMany
	// A network has half of all places at most. What is on this machine is no network.
	case !from.IsLoopback() && g.perNetwork[throttle.Network(from)] >= max(g.max/2, g.maxPerAddress):
		return nil, RefusedTooMany
	case !g.visits.May(throttle.Origin(from), time.Now()):
		return nil, RefusedOften
	case g.total >= g.max && !g.shed():
		return nil, RefusedFull
	}
	p = &pass{gate: g, from: from, conn: conn}
	p.stranger = g.strangers.PushBack(p)
	g.total++
	g.perAddress[from]++
	g.perNetwork[throttle.Network(from)]++
	return p, ""
}

// shed ends the stranger that has been here longest. g.mu is held.
func (g *gate) shed() bool {
	first := g.strangers.Front()
	if first == nil {
		return false
	}
	p := first.Value.(*pass)
	p.conn.Close()
	p.shed = true
	g.free(p)
	return true
}

// free takes back a place. g.mu is held.
func (g *gate) free(p *pass) {
	if p.left {
		return
	}
	p.left = true
	g.know(p)
	g.total--
	less(g.perAddress, p.from)
	less(g.perNetwork, throttle.Network(p.from))
}

func less(count map[netip.Addr]int, a netip.Addr) {
	if count[a]--; count[a] == 0 {
		delete(count, a)
	}
}

// know makes one no stranger. g.mu is held.
func (g *gate) know(p *pass) {
	if p.stranger != nil {
		g.strangers.Remove(p.stranger)
		p.stranger = nil
	}
}

// known says that the other side has shown who it is.
func (p *pass) known() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.gate.know(p)
}

// leave gives the place back, and says whether it had been given to somebody else.
func (p *pass) leave() (shed bool) {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.gate.free(p)
	return p.shed
}

// passKey is under what a request's context has its connection's pass.
type passKey struct{}

// known says that who asks has shown who it is.
func known(ctx context.Context) {
	if p, ok := ctx.Value(passKey{}).(*pass); ok {
		p.known()
	}
}
