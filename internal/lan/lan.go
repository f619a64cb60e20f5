// Package lan lets the peers of a swarm find each other on the local network, by DNS-SD over multicast DNS: docs/PROTOCOL.md
// section 15 has what goes over the network, docs/adr/lan.md why this is not a library.
//
//   - [Service] is what a process announces of itself: a name that tells strangers nothing, and a port.
//   - [Heard] is what was heard of another one: the address from which it spoke, and the port that it named.
//   - [LAN] announces, answers, and asks while it is told to.
//
// Nothing that is heard is believed: whoever dials finds out by TLS who is there. The package keeps no list of others.
package lan

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// firstAsk is the wait after the first question; it doubles up to maxAsk.
	firstAsk = time.Second
	maxAsk   = 5 * time.Minute
	// An answer waits for a random time, lest all answer at once.
	minDelay = 20 * time.Millisecond
	maxDelay = 120 * time.Millisecond
	// answerRate and answerBurst bound the answers, per second and at once.
	answerRate  = 20
	answerBurst = 100
	// multicastEvery is how often an answer may go to everybody.
	multicastEvery = time.Second
	// maxDelayed bounds the answers that wait.
	maxDelayed = 128
	// linksEvery is how often the interfaces of this machine are looked at.
	linksEvery = 15 * time.Second
)

// announceAt is when an announcement goes to everybody, since the network was there.
var announceAt = []time.Duration{0, time.Second, 3 * time.Second}

// Service is what a process announces of itself.
type Service struct {
	Name   string // 16 characters of base32
	Port   uint16
	Server bool // it is a server of the swarm
}

// Heard is what was heard of another process, which may be a lie.
type Heard struct {
	Service
	Addr  netip.AddrPort // from where it spoke, with the port that it named
	Asked bool           // it answered a question of ours
	Gone  bool           // it says that it goes
}

// Config says how a [LAN] works.
type Config struct {
	Tag  string      // of the swarm, 16 characters of base32: others are not heard
	Self *Service    // nil: nothing is announced
	Addr netip.Addr  // the only address at which Self is reached; the zero Addr: those of all interfaces
	Hear func(Heard) // called one at a time; it must be quick; nil: nobody is
	Log  *slog.Logger

	network network // nil: the system's
}

// network is what multicast goes through: the system's, or a test's.
type network interface {
	// links returns the interfaces that take part in multicast now.
	links() []link
	// open returns a socket on them. Each packet that comes goes to take, from any goroutine.
	open(links []link, take func(packet)) (socket, error)
}

// socket is an open network. Its methods are called by one goroutine.
type socket interface {
	ask(b []byte)                       // multicasts a question from a port of our own
	tell(l link, b []byte)              // multicasts an answer on an interface
	answer(b []byte, to netip.AddrPort) // answers one who asked
	close()                             // ends it, and all calls of take
}

// packet is one that came.
type packet struct {
	from  netip.AddrPort
	group bool // it went to everybody; else it answers a question of ours
	b     []byte
}

// link is an interface of this machine.
type link struct {
	name     string
	index    int
	prefixes []netip.Prefix // its addresses, with the lengths of their networks
}

// LAN announces a service, answers and asks.
type LAN struct {
	cfg Config

	mu      sync.Mutex // guards looking
	looking bool
	wake    chan struct{} // holds one: looking has changed
}

// New makes a LAN that does nothing until it is run.
func New(cfg Config) *LAN {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.network == nil {
		cfg.network = system{cfg.Log}
	}
	return &LAN{cfg: cfg, wake: make(chan struct{}, 1)}
}

// Look says whether others are asked for. To begin again is to ask at once.
func (l *LAN) Look(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.looking == on {
		return
	}
	l.looking = on
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *LAN) isLooking() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.looking
}

// Run takes part until ctx ends. Where there is no network, it waits for one.
func (l *LAN) Run(ctx context.Context) {
	for ctx.Err() == nil {
		links := l.links()
		if len(links) == 0 || !l.on(ctx, links) {
			select {
			case <-ctx.Done():
			case <-time.After(linksEvery):
			}
		}
	}
}

// links returns the interfaces over which others can reach us.
func (l *LAN) links() []link {
	all := l.cfg.network.links()
	if !l.cfg.Addr.IsValid() || l.cfg.Self == nil {
		return all
	}
	return slices.DeleteFunc(all, func(k link) bool {
		return !slices.ContainsFunc(k.prefixes, func(p netip.Prefix) bool { return p.Addr() == l.cfg.Addr })
	})
}

// on takes part on these interfaces, until they are others or ctx ends; false when they cannot be used.
func (l *LAN) on(ctx context.Context, links []link) bool {
	inbox := make(chan packet, 64)
	sock, err := l.cfg.network.open(links, func(p packet) {
		select {
		case inbox <- p:
		default: // it is said again
		}
	})
	if err != nil {
		l.cfg.Log.Debug("no multicast here", "err", err)
		return false
	}
	defer sock.close()
	s := &state{l: l, links: links, sock: sock, began: time.Now(), answers: bucket{tokens: answerBurst, last: time.Now()}}
	s.look()
	looked := time.NewTicker(linksEvery)
	defer looked.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.bye()
			return true
		case p := <-inbox:
			s.take(p)
		case <-l.wake:
			s.look()
		case <-looked.C:
			if !slices.EqualFunc(l.links(), links, link.same) {
				return true
			}
		case <-timer.C:
		}
		timer.Reset(max(s.act(time.Now()), 0))
	}
}

func (k link) same(other link) bool {
	return k.index == other.index && k.name == other.name && slices.Equal(k.prefixes, other.prefixes)
}

// has says whether an address is on the network of an interface.
func (k link) has(a netip.Addr) bool {
	if a.Is6() && a.IsLinkLocalUnicast() {
		return a.Zone() == k.name
	}
	return slices.ContainsFunc(k.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// state is a LAN on a network. Only the goroutine of [LAN.on] touches it.
type state struct {
	l         *LAN
	links     []link
	sock      socket
	began     time.Time
	announced int       // how many announcements have gone
	asking    bool      // others are asked for
	askAt     time.Time // when they are next
	askWait   time.Duration
	delayed   []delayed
	toldAt    time.Time // when everybody was told last
	telling   bool      // an answer to everybody waits
	answers   bucket
}

// delayed is an answer that waits.
type delayed struct {
	at time.Time
	to netip.AddrPort // the zero AddrPort: everybody
	q  query
	on link
}

// look takes over whether others are asked for.
func (s *state) look() {
	on := s.l.isLooking()
	if on && !s.asking {
		s.askAt, s.askWait = time.Now(), firstAsk
	}
	s.asking = on
}

// act does what is due, and returns when something is next.
func (s *state) act(now time.Time) time.Duration {
	next := now.Add(linksEvery)
	sooner := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if s.asking {
		if !now.Before(s.askAt) {
			s.sock.ask(appendQuestion(nil, uint16(rand.Uint32()), s.l.cfg.Tag))
			s.askAt = now.Add(s.askWait)
			s.askWait = min(2*s.askWait, maxAsk)
		}
		sooner(s.askAt)
	}
	if s.l.cfg.Self != nil && s.announced < len(announceAt) {
		if at := s.began.Add(announceAt[s.announced]); now.Before(at) {
			sooner(at)
		} else {
			s.announced++
			s.tellAll(announceTTL)
			if s.announced < len(announceAt) {
				sooner(s.began.Add(announceAt[s.announced]))
			}
		}
	}
	s.delayed = slices.DeleteFunc(s.delayed, func(d delayed) bool {
		if now.Before(d.at) {
			sooner(d.at)
			return false
		}
		s.send(d)
		return true
	})
	return next.Sub(now)
}

// addrs returns the addresses that are announced on an interface.
func (s *state) addrs(on link) (out []netip.Addr) {
	for _, p := range on.prefixes {
		if a := p.Addr(); !s.l.cfg.Addr.IsValid() || a == s.l.cfg.Addr {
			out = append(out, a)
		}
	}
	return out
}

// tellAll announces on all interfaces.
func (s *state) tellAll(ttl uint32) {
	for _, on := range s.links {
		s.sock.tell(on, appendAnnouncement(nil, s.l.cfg.Tag, *s.l.cfg.Self, s.addrs(on), ttl))
	}
	s.toldAt = time.Now()
}

func (s *state) bye() {
	if s.l.cfg.Self != nil && s.announced > 0 {
		s.tellAll(0)
	}
}

func (s *state) send(d delayed) {
	self := *s.l.cfg.Self
	if d.to.IsValid() {
		s.sock.answer(appendAnswer(nil, d.q, s.l.cfg.Tag, self, s.addrs(d.on)), d.to)
		return
	}
	s.telling = false
	s.tellAll(announceTTL)
}

// take takes in a packet. One that does not come from this network is nobody's.
func (s *state) take(p packet) {
	i := slices.IndexFunc(s.links, func(k link) bool { return k.has(p.from.Addr()) })
	if i < 0 {
		return
	}
	m, ok := parse(p.b, s.l.cfg.Tag)
	switch {
	case !ok:
	case m.response:
		if p.from.Port() != mdnsPort || s.l.cfg.Hear == nil { // whoever speaks from another port has no right to
			return
		}
		for _, f := range m.found {
			if s.l.cfg.Self != nil && f.Name == s.l.cfg.Self.Name {
				continue
			}
			s.l.cfg.Hear(Heard{
				Service: f.Service, Addr: netip.AddrPortFrom(p.from.Addr(), f.Port), Asked: !p.group, Gone: f.gone,
			})
		}
	case p.group && s.l.cfg.Self != nil:
		s.asked(m.query, p.from, s.links[i])
	}
}

// asked answers a question, soon, if it is about us.
func (s *state) asked(q query, from netip.AddrPort, on link) {
	if !q.about(s.l.cfg.Tag, s.l.cfg.Self.Name) || len(s.delayed) >= maxDelayed || !s.answers.take(time.Now()) {
		return
	}
	at := time.Now().Add(minDelay + rand.N(maxDelay-minDelay))
	if from.Port() != mdnsPort || q.unicast {
		s.delayed = append(s.delayed, delayed{at: at, to: from, q: q, on: on})
		return
	}
	if s.telling {
		return
	}
	if again := s.toldAt.Add(multicastEvery); at.Before(again) {
		at = again
	}
	s.telling = true
	s.delayed = append(s.delayed, delayed{at: at})
}

// bucket bounds how often something is done.
type bucket struct {
	tokens float64
	last   time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(answerBurst, b.tokens+now.Sub(b.last).Seconds()*answerRate)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
