package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

// banned returns how many peers are cut off that did not merely break the protocol.
func (c *crowd) banned() (n int) {
	for _, m := range c.members {
		m.ss.mu.Lock()
		for _, c := range m.ss.cut {
			if c.times == 0 {
				n++
			}
		}
		m.ss.mu.Unlock()
	}
	return n
}

// Whatever one of them does, on either side, the others have the content soon.
func TestASwarmWithAHostilePeerHasItsContent(t *testing.T) {
	for _, role := range append(hostile.Roles(), hostile.Mixed) {
		for _, side := range sidesOf(role) {
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

// sidesOf returns the sides that are tested apart: those of many members are so many that both at once take the test's time.
func sidesOf(role hostile.Role) []hostile.Side {
	if hostile.Members(role) > 1 {
		return []hostile.Side{hostile.Both}
	}
	return []hostile.Side{hostile.Giving, hostile.Taking}
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
		if c.offences(exchange.OffencePiece) == 0 || c.notes.Load() == 0 || c.banned() == 0 {
			t.Errorf("of %d bytes of poison nobody was blamed, named and cut off", did.Given.Load())
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

// The same in the classic protocol, where nothing can be verified: a wrong file is only found out by a digest, and then there is none.
func TestAClassicSwarmWithAHostilePeerHasItsContent(t *testing.T) {
	for _, role := range append(hostile.Roles(), hostile.Mixed) {
		for _, side := range sidesOf(role) {
			t.Run(fmt.Sprint(role, " ", side), func(t *testing.T) {
				t.Parallel()
				server, b := swarmAt(t), strings.Repeat("what is fetched ", 20_000)
				sharer(t, server, "f", b)
				did := &hostile.Tally{}
				run(t, hostile.Config{Role: role, Side: side, Classic: server, Name: "f", Size: int64(len(b)), Tally: did})
				eventually(t, "it is in the swarm", func() bool { return did.Talks.Load() > 0 || side == hostile.Giving })
				sum := sha256.Sum256([]byte(b))
				oldGet(t, server, Digest{Algorithm: "sha256", New: sha256.New, Want: sum[:]}, did)
				if did.Talks.Load() == 0 {
					t.Error("nobody has spoken with it: this tests nothing")
				}
			})
		}
	}
}

// oldGet downloads a file, or is told that it was poisoned, and then has none.
func oldGet(t *testing.T, server string, want Digest, did *hostile.Tally) {
	t.Helper()
	dir := t.TempDir()
	_, err := get(t, server, Request{Name: "f", Dir: dir, Digests: []Digest{want}})
	if err == nil {
		return
	}
	if wrong := new(DigestError); !errors.As(err, &wrong) || did.Given.Load() == 0 {
		t.Error(err)
	}
	if _, there := os.Stat(filepath.Join(dir, "f")); there == nil {
		t.Error("there is a wrong file")
	}
}

// All of them at once cost those who are honest no more than a few goroutines for each connection, and what is kept for one.
func TestHostilePeersDoNotMakeOthersGrow(t *testing.T) {
	l := newLab(t)
	s, want := l.slowSource(2<<20, 2<<20)
	did, stop := l.attack(hostile.Mixed, hostile.Both, s.Manifest)
	before := heapInUse()
	var most, memory, sessions int
	c := l.fetch(2, prefixOf(s), want, func(c *crowd) {
		for range 20 {
			time.Sleep(100 * time.Millisecond)
			n := 0
			for _, m := range c.members {
				n += m.Sessions()
			}
			most, sessions = max(most, honestGoroutines()), max(sessions, n)
			memory = max(memory, heapInUse())
		}
	})
	if did.Talks.Load() < 50 || did.Bombs.Load() == 0 {
		t.Errorf("only %d connections, %d bombs", did.Talks.Load(), did.Bombs.Load())
	}
	// A handshake, a reader, a writer, a watcher, one that waits for each: and what a member has without neighbours.
	if limit := 3*40 + 8*(2*sessions+64); most > limit {
		t.Errorf("%d goroutines with %d sessions of two who fetch, at most %d may be", most, sessions, limit)
	}
	// Both ends of each connection are in this process. A bomb that is believed once, of 4 GiB, or 100,000 messages that are kept, would be more.
	if limit := 64<<20 + sessions<<20; memory-before > limit {
		t.Errorf("%d bytes more are live with %d sessions, at most %d may be", memory-before, sessions, limit)
	}
	stop()
	eventually(t, "the connections are gone", func() bool {
		n := 0
		for _, m := range c.members {
			n += m.Sessions()
		}
		return n <= 4 && honestGoroutines() < 3*40+8*8
	})
}

// heapInUse returns the bytes of the heap that are in use.
func heapInUse() int {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

// honestGoroutines returns how many goroutines are in the code of honest peers.
func honestGoroutines() (n int) {
	b := make([]byte, 16<<20)
	for stack := range bytes.SplitSeq(b[:runtime.Stack(b, true)], []byte("\n\n")) {
		if bytes.Contains(stack, []byte("shoal/internal/node.")) && !bytes.Contains(stack, []byte("shoal/internal/hostile.")) {
			n++
		}
	}
	return n
}

// Who breaks the protocol is talked to again after a while that doubles, and costs few handshakes until then.
func TestWhoBreaksTheProtocolIsSetAside(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	path, _ := l.file(1 << 20)
	m := l.run(l.machine(identity.MemberRole))
	s, err := m.Share(t.Context(), path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	did, _ := l.attack(hostile.FrameBomber, hostile.Taking, s.Manifest)
	times := func() (most int) {
		m.ss.mu.Lock()
		defer m.ss.mu.Unlock()
		for _, c := range m.ss.cut {
			most = max(most, c.times)
		}
		return most
	}
	eventually(t, "it is set aside twice", func() bool { return times() == 2 })
	// It has two connections, one that each of them made, and both may have begun before the other was found out.
	if bombs := did.Bombs.Load(); bombs > 2*2 {
		t.Errorf("%d bombs were taken", bombs)
	}
}

// A connection of one that is set aside says nothing and stays for a while, or it would be back at once; only a few of one peer do.
func TestWhoIsSetAsideIsHeld(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	m, sw := l.run(l.machine(identity.MemberRole)), l.machine(identity.MemberRole)
	m.ss.rest(sw.Self())
	comes := func() (ended chan time.Duration) {
		began := time.Now()
		tc, _, err := dialTLS(t.Context(), m.Addr(), sw.ClientConfig(identity.Peer{ID: m.Self()}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tc.Close() })
		ended = make(chan time.Duration, 1)
		go func() {
			if n, err := tc.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Error("it is served")
			}
			ended <- time.Since(began)
		}()
		return ended
	}
	held := func() int {
		m.ss.mu.Lock()
		defer m.ss.mu.Unlock()
		return m.ss.cut[sw.Self()].held
	}
	eventually(t, "a fifth one ends before four that came before", func() bool {
		var four []chan time.Duration
		for range maxHeld {
			four = append(four, comes())
		}
		eventually(t, "they are held", func() bool { return held() == maxHeld || len(four[0]) > 0 })
		<-comes()
		first := len(four[0]) == 0
		for _, ended := range four {
			if waited := <-ended; waited < holdTime {
				t.Errorf("one was held for %v", waited)
			}
		}
		return first
	})
}
