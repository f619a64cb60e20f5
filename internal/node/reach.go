package node

import (
	"context"
	"time"

	"shoal/internal/identity"
	"shoal/internal/swarm"
	"shoal/internal/wire"
)

const (
	// reachAfter is how long a member waits for others to connect to it before it asks whether they can.
	reachAfter = 20 * time.Second
	// reachPatience bounds the wait for what a server says of that.
	reachPatience = 5 * time.Second
)

// Reach is what the swarm server saw of a member.
type Reach struct {
	Way  wire.Way
	Addr string        // that it tried; empty: none
	From string        // from which the member comes, as the server sees it
	Skew time.Duration // by which the server's clock is ahead of ours
}

// Closed says whether others cannot connect.
func (r Reach) Closed() bool {
	return r.Way == wire.WayRefused || r.Way == wire.WaySilent || r.Way == wire.WayOther
}

// ErrNoReach is a server that does not try to connect back.
var ErrNoReach = swarm.ErrNoReach

// Reach has the swarm server try to connect to this member.
func (m *Member) Reach(ctx context.Context) (Reach, error) {
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	began := time.Now()
	r, err := m.client.Reach(ctx)
	if err != nil {
		return Reach{}, err
	}
	out := Reach{Way: r.Way, Addr: r.Addr, From: r.From}
	if r.Now != 0 { // the server takes its time when the question comes; the attempt comes after that
		out.Skew = time.UnixMilli(r.Now).Sub(began)
	}
	return out, nil
}

// ServerHello returns what the swarm server says of itself; nil: none has let us in yet.
func (m *Member) ServerHello() *wire.Hello { return m.client.Server() }

// watchReach tells once if nobody has connected for a while, and nobody can.
func (m *Member) watchReach(ctx context.Context) {
	select {
	case <-m.entered:
	case <-ctx.Done():
		return
	}
	select {
	case <-time.After(m.reachAfter):
	case <-ctx.Done():
		return
	}
	if m.ss.wasFound() || m.away.Load() {
		return
	}
	if r, err := m.Reach(ctx); err == nil && r.Closed() && !m.ss.wasFound() {
		m.cfg.Closed(m.Port())
	}
}

// reachMember connects to a member for a server, and makes sure that it is that one.
func reachMember(sw *identity.Swarm) func(ctx context.Context, addr string, id wire.PeerID) error {
	return func(ctx context.Context, addr string, id wire.PeerID) error {
		tc, _, err := dialTLS(ctx, addr, sw.ClientConfig(identity.Peer{ID: id}))
		if err != nil {
			return err
		}
		return tc.NetConn().Close()
	}
}
