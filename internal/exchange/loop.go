package exchange

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"shoal/internal/content"
	"shoal/internal/peer"
	"shoal/internal/schedule"
	"shoal/internal/store"
	"shoal/internal/wire"

	"github.com/bits-and-blooms/bitset"
)

// loop is the state of a running exchange. Only its own goroutine touches it.
type loop struct {
	x          *Exchange
	ctx        context.Context // of what runs beside it
	start      time.Time
	giver      *schedule.Giver
	rand       *rand.Rand
	contents   map[content.ID]*exchanged
	order      []*exchanged // contents by their number, nil where one was removed: what is done for all is done in this order
	conns      map[*peer.Session]*conn
	byID       []*conn // sessions by their number, nil where one has left
	identities map[wire.PeerID]int
	down       *schedule.Limit // of all contents together
	perDown    int64           // bytes per second that one neighbour is asked for; 0: no limit
	free       []int           // numbers of contents that rest
	loading    int             // manifests
	toLoad     []*exchanged    // whose manifests are to be loaded

	measured    time.Duration // when progress was read last
	countedAt   time.Duration // when readers' and writers' counts were
	ticks       int           // how often progress was read
	arrived     int64         // bytes that have arrived at all neighbours
	newsPending bool          // news wait to be told
	newsAt      time.Duration // when the first are due
}

// conn is what the loop knows of a session.
type conn struct {
	s        *peer.Session
	stop     func(error)
	id       int // for the schedule
	identity int // for the schedule
	next     uint64
	channels map[uint64]*channel
	of       map[*exchanged]*channel
	opened   int
	work     work
	giving   []*giving       // what is served of it
	sent     atomic.Int64    // bytes of pieces; the session's writer counts, the loop reads
	counted  int64           // of those, at the last look
	acked    int64           // bytes that had arrived there at the last look
	moved    time.Duration   // when pieces were sent to it last
	down     *schedule.Limit // of what it is asked for
}

// giving is a request of the other's that is served.
type giving struct {
	credit uint64
	c      *exchanged
	piece  uint32
	lost   atomic.Bool  // the rest of the piece does not come
	sent   atomic.Int64 // bytes; the session's writer counts, the loop reads
	looked int64        // of those: in its content's course
}

// exchanged is what the loop knows of a content.
type exchanged struct {
	*Content
	number   int
	epoch    uint64
	encoded  []byte              // the manifest as it is sent; nil: not made yet
	waiting  []asked             // for it
	loads    bool                // it is loaded, or will be
	idle     time.Duration       // when somebody exchanged it last
	wakes    bool                // it can rest
	download *store.Download     // nil: we have everything, or nothing as long as there is no manifest
	taker    *schedule.Taker     // nil: nothing is fetched
	places   map[uint32][]*fetch // requests under way, by piece
	proofs   proofs
	channels []*channel
	asked    []*asking           // for the manifest
	askedAt  time.Time           // when one of them was last
	tried    map[wire.PeerID]int // how often each peer was
	paused   time.Time           // until when nothing is asked for
	received int64
	wasted   int64
	sent     int64
	rate     float64
	measured int64
	far      far
	still    bool // nothing of what is published can change while nobody exchanges it
}

// fetch is a request of ours under way.
type fetch struct {
	p       *place
	request uint64
	counted int64
	givenUp bool // its end has not come yet
}

// channel is one content on one session.
type channel struct {
	n      uint64
	conn   *conn
	c      *exchanged
	gone   bool
	epoch  uint64 // the other's
	known  bool   // the other has the manifest
	size   int64  // that it claims, if it is known
	info   bool   // it has answered
	all    bool
	full   bool           // theirs are all
	theirs *bitset.BitSet // the pieces that the other has
	news   schedule.News  // pieces that it is to be told of

	theirWant, ourWant schedule.Want
	resting            time.Time // until when it is not asked: it could not read
	passed             bool      // we have passed a credit of it, and hence taken our want back, without the schedule's knowledge

	received, sent int64
	active         int
}

func (l *loop) now() time.Duration { return time.Since(l.start) }

// has says whether we can give a piece.
func (c *exchanged) has(piece uint32) bool {
	switch {
	case c.Manifest == nil || piece >= c.Manifest.Geo.Pieces:
		return false
	case c.download != nil:
		return c.download.Have(piece)
	}
	return c.Source != nil
}

func (c *exchanged) all() bool {
	return c.Manifest != nil && (c.download == nil && c.Source != nil || c.download != nil && c.download.HaveAll())
}

func (l *loop) add(content *Content) {
	if l.contents[content.ID] != nil {
		return
	}
	l.openAll(l.bring(content))
}

// openAll begins a content on all sessions.
func (l *loop) openAll(c *exchanged) {
	for _, n := range l.byID {
		if n != nil { // also when we have everything: it may have asked before, and was refused
			l.open(n, c)
		}
	}
	c.publish()
}

// bring takes up a content.
func (l *loop) bring(content *Content) *exchanged {
	c := &exchanged{Content: content, number: len(l.order), epoch: 1, places: make(map[uint32][]*fetch), idle: l.now()}
	if n := len(l.free); n > 0 {
		c.number, l.free = l.free[n-1], l.free[:n-1]
		l.order[c.number] = c
	} else {
		l.order = append(l.order, c)
	}
	l.contents[content.ID] = c
	if content.Manifest != nil {
		l.giver.AddContent(c.number, content.Manifest.Geo.Piece, content.Manifest.Geo.Pieces, content.Source != nil)
	}
	return c
}

func (l *loop) remove(id content.ID) {
	c := l.contents[id]
	if c == nil {
		return
	}
	for len(c.channels) > 0 {
		ch := c.channels[0]
		ch.conn.s.Send(&wire.Close{Channel: ch.n, Reason: wire.ReasonClosing})
		l.closeChannel(ch)
	}
	if c.Manifest != nil {
		l.giver.RemoveContent(c.number)
	}
	delete(l.contents, id)
	l.x.neighbours.Delete(id)
	l.order[c.number] = nil
}

// begin starts to fetch the pieces that are wanted: the manifest is known, and the store is open. It may be called again, with more wanted.
func (l *loop) begin(id content.ID, d *store.Download) {
	c := l.contents[id]
	if c == nil || c.Manifest == nil {
		return
	}
	g := c.Manifest.Geo
	c.download, c.Source = d, d
	if d.Done() {
		for _, ch := range c.channels {
			l.sendInfo(ch)
			l.snapshot(ch)
		}
		c.publish()
		c.Complete()
		return
	}
	c.taker = schedule.NewTaker(schedule.TakerConfig{
		Pieces: g.Pieces, PieceLen: g.Len, Have: func(p uint32) bool { return d.Have(p) || !d.Wanted(p) }, Rand: l.rand, Sequential: c.Sequential, MaxInFlight: maxInFlight, PartLen: g.Part(),
		Limit: l.down,
		Site:  l.x.cfg.Site != "", Rank: wire.SiteRank(c.ID, l.x.cfg.Self, l.x.cfg.Instance),
	})
	for _, ch := range c.channels {
		l.addGiver(ch)
		l.takeHaves(ch)
		if l.sendInfo(ch); d.Bytes() > 0 {
			l.snapshot(ch)
		}
	}
	c.publish()
}

func (l *loop) join(s *peer.Session, stop func(error)) {
	n := &conn{s: s, stop: stop, id: len(l.byID), channels: make(map[uint64]*channel), of: make(map[*exchanged]*channel), down: schedule.NewLimit(1)}
	n.down.Set(l.now(), l.perDown, 0)
	for i, other := range l.byID { // the lowest number that is free
		if other == nil {
			n.id = i
			break
		}
	}
	if n.id == len(l.byID) {
		l.byID = append(l.byID, nil)
	}
	l.byID[n.id], l.conns[s] = n, n
	n.next = 2
	if s.Dialled() {
		n.next = 1
	}
	identity, known := l.identities[s.Peer()]
	if !known {
		identity = len(l.identities)
		l.identities[s.Peer()] = identity
	}
	n.identity = identity
	l.giver.AddPeer(n.id, identity)
	if l.inside(n) {
		l.giver.SetInside(n.id)
	}
	for _, c := range l.order {
		if c != nil && !c.all() { // who has everything is asked by those who do not
			l.open(n, c)
		}
	}
}

func (l *loop) leave(s *peer.Session) {
	n := l.conns[s]
	if n == nil {
		return
	}
	for _, ch := range n.of {
		l.closeChannel(ch)
	}
	for _, g := range n.giving {
		l.giver.Progress(l.now(), n.id, g.credit, g.sent.Load())
	}
	l.giver.RemovePeer(l.now(), n.id)
	delete(l.conns, s)
	l.byID[n.id] = nil
}

// open begins a content on a session, if it is not there yet.
func (l *loop) open(n *conn, c *exchanged) {
	if n.of[c] != nil || n.opened >= maxChannels {
		return
	}
	ch := l.newChannel(n, c, n.next)
	n.next += 2
	n.s.Send(&wire.Open{Channel: ch.n, ID: c.ID})
	l.sendInfo(ch)
	l.snapshot(ch)
}

func (l *loop) newChannel(n *conn, c *exchanged, number uint64) *channel {
	ch := &channel{n: number, conn: n, c: c}
	n.channels[number], n.of[c] = ch, ch
	n.opened++
	c.channels = append(c.channels, ch)
	l.x.neighbours.Store(c.ID, len(c.channels))
	if c.taker != nil {
		l.addGiver(ch)
	}
	return ch
}

// closeChannel forgets a content on a session. Its requests end by themselves.
func (l *loop) closeChannel(ch *channel) {
	if ch.gone {
		return
	}
	ch.gone = true
	delete(ch.conn.channels, ch.n)
	if ch.conn.of[ch.c] == ch {
		delete(ch.conn.of, ch.c)
	}
	ch.conn.opened--
	for i, other := range ch.c.channels {
		if other == ch {
			ch.c.channels = append(ch.c.channels[:i], ch.c.channels[i+1:]...)
			l.x.neighbours.Store(ch.c.ID, len(ch.c.channels))
			break
		}
	}
	if ch.c.taker != nil {
		ch.c.taker.RemovePeer(l.now(), ch.conn.id)
	}
	l.giver.Want(l.now(), ch.conn.id, ch.c.number, schedule.WantNot)
	for _, fs := range ch.c.places {
		for _, f := range fs {
			if f.p.ch == ch {
				l.giveUp(f)
			}
		}
	}
	if ch.c.unask(ch) {
		l.askManifest(ch.c)
	}
}

// sendInfo tells a neighbour what we know of a content.
func (l *loop) sendInfo(ch *channel) {
	m := &wire.Info{Channel: ch.n, Epoch: ch.c.epoch}
	if ch.c.Manifest != nil {
		m.Known, m.Size, m.All = true, ch.c.Manifest.Geo.Size, ch.c.all()
	}
	ch.conn.s.Send(m)
}

// snapshot tells a neighbour all pieces that we have of a download.
func (l *loop) snapshot(ch *channel) {
	c := ch.c
	if c.download == nil || c.all() {
		return
	}
	ch.news.Take(l.now())
	for piece, have := range c.download.Snapshot() {
		if have {
			ch.news.Add(l.now(), uint32(piece), schedule.WantNot)
		}
	}
	l.flush(ch)
}

// flush tells a neighbour the news that wait for it, in runs.
func (l *loop) flush(ch *channel) {
	told := ch.news.Take(l.now())
	for _, m := range haves(ch.n, ch.c.epoch, told.Whole) {
		ch.conn.s.Send(m)
	}
	for _, m := range haves(ch.n, ch.c.epoch, told.Lost) {
		m.Lost = true
		ch.conn.s.Send(m)
	}
	for _, m := range haves(ch.n, ch.c.epoch, told.Begun) {
		m.Begun = true
		ch.conn.s.Send(m)
	}
}

// say tells a neighbour something about a content, and the news before that.
func (l *loop) say(ch *channel, m wire.Message) {
	l.flush(ch)
	ch.conn.s.Send(m)
}

// wanted takes in how much a neighbour wants us.
func (l *loop) wanted(ch *channel, want schedule.Want) {
	ch.theirWant = want
	ch.news.Wanted(l.now(), ch.eager())
	l.plan(ch)
}

// eager is how much a neighbour wants us as far as news go: who has everything waits for none.
func (ch *channel) eager() schedule.Want {
	if ch.all || ch.full {
		return schedule.WantLater
	}
	return ch.theirWant
}

// plan sees to it that the news for a neighbour are told in time.
func (l *loop) plan(ch *channel) {
	if at, ok := ch.news.Due(); ok && (!l.newsPending || at < l.newsAt) {
		l.newsPending, l.newsAt = true, at
	}
}

// tellNews tells the news that are due.
func (l *loop) tellNews() {
	l.newsPending = false
	now := l.now()
	for _, c := range l.order {
		if c == nil {
			continue
		}
		for _, ch := range c.channels {
			if at, ok := ch.news.Due(); ok && at <= now {
				l.flush(ch)
			}
			l.plan(ch)
		}
	}
}

// act carries out what the schedule wants now.
func (l *loop) act() {
	now := l.now()
	l.giver.Beside(int(l.x.beside.Load()))
	for _, g := range l.giver.Plan(now) {
		n, c := l.byID[g.Peer], l.order[g.Content]
		if n == nil || c == nil || n.of[c] == nil {
			continue
		}
		m := &wire.Credit{Channel: n.of[c].n, Epoch: c.epoch, Number: g.Credit, Insist: g.Insist}
		if g.Piece >= 0 {
			piece := uint32(g.Piece)
			m.Piece = &piece
		}
		l.say(n.of[c], m)
	}
	for _, c := range l.order {
		if c == nil || c.taker == nil {
			continue
		}
		l.tellWants(c)
		l.tellClaims(c)
	}
}

// tellWants tells neighbours how much they are wanted, where that has changed.
func (l *loop) tellWants(c *exchanged) {
	for _, w := range c.taker.Wants(l.now()) {
		if n := l.byID[w.Peer]; n != nil && n.of[c] != nil {
			l.tellWant(n.of[c], w.Want)
		}
	}
}

func (l *loop) tellWant(ch *channel, w schedule.Want) {
	ch.ourWant = w
	m := &wire.Want{Channel: ch.n, On: w != schedule.WantNot, Later: w == schedule.WantLater}
	if m.On && ch.c.taker != nil {
		m.Neighbours = uint64(ch.c.taker.Givers())
	}
	l.say(ch, m)
}

// measure takes over what was counted, and looks at deadlines.
func (l *loop) measure() {
	l.count()
	l.ticks++
	costly := l.ticks%costlyTicks == 0 || l.quiet()
	now := l.now()
	dt := max(now-l.measured, time.Millisecond).Seconds()
	l.measured = now
	for _, c := range l.order {
		if c == nil {
			continue
		}
		if c.still && len(c.channels) == 0 {
			l.rest(c)
			continue
		}
		c.idle = now
		if c.Manifest == nil {
			l.lateManifest(c)
		}
		l.wantAgain(c)
		if c.taker != nil {
			for _, cancel := range c.taker.Tick(now) {
				l.cancel(c, cancel.Peer, cancel.Piece)
			}
			l.offer(c)
		}
		c.rate += (float64(c.received-c.measured)/dt - c.rate) * min(1, dt/rateMean.Seconds())
		c.measured = c.received
		l.look(c, now)
		if costly {
			c.publish()
		}
	}
	for _, n := range l.byID {
		if n == nil {
			continue
		}
		rtt := n.s.RTT()
		l.giver.SetRTT(n.id, rtt)
		for c := range n.of {
			if c.taker != nil {
				c.taker.SetRTT(n.id, rtt)
			}
		}
		for _, g := range n.giving {
			g.look()
		}
	}
	if costly {
		l.giver.Sample(now, l.total())
	}
}

// total returns how many bytes have arrived at others in all: those that the network below knows to have arrived, where it does, else
// those that it has taken.
func (l *loop) total() int64 {
	for _, n := range l.byID {
		if n == nil {
			continue
		}
		sent := n.sent.Load()
		if sent != n.counted {
			n.moved = l.now()
		} else if l.now()-n.moved > ackTime {
			continue // all has arrived: it would cost a system call
		}
		switch acked := n.s.Acked(); {
		case acked == 0 && n.acked == 0:
			l.arrived += sent - n.counted
		case n.acked == 0: // what came before the first look was no piece
			n.acked = acked
		case acked > n.acked: // a connection that is closed knows nothing any more
			l.arrived += acked - n.acked
			n.acked = acked
		}
		n.counted = sent
	}
	return l.arrived + l.x.gave.Load()
}

// quiet says whether nothing moves, in either direction, nor should.
func (l *loop) quiet() bool {
	for _, c := range l.order {
		if c != nil && (c.taker != nil || len(c.asked) > 0) {
			return false
		}
	}
	return !l.giver.Busy()
}

// still says whether what is shown of all contents would be the same later.
func (l *loop) still() bool {
	for _, c := range l.order {
		if c != nil && (c.rate >= 1 || time.Now().Before(c.paused)) {
			return false
		}
	}
	return true
}

// wantAgain wants what the schedule believes to be wanted, when a pause is over.
func (l *loop) wantAgain(c *exchanged) {
	if c.taker == nil || time.Now().Before(c.paused) {
		return
	}
	for _, ch := range c.channels {
		if time.Now().Before(ch.resting) {
			continue
		}
		if ch.passed && ch.ourWant != schedule.WantNot {
			l.tellWant(ch, ch.ourWant)
		}
		ch.passed = false
	}
}

// count takes over what readers and writers have counted.
func (l *loop) count() {
	l.countedAt = l.now()
	for _, n := range l.byID {
		if n == nil {
			continue
		}
		for _, g := range n.giving {
			l.giver.Progress(l.now(), n.id, g.credit, g.sent.Load())
		}
	}
	for _, c := range l.order {
		if c == nil {
			continue
		}
		for piece, fs := range c.places {
			for _, f := range fs {
				l.came(c, piece, f)
			}
		}
	}
}

// came takes over what has come for a request since the last time.
func (l *loop) came(c *exchanged, piece uint32, f *fetch) {
	n := f.p.got.n.Load() - f.counted
	if n == 0 {
		return
	}
	f.counted += n
	c.received += n
	f.p.ch.received += n
	if c.taker != nil {
		c.taker.Received(l.now(), f.p.ch.conn.id, piece, n)
	}
	for other, ch := range f.p.ch.conn.of {
		if other != c && ch.active > 0 && other.taker != nil {
			other.taker.Behind(l.now(), ch.conn.id)
		}
	}
}

// cancel ends a request to a neighbour for a piece.
func (l *loop) cancel(c *exchanged, peer int, piece uint32) {
	for _, f := range c.places[piece] {
		if f.p.ch.conn.id == peer {
			l.giveUp(f)
		}
	}
}

// giveUp cancels a request. What it was to bring does not come any more, though its end may take a while.
func (l *loop) giveUp(f *fetch) {
	c := f.p.ch.c
	f.p.ch.conn.s.Cancel(f.request)
	f.givenUp = true
	f.p.w.Yield()
	if !c.has(f.p.piece) && !c.comes(f.p.piece) {
		l.lose(c, f.p.piece)
	}
}

// publish makes the state of a content visible to the world.
func (c *exchanged) publish() {
	c.still = c.taker == nil && len(c.channels) == 0 && c.rate < 1 && time.Now().After(c.paused)
	p := &Progress{Received: c.received, Wasted: c.wasted, Sent: c.sent, Rate: c.rate, Paused: time.Now().Before(c.paused)}
	p.Optimal, p.Copies, p.CopiesOptimal = c.far.optimal, c.far.copies, c.far.copiesOptimal
	if c.download != nil {
		p.Done = c.download.Bytes()
	} else if c.all() {
		p.Done = c.Manifest.Geo.Size
	}
	for piece, fs := range c.places {
		if len(fs) > 0 {
			p.Under = append(p.Under, piece)
		}
		for i, f := range fs {
			if i == 0 { // a second copy brings nothing that the first does not
				p.Arriving += f.counted
			}
		}
	}
	for _, ch := range c.channels {
		n := Neighbour{
			Name: ch.conn.s.Addr(), Peer: ch.conn.s.Peer(), Received: ch.received, Sent: ch.sent, Active: ch.active, RTT: ch.conn.s.RTT(),
		}
		switch {
		case ch.all && c.Manifest != nil:
			n.Pieces = c.Manifest.Geo.Pieces
		case ch.theirs != nil:
			n.Pieces = uint32(ch.theirs.Count())
		}
		p.Neighbours = append(p.Neighbours, n)
	}
	c.progress.Store(p)
}
