package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shoal/internal/content"
	"shoal/internal/identity"
	"shoal/internal/lan"
	"shoal/internal/wire"
)

// air is a local network in memory: those who look hear all who can be heard.
type air struct {
	mu      sync.Mutex
	members []*voice
}

// voice is a member's place in the air.
type voice struct {
	air     *air
	m       *Member
	looking bool
}

func (v *voice) Run(ctx context.Context) { <-ctx.Done() }

func (v *voice) Look(on bool) {
	v.air.mu.Lock()
	defer v.air.mu.Unlock()
	if on && !v.looking {
		for _, other := range v.air.members {
			if other != v {
				go v.m.near.hear(other.heard()) // the member holds its lock
			}
		}
	}
	v.looking = on
}

func (v *voice) heard() lan.Heard {
	name := v.m.cfg.Swarm.LANName(v.m.self, v.m.instance)
	return lan.Heard{Service: lan.Service{Name: name}, Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(v.m.Port())), Asked: true}
}

// fly runs a member in the air until the test ends.
func (a *air) fly(t *testing.T, sw *identity.Swarm) *Member {
	t.Helper()
	m := NewMember(MemberConfig{Swarm: sw, Listen: "127.0.0.1:0", Name: "m"})
	v := &voice{air: a, m: m}
	m.near.lan = v
	ctx, cancel := context.WithCancel(t.Context())
	in, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- m.Run(ctx, func(ctx context.Context) error { close(in); <-ctx.Done(); return nil })
	}()
	select {
	case <-in:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); <-done; m.Close() })
	a.mu.Lock()
	defer a.mu.Unlock()
	a.members = append(a.members, v)
	return m
}

func TestNeighboursShareWithoutAServer(t *testing.T) {
	l := newLab(t)
	sa, sb, sc := l.machine(identity.MemberRole), l.machine(identity.Reader), l.machine(identity.MemberRole)
	l.stop()
	var sky air
	a := sky.fly(t, sa)
	path, want := l.file(300_000)
	shared, err := a.Share(t.Context(), path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, c := sky.fly(t, sb), sky.fly(t, sc)
	if !a.Alone() || !b.Alone() {
		t.Error("somebody believes that a server answers")
	}
	for _, req := range []FetchRequest{{Name: "f.bin"}, {ID: prefixOf(shared)}, {Name: shared.Manifest.ID.String()[:9]}} {
		req.Dir = t.TempDir()
		f := b.NewFetch(req)
		got, err := f.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if have, _ := os.ReadFile(got.Path); !bytes.Equal(have, want) || filepath.Base(got.Path) != "f.bin" {
			t.Errorf("%s has %d bytes, which are not those of the file", got.Path, len(have))
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	entries, err := c.List(t.Context())
	if err != nil || len(entries) != 1 || entries[0].By != a.self || entries[0].ByName != "m" || entries[0].Holders != 1 || entries[0].Seeds != 1 {
		t.Errorf("%+v %v", entries, err)
	}
	who, err := c.Who(t.Context(), false)
	roles := make(map[wire.PeerID]string)
	for _, w := range who {
		roles[w.ID] = w.Role
	}
	if err != nil || len(who) != 2 || roles[a.self] != "member" || roles[b.self] != "reader" {
		t.Errorf("%+v %v", who, err)
	}
	var none *NoContentError
	if _, err := c.NewFetch(FetchRequest{Name: "g.bin", Dir: t.TempDir()}).Run(t.Context()); !errors.As(err, &none) || none.Asked != 2 {
		t.Errorf("a name that nobody has: %v", err)
	}
	if _, err := c.Who(t.Context(), true); err == nil {
		t.Error("who ever joined is known without a server")
	}
	if n := c.Sessions(); n != 2 {
		t.Errorf("%d sessions with two others", n)
	}
}

func TestWithNobodyThereTheServerIsMissed(t *testing.T) {
	l := newLab(t)
	sw := l.machine(identity.MemberRole)
	l.stop()
	var sky air
	m := sky.fly(t, sw)
	for _, try := range []func() error{
		func() error { _, err := m.List(t.Context()); return err },
		func() error { _, err := m.Who(t.Context(), false); return err },
		func() error {
			_, err := m.NewFetch(FetchRequest{Name: "f.bin", Dir: t.TempDir()}).Run(t.Context())
			return err
		},
	} {
		var server *ServerError
		if err := try(); !errors.As(err, &server) || !server.Looked {
			t.Error(err)
		}
	}
}

func TestAServerThatComesBackIsAsked(t *testing.T) {
	l := newLab(t)
	sa, sb := l.machine(identity.MemberRole), l.machine(identity.MemberRole)
	l.stop()
	var sky air
	a := sky.fly(t, sa)
	path, _ := l.file(1000)
	if _, err := a.Share(t.Context(), path, "", nil); err != nil {
		t.Fatal(err)
	}
	b := sky.fly(t, sb)
	eventually(t, "they meet", func() bool { return a.Sessions() == 1 && b.Sessions() == 1 })
	ln, err := net.Listen("tcp", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewServer(ServerConfig{Swarm: l.server}).Serve(ctx, ln) }()
	stop := sync.OnceFunc(func() { cancel(); <-done })
	defer stop()
	eventually(t, "it answers both", func() bool { return !a.Alone() && !b.Alone() })
	eventually(t, "it knows the file", func() bool {
		entries, err := b.List(t.Context())
		return err == nil && len(entries) == 1 && entries[0].Holders == 1
	})
	if a.Sessions() != 1 || b.Sessions() != 1 {
		t.Errorf("%d and %d sessions", a.Sessions(), b.Sessions())
	}
	stop()
	eventually(t, "it is missed again", func() bool { return a.Alone() && b.Alone() })
	if entries, err := b.List(t.Context()); err != nil || len(entries) != 1 {
		t.Errorf("%v %v", entries, err)
	}
}

// Announcements of what is not there cost a bounded number of dials, and little memory.
func TestAFloodOfAnnouncementsIsDialledSlowly(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("left out: only Linux has many loopback addresses")
	}
	l := newLab(t)
	sw := l.machine(identity.MemberRole)
	l.stop()
	var sky air
	m := sky.fly(t, sw)
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var dials atomic.Int64
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			dials.Add(1)
			c.Write([]byte("no TLS"))
			c.Close()
		}
	}()
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	began := time.Now()
	for i := range 20_000 {
		from := netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)})
		if i%2 == 0 {
			from = netip.MustParseAddr("127.2.0.1")
		}
		name := fmt.Sprintf("aaaaaaaaaaa%05d", i)
		m.near.hear(lan.Heard{Service: lan.Service{Name: name, Port: port, Server: i%10 == 9}, Addr: netip.AddrPortFrom(from, port), Asked: true})
	}
	m.near.mu.Lock()
	known, servers, same := len(m.near.known), len(m.near.servers), 0
	for k := range m.near.known {
		if k.addr == netip.MustParseAddr("127.2.0.1") {
			same++
		}
	}
	m.near.mu.Unlock()
	if known > maxNear || servers > maxNearServers || same > maxNearOf {
		t.Errorf("%d neighbours and %d servers are known, %d at one address", known, servers, same)
	}
	eventually(t, "the first were dialled", func() bool { return dials.Load() >= nearBurst })
	if n, most := float64(dials.Load()), nearBurst+nearRate*time.Since(began).Seconds()+4*maxNearServers; n > most {
		t.Errorf("%v dials, at most %v may be", n, most)
	}
	if n := m.Sessions(); n > 0 {
		t.Errorf("%d sessions with nobody", n)
	}
	ln.Close()
	<-served
}

// Whoever is not there is dialled ever more rarely, and all together at a bounded rate.
func TestDialsAreRareInTheLongRun(t *testing.T) {
	l := newLab(t)
	m := NewMember(MemberConfig{Swarm: l.machine(identity.MemberRole)})
	defer m.Close()
	m.near.lan = &voice{air: &air{}, m: m}
	m.near.look(errors.New("none"))
	for i := range maxNear {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1)
		m.near.hear(lan.Heard{Service: lan.Service{Name: fmt.Sprintf("aaaaaaaaaaaaa%03d", i)}, Addr: at, Asked: true})
	}
	now, dials := time.Now(), 0
	for range 600 { // a minute
		now = now.Add(100 * time.Millisecond)
		due := m.near.due(now)
		dials += len(due)
		if len(due) > nearDialling {
			t.Fatalf("%d at once", len(due))
		}
		m.near.mu.Lock()
		for k := range due {
			m.near.dialling--
			e := m.near.known[k]
			e.active, e.after, e.wait = false, now.Add(e.wait), min(2*e.wait, maxNearRedial)
		}
		m.near.mu.Unlock()
	}
	if dials < nearBurst || dials > nearBurst+60*nearRate+1 {
		t.Errorf("%d dials in a minute", dials)
	}
	m.near.rest()
	if due := m.near.due(now.Add(time.Minute)); len(due) > 0 {
		t.Errorf("%d are dialled while a server answers", len(due))
	}
	if m.near.due(now.Add(nearMemory + time.Minute)); len(m.near.known) > 0 {
		t.Errorf("%d are known that were not heard of for long", len(m.near.known))
	}
}

func TestAMemberOfAnotherSwarmIsNoNeighbour(t *testing.T) {
	l, other := newLab(t), newLab(t)
	sa, sb, so := l.machine(identity.MemberRole), l.machine(identity.MemberRole), other.machine(identity.MemberRole)
	l.stop()
	other.stop()
	var sky air
	o, a := sky.fly(t, so), sky.fly(t, sa)
	path, _ := l.file(1000)
	for _, m := range []*Member{o, a} {
		if _, err := m.Share(t.Context(), path, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	b := sky.fly(t, sb) // it hears both
	entries, err := b.List(t.Context())
	if err != nil || len(entries) != 1 || entries[0].By != a.self {
		t.Errorf("%+v %v", entries, err)
	}
	if b.Sessions() != 1 || o.Sessions() != 0 {
		t.Errorf("%d sessions, the stranger has %d", b.Sessions(), o.Sessions())
	}
}

func TestWhatIsNotSignedIsNotShown(t *testing.T) {
	l := newLab(t)
	sa, sb := l.machine(identity.MemberRole), l.machine(identity.MemberRole)
	l.stop()
	var sky air
	a := sky.fly(t, sa)
	id := content.ID{1, 2, 3}
	good, err := sa.SignRecord("good.img", id, 5)
	if err != nil {
		t.Fatal(err)
	}
	name, size := good, good
	name.Name, size.Size = "bad.img", 6
	a.client.Hold(id, 5, true)
	for _, r := range []wire.Record{name, good, size} {
		a.client.Offer(r)
	}
	b := sky.fly(t, sb)
	entries, err := b.List(t.Context())
	if err != nil || len(entries) != 1 || entries[0].Name != "good.img" || entries[0].Size != 5 {
		t.Errorf("%+v %v", entries, err)
	}
	if b.book.Counts()[RefusedRecord] == 0 {
		t.Error("it is not counted")
	}
}

// A list of more than one page comes whole, and a name in the midst of it.
func TestALongListComesInPages(t *testing.T) {
	l := newLab(t)
	sa, sb := l.machine(identity.MemberRole), l.machine(identity.MemberRole)
	l.stop()
	var sky air
	a := sky.fly(t, sa)
	const files = 150
	for i := range files {
		r, err := sa.SignRecord(fmt.Sprintf("%d.img", i), content.ID{byte(i), 1}, int64(i))
		if err != nil {
			t.Fatal(err)
		}
		a.client.Hold(r.ID, r.Size, i%2 == 0)
		a.client.Offer(r)
	}
	b := sky.fly(t, sb)
	entries, err := b.List(t.Context())
	if err != nil || len(entries) != files {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for i, e := range entries {
		if e.Name != fmt.Sprintf("%d.img", i) || e.Seeds != uint64(1-i%2) {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	if one, err := b.Find(t.Context(), "77.img", content.Prefix{}); err != nil || len(one) != 1 || one[0].ID != (content.ID{77, 1}) {
		t.Errorf("%+v %v", one, err)
	}
}

func TestWhoAsksTooMuchOrAnswersUnaskedIsCutOff(t *testing.T) {
	for name, say := range map[string]func(*talk){
		"too many questions": func(k *talk) {
			k.mu.Lock()
			k.next = 1 << 30 // the answers are no surprise
			k.mu.Unlock()
			for i := range answerBurst + 50 {
				k.s.Send(&wire.Seek{Query: uint64(i + 1), Name: "x"})
			}
		},
		"an answer to no question": func(k *talk) { k.s.Send(&wire.Here{Query: 1 << 40}) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			sa, sb := l.machine(identity.MemberRole), l.machine(identity.MemberRole)
			l.stop()
			var sky air
			a, b := sky.fly(t, sa), sky.fly(t, sb)
			eventually(t, "they meet", func() bool { return len(b.near.answerers()) == 1 })
			say(b.near.answerers()[0])
			eventually(t, "it is cut off", func() bool {
				a.ss.mu.Lock()
				defer a.ss.mu.Unlock()
				return a.ss.isCutOff(b.self)
			})
			if a.book.Counts()[OffenceSeek] != 1 {
				t.Error("it is not counted")
			}
		})
	}
}

// One whom a server named is dialled where it was heard as well, and nobody else is.
func TestAKnownPeerIsDialledWhereItWasHeard(t *testing.T) {
	l := newLab(t)
	sw := l.machine(identity.MemberRole)
	m := NewMember(MemberConfig{Swarm: sw})
	defer m.Close()
	m.near.lan = &voice{air: &air{}, m: m}
	who := wire.PeerAddr{ID: wire.PeerID{1}, Instance: 5}
	at := netip.MustParseAddrPort("[fe80::5%eth0]:50002")
	m.near.hear(lan.Heard{Service: lan.Service{Name: sw.LANName(who.ID, who.Instance)}, Addr: at})
	if got := m.near.reach(who.ID, who.Instance); len(got) != 1 || got[0] != at.String() {
		t.Errorf("%v", got)
	}
	if got := m.near.reach(who.ID, who.Instance+1); len(got) > 0 {
		t.Errorf("another process of it: %v", got)
	}
	m.near.hear(lan.Heard{Service: lan.Service{Name: sw.LANName(who.ID, who.Instance)}, Addr: at, Gone: true})
	if got := m.near.reach(who.ID, who.Instance); len(got) > 0 {
		t.Errorf("after it went: %v", got)
	}
}
