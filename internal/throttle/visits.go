package throttle

import (
	"net/netip"
	"sync"
	"time"
)

// maxVisitors is the most visitors that are remembered. Each came with a connection or a key of its own; beyond that many some are forgotten, and
// may come as if for the first time.
const maxVisitors = 1 << 16

// Visits bounds how often each visitor may come: so often at once, and then so often per second. It tells visitors apart by a key,
// and forgets those who have not come for long. Its methods may be called from any goroutine.
type Visits[K comparable] struct {
	atOnce, perSecond float64

	mu    sync.Mutex // guards what follows
	of    map[K]visitor
	sweep int // visitors at which those are looked for who can be forgotten
}

// visitor is how often one may still come at once, as it was when it came last.
type visitor struct {
	left float64
	last time.Time
}

// NewVisits makes a bound under which nobody has come yet.
func NewVisits[K comparable](atOnce, perSecond int) *Visits[K] {
	return &Visits[K]{atOnce: float64(atOnce), perSecond: float64(perSecond), of: make(map[K]visitor), sweep: 1024}
}

// May says whether a visitor may come now, and counts that it did. One who may not is not held up longer by having tried.
func (v *Visits[K]) May(who K, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.of) >= v.sweep {
		v.forget(now)
	}
	left := v.left(who, now)
	if left < 1 {
		return false
	}
	v.of[who] = visitor{left - 1, now}
	return true
}

func (v *Visits[K]) left(who K, now time.Time) float64 {
	seen, known := v.of[who]
	if !known {
		return v.atOnce
	}
	return min(v.atOnce, seen.left+now.Sub(seen.last).Seconds()*v.perSecond)
}

// forget drops who may come as often as a stranger, and then others until there is room for a while: a sweep costs as much as there are.
func (v *Visits[K]) forget(now time.Time) {
	for who := range v.of {
		if v.left(who, now) >= v.atOnce {
			delete(v.of, who)
		}
	}
	for who := range v.of {
		if len(v.of) <= maxVisitors*3/4 {
			break
		}
		delete(v.of, who)
	}
	v.sweep = min(max(1024, 2*len(v.of)), maxVisitors)
}

// Origin returns whom an address stands for, where visitors are told apart by it: one IPv4 address, or the network of an IPv6 address, whose
// owner has 2^64 of them.
func Origin(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is4() {
		return a
	}
	return masked(a, 64)
}

// Network returns the network of an address: 24 bits of an IPv4 address, 64 of an IPv6 one.
func Network(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is4() {
		return masked(a, 24)
	}
	return masked(a, 64)
}

func masked(a netip.Addr, bits int) netip.Addr {
	p, err := a.WithZone("").Prefix(bits)
	if err != nil { // the zero Addr
		return a
	}
	return p.Addr()
}
