package node

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"shoal/internal/identity"
	"shoal/internal/lan"
	"shoal/internal/peer"
	"shoal/internal/swarm"
	"shoal/internal/wire"
)

// LANMode says what a member does on the local network.
type LANMode int

// The modes.
const (
	LANOff  LANMode = iota // nothing
	LANLook                // looks for others when no server answers
	LANFull                // and lets others find it
)

const (
	// maxNear bounds the neighbours on the local network that are known, maxNearOf those at one address, maxNearServers the servers.
	maxNear        = 256
	maxNearOf      = 8
	maxNearServers = 4
	// nearSessions is how many sessions there may be before no more neighbours are dialled.
	nearSessions = 40
	// nearDialling bounds the neighbours that are dialled at once; nearRate and nearBurst how often, per second and at once. Whoever
	// announces what is not there costs no more.
	nearDialling = 8
	nearRate     = 4
	nearBurst    = 64
	nearTimeout  = 2 * time.Second
	// A neighbour that cannot be reached is dialled again after a wait that doubles from minRedial to maxNearRedial.
	maxNearRedial = 5 * time.Minute
	// nearMemory is how long a neighbour is known that was not heard of again.
	nearMemory = 15 * time.Minute
	// graceTime is how long the server is waited for before others are looked for.
	graceTime = time.Second
	// settleTime is how long after the first question the answers of all have come; settleMost bounds how long liars can put that off.
	settleTime = time.Second
	settleMost = 4 * time.Second
	// nearPatience is how long others are looked for before nobody counts as there.
	nearPatience = 3 * time.Second
)

// near is the local network, as a member uses it while no server answers: it finds others of the swarm, and dials them. Once a
// session is there, it is as any other.
type near struct {
	m   *Member
	lan announcer // nil: it is not used

	mu       sync.Mutex // guards what follows
	known    map[nearKey]*neighbour
	servers  map[netip.AddrPort]time.Time // when they were heard of
	why      error                        // why no server answers, as far as one has not
	since    time.Time                    // since when others are looked for; zero: they are not
	dialling int
	budget   bucket
	talks    map[*peer.Session]*talk

	wake    chan struct{} // holds one: there may be somebody to dial
	served  chan struct{} // holds one: a server was heard
	running sync.WaitGroup
}

// announcer is what speaks on the local network: a [lan.LAN], or a test's.
type announcer interface {
	Run(ctx context.Context)
	Look(on bool)
}

// nearKey is what a neighbour is known by: anybody can claim a name, but not speak from another's address.
type nearKey struct {
	name string
	addr netip.Addr
}

// neighbour is one who was heard on the local network.
type neighbour struct {
	addr   netip.AddrPort
	heard  time.Time
	after  time.Time // when it may be dialled next
	wait   time.Duration
	tries  int
	active bool // it is being dialled
}

func newNear(m *Member) *near {
	return &near{
		m: m, known: make(map[nearKey]*neighbour), servers: make(map[netip.AddrPort]time.Time),
		budget: newBucket(nearRate, nearBurst), talks: make(map[*peer.Session]*talk), wake: make(chan struct{}, 1),
		served: make(chan struct{}, 1),
	}
}

// prepare makes ready for the local network, unless nobody there could reach us.
func (n *near) prepare(at *net.TCPAddr) {
	self := at.AddrPort().Addr().Unmap()
	if n.m.cfg.LAN == LANOff || n.m.classic != nil || self.IsLoopback() {
		return
	}
	cfg := lan.Config{Tag: n.m.cfg.Swarm.LANTag(), Hear: n.hear, Log: n.m.cfg.Log}
	if n.m.cfg.LAN == LANFull {
		cfg.Self = &lan.Service{Name: n.m.cfg.Swarm.LANName(n.m.self, n.m.instance), Port: uint16(at.Port)}
	}
	if !self.IsUnspecified() {
		cfg.Addr = self
	}
	n.lan = lan.New(cfg)
}

// run looks for others while no server answers, until ctx ends.
func (n *near) run(ctx context.Context) {
	if n.lan == nil {
		return
	}
	defer n.running.Wait()
	n.running.Go(func() { n.lan.Run(ctx) })
	grace := time.NewTimer(graceTime)
	defer grace.Stop()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		case <-ticker.C:
		case <-grace.C:
			if _, up := n.m.client.Up(); !up {
				n.look(nil)
			}
		}
		for k, to := range n.due(time.Now()) {
			n.running.Go(func() { n.dial(ctx, k, to) })
		}
		if n.mayBegin(time.Now()) {
			n.m.enterOne.Do(func() {
				n.m.cfg.Warn("no server of the swarm answers: on this network only; trying again")
				close(n.m.entered)
			})
		}
	}
}

// absent says whether a member goes on without the server that could not be reached. It does not when the swarm itself refuses it.
func (n *near) absent(err error) bool {
	for _, final := range []error{identity.ErrForeign, identity.ErrRole, identity.ErrPeer, identity.ErrRemoved} {
		if errors.Is(err, final) {
			return false
		}
	}
	n.look(err)
	return n.lan != nil
}

// look begins to look for others: no server answers, for that reason.
func (n *near) look(why error) {
	if n.lan == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if why != nil {
		n.why = why
	}
	if n.since.IsZero() {
		n.since = time.Now()
	}
	n.lan.Look(true)
}

// rest ends that: a server answers.
func (n *near) rest() {
	if n.lan == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.why, n.since = nil, time.Time{}
	n.lan.Look(false)
}

// alone says whether others are looked for on the local network.
func (n *near) alone() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.since.IsZero()
}

// mayBegin says whether the member may do its work without a server: somebody was found, or nobody is there for now.
func (n *near) mayBegin(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.since.IsZero() || n.why == nil && len(n.talks) == 0 {
		return false
	}
	met := n.why != nil && len(n.talks) > 0 && len(n.servers) == 0
	return met || now.Sub(n.since) > settleTime // a server that was heard is given that time
}

// noServer is the error of one who has found nobody.
func (n *near) noServer() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	why := n.why
	if why == nil {
		why = errors.New("it does not answer")
	}
	return &ServerError{Server: strings.Join(n.m.servers(), ","), Err: why, Looked: true}
}

// hear takes in what was heard on the local network.
func (n *near) hear(h lan.Heard) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if h.Server {
		n.hearServer(h, now)
		return
	}
	k := nearKey{h.Name, h.Addr.Addr()}
	e := n.known[k]
	switch {
	case h.Gone:
		delete(n.known, k)
		return
	case e == nil:
		if !n.room(k.addr) {
			return
		}
		e = &neighbour{wait: minRedial, after: now}
		if !h.Asked { // it has just come, and looks for us itself
			e.after = now.Add(politeTime)
		}
		n.known[k] = e
	}
	e.addr, e.heard = h.Addr, now
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *near) hearServer(h lan.Heard, now time.Time) {
	if h.Gone {
		return // its port is not said
	}
	if _, known := n.servers[h.Addr]; !known && len(n.servers) >= maxNearServers {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(n.servers)), func(a, b netip.AddrPort) int { return n.servers[a].Compare(n.servers[b]) })
		delete(n.servers, oldest)
	}
	n.servers[h.Addr] = now
	select {
	case n.served <- struct{}{}:
	default:
	}
}

// room makes room for one more at an address. n.mu is held.
func (n *near) room(at netip.Addr) bool {
	same := 0
	for k := range n.known {
		if k.addr == at {
			same++
		}
	}
	if same >= maxNearOf {
		return false
	}
	if len(n.known) < maxNear {
		return true
	}
	for k, e := range n.known { // any other: a map's order is nobody's
		if !e.active {
			delete(n.known, k)
			return true
		}
	}
	return false
}

// dialServers connects to a server where it is known to be, or where one was heard: its address may have changed.
func (n *near) dialServers(ctx context.Context) (*swarm.V2Link, error) {
	if n.lan == nil {
		return n.m.dialServers(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	known, elsewhere := context.WithCancel(ctx)
	defer elsewhere()
	failed := make(chan struct{})
	var heard *swarm.V2Link
	var dialling sync.WaitGroup
	dialling.Go(func() {
		if heard = n.dialHeard(ctx, failed); heard != nil {
			elsewhere()
		}
	})
	link, err := n.m.dialServers(known)
	if err == nil {
		cancel()
	}
	close(failed)
	dialling.Wait()
	switch {
	case heard == nil:
		return link, err
	case link != nil:
		heard.Conn.Close()
		return link, nil
	}
	return heard, nil
}

// dialHeard connects to a server that was heard, until all that are known have failed and so have those.
func (n *near) dialHeard(ctx context.Context, failed <-chan struct{}) *swarm.V2Link {
	tried := make(map[netip.AddrPort]bool)
	for {
		addr, ok := n.heardServer(tried)
		if !ok {
			select {
			case <-n.served:
				continue
			case <-failed:
			case <-ctx.Done():
			}
			return nil
		}
		tried[addr] = true
		dialling, cancel := context.WithTimeout(ctx, nearTimeout)
		link, err := n.m.dialServer(dialling, addr.String())
		cancel()
		if err == nil {
			return link
		}
		n.m.cfg.Log.Debug("no server where one was heard", "addr", addr, "err", err)
	}
}

// heardServer returns where a server was heard that was not tried.
func (n *near) heardServer(tried map[netip.AddrPort]bool) (addr netip.AddrPort, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for a := range n.servers {
		if tried[a] || len(tried) >= 2*maxNearServers {
			continue
		}
		if addr, ok = a, true; !a.Addr().IsLinkLocalUnicast() { // the server tells others from where we come, if it means something to them
			break
		}
	}
	return addr, ok
}

// reach returns where a peer that a server named was heard on the local network.
func (n *near) reach(id wire.PeerID, instance uint64) (out []string) {
	if n.lan == nil {
		return nil
	}
	name := n.m.cfg.Swarm.LANName(id, instance)
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, e := range n.known {
		if k.name == name && len(out) < maxNearOf {
			out = append(out, e.addr.String())
		}
	}
	return out
}

// met returns the names of those with whom there is a session.
func (n *near) met() map[string]bool {
	n.m.ss.mu.Lock()
	open := slices.Collect(maps.Keys(n.m.ss.open))
	n.m.ss.mu.Unlock()
	out := make(map[string]bool, len(open))
	for _, k := range open {
		out[n.m.cfg.Swarm.LANName(k.peer, k.instance)] = true
	}
	return out
}

// due returns who is to be dialled now, and counts them as being dialled.
func (n *near) due(now time.Time) map[nearKey]netip.AddrPort {
	if n.idle(now) {
		return nil
	}
	met := n.met()
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[nearKey]netip.AddrPort)
	for k, e := range n.known {
		if e.active || met[k.name] || now.Before(e.after) ||
			n.dialling >= nearDialling || len(met)+n.dialling >= nearSessions || !n.budget.take(now) {
			continue
		}
		e.active = true
		e.tries++
		n.dialling++
		out[k] = e.addr
	}
	return out
}

// idle forgets who was not heard of for long, and says whether there is nobody to dial.
func (n *near) idle(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.known, func(_ nearKey, e *neighbour) bool { return !e.active && now.Sub(e.heard) > nearMemory })
	return n.since.IsZero() || len(n.known) == 0
}

// settled says whether all who are there have been found, as far as one can know.
func (n *near) settled(now time.Time) bool {
	met := n.met()
	n.mu.Lock()
	defer n.mu.Unlock()
	switch took := now.Sub(n.since); {
	case n.since.IsZero() || took < settleTime:
		return false
	case took > settleMost || len(met) >= nearSessions:
		return true
	}
	for k, e := range n.known {
		if !met[k.name] && (e.active || e.tries == 0) {
			return false
		}
	}
	return true
}

// dial makes a session with whoever is at an address, if it is a member of the swarm.
func (n *near) dial(ctx context.Context, k nearKey, to netip.AddrPort) {
	right, err := n.meet(ctx, k.name, to)
	n.m.cfg.Log.Debug("dialled a neighbour", "addr", to, "err", err)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialling--
	e := n.known[k]
	if e == nil {
		return
	}
	e.active = false
	e.after = time.Now().Add(e.wait)
	e.wait = min(2*e.wait, maxNearRedial)
	switch {
	case err == nil && right:
		e.wait = minRedial
	case err == nil: // a member, and not the one that was announced
		delete(n.known, k)
	}
}

// meet dials; right says whether the peer is the one that has the name.
func (n *near) meet(ctx context.Context, name string, to netip.AddrPort) (right bool, err error) {
	shaking, cancel := context.WithTimeout(ctx, nearTimeout)
	tc, under, err := dialTLS(shaking, to.String(), n.m.cfg.Swarm.ClientConfig(identity.Peer{Any: true}))
	cancel()
	if err != nil {
		return false, err
	}
	id, _, err := n.m.cfg.Swarm.PeerOf(tc.ConnectionState())
	if err != nil {
		tc.Close()
		return false, err
	}
	inUse := make(chan *peer.Session, 1)
	n.running.Go(func() {
		n.m.ss.serve(ctx, tc, under, id, func(s *peer.Session) { inUse <- s })
		close(inUse)
	})
	s := <-inUse
	if s == nil {
		return false, errors.New("the connection is not used")
	}
	return n.m.cfg.Swarm.LANName(id, s.Instance()) == name, nil
}

// bucket bounds how often something is done.
type bucket struct {
	rate, burst float64 // per second, and at once
	tokens      float64
	last        time.Time
}

func newBucket(rate, burst float64) bucket {
	return bucket{rate: rate, burst: burst, tokens: burst, last: time.Now()}
}

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(b.burst, b.tokens+now.Sub(b.last).Seconds()*b.rate)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
