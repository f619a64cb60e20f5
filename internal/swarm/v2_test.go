package swarm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"shoal/internal/content"
	"shoal/internal/offence"
	"shoal/internal/wire"

	"pgregory.net/rapid"
)

func key(n byte) PeerKey { return PeerKey{wire.PeerID{n}, uint64(n)} }

func idOf(n byte) content.ID { return content.ID{n} }

// Whatever happens, who follows a content from the start knows exactly its holders.
func TestAFollowersViewIsTheHolders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := NewTable(rand.New(rand.NewPCG(1, 2)))
		table.Enter(key(200), "member", "", "", nil)
		if _, err := table.Follow(key(200), idOf(1)); err != nil {
			t.Fatal(err)
		}
		view, want := make(map[PeerKey]bool), make(map[PeerKey]bool)
		take := func(told []Told) {
			for _, m := range told {
				if m.To != key(200) {
					t.Fatalf("told %v", m.To)
				}
				for _, a := range m.Msg.Added {
					view[PeerKey{a.ID, a.Instance}] = true
				}
				for _, a := range m.Msg.Gone {
					delete(view, PeerKey{a.ID, a.Instance})
				}
				if m.Msg.Total != uint64(len(want)) {
					t.Fatalf("total %d, want %d", m.Msg.Total, len(want))
				}
			}
		}
		in := make(map[byte]bool)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			n := rapid.ByteRange(1, 20).Draw(t, "peer")
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				if !in[n] {
					table.Enter(key(n), "member", "", "", nil)
					in[n] = true
				}
				want[key(n)] = true
				told, err := table.Hold(key(n), idOf(1), 5, true)
				if err != nil {
					t.Fatal(err)
				}
				take(told)
			case 1:
				delete(want, key(n))
				take(table.Retract(key(n), idOf(1)))
			case 2:
				delete(want, key(n))
				delete(in, n)
				take(table.Leave(key(n)))
			}
			if len(view) != len(want) {
				t.Fatalf("it knows %d, there are %d", len(view), len(want))
			}
		}
	})
}

func TestANameStaysWhileItsContentHasAHolder(t *testing.T) {
	table := NewTable(rand.New(rand.NewPCG(1, 2)))
	for n := range byte(3) {
		table.Enter(key(n+1), "member", "m", "", nil)
	}
	record := wire.Record{Name: "f", ID: idOf(1), Size: 5}
	found := func() int { return len(table.Find(&wire.Find{Name: "f"}, 0).Entries) }
	if err := table.Offer(key(1), record, key(1).ID, 0); err != nil || found() != 0 {
		t.Error("a name without a holder", err)
	}
	for n := range byte(2) {
		if _, err := table.Hold(key(n+1), idOf(1), 5, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Offer(key(1), record, key(1).ID, 0); err != nil || found() != 1 {
		t.Error("not found", err)
	}
	table.Leave(key(1))
	if found() != 1 {
		t.Error("the name is gone with its maker, though another holds the content")
	}
	other := wire.Record{Name: "f", ID: idOf(2), Size: 6}
	_, _ = table.Hold(key(3), idOf(2), 6, true)
	if err := table.Offer(key(3), other, key(3).ID, 0); err != nil || found() != 2 {
		t.Error("two contents of one name", err, found())
	}
	table.Leave(key(2))
	table.Leave(key(3))
	if found() != 0 || len(table.contents) != 0 || len(table.names) != 0 {
		t.Error("something is left")
	}
}

func TestAListComesInPagesWithoutGaps(t *testing.T) {
	table := NewTable(rand.New(rand.NewPCG(1, 2)))
	table.Enter(key(1), "member", "m", "", nil)
	for n := range byte(100) {
		_, _ = table.Hold(key(1), idOf(n+1), 5, true)
		if err := table.Offer(key(1), wire.Record{Name: "f", ID: idOf(n + 1), Size: 5}, key(1).ID, 0); err != nil {
			t.Fatal(err)
		}
	}
	for name, ask := range map[string]func(after []byte) *wire.Found{
		"list": func(after []byte) *wire.Found { return table.List(&wire.List{After: after}, 0) },
		"name": func(after []byte) *wire.Found { return table.Find(&wire.Find{Name: "f", After: after}, 0) },
		"prefix": func(after []byte) *wire.Found {
			return table.Find(&wire.Find{Prefix: content.ID{}, Bits: 1, After: after}, 0)
		},
	} {
		seen := make(map[content.ID]bool)
		var after []byte
		for range 100 {
			m := ask(after)
			for _, e := range m.Entries {
				seen[e.ID] = true
			}
			if after = m.More; len(after) == 0 {
				break
			}
		}
		if len(seen) != 100 {
			t.Errorf("%s: %d of 100", name, len(seen))
		}
	}
}

// v2lab is a server for the length of a test. Its connections have no TLS: who is there is said by the test.
type v2lab struct {
	t        *testing.T
	server   *V2
	ln       net.Listener
	mu       sync.Mutex // guards removed
	removed  map[wire.PeerID]bool
	wrong    bool // records do not verify
	removals [][]byte
}

func newV2lab(t *testing.T, change ...func(*V2Config)) *v2lab {
	l := &v2lab{t: t, removed: make(map[wire.PeerID]bool)}
	cfg := V2Config{
		Hello: wire.Hello{Version: 1, Instance: 1},
		Verify: func(r *wire.Record) (wire.PeerID, error) {
			if l.wrong {
				return wire.PeerID{}, errors.New("wrong")
			}
			return wire.PeerID{1}, nil
		},
		Removed:  func(id wire.PeerID) bool { l.mu.Lock(); defer l.mu.Unlock(); return l.removed[id] },
		Removals: func() [][]byte { l.mu.Lock(); defer l.mu.Unlock(); return l.removals },
		Merge:    func([][]byte) int { return 0 }, Members: func() []wire.Member { return nil },
		Classic: func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")} },
		Book:    offence.NewBook(slog.New(slog.DiscardHandler)),
	}
	for _, c := range change {
		c(&cfg)
	}
	l.server = NewV2(cfg)
	var err error
	if l.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { l.server.Run(ctx) })
	running.Go(func() {
		for n := byte(1); ; n++ {
			conn, err := l.ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { l.server.Serve(ctx, conn, wire.PeerID{n}, "member") })
		}
	})
	t.Cleanup(func() { cancel(); l.ln.Close(); running.Wait() })
	return l
}

// client runs a client until the test ends.
func (l *v2lab) client(instance uint64) (*V2Client, chan V2Event) {
	events := make(chan V2Event, 1000)
	c := NewV2Client(V2ClientConfig{
		Hello: wire.Hello{Version: 1, Instance: instance, Port: 9}, Removals: func() [][]byte { return nil },
		Dial: func(ctx context.Context) (*V2Link, error) {
			conn, err := net.Dial("tcp", l.ln.Addr().String())
			return &V2Link{Conn: conn}, err
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx, func(e V2Event) { events <- e }); err != nil {
			events <- V2Event{Lost: err}
		}
	}()
	l.t.Cleanup(func() { cancel(); <-done })
	return c, events
}

func await(t *testing.T, events chan V2Event, what func(V2Event) bool) V2Event {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case e := <-events:
			if what(e) {
				return e
			}
		case <-deadline:
			t.Fatal("waited in vain")
		}
	}
}

func TestThoseWhoFollowAreToldAndFindWhatIsOffered(t *testing.T) {
	l := newV2lab(t)
	a, fromA := l.client(1)
	await(t, fromA, func(e V2Event) bool { return e.Entered != nil })
	a.Hold(idOf(7), 5, true)
	a.Offer(wire.Record{Name: "f", ID: idOf(7), Size: 5, Chain: [][]byte{{1}, {2}}, Sig: []byte{1}})
	b, fromB := l.client(2)
	await(t, fromB, func(e V2Event) bool { return e.Entered != nil })
	b.Follow(idOf(7), true)
	got := await(t, fromB, func(e V2Event) bool { return e.Peers != nil })
	for len(got.Peers.Added) == 0 {
		got = await(t, fromB, func(e V2Event) bool { return e.Peers != nil })
	}
	if at := got.Peers.Added[0].Addrs; len(at) == 0 || at[0] != "127.0.0.1:9" {
		t.Errorf("it can be dialled at %v", at)
	}
	found, err := b.Find(t.Context(), "f", content.Prefix{})
	for end := time.Now().Add(20 * time.Second); len(found) == 0 && err == nil && time.Now().Before(end); { // the offer comes after the hold
		found, err = b.Find(t.Context(), "f", content.Prefix{})
	}
	if err != nil || len(found) != 1 || found[0].Record == nil || found[0].Holders != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	who, err := b.Who(t.Context(), false)
	if err != nil || len(who) != 3 || who[2].Role != "" {
		t.Errorf("%+v, %v", who, err)
	}
	// A restarted server is filled again by those who come back: here the connections are cut.
	l.server.mu.Lock()
	for _, m := range l.server.members {
		m.Close()
	}
	l.server.mu.Unlock()
	await(t, fromB, func(e V2Event) bool { return e.Lost != nil })
	for {
		e := await(t, fromB, func(e V2Event) bool { return e.Peers != nil })
		if len(e.Peers.Added) > 0 {
			break
		}
	}
}

func TestARemovedMemberIsTold(t *testing.T) {
	l := newV2lab(t)
	_, from := l.client(1)
	await(t, from, func(e V2Event) bool { return e.Entered != nil })
	l.mu.Lock()
	l.removed[wire.PeerID{1}], l.removals = true, [][]byte{{1}}
	l.mu.Unlock()
	e := await(t, from, func(e V2Event) bool { return e.Lost != nil })
	var bye *byeError
	if !errors.As(e.Lost, &bye) || bye.reason != wire.ReasonRemoved {
		t.Errorf("it is told %v", e.Lost)
	}
}

// One that is removed between its hello and its enter was in nobody's list when that was told.
func TestAMemberThatIsRemovedWhileItEntersDoesNotComeIn(t *testing.T) {
	l := newV2lab(t)
	conn, err := net.Dial("tcp", l.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(v2Dead / 2)) // it would end for its silence later
	c := newV2conn(conn, nil)
	if err := c.now(&wire.Hello{Version: 1, Instance: 5}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // its hello and its use
		if _, err := c.receive(); err != nil {
			t.Fatal(err)
		}
	}
	l.mu.Lock()
	l.removed[wire.PeerID{1}], l.removals = true, [][]byte{{1}}
	l.mu.Unlock()
	l.server.tellRemovals()
	if err := c.now(&wire.Enter{}); err != nil {
		t.Fatal(err)
	}
	var last wire.Message
	for m := last; err == nil; m, err = c.receive() {
		last = m
	}
	if bye, is := last.(*wire.Bye); !is || bye.Reason != wire.ReasonRemoved || l.server.Count() > 0 {
		t.Errorf("it is told %#v at last, %v", last, err)
	}
}

func TestWhoEntersIsToldAllRemovalsHoweverMany(t *testing.T) {
	l := newV2lab(t)
	l.mu.Lock()
	for range 3 * v2Outbox / wire.MaxStatement {
		l.removals = append(l.removals, make([]byte, wire.MaxStatement))
	}
	want := len(l.removals)
	l.mu.Unlock()
	_, from := l.client(1)
	for got := 0; got < want; {
		e := await(t, from, func(e V2Event) bool { return e.Removed != nil || e.Lost != nil })
		if e.Lost != nil {
			t.Fatal(e.Lost)
		}
		got += len(e.Removed)
	}
}

// A stranger's mistakes end its connection.
func TestHostileMembersAreCutOff(t *testing.T) {
	hello := wire.Append(nil, &wire.Hello{Version: 1, Instance: 5})
	enter := wire.Append(nil, &wire.Enter{})
	in := append(append([]byte{}, hello...), enter...)
	for name, b := range map[string][]byte{
		"no hello":           enter,
		"a query before":     append(append([]byte{}, hello...), wire.Append(nil, &wire.List{Query: 1})...),
		"a second hello":     append(append([]byte{}, in...), hello...),
		"another's message":  append(append([]byte{}, in...), wire.Append(nil, &wire.Get{Channel: 1, Credit: 1, Request: 1})...),
		"data":               append(append([]byte{}, in...), wire.AppendData(nil, 1, 0)...),
		"an unknown type":    append(append([]byte{}, in...), 0, 0, 0, 1, 200),
		"a frame too long":   append(append([]byte{}, in...), 0, 255, 0, 0, 2),
		"malformed":          append(append([]byte{}, in...), 0, 0, 0, 2, byte(wire.TypeHold), 1),
		"another version":    wire.Append(nil, &wire.Hello{Version: 9}),
		"loopback elsewhere": nil,
	} {
		if b == nil {
			if got := dialable(&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, 5, []string{"10.0.0.3:5"}); len(got) != 1 || got[0] != "10.0.0.3:5" {
				t.Errorf("one who came from a link-local address is told to others at %v", got)
			}
			if got := dialable(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, 5, []string{"127.0.0.1:5", "10.0.0.2:6", "10.0.0.3:5"}); len(got) != 2 {
				t.Errorf("%s: %v", name, got)
			}
			continue
		}
		l := newV2lab(t)
		conn, err := net.Dial("tcp", l.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(b)
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		buf := make([]byte, 4096)
		for {
			if _, err = conn.Read(buf); err != nil {
				break
			}
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s: the connection goes on", name)
		}
		conn.Close()
	}
}

func TestAFloodOfMessagesEndsTheConnection(t *testing.T) {
	l := newV2lab(t)
	c, from := l.client(1)
	await(t, from, func(e V2Event) bool { return e.Entered != nil })
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	var flooding sync.WaitGroup
	flooding.Go(func() {
		for range v2Burst + 2000 { // beside what paces a client
			conn.sendPatiently(ctx, &wire.Follow{ID: idOf(1)})
		}
	})
	await(t, from, func(e V2Event) bool { return e.Lost != nil })
	cancel()
	flooding.Wait()
}

// What does not fit an outbox is told nevertheless, and again after the connection was cut.
func TestAMemberTellsTenThousandContents(t *testing.T) {
	const n = 10_000
	l := newV2lab(t)
	a, fromA := l.client(1)
	await(t, fromA, func(e V2Event) bool { return e.Entered != nil })
	chain := [][]byte{bytes.Repeat([]byte{1}, 700), bytes.Repeat([]byte{2}, 700)}
	for i := range n {
		id := content.ID{1, byte(i >> 8), byte(i)}
		a.Hold(id, 5, true)
		a.Offer(wire.Record{Name: fmt.Sprint("f", i), ID: id, Size: 5, Chain: chain, Sig: []byte{1}})
		if i%25 == 0 { // each brings an event, of which a test's channel holds a thousand
			a.Follow(id, true)
		}
	}
	all := func() {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			l.server.mu.Lock()
			offers := 0
			for _, p := range l.server.table.peers {
				offers += p.offers
			}
			l.server.mu.Unlock()
			if offers == n {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the server knows %d offers", offers)
			}
		}
	}
	all()
	l.server.mu.Lock()
	for _, m := range l.server.members {
		m.Close()
	}
	l.server.mu.Unlock()
	await(t, fromA, func(e V2Event) bool { return e.Lost != nil })
	all()
	gone := content.ID{1, 0, 0}
	a.Retract(gone)
	a.Hold(gone, 5, true)
	a.Offer(wire.Record{Name: "g", ID: gone, Size: 5, Chain: chain, Sig: []byte{1}})
	for end := time.Now().Add(20 * time.Second); ; {
		old, err := a.Find(t.Context(), "f0", content.Prefix{})
		if err != nil {
			t.Fatal(err)
		}
		if now, _ := a.Find(t.Context(), "g", content.Prefix{}); len(now) == 1 && len(old) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the old name is still there, or the new one is not")
		}
	}
}

// The table of a hundred thousand members, each with a content of its own, takes little of each.
func TestTheTableOfAHundredThousandMembersIsSmall(t *testing.T) {
	const n = 100_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	table := NewTable(rand.New(rand.NewPCG(1, 2)))
	for i := range uint64(n) {
		k := PeerKey{wire.PeerID{byte(i), byte(i >> 8), byte(i >> 16)}, i}
		table.Enter(k, "member", "machine", "", []string{"10.0.0.1:50002"})
		if _, err := table.Hold(k, content.ID(k.ID), 5, true); err != nil {
			t.Fatal(err)
		}
	}
	if each := (heap() - before) / n; each > 2<<10 {
		t.Errorf("%d bytes for each", each)
	}
	runtime.KeepAlive(table)
}
