package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"shoal/internal/content"
	"shoal/internal/exchange"
	"shoal/internal/hostile"
	"shoal/internal/identity"
)

// attack adds a hostile peer to the swarm until the test ends, and returns what it does.
func (l *lab) attack(role hostile.Role, side hostile.Side, m *content.Manifest) (did *hostile.Tally, stop func()) {
	l.t.Helper()
	did = &hostile.Tally{}
	stop = run(l.t, hostile.Config{
		Role: role, Side: side, Name: "f.bin", Manifest: m, Tally: did,
		Join: func(context.Context) (*identity.Swarm, error) { return l.join(identity.MemberRole) },
	})
	return did, stop
}

// run runs a hostile peer until the test ends, or it is stopped.
func run(t *testing.T, cfg hostile.Config) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := hostile.Run(ctx, cfg); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// crowd is some who fetch at once, and pass on what they have.
type crowd struct {
	l       *lab
	members []*Member
	got     []*Fetched
	notes   atomic.Int64 // those whose peers were named
}

// fetch lets n members fetch a content, and makes sure that each has it in the end.
func (l *lab) fetch(n int, id content.Prefix, want []byte, began func(*crowd)) *crowd {
	l.t.Helper()
	c := &crowd{l: l, got: make([]*Fetched, n)}
	for range n {
		c.members = append(c.members, l.run(l.machine(identity.MemberRole)))
	}
	done := make(chan error, n)
	giving, enough := context.WithCancel(context.Background())
	defer enough()
	ended := make(chan error, n)
	for i, m := range c.members {
		dir := l.t.TempDir()
		go func() {
			f := m.NewFetch(FetchRequest{ID: id, Dir: dir, Note: func(string) { c.notes.Add(1) }})
			got, err := f.Run(l.t.Context())
			c.got[i] = got
			if have, _ := os.ReadFile(filepath.Join(dir, "f.bin")); err == nil && !bytes.Equal(have, want) {
				err = errors.New("the file is wrong")
			}
			done <- err
			f.Give(giving, true)
			ended <- f.Close()
		}()
	}
	if began != nil {
		began(c)
	}
	for range n {
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	}
	enough()
	for range n {
		if err := <-ended; err != nil {
			l.t.Error(err)
		}
	}
	return c
}

// slowSource shares a content so slowly that others have their turn.
func (l *lab) slowSource(size int, perSecond int64) (s *Sharing, want []byte) {
	l.t.Helper()
	path, want := l.file(size)
	m := l.runWith(MemberConfig{Swarm: l.machine(identity.MemberRole), Listen: "127.0.0.1:0", LimitUp: perSecond})
	s, err := m.Share(l.t.Context(), path, "", nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return s, want
}

// offences returns how often something was held against others.
func (c *crowd) offences(reason string) (n uint64) {
	for _, m := range c.members {
		n += m.book.Counts()[reason]
	}
	return n
}

// Whatever one of them does, on either side, the others have the content soon.
func TestASwarmWithAHostilePeerHasItsContent(t *testing.T) {
	for _, role := range append(hostile.Roles(), hostile.Mixed) {
		for _, side := range []hostile.Side{hostile.Giving, hostile.Taking} {
			t.Run(fmt.Sprint(role, " ", side), func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				s, want := l.slowSource(3<<20, 3<<20)
				did, _ := l.attack(role, side, s.Manifest)
				eventually(t, "it is in the swarm", func() bool { return did.Talks.Load() > 0 })
				c := l.fetch(2, prefixOf(s), want, nil)
				if !did.Ready(role, side) {
					t.Error("it has done nothing: this tests nothing")
				}
				judge(t, c, did, role, side)
			})
		}
	}
}

// judge holds what has become of a hostile peer against what is promised.
func judge(t *testing.T, c *crowd, did *hostile.Tally, role hostile.Role, side hostile.Side) {
	t.Helper()
	var wasted int64
	for _, got := range c.got {
		if got != nil {
			wasted += got.Wasted
		}
	}
	switch {
	case role == hostile.Poisoner && side == hostile.Giving:
		if c.offences(exchange.OffencePiece) == 0 || c.notes.Load() == 0 {
			t.Errorf("of %d bytes of poison nobody was blamed", did.Given.Load())
		}
		// Each who fetches has believed it at most for what it had promised when it was found out.
		if most := int64(len(c.got)) * 9 * content.MinPiece; wasted > most {
			t.Errorf("%d bytes were wasted, at most %d may be", wasted, most)
		}
	case role == hostile.FrameBomber:
		if did.Ended.Load() == 0 {
			t.Error("it goes on")
		}
	}
}
