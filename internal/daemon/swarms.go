package daemon

import (
	"context"
	"errors"
	"time"

	"shoal/internal/identity"
	"shoal/internal/node"
)

const (
	// A member that cannot run is tried again after a wait that doubles from minAgain to maxAgain.
	minAgain = time.Second
	maxAgain = time.Minute
)

// swarmRun is this machine in one swarm.
type swarmRun struct {
	sw      *identity.Swarm
	m       *node.Member    // nil while it does not run
	ctx     context.Context // of what the member does
	serving bool
	failure *Failure
}

func (s *swarmRun) row() SwarmRow {
	r := SwarmRow{
		ID: s.sw.ID().String(), Peer: identity.PeerText(s.sw.Self()), Role: string(s.sw.Role()), Servers: s.sw.Servers(), State: "away",
		Serving: s.serving, Failure: s.failure,
	}
	if r.Servers == nil {
		r.Servers = []string{}
	}
	switch {
	case s.m == nil && s.failure != nil:
		r.State = "failed"
	case s.m != nil:
		r.Addr, r.Sessions = s.m.Addr(), s.m.Sessions()
		if s.m.Entered() {
			r.State = "connected"
		}
	}
	return r
}

// enter begins to take part in a swarm.
func (e *Engine) enter(sw *identity.Swarm) {
	if e.swarms[sw.ID()] != nil {
		return
	}
	s := &swarmRun{sw: sw}
	e.swarms[sw.ID()] = s
	if e.cfg.Serve != nil && sw.IsServer() {
		e.running.Go(func() { e.serve(s) })
	}
	e.running.Go(func() { e.takePart(s) })
}

// serve runs the swarm's server until the engine ends.
func (e *Engine) serve(s *swarmRun) {
	for wait := minAgain; ; wait = min(2*wait, maxAgain) {
		err := e.cfg.Serve(e.ctx, s.sw, func() {
			e.post(func() { s.serving = true; e.note(nil, "serving the swarm %s", s.sw.ID().String()[:8]) })
		})
		if e.ctx.Err() != nil || errors.Is(err, ErrNotServing) {
			return
		}
		e.post(func() { s.serving = false; e.note(nil, "the swarm's server cannot run here: %v", err) })
		if !pause(e.ctx, wait) {
			return
		}
	}
}

// takePart runs a member until the engine ends; one that fails is made anew.
func (e *Engine) takePart(s *swarmRun) {
	for wait := minAgain; ; wait = min(2*wait, maxAgain) {
		began := time.Now()
		err := e.oneMember(s)
		if e.ctx.Err() != nil {
			return
		}
		e.post(func() {
			s.failure = e.cfg.Explain(err)
			e.note(nil, "swarm %s: %s", s.sw.ID().String()[:8], s.failure.What)
		})
		if time.Since(began) > maxAgain {
			wait = minAgain
		}
		if !pause(e.ctx, wait) {
			return
		}
	}
}

func (e *Engine) oneMember(s *swarmRun) error {
	m, err := e.cfg.NewMember(s.sw, func(text string) { e.post(func() { e.note(nil, "%s", text) }) })
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Run(e.ctx, func(ctx context.Context) error {
		e.post(func() { e.memberUp(s, m, ctx) })
		<-ctx.Done()
		stopped := make(chan struct{})
		if e.post(func() { e.memberDown(s, func() { close(stopped) }) }) {
			<-stopped
		}
		return context.Cause(ctx)
	})
}

// memberUp starts what is to run in a swarm.
func (e *Engine) memberUp(s *swarmRun, m *node.Member, ctx context.Context) {
	s.m, s.ctx, s.failure = m, ctx, nil
	e.cfg.SetLimits(m, e.applied)
	for _, t := range e.sorted() {
		if t.Swarm == s.sw.ID().String() {
			e.settle(t)
		}
	}
}

// memberDown stops what runs in a swarm, and calls then when nothing does.
func (e *Engine) memberDown(s *swarmRun, then func()) {
	s.m = nil
	left := 1
	one := func() {
		if left--; left == 0 {
			then()
		}
	}
	for _, t := range e.transfers {
		if t.Swarm != s.sw.ID().String() {
			continue
		}
		left++
		e.halt(t, func() {
			if !t.Paused && t.failure == nil && t.state != Changed {
				t.state = Waiting
			}
			one()
		})
	}
	one()
}

// member returns the running member of a transfer's swarm; nil if there is none.
func (e *Engine) member(t *transfer) *swarmRun {
	id, err := identity.ParseSwarm(t.Swarm)
	if err != nil || e.swarms[id] == nil || e.swarms[id].m == nil || e.swarms[id].ctx.Err() != nil {
		return nil
	}
	return e.swarms[id]
}

// pause waits; false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
