package node

import (
	"context"
	"net"
	"testing"
	"time"

	"shoal/internal/identity"
	"shoal/internal/wire"
)

// announced runs a member that says it listens on a port that is not its own, and returns what the server sees there.
func (l *lab) announced(sw *identity.Swarm, port uint16) Reach {
	l.t.Helper()
	m := NewMember(MemberConfig{Swarm: sw, Listen: "127.0.0.1:0", Announce: port})
	defer m.Close()
	var r Reach
	if err := m.Run(l.t.Context(), func(ctx context.Context) (err error) { r, err = m.Reach(ctx); return err }); err != nil {
		l.t.Fatal(err)
	}
	return r
}

func TestAMemberKnowsWhetherItCanBeReached(t *testing.T) {
	l := newLab(t)
	sw := l.machine(identity.MemberRole)
	if r := l.announced(sw, 0); r.Way != wire.WayOpen || r.Closed() || r.Skew.Abs() > 10*time.Second {
		t.Errorf("it listens: %+v", r)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(silent.Addr().(*net.TCPAddr).Port)
	if r := l.announced(sw, port); r.Way != wire.WaySilent || !r.Closed() {
		t.Errorf("nobody answers: %+v", r)
	}
	silent.Close()
	if r := l.announced(sw, port); r.Way != wire.WayRefused || !r.Closed() {
		t.Errorf("nobody listens: %+v", r)
	}
	other := l.run(l.machine(identity.MemberRole))
	if r := l.announced(sw, uint16(other.Port())); r.Way != wire.WayOther || !r.Closed() {
		t.Errorf("another peer is there: %+v", r)
	}
	same := l.run(sw)
	if r := l.announced(sw, uint16(same.Port())); r.Way != wire.WayOpen {
		t.Errorf("another process of it is there: %+v", r)
	}
}

func TestAMemberIsToldThatNobodyCanConnect(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name  string
		found bool
	}{{"closed", false}, {"others have come", true}} {
		t.Run(c.name, func(t *testing.T) {
			told := make(chan int, 1)
			m := NewMember(MemberConfig{Swarm: l.machine(identity.MemberRole), Listen: "127.0.0.1:0", Announce: 1, Closed: func(port int) { told <- port }})
			defer m.Close()
			m.reachAfter = time.Millisecond
			m.ss.found.Store(c.found)
			err := m.Run(t.Context(), func(ctx context.Context) error {
				if c.found {
					m.watchReach(ctx) // to its end, which the one that runs reaches as well
					return nil
				}
				select {
				case port := <-told:
					if port != 1 {
						t.Errorf("told of port %d", port)
					}
				case <-time.After(30 * time.Second):
					t.Error("it was never told")
				}
				return nil
			})
			if err != nil || len(told) != 0 {
				t.Error("told, though others connect", err)
			}
		})
	}
}
