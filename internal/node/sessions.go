package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shoal/internal/content"
	"shoal/internal/exchange"
	"shoal/internal/identity"
	"shoal/internal/peer"
	"shoal/internal/throttle"
	"shoal/internal/wire"
)

// protocol is what TLS calls our frames.
const protocol = "shoal/2"

const (
	// banTime is how long a peer is cut off that sent what it must not.
	banTime = 10 * time.Minute
	// restTime is how long one is that broke the protocol, doubling with each time up to banTime: it may be of another version, or ill. That long after
	// its end it is forgotten.
	restTime = 5 * time.Second
	// holdTime is how long a connection of one that is cut off stays open and says nothing, lest it is back at once: each costs a handshake. Only maxHeld of
	// one peer at once.
	holdTime = 2 * time.Second
	maxHeld  = 4
	// maxDialling bounds the connections that are being made at once.
	maxDialling = 32
	// maxPerPeer bounds the sessions of one peer, however many processes it says to be.
	maxPerPeer = 32
	// neighbours is how many sessions a content wants at most, of those that we make.
	neighbours = exchange.Neighbours
	// fewNeighbours is when the server is asked for others: after drawEvery, and if that does not help, after a wait that doubles up to drawMost.
	fewNeighbours = 20
	drawEvery     = 5 * time.Second
	drawMost      = 10 * time.Minute
	// politeTime is how long one who was there first leaves it to a newcomer to dial.
	politeTime = time.Second
	// A peer that could not be reached is dialled again after a wait that doubles from minRedial to maxRedial.
	minRedial   = time.Second
	maxRedial   = time.Minute
	dialTimeout = 5 * time.Second
	// lookEvery is how often it is looked whether somebody is to be dialled, quietEvery while everybody is connected.
	lookEvery  = 200 * time.Millisecond
	quietEvery = 5 * time.Second
	// dialRate and dialBurst bound how often others are dialled, per second and at once: a server that lies about who is there makes us try
	// no more addresses than that, whoever they belong to.
	dialRate  = 4
	dialBurst = 256
	// maxCandidates bounds the peers that are known of one content, whatever a server claims.
	maxCandidates = 1024
)

// who is one process of one peer: two commands on one machine share a key.
type who struct {
	peer     wire.PeerID
	instance uint64
}

// candidate is a peer that may be dialled.
type candidate struct {
	wire.PeerAddr
	after  time.Time // when it may be dialled next
	wait   time.Duration
	active bool // it is being dialled
}

// holders are those who hold a content, as far as they are known.
type holders struct {
	candidates map[who]*candidate
	total      uint64 // that there are
	seen       bool   // a snapshot has come
	drawn      time.Time
	vain       int // how often others were asked for in a row
}

// sessions are a member's connections to others: it dials, admits, and lets no peer have two.
type sessions struct {
	m *Member

	mu       sync.Mutex // guards what follows
	open     map[who]*live
	cut      map[wire.PeerID]*cut
	holders  map[content.ID]*holders
	limits   map[*throttle.Rate]bool // of each session
	limit    int64                   // that they have; 0: none
	dialling int
	budget   bucket

	found   atomic.Bool   // somebody has connected to us
	wake    chan struct{} // holds one: there may be somebody to dial
	running sync.WaitGroup
}

// cut is a peer that was cut off.
type cut struct {
	until time.Time
	times int // that it broke the protocol
	held  int // of its connections are held
}

// live is a session that is in use.
type live struct {
	s    *peer.Session
	stop func(error)
}

func newSessions(m *Member) *sessions {
	return &sessions{
		m: m, open: make(map[who]*live), cut: make(map[wire.PeerID]*cut),
		holders: make(map[content.ID]*holders), limits: make(map[*throttle.Rate]bool), wake: make(chan struct{}, 1),
		budget: newBucket(dialRate, dialBurst),
	}
}

// heard takes in what the server tells of the holders of a content.
func (ss *sessions) heard(m *wire.Peers) {
	nobody := len(m.Added) == 0 && m.Total <= 1 && ss.m.gives(m.ID) // so it is with most contents of a peer that has many
	ss.mu.Lock()
	defer ss.mu.Unlock()
	h := ss.holders[m.ID]
	if h == nil {
		if nobody {
			return
		}
		h = &holders{candidates: make(map[who]*candidate)}
		ss.holders[m.ID] = h
	}
	known := h.candidates
	h.total = m.Total
	wait := politeTime
	old := known
	if m.Snapshot {
		wait = 0
		known = make(map[who]*candidate)
		for k, c := range old {
			if c.active {
				known[k] = c
			}
		}
		h.candidates, h.seen, h.drawn = known, true, time.Now()
	}
	for _, a := range m.Added {
		k := who{a.ID, a.Instance}
		switch {
		case a.ID == ss.m.self && a.Instance == ss.m.instance, len(known) >= maxCandidates:
		case known[k] != nil:
			known[k].PeerAddr = a
		case old[k] != nil && slices.Equal(old[k].Addrs, a.Addrs): // to be named again is no reason to be dialled sooner
			old[k].PeerAddr, known[k] = a, old[k]
		default:
			known[k] = &candidate{PeerAddr: a, after: time.Now().Add(wait), wait: minRedial}
		}
	}
	for _, a := range m.Gone { // a connection that works goes on
		if c := known[who{a.ID, a.Instance}]; c != nil && !c.active {
			delete(known, who{a.ID, a.Instance})
		}
	}
	ss.kick()
}

// forget drops what is known of a content.
func (ss *sessions) forget(id content.ID) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.holders, id)
}

// sources returns how many holders of a content may still be of use; known is false before the server has told.
func (ss *sessions) sources(id content.ID) (n int, known bool) {
	alone := ss.m.Alone()
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if alone { // whoever is there may be one
		return len(ss.open), true
	}
	h := ss.holders[id]
	if h == nil {
		return 0, false
	}
	for k := range h.candidates {
		if !ss.isSetAside(k.peer) {
			n++
		}
	}
	return n, h.seen
}

func (ss *sessions) kick() {
	select {
	case ss.wake <- struct{}{}:
	default:
	}
}

// run dials whom it should until ctx ends, and ends all sessions then.
func (ss *sessions) run(ctx context.Context) {
	defer ss.running.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ss.wake:
		case <-timer.C:
		}
		for _, id := range ss.thin() {
			ss.m.client.Follow(id, true)
		}
		due, all := ss.due()
		timer.Reset(lookEvery)
		if all {
			timer.Reset(quietEvery)
		}
		for _, d := range due {
			ss.running.Go(func() {
				ss.dialled(d.candidate, ss.dial(ctx, d.to))
			})
		}
	}
}

// dialled takes in what has become of an attempt.
func (ss *sessions) dialled(c *candidate, err error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	c.active = false
	ss.dialling--
	c.after = time.Now().Add(c.wait)
	c.wait = min(2*c.wait, maxRedial)
	if err == nil {
		c.wait = minRedial
	}
}

// thin returns the contents of which fewer holders are known than there are and than one wants: the server is asked for another draw.
// Who could not be reached does not count: else one who fills a draw with such holders would hide all others for ever.
func (ss *sessions) thin() (out []content.ID) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	now := time.Now()
	for id, h := range ss.holders {
		n := 0
		for k, c := range h.candidates {
			if ss.open[k] != nil || len(c.Addrs) > 0 && c.wait <= minRedial && !ss.isSetAside(k.peer) {
				n++
			}
		}
		switch {
		case n >= fewNeighbours:
			h.vain = 0
		case len(h.candidates) == 0 && h.total <= 1: // nobody else has it
		case uint64(n) < h.total && now.Sub(h.drawn) > min(drawEvery<<min(h.vain, 10), drawMost):
			h.drawn = now
			h.vain++
			out = append(out, id)
		}
	}
	return out
}

// dialling is a candidate that is to be dialled, where it was known to be then: the server may name other addresses meanwhile.
type dialling struct {
	*candidate
	to wire.PeerAddr
}

// due returns who is to be dialled now, and counts them as being dialled; and whether all that are known are connected.
func (ss *sessions) due() (out []dialling, all bool) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	now := time.Now()
	all = true
	for id, h := range ss.holders {
		known, connected := h.candidates, 0
		for k := range known {
			if ss.open[k] != nil {
				connected++
			}
		}
		all = all && connected == len(known)
		connected = max(connected, ss.m.neighboursOf(id))
		for k, c := range known {
			if connected+ss.dialling >= neighbours || ss.dialling >= maxDialling {
				break
			}
			if ss.open[k] != nil || c.active || len(c.Addrs) == 0 && len(ss.m.near.reach(k.peer, k.instance)) == 0 || now.Before(c.after) || ss.isSetAside(k.peer) || ss.beingDialled(k) {
				continue
			}
			if !ss.budget.take(now) {
				return out, false
			}
			c.active = true
			ss.dialling++
			out = append(out, dialling{c, c.PeerAddr})
		}
	}
	return out, all
}

// beingDialled says whether a peer is dialled for the sake of any content.
func (ss *sessions) beingDialled(k who) bool {
	for _, h := range ss.holders {
		if c := h.candidates[k]; c != nil && c.active {
			return true
		}
	}
	return false
}

// dial tries the addresses of a peer, and runs the session at the first that answers. It returns when the session is
// in use, or could not be made.
func (ss *sessions) dial(ctx context.Context, to wire.PeerAddr) error {
	var errs []error
	for i, addr := range append(slices.Clone(to.Addrs), ss.m.near.reach(to.ID, to.Instance)...) {
		if i < len(to.Addrs) && !ss.m.mayDial(addr) {
			continue
		}
		tc, under, err := dialTLS(ctx, addr, ss.m.cfg.Swarm.ClientConfig(identity.Peer{ID: to.ID}))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		inUse := make(chan bool, 1)
		ss.running.Go(func() {
			ss.serve(ctx, tc, under, to.ID, func(*peer.Session) { inUse <- true })
			inUse <- false
		})
		if <-inUse {
			return nil
		}
		return fmt.Errorf("%s does not use the connection", addr)
	}
	ss.m.cfg.Log.Debug("cannot dial peer", "peer", identity.PeerShort(to.ID), "err", errors.Join(errs...))
	return errors.Join(append(errs, errors.New("no address"))...)
}

// dialTLS makes a connection of frames.
func dialTLS(ctx context.Context, addr string, cfg *tls.Config) (*tls.Conn, *peer.Coalesced, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	under := peer.Coalesce(conn)
	tc := tls.Client(under, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, nil, err
	}
	under.Gather()
	return tc, under, nil
}

// accept serves a connection that another peer made.
func (ss *sessions) accept(ctx context.Context, tc *tls.Conn, under *peer.Coalesced) {
	under.Gather() // the swarm server's connections carry no pieces, and have no room for them: it may have a hundred thousand
	id, _, err := ss.m.cfg.Swarm.PeerOf(tc.ConnectionState())
	if err != nil {
		tc.Close()
		return
	}
	ss.serve(ctx, tc, under, id, nil)
}

// isCutOff says whether nobody talks to a peer. ss.mu is held.
func (ss *sessions) isCutOff(id wire.PeerID) bool {
	return ss.isSetAside(id) || ss.m.cfg.Swarm.IsRemoved(id)
}

// isSetAside says whether nobody talks to a peer for a while, as it did what it must not. ss.mu is held.
func (ss *sessions) isSetAside(id wire.PeerID) bool {
	c := ss.cut[id]
	return c != nil && time.Now().Before(c.until)
}

// refuse closes a connection of one that is cut off: those that it made, not at once.
func (ss *sessions) refuse(ctx context.Context, tc *tls.Conn, id wire.PeerID, theirs bool) {
	defer tc.Close()
	ss.mu.Lock()
	c := ss.cut[id]
	if !theirs || c == nil || c.held >= maxHeld {
		ss.mu.Unlock()
		return
	}
	c.held++
	ss.mu.Unlock()
	select {
	case <-time.After(holdTime):
	case <-ctx.Done():
	}
	ss.mu.Lock()
	c.held--
	ss.mu.Unlock()
}

// serve runs a session until it ends. Dialled is called when one that we made is in use; nil: the other made it.
func (ss *sessions) serve(ctx context.Context, tc *tls.Conn, under *peer.Coalesced, id wire.PeerID, dialled func(*peer.Session)) {
	ss.mu.Lock()
	refused := ss.isCutOff(id)
	ss.mu.Unlock()
	if refused {
		ss.refuse(ctx, tc, id, dialled == nil)
		return
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var s *peer.Session
	var join sync.Once
	talk := ss.m.near.newTalk(tc)
	enter := func() {
		join.Do(func() {
			if dialled == nil {
				ss.found.Store(true)
			}
			ss.enter(s, stop)
			ss.m.near.enter(s, talk)
			if dialled != nil {
				dialled(s)
			}
		})
	}
	own := ss.newLimit()
	defer ss.dropLimit(own)
	s = peer.NewSession(peer.SessionConfig{
		Conn: tc, Flush: under.Flush, Widen: under.Widen, Below: under, Limit: ss.m.up, Own: own, Self: ss.m.self, Other: id, Dialled: dialled != nil, Hello: ss.m.hello(),
		Choose: ss.choose,
		Handle: func(s *peer.Session, m wire.Message) error {
			enter()
			if talk.handle(s, m, stop) {
				return nil
			}
			return ss.m.x.Handle(s, m)
		},
		Book: ss.m.book, Log: ss.m.cfg.Log,
	})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-s.Ready():
			enter()
		case <-ctx.Done():
		}
	})
	err := s.Run(ctx)
	cause := context.Cause(ctx)
	stop(nil)
	watching.Wait()
	ss.m.near.leave(s)
	ss.leave(s)
	var offended *exchange.Offence
	var bye *peer.ByeError
	if errors.Is(cause, exchange.ErrSpare) || errors.As(err, &bye) && bye.Reason == wire.ReasonSpare {
		ss.spare(who{id, s.Instance()})
	}
	if errors.As(cause, &offended) {
		ss.m.book.Note(offended.Reason, s.Addr(), offended)
		ss.ban(id)
	} else if errors.Is(err, peer.ErrProtocol) && !errors.Is(err, peer.ErrVersion) {
		ss.rest(id)
	}
	ss.m.cfg.Log.Debug("session ended", "peer", identity.PeerShort(id), "addr", s.Addr(), "err", errors.Join(err, cause))
}

// newLimit makes the limit of what one neighbour is given.
func (ss *sessions) newLimit() *throttle.Rate {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	r := throttle.New(ss.limit)
	ss.limits[r] = true
	return r
}

func (ss *sessions) dropLimit(r *throttle.Rate) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.limits, r)
}

// setLimit changes the limit of what one neighbour is given.
func (ss *sessions) setLimit(perSecond int64) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.limit = perSecond
	for r := range ss.limits {
		r.Set(perSecond)
	}
}

// choose says whether a session is the one to be used with its peer: an older one is kept.
func (ss *sessions) choose(s *peer.Session) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	k := who{s.Peer(), s.Instance()}
	if ss.open[k] != nil {
		return false
	}
	ss.open[k] = &live{s: s, stop: func(error) {}} // its place is taken from now on
	return true
}

// enter takes up a session that both sides use.
func (ss *sessions) enter(s *peer.Session, stop func(error)) {
	ss.mu.Lock()
	k := who{s.Peer(), s.Instance()}
	old := ss.open[k]
	ss.open[k] = &live{s, stop}
	if ss.isCutOff(s.Peer()) { // since it connected: it is not in what a ban looks through before now
		stop(errors.New("cut off"))
	} else if (old == nil || old.s == s) && ss.countOf(k.peer) > maxPerPeer {
		stop(errors.New("too many connections of one peer"))
	}
	ss.mu.Unlock()
	if old != nil && old.s != s { // the other has found it dead
		old.stop(errors.New("replaced by a newer connection"))
	}
	ss.m.x.Join(s, stop)
}

func (ss *sessions) leave(s *peer.Session) {
	ss.m.x.Leave(s)
	ss.mu.Lock()
	defer ss.mu.Unlock()
	k := who{s.Peer(), s.Instance()}
	if l := ss.open[k]; l != nil && l.s == s {
		delete(ss.open, k)
		ss.kick()
	}
}

// spare leaves one alone for a while of which neither side had any use.
func (ss *sessions) spare(k who) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, h := range ss.holders {
		if c := h.candidates[k]; c != nil {
			c.after = time.Now().Add(maxRedial)
		}
	}
}

// ban cuts a peer off, whatever its instance.
func (ss *sessions) ban(id wire.PeerID) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.setAside(id, banTime)
}

// rest cuts a peer off that broke the protocol: the longer, the more often it did.
func (ss *sessions) rest(id wire.PeerID) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.isSetAside(id) { // what ends together counts once
		return
	}
	times := 0
	if c := ss.cut[id]; c != nil {
		times = c.times
	}
	ss.setAside(id, min(restTime<<min(times, 10), banTime)).times++
}

// setAside cuts a peer off for a while, and forgets those for whom that is long over. ss.mu is held.
func (ss *sessions) setAside(id wire.PeerID, d time.Duration) *cut {
	now := time.Now()
	for old, c := range ss.cut {
		if old != id && c.held == 0 && now.After(c.until.Add(banTime)) {
			delete(ss.cut, old)
		}
	}
	c := ss.cut[id]
	if c == nil {
		c = &cut{}
		ss.cut[id] = c
	}
	c.until = now.Add(d)
	for k, l := range ss.open {
		if k.peer == id {
			l.stop(errors.New("cut off"))
		}
	}
	return c
}

// countOf returns how many sessions of a peer are open. ss.mu is held.
func (ss *sessions) countOf(id wire.PeerID) (n int) {
	for k := range ss.open {
		if k.peer == id {
			n++
		}
	}
	return n
}

// cutRemoved ends the sessions of those who are no members any more.
func (ss *sessions) cutRemoved() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for k, l := range ss.open {
		if ss.m.cfg.Swarm.IsRemoved(k.peer) {
			l.stop(errors.New("no member any more"))
		}
	}
}

// wasFound says whether anybody has ever connected to us.
func (ss *sessions) wasFound() bool { return ss.found.Load() }

// count returns how many sessions are open.
func (ss *sessions) count() int {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return len(ss.open)
}
