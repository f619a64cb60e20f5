package lan

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ether is a network in memory, for machines at addresses.
type ether struct {
	mu    sync.Mutex
	ports map[netip.Addr]*port
	asked int // how often a question was put
	told  int // how often everybody was told
	sent  int // how often one was answered
}

// port is a machine's place on an ether, and the machine's network.
type port struct {
	e    *ether
	addr netip.Addr
	down bool
	fail bool
	take func(packet)
}

func (e *ether) plug(addr string) *port {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ports == nil {
		e.ports = make(map[netip.Addr]*port)
	}
	p := &port{e: e, addr: netip.MustParseAddr(addr)}
	e.ports[p.addr] = p
	return p
}

// counts returns how often was asked, everybody was told, and one was answered, once nothing is under way.
func (e *ether) counts() (asked, told, sent int) {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked, e.told, e.sent
}

// set changes a port.
func (p *port) set(change func(*port)) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	change(p)
}

func (p *port) links() []link {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	if p.down {
		return nil
	}
	return []link{{name: "eth0", index: 1, prefixes: []netip.Prefix{netip.PrefixFrom(p.addr, 24)}}}
}

func (p *port) open(_ []link, take func(packet)) (socket, error) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	if p.fail {
		return nil, errors.New("no")
	}
	p.take = take
	return p, nil
}

func (p *port) close() { p.set(func(p *port) { p.take = nil }) }

const askPort = 40000

func (e *ether) all(from netip.AddrPort, b []byte) {
	for _, p := range e.ports {
		if p.take != nil {
			p.take(packet{from: from, group: true, b: slices.Clone(b)})
		}
	}
}

func (p *port) ask(b []byte) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	p.e.asked++
	p.e.all(netip.AddrPortFrom(p.addr, askPort), b)
}

func (p *port) tell(_ link, b []byte) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	p.e.told++
	p.e.all(netip.AddrPortFrom(p.addr, mdnsPort), b)
}

func (p *port) answer(b []byte, to netip.AddrPort) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	p.e.sent++
	if at := p.e.ports[to.Addr()]; at != nil && at.take != nil {
		at.take(packet{from: netip.AddrPortFrom(p.addr, mdnsPort), b: slices.Clone(b)})
	}
}

// ear collects what is heard.
type ear struct {
	mu    sync.Mutex
	heard []Heard
}

func (r *ear) hear(h Heard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = append(r.heard, h)
}

func (r *ear) all() []Heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.heard)
}

// start runs a LAN until it is stopped.
func start(t *testing.T, p *port, tag, name string) (l *LAN, r *ear, stop func()) {
	r = &ear{}
	cfg := Config{Tag: tag, Hear: r.hear, network: p}
	if name != "" {
		cfg.Self = &Service{Name: name, Port: 50002}
	}
	l = New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { l.Run(ctx); close(done) }()
	return l, r, func() { cancel(); <-done }
}

func TestOneWhoAsksIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &ether{}
		_, _, stopA := start(t, e.plug("10.0.0.1"), someTag, someName)
		_, _, stopOther := start(t, e.plug("10.0.0.3"), otherTag, "bbbbbbbbbbbbbbbb")
		time.Sleep(10 * time.Second) // its announcements are over
		b, heard, stopB := start(t, e.plug("10.0.0.2"), someTag, "")
		time.Sleep(time.Minute)
		if got := heard.all(); len(got) > 0 {
			t.Errorf("heard %v unasked", got)
		}
		b.Look(true)
		time.Sleep(200 * time.Millisecond)
		want := Heard{Service: someService, Addr: netip.MustParseAddrPort("10.0.0.1:50002"), Asked: true}
		if got := heard.all(); len(got) != 1 || got[0] != want {
			t.Errorf("heard %v, want %v", got, want)
		}
		stopA()
		time.Sleep(100 * time.Millisecond)
		if got := heard.all(); !got[len(got)-1].Gone {
			t.Errorf("heard %v", got)
		}
		stopB()
		stopOther()
	})
}

// Questions become rarer, to one in five minutes; to look anew is to ask at once.
func TestQuestionsBecomeRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &ether{}
		l, _, stop := start(t, e.plug("10.0.0.1"), someTag, "")
		l.Look(true)
		time.Sleep(time.Hour)
		before, _, _ := e.counts()
		if before < 15 || before > 22 {
			t.Errorf("%d questions in an hour", before)
		}
		l.Look(false)
		time.Sleep(time.Hour)
		l.Look(true)
		time.Sleep(10 * time.Millisecond)
		if n, _, _ := e.counts(); n != before+1 {
			t.Errorf("%d questions when others are looked for anew", n-before)
		}
		stop()
	})
}

func TestAFloodOfQuestionsIsAnsweredSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &ether{}
		p := e.plug("10.0.0.1")
		_, _, stop := start(t, p, someTag, someName)
		time.Sleep(5 * time.Second)
		_, before, _ := e.counts()
		for i := range 10_000 {
			from := netip.MustParseAddrPort("10.0.0.9:9999")
			if i%2 == 0 {
				from = netip.MustParseAddrPort("10.0.0.9:5353")
			}
			p.set(func(p *port) { p.take(packet{from: from, group: true, b: appendQuestion(nil, 1, someTag)}) })
			time.Sleep(time.Millisecond)
		}
		_, told, sent := e.counts()
		if sent == 0 || sent > answerBurst+10*answerRate {
			t.Errorf("%d answers to one in ten seconds", sent)
		}
		if n := told - before; n == 0 || n > 11 {
			t.Errorf("%d answers to everybody in ten seconds", n)
		}
		stop()
	})
}

func TestWhatDoesNotComeFromThisNetworkIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &ether{}
		p := e.plug("10.0.0.1")
		_, heard, stop := start(t, p, someTag, someName)
		time.Sleep(5 * time.Second)
		_, before, _ := e.counts()
		other := appendAnnouncement(nil, someTag, Service{Name: "bbbbbbbbbbbbbbbb", Port: 1}, nil, announceTTL)
		for _, k := range []packet{
			{from: netip.MustParseAddrPort("192.168.9.9:5353"), group: true, b: other},
			{from: netip.MustParseAddrPort("192.168.9.9:5353"), group: true, b: appendQuestion(nil, 1, someTag)},
			{from: netip.MustParseAddrPort("[fe80::9%eth1]:5353"), group: true, b: other},
			{from: netip.MustParseAddrPort("10.0.0.9:9999"), group: true, b: other}, // from another port
			{from: netip.MustParseAddrPort("10.0.0.1:5353"), group: true, b: golden()["announcement"]},
			{from: netip.MustParseAddrPort("10.0.0.9:5353"), group: true, b: []byte("no packet")},
			{from: netip.MustParseAddrPort("10.0.0.9:5353"), b: appendQuestion(nil, 1, someTag)}, // to where only answers come
		} {
			p.set(func(p *port) { p.take(k) })
			time.Sleep(2 * time.Second)
		}
		_, told, sent := e.counts()
		if got := heard.all(); len(got) > 0 || told != before || sent > 0 {
			t.Errorf("heard %v, told %d times, answered %d", got, told-before, sent)
		}
		p.set(func(p *port) {
			p.take(packet{from: netip.MustParseAddrPort("[fe80::9%eth0]:5353"), group: true, b: other})
		})
		time.Sleep(time.Second)
		if got := heard.all(); len(got) != 1 || got[0].Addr.String() != "[fe80::9%eth0]:1" {
			t.Errorf("heard %v from the network itself", got)
		}
		stop()
	})
}

// A network that comes later, or cannot be used at first, is noticed.
func TestANetworkThatComesLaterIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &ether{}
		p := e.plug("10.0.0.1")
		p.down, p.fail = true, true
		_, _, stop := start(t, p, someTag, someName)
		time.Sleep(time.Minute)
		p.set(func(p *port) { p.down = false })
		time.Sleep(time.Minute)
		if _, told, _ := e.counts(); told > 0 {
			t.Error("it announced where there is no network")
		}
		p.set(func(p *port) { p.fail = false })
		time.Sleep(time.Minute)
		if _, told, _ := e.counts(); told != len(announceAt) {
			t.Errorf("announced %d times", told)
		}
		p.set(func(p *port) { p.addr = netip.MustParseAddr("10.0.0.7") })
		time.Sleep(time.Minute)
		if _, told, _ := e.counts(); told != 2*len(announceAt) {
			t.Errorf("announced %d times, after another address", told)
		}
		stop()
	})
}

// Real sockets, on the loopback interface alone: a question and its answer, an announcement, and nothing is left behind.
func TestTheSystemsNetwork(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("left out: only Linux multicasts on its loopback interface")
	}
	for _, k := range (system{}).links() {
		for _, p := range k.prefixes {
			if p.Addr().IsLoopback() {
				t.Errorf("%v takes part", p)
			}
		}
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	links := []link{{name: lo.Name, index: lo.Index, prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}}}
	y := system{slog.New(slog.DiscardHandler)}
	came := make(chan packet, 100)
	a, err := y.open(links, func(p packet) { came <- p })
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	b, err := y.open(links, func(p packet) { came <- p })
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	await := func(group bool, want []byte) packet {
		t.Helper()
		for deadline := time.After(10 * time.Second); ; {
			select {
			case p := <-came:
				if p.group == group && bytes.Equal(p.b, want) { // others may use the group as well
					return p
				}
			case <-deadline:
				t.Fatal("nothing came")
			}
		}
	}
	const tag = "qqqqqqqqqqqqqqqq"
	question := appendQuestion(nil, 77, tag)
	a.ask(question)
	asked := await(true, question)
	answer := appendAnswer(nil, query{id: 77}, tag, someService, nil)
	b.answer(answer, asked.from)
	if from := await(false, answer).from; from.Port() != mdnsPort {
		t.Errorf("the answer came from %v", from)
	}
	announcement := appendAnnouncement(nil, tag, someService, nil, announceTTL)
	b.tell(links[0], announcement)
	await(true, announcement)
}
