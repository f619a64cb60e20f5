package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"shoal/internal/content"
	"shoal/internal/identity"
)

// lab is a swarm for the length of a test: its server, and machines that have joined.
type lab struct {
	t      *testing.T
	server *identity.Swarm
	addr   string
	stop   func() // ends the server
}

func newLab(t *testing.T) *lab {
	t.Helper()
	states, err := identity.OpenStates(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	sw, err := states.Create()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := sw.SetServers([]string{ln.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewServer(ServerConfig{Swarm: sw}).Serve(ctx, ln) }()
	stop := sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return &lab{t, sw, ln.Addr().String(), stop}
}

// machine joins, and returns the state of a machine of its own.
func (l *lab) machine(role identity.Role) *identity.Swarm {
	l.t.Helper()
	sw, err := l.join(role)
	if err != nil {
		l.t.Fatal(err)
	}
	return sw
}

// join is machine for any goroutine.
func (l *lab) join(role identity.Role) (*identity.Swarm, error) {
	states, err := identity.OpenStates(filepath.Join(l.t.TempDir(), "state"))
	if err != nil {
		return nil, err
	}
	token, _, err := l.server.NewToken(role, time.Hour, 0, time.Now())
	if err != nil {
		return nil, err
	}
	return Join(l.t.Context(), states, identity.Link{Addrs: []string{l.addr}, Swarm: l.server.ID(), Token: token}, "test")
}

// run runs a member until the test ends.
func (l *lab) run(sw *identity.Swarm) *Member {
	l.t.Helper()
	return l.runWith(MemberConfig{Swarm: sw, Listen: "127.0.0.1:0"})
}

func (l *lab) runWith(cfg MemberConfig) *Member {
	l.t.Helper()
	m := NewMember(cfg)
	ctx, cancel := context.WithCancel(l.t.Context())
	in, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- m.Run(ctx, func(ctx context.Context) error { close(in); <-ctx.Done(); return nil })
	}()
	select {
	case <-in:
	case err := <-done:
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { cancel(); <-done; m.Close() })
	return m
}

func (l *lab) file(size int) (path string, b []byte) {
	b = make([]byte, size)
	rand.Read(b)
	path = filepath.Join(l.t.TempDir(), "f.bin")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path, b
}

func TestAFileGoesFromOneMachineToTwoOthers(t *testing.T) {
	l := newLab(t)
	for _, size := range []int{0, 1, 70_000, 20 << 20} {
		path, want := l.file(size)
		a := l.run(l.machine(identity.MemberRole))
		shared, err := a.Share(t.Context(), path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			b := l.run(l.machine(identity.Reader))
			dir := t.TempDir()
			f := b.NewFetch(FetchRequest{ID: prefixOf(shared), Dir: dir, Note: func(s string) { t.Log(s) }})
			got, err := f.Run(t.Context())
			if err != nil {
				t.Fatal(size, err)
			}
			if have, _ := os.ReadFile(filepath.Join(dir, "f.bin")); !bytes.Equal(have, want) {
				t.Errorf("%d bytes: the file differs", size)
			}
			if got.Received != int64(size) || got.Wasted != 0 {
				t.Errorf("%d bytes: received %d, wasted %d", size, got.Received, got.Wasted)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			again, err := b.NewFetch(FetchRequest{ID: prefixOf(shared), Dir: dir}).Run(t.Context())
			if err != nil || !again.Already {
				t.Errorf("again: %+v, %v", again, err)
			}
			if left, _ := os.ReadDir(dir); len(left) != 1 {
				t.Errorf("left: %v", left)
			}
		}
	}
}

func TestANameThatNobodyOffersIsSaidSo(t *testing.T) {
	l := newLab(t)
	b := l.run(l.machine(identity.MemberRole))
	anHourAgo := time.Now().Add(-time.Hour)
	b.serverAt.Store(&anHourAgo)
	var missing *NoContentError
	if _, err := b.NewFetch(FetchRequest{Name: "x", Dir: t.TempDir()}).Run(t.Context()); !errors.As(err, &missing) {
		t.Error(err)
	}
}

func TestARemovedMemberIsCutOff(t *testing.T) {
	l := newLab(t)
	sw := l.machine(identity.MemberRole)
	m := NewMember(MemberConfig{Swarm: sw, Listen: "127.0.0.1:0"})
	defer m.Close()
	err := m.Run(t.Context(), func(ctx context.Context) error {
		if _, err := l.server.Remove(sw.Self()); err != nil {
			t.Error(err)
		}
		<-ctx.Done()
		return ctx.Err()
	})
	var e *ServerError
	if !errors.As(err, &e) {
		t.Error(err)
	}
}

func prefixOf(s *Sharing) content.Prefix { return content.PrefixOf(s.Manifest.ID) }
