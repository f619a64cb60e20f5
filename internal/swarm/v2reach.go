package swarm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"shoal/internal/wire"

	"golang.org/x/time/rate"
)

const (
	// reachTime bounds one attempt to reach a member, maxReaching those of all members at once.
	reachTime   = 3 * time.Second
	maxReaching = 32
	// A member may ask this often, and so often at once.
	reachEvery = 10 * time.Second
	reachBurst = 3
)

// ErrNoReach is a server that does not tell whether a member can be reached.
var ErrNoReach = errors.New("the server does not connect back: it is of an older version")

// reach is what a server knows of whether it can connect to a member.
type reach struct {
	from   netip.AddrPort // where the member's connection comes from
	target netip.AddrPort // where it listens, at that address; invalid if it did not say so
	often  *rate.Limiter
	// running is the attempt under way; only the connection's reader begins one, and waits for it in the end.
	running sync.WaitGroup
	busy    chan struct{} // holds one: an attempt is under way
}

// newReach holds a member to what it has announced: nobody can send the server to connect to somebody else.
func newReach(from net.Addr, port uint16, named []string) *reach {
	r := &reach{often: rate.NewLimiter(rate.Every(reachEvery), reachBurst), busy: make(chan struct{}, 1)}
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return r
	}
	r.from = netip.AddrPortFrom(tcp.AddrPort().Addr().Unmap().WithZone(""), uint16(tcp.Port))
	target := netip.AddrPortFrom(r.from.Addr(), port)
	if port != 0 && slices.Contains(named, target.String()) {
		r.target = target
	}
	return r
}

// tryReach connects to a member that asks for it, and tells it how that went. It does not wait for that.
func (s *V2) tryReach(ctx context.Context, m *v2member, q *wire.Reach) {
	answer := &wire.Reached{Query: q.Query, From: m.reach.from.String(), Now: time.Now().UnixMilli()}
	switch {
	case s.cfg.Reach == nil || !m.reach.from.IsValid():
		m.send(&wire.Failed{Query: q.Query, Reason: wire.ReasonUnknown, Text: ErrNoReach.Error()})
		return
	case !m.reach.target.IsValid():
		answer.Way = wire.WayElsewhere
	case !m.reach.often.Allow():
		answer.Way = wire.WayLimit
	}
	if answer.Way != wire.WayOpen {
		m.send(answer)
		return
	}
	for _, room := range []chan struct{}{m.reach.busy, s.reaching} {
		select {
		case room <- struct{}{}:
		default:
			answer.Way = wire.WayLimit
			m.send(answer)
			if room == s.reaching {
				<-m.reach.busy
			}
			return
		}
	}
	answer.Addr = m.reach.target.String()
	m.reach.running.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, reachTime)
		defer cancel()
		answer.Way = wayOf(s.cfg.Reach(ctx, answer.Addr, m.key.ID))
		<-s.reaching // before the answer: who has it may ask again at once
		<-m.reach.busy
		m.send(answer)
	})
}

// wayOf says how an attempt to connect went.
func wayOf(err error) wire.Way {
	var op *net.OpError
	switch {
	case err == nil:
		return wire.WayOpen
	case errors.Is(err, syscall.ECONNREFUSED):
		return wire.WayRefused
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, context.DeadlineExceeded):
		return wire.WaySilent
	}
	return wire.WayOther
}

// Reach has the server try to connect to this peer.
func (c *V2Client) Reach(ctx context.Context) (*wire.Reached, error) {
	if hello := c.Server(); hello != nil && hello.Features&wire.FeatureReach == 0 {
		return nil, ErrNoReach
	}
	m, err := c.query(ctx, func(n uint64) wire.Message { return &wire.Reach{Query: n} })
	if err != nil {
		return nil, err
	}
	if r, ok := m.(*wire.Reached); ok {
		return r, nil
	}
	return nil, ErrQuery
}

// Server returns what the server last said of itself; nil: there was none yet.
func (c *V2Client) Server() *wire.Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server
}
