//go:build linux

package main

import (
	"context"
	"path/filepath"
	"strconv"
	"time"

	"shoal/bench/internal/lab"
)

const (
	// calmTime is how long a measurement waits at most for a machine that has nothing else to do.
	calmTime = time.Minute
	// readEvery is after how many joins of a burst its members read what has come meanwhile.
	readEvery = 64
)

// bench is what all measurements share.
type bench struct {
	options
	shoal, dir string
}

// swarm is a server and the members that came to it.
type swarm struct {
	server  *lab.Process
	flock   *flock
	members []*member
}

// open starts a server without members.
func (b *bench) open(ctx context.Context) (*swarm, error) {
	args := []string{"server", "--classic", "--json", "--state", filepath.Join(b.dir, "state"), "--listen", "127.0.0.1:0", "--max-per-address", strconv.Itoa(1 << 20)}
	if b.quiet {
		args = append(args, "--quiet")
	}
	server, err := lab.Start(ctx, b.dir, b.shoal, args...)
	if err != nil {
		return nil, err
	}
	e, err := server.Await("listening")
	if err == nil {
		var f *flock
		if f, err = newFlock(e.Addr); err == nil {
			return &swarm{server: server, flock: f}, nil
		}
	}
	server.Stop()
	return nil, err
}

func (s *swarm) close() {
	s.flock.close()
	s.server.Stop()
}

// burst lets n members join as fast as they can, and waits until the last has been told of all others. It returns how
// long that took from the first add.
func (s *swarm) burst(ctx context.Context, n int) (time.Duration, error) {
	var start time.Time
	for i := range n {
		m, err := s.flock.connect(i)
		if err != nil {
			return 0, err
		}
		if i == 0 {
			start = time.Now()
		}
		s.members = append(s.members, m)
		s.flock.expect(s.members[i:], count{adds: n - 1})
		if err := m.say(modeAdd); err != nil {
			return 0, err
		}
		if i%readEvery == 0 {
			if err := s.flock.read(0); err != nil {
				return 0, err
			}
		}
	}
	if err := s.flock.await(ctx); err != nil {
		return 0, err
	}
	return last(s.members).Sub(start), check(s.members)
}

// newcomer is how long one join took to be known.
type newcomer struct {
	others float64 // seconds until the last of the others was told
	own    float64 // seconds until the newcomer was told of all
}

// newcomer lets one more peer join and leave. It is the round's, counted from 1.
func (s *swarm) newcomer(ctx context.Context, round int) (r newcomer, err error) {
	n := len(s.members)
	m, err := s.flock.connect(n) // the same each time: it left before
	if err != nil {
		return r, err
	}
	if err := lab.Sleep(ctx, 20*time.Millisecond); err != nil { // the server has accepted it
		return r, err
	}
	all := append(s.members[:n:n], m)
	s.flock.expect(s.members, count{adds: n - 1 + round, removes: round - 1})
	s.flock.expect(all[n:], count{adds: n})
	start := time.Now()
	if err := m.say(modeAdd); err != nil {
		return r, err
	}
	if err := s.flock.await(ctx); err != nil {
		return r, err
	}
	r.others, r.own = last(s.members).Sub(start).Seconds(), m.at.Sub(start).Seconds()
	if err := check(all); err != nil {
		return r, err
	}
	s.flock.expect(s.members, count{adds: n - 1 + round, removes: round})
	if err := m.say(modeRemove); err != nil {
		return r, err
	}
	return r, s.flock.await(ctx)
}

// memory returns the server's memory, and the kernel's for its own objects.
func (s *swarm) memory() (server lab.Usage, kernel int64, err error) {
	if server, err = lab.Memory(s.server.PID()); err != nil {
		return server, 0, err
	}
	kernel, err = lab.Kernel()
	return server, kernel, err
}

// cpuOver returns the processor time that the server uses in the given time, from now on.
func (s *swarm) cpuOver(ctx context.Context, d time.Duration) (time.Duration, error) {
	before, err := lab.CPU(s.server.PID())
	if err != nil {
		return 0, err
	}
	if err := lab.Sleep(ctx, d); err != nil {
		return 0, err
	}
	after, err := lab.CPU(s.server.PID())
	return after - before, err
}
