package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shoal/internal/identity"
	"shoal/internal/peer"
	"shoal/internal/wire"
)

// eventually waits for what other goroutines bring about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never happens that %s", what)
		}
	}
}

// clone returns the state of another machine to which all files of one were copied.
func (l *lab) clone(sw *identity.Swarm) *identity.Swarm {
	l.t.Helper()
	from, to := filepath.Dir(filepath.Dir(sw.Dir())), filepath.Join(l.t.TempDir(), "state")
	err := os.CopyFS(to, os.DirFS(from))
	if err == nil {
		err = filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
			if d.IsDir() {
				return os.Chmod(path, 0o700)
			}
			return os.Chmod(path, 0o600)
		})
	}
	if err != nil {
		l.t.Fatal(err)
	}
	states, err := identity.OpenStates(to)
	if err != nil {
		l.t.Fatal(err)
	}
	out, err := states.Swarm(sw.ID())
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func TestProcessesAndMachinesWithOneKeyAllWork(t *testing.T) {
	l := newLab(t)
	path, want := l.file(3 << 20)
	sw := l.machine(identity.MemberRole)
	a := l.run(sw)
	s, err := a.Share(t.Context(), path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*Member{
		"another process": l.run(sw), "a cloned machine": l.run(l.clone(sw)), "another machine": l.run(l.machine(identity.MemberRole)),
	} {
		dir := t.TempDir()
		f := b.NewFetch(FetchRequest{ID: prefixOf(s), Dir: dir})
		if _, err := f.Run(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer f.Close()
		if have, _ := os.ReadFile(filepath.Join(dir, "f.bin")); !bytes.Equal(have, want) {
			t.Errorf("%s has another file", name)
		}
	}
	who, err := a.Who(t.Context(), false)
	same := 0
	for _, m := range who {
		if m.ID == a.Self() {
			same++
		}
	}
	if err != nil || same != 3 {
		t.Errorf("%d with one key are listed, of %d; %v", same, len(who), err)
	}
}

func TestAPeerOfAnotherSwarmIsRefusedInBothDirections(t *testing.T) {
	here, there := newLab(t), newLab(t)
	a, b := here.run(here.machine(identity.MemberRole)), there.run(there.machine(identity.MemberRole))
	if err := a.ss.dial(t.Context(), wire.PeerAddr{ID: b.Self(), Addrs: []string{b.Addr()}}); err == nil {
		t.Error("a stranger is dialled")
	}
	cfg := b.cfg.Swarm.ClientConfig(identity.Peer{ID: a.Self()})
	cfg.VerifyConnection, cfg.ServerName = nil, "" // it minds nothing
	if tc, _, err := dialTLS(t.Context(), a.Addr(), cfg); err == nil {
		if n, err := tc.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("a stranger is talked to")
		}
		tc.Close()
	}
	eventually(t, "it is counted", func() bool { return a.book.Counts()[RefusedHandshake] > 0 })
	if a.Sessions()+b.Sessions() > 0 {
		t.Error("there is a session")
	}
}

func TestAMemberThatPosesAsTheServerIsNotEntered(t *testing.T) {
	l := newLab(t)
	poser := l.run(l.machine(identity.MemberRole))
	m := NewMember(MemberConfig{Swarm: l.machine(identity.MemberRole), Listen: "127.0.0.1:0", Servers: []string{poser.Addr()}})
	defer m.Close()
	err := m.Run(t.Context(), func(context.Context) error { return nil })
	if e := new(ServerError); !errors.As(err, &e) || !errors.Is(err, identity.ErrRole) {
		t.Errorf("it ended with %v", err)
	}
}

// rawPeer is a connection to a member on which the test says what it likes.
type rawPeer struct {
	t        *testing.T
	tc       *tls.Conn
	u        *peer.Coalesced
	instance uint64
}

func dialRaw(t *testing.T, sw *identity.Swarm, to *Member) *rawPeer {
	t.Helper()
	tc, under, err := dialTLS(t.Context(), to.Addr(), sw.ClientConfig(identity.Peer{ID: to.Self()}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tc.Close() })
	tc.SetDeadline(time.Now().Add(8 * time.Second)) // after 15 it would end for its silence
	return &rawPeer{t, tc, under, 1}
}

func (r *rawPeer) says(ms ...wire.Message) {
	for _, m := range ms {
		_, _ = r.tc.Write(wire.Append(nil, m))
	}
	_ = r.u.Flush()
}

// next returns the next message, nil at the end of the connection.
func (r *rawPeer) next() wire.Message {
	r.t.Helper()
	var head [wire.HeaderSize]byte
	_, err := io.ReadFull(r.tc, head[:])
	if err == nil {
		h, _ := wire.ParseHeader(head[:])
		payload := make([]byte, h.Len)
		if _, err = io.ReadFull(r.tc, payload); err == nil {
			m, err := wire.Parse(h.Type, payload)
			if err != nil {
				r.t.Fatal(err)
			}
			return m
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Error("the connection goes on")
	}
	return nil
}

// greets brings the connection to where both sides use it.
func (r *rawPeer) greets(self, other wire.PeerID) {
	r.says(&wire.Hello{Version: 1, Instance: r.instance})
	r.next()
	if bytes.Compare(self[:], other[:]) < 0 {
		r.says(&wire.Use{})
	} else {
		r.next()
	}
}

func TestARemovedMemberThatStaysConnectedIsCutOffByItsPeers(t *testing.T) {
	l := newLab(t)
	a, sw := l.run(l.machine(identity.MemberRole)), l.machine(identity.MemberRole)
	early, late := dialRaw(t, sw, a), dialRaw(t, sw, a)
	early.greets(sw.Self(), a.Self())
	eventually(t, "it is connected", func() bool { return a.Sessions() == 1 })
	if _, err := l.server.Remove(sw.Self()); err != nil {
		t.Fatal(err)
	}
	for early.next() != nil {
	}
	// One that took its time with its hello was no session yet when the others were cut off.
	eventually(t, "its peer knows", func() bool { return a.cfg.Swarm.IsRemoved(sw.Self()) && a.Sessions() == 0 })
	late.greets(sw.Self(), a.Self())
	for late.next() != nil {
	}
	tc, _, err := dialTLS(t.Context(), a.Addr(), sw.ClientConfig(identity.Peer{ID: a.Self()}))
	if err == nil {
		if n, err := tc.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("it can connect again")
		}
		tc.Close()
	}
}

func TestAMemberThatGoesSaysSoToWhoDialledIt(t *testing.T) {
	l := newLab(t)
	m := NewMember(MemberConfig{Swarm: l.machine(identity.MemberRole), Listen: "127.0.0.1:0"})
	defer m.Close()
	sw := l.machine(identity.MemberRole)
	var r *rawPeer
	err := m.Run(t.Context(), func(context.Context) error {
		r = dialRaw(t, sw, m)
		r.greets(sw.Self(), m.Self())
		r.next() // its first ping: it is in use there too
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var last wire.Message
	for next := r.next(); next != nil; next = r.next() {
		last = next
	}
	if bye, is := last.(*wire.Bye); !is || bye.Reason != wire.ReasonClosing {
		t.Errorf("at last it said %#v", last)
	}
}

// A file that changes while it is fetched is withdrawn. The content can be shared anew, and the fetch goes on.
func TestAContentWhoseFileChangedCanBeSharedAgain(t *testing.T) {
	l := newLab(t)
	path, want := l.file(1 << 20)
	a, b := l.run(l.machine(identity.MemberRole)), l.run(l.machine(identity.MemberRole))
	s, err := a.Share(t.Context(), path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, len(want)), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, done := t.TempDir(), make(chan error, 1)
	f := b.NewFetch(FetchRequest{ID: prefixOf(s), Dir: dir})
	go func() {
		_, err := f.Run(t.Context())
		done <- err
	}()
	eventually(t, "it is withdrawn", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.shares) == 0
	})
	again := filepath.Join(t.TempDir(), "f.bin")
	if err := os.WriteFile(again, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Share(t.Context(), again, "again.bin", nil); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if have, _ := os.ReadFile(filepath.Join(dir, "f.bin")); !bytes.Equal(have, want) {
		t.Error("the file is wrong")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// However many connections two make at once, they agree on one.
func TestTwoThatDialEachOtherUseOneConnection(t *testing.T) {
	l := newLab(t)
	a, b := l.run(l.machine(identity.MemberRole)), l.run(l.machine(identity.MemberRole))
	done := make(chan error)
	for range 5 {
		go func() { done <- a.ss.dial(t.Context(), wire.PeerAddr{ID: b.Self(), Addrs: []string{b.Addr()}}) }()
		go func() { done <- b.ss.dial(t.Context(), wire.PeerAddr{ID: a.Self(), Addrs: []string{a.Addr()}}) }()
	}
	used := 0
	for range 10 {
		if <-done == nil {
			used++
		}
	}
	if used > 2 || a.Sessions() != 1 || b.Sessions() != 1 {
		t.Errorf("%d were used; there are %d and %d", used, a.Sessions(), b.Sessions())
	}
}

// A peer that lets nobody in, such as one that has cut us off, is not dialled once a second for ever.
func TestWhoDoesNotUseAConnectionIsDialledLessAndLess(t *testing.T) {
	l := newLab(t)
	a, sw := l.run(l.machine(identity.MemberRole)), l.machine(identity.MemberRole)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var came atomic.Int32
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			tc := tls.Server(conn, sw.ServerConfig())
			_ = tc.HandshakeContext(t.Context())
			tc.Close()
			came.Add(1)
		}
	}()
	t.Cleanup(func() { ln.Close(); <-ended })
	id := [32]byte{1}
	a.ss.heard(&wire.Peers{ID: id, Snapshot: true, Added: []wire.PeerAddr{{ID: sw.Self(), Instance: 1, Addrs: []string{ln.Addr().String()}}}})
	eventually(t, "it is dialled twice", func() bool { return came.Load() == 2 })
	eventually(t, "the wait has grown", func() bool {
		a.ss.mu.Lock()
		defer a.ss.mu.Unlock()
		for _, c := range a.ss.holders[id].candidates {
			if !c.active && c.wait >= 4*minRedial {
				return true
			}
		}
		return came.Load() > 2
	})
	if came.Load() > 2 {
		t.Error("it is dialled again and again")
	}
}

// However many processes a peer says to be, it has so many sessions with another, and no more.
func TestOnePeersSessionsAreBounded(t *testing.T) {
	l := newLab(t)
	a, sw := l.run(l.machine(identity.MemberRole)), l.machine(identity.MemberRole)
	var last *rawPeer
	for n := range uint64(maxPerPeer) {
		last = dialRaw(t, sw, a)
		last.instance = n + 1
		last.greets(sw.Self(), a.Self())
	}
	eventually(t, "all are connected", func() bool { return a.Sessions() == maxPerPeer })
	more := dialRaw(t, sw, a)
	more.instance = 1000
	more.greets(sw.Self(), a.Self())
	for more.next() != nil {
	}
	eventually(t, "it is cut off", func() bool { return a.Sessions() == maxPerPeer })
	last.tc.Close()
	eventually(t, "one has gone", func() bool { return a.Sessions() == maxPerPeer-1 })
	if other := l.run(l.machine(identity.MemberRole)); other.ss.dial(t.Context(), wire.PeerAddr{ID: a.Self(), Addrs: []string{a.Addr()}}) != nil {
		t.Error("another peer cannot connect")
	}
}

// What somebody has recorded between a member and its server is of no use to say again.
func TestARecordedConnectionIsOfNoUse(t *testing.T) {
	l := newLab(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var said bytes.Buffer
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", l.addr)
			if err != nil {
				in.Close()
				continue
			}
			passing.Go(func() { _, _ = io.Copy(in, out); in.Close() })
			passing.Go(func() {
				_, _ = io.Copy(out, io.TeeReader(in, writer(func(b []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return said.Write(b) })))
				out.Close()
			})
		}
	})
	t.Cleanup(func() { ln.Close(); passing.Wait() })
	witness := l.run(l.machine(identity.MemberRole))
	m := NewMember(MemberConfig{Swarm: l.machine(identity.MemberRole), Listen: "127.0.0.1:0", Servers: []string{ln.Addr().String()}})
	defer m.Close()
	there := func() (n int) {
		who, err := witness.Who(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		return len(who)
	}
	err = m.Run(t.Context(), func(context.Context) error {
		eventually(t, "it is there", func() bool { return there() == 2 })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has gone", func() bool { return there() == 1 })
	conn, err := net.Dial("tcp", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	mu.Lock()
	again := bytes.Clone(said.Bytes())
	mu.Unlock()
	_, _ = conn.Write(again)
	conn.SetDeadline(time.Now().Add(handshakeTimeout / 2))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection goes on")
	}
	if len(again) < 1000 || there() != 1 {
		t.Errorf("after %d bytes that were said again %d are there", len(again), there())
	}
}

// writer is a function that writes.
type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// Who speaks another version has broken nothing: it may come back with one that is known.
func TestWhoIsOfAnotherVersionIsNotSetAside(t *testing.T) {
	l := newLab(t)
	m, sw := l.run(l.machine(identity.MemberRole)), l.machine(identity.MemberRole)
	for range 2 {
		r := dialRaw(t, sw, m)
		r.says(&wire.Hello{Version: 99, Instance: 1})
		for r.next() != nil {
		}
	}
	r := dialRaw(t, sw, m)
	r.says(&wire.Hello{Version: 1, Instance: 1})
	if _, greeted := r.next().(*wire.Hello); !greeted {
		t.Error("it is not talked to any more")
	}
}
