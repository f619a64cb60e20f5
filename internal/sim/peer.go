package sim

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"shoal/internal/schedule"
)

const (
	// tickTime is how often a peer measures.
	tickTime = 50 * time.Millisecond
	// meetTime is how often a peer with few neighbours looks for more.
	meetTime = time.Second
	// siteFirst is how many of those that rank first in a site everybody there is told of.
	siteFirst = 8
)

// peer is a simulated peer.
type peer struct {
	w        *world
	id       int
	cfg      Peer
	alive    bool
	life     uint32
	rand     *rand.Rand
	up, down *link
	giver    *schedule.Giver
	parts    []*part
	conns    []*conn      // by their number for the schedule, nil where one has gone
	banned   map[int]bool // who has lied to it
	sent     int64
	left     int           // contents that are not complete
	met      time.Duration // when it looked for neighbours last
	newsAt   time.Duration // when there are news to be told; 0: there are none
}

// part is what a peer has of a content.
type part struct {
	seed  bool
	wants bool
	have  []bool
	parts map[uint32]int64 // of pieces that are not there: how many bytes from the first on are
	count uint32
	taker *schedule.Taker
	asked []*request // under way
}

// conn is one end of a connection.
type conn struct {
	own     *peer
	other   *conn
	n       int // for the schedule
	open    bool
	out     *flow
	serving []*request
	want    []schedule.Want // how much the other wants this side, by content
	news    []schedule.News // by content
	has     []uint32        // pieces that the other has said to have, by content
}

// request is a piece that is asked for.
type request struct {
	content int
	piece   uint32
	size    int64
	sent    int64
	come    int64 // bytes that have arrived
	counted int64 // bytes that the taker was told of
	credit  uint64
	giver   *conn // its end
	taker   *conn
	bad     bool
	dropped bool // the taker has given it up
	lost    bool // the giver waits for the rest no more
}

func newPeer(w *world, id int, cfg Peer) *peer {
	return &peer{
		w: w, id: id, cfg: cfg, banned: make(map[int]bool), parts: make([]*part, w.cfg.Contents), left: len(cfg.Wants),
		up:   &link{rate: cfg.Up, level: math.Inf(1)},
		down: &link{rate: cfg.Down, level: math.Inf(1)},
	}
}

// start brings a peer in, or back.
func (p *peer) start() {
	w := p.w
	p.alive = true
	p.life++
	p.rand = rand.New(rand.NewPCG(w.cfg.Seed, uint64(p.id)<<8|uint64(p.life)))
	p.giver = schedule.NewGiver(schedule.GiverConfig{Rand: p.rand})
	p.giver.SetLimit(w.now, int64(p.cfg.LimitUp))
	down := schedule.NewLimit(1)
	down.Set(w.now, int64(p.cfg.LimitDown), 0)
	p.conns, p.newsAt = nil, 0
	for c := range w.cfg.Contents {
		old := p.parts[c]
		t := &part{seed: slices.Contains(p.cfg.Seeds, c), wants: slices.Contains(p.cfg.Wants, c)}
		p.parts[c] = t
		p.giver.AddContent(c, w.cfg.PieceSize, w.cfg.Pieces, t.seed)
		if t.seed || !t.wants {
			continue
		}
		t.have, t.parts = make([]bool, w.cfg.Pieces), make(map[uint32]int64)
		if old != nil {
			copy(t.have, old.have)
			t.count = old.count
		}
		if t.count == w.cfg.Pieces {
			continue
		}
		t.taker = schedule.NewTaker(schedule.TakerConfig{
			Pieces: w.cfg.Pieces, PieceLen: func(uint32) int64 { return w.cfg.PieceSize }, PartLen: w.part(), Have: func(i uint32) bool { return t.have[i] },
			Rand: p.rand, Sequential: w.cfg.Sequential, Limit: down, Site: p.cfg.Site != 0, Rank: p.rank(c),
		})
	}
	p.meet()
	w.at(w.now+tickTime*time.Duration(p.id+1)/time.Duration(len(w.peers)+1), event{kind: evTick, peer: p, version: p.life})
}

// meet connects a peer to as many of those who are there as it needs: a newcomer, and one that has lost some.
func (p *peer) meet() {
	w := p.w
	p.met = w.now
	most := w.cfg.Neighbours
	if most == 0 {
		most = len(w.peers)
	}
	var who []*peer
	for _, q := range w.peers {
		if q != p && q.alive && !p.banned[q.id] && !q.banned[p.id] && !p.knows(q) {
			who = append(who, q)
		}
	}
	p.rand.Shuffle(len(who), func(i, j int) { who[i], who[j] = who[j], who[i] })
	if most < len(w.peers) {
		p.nearFirst(who, max(0, most-p.degree()))
		who = who[:max(0, min(len(who), most-p.degree()))]
	}
	for _, q := range who {
		p.connect(q)
	}
}

// nearFirst puts three quarters of one's own site first, of so many, those before that rank first there: as the server does.
func (p *peer) nearFirst(who []*peer, n int) {
	if p.cfg.Site == 0 || len(who) <= n {
		return
	}
	var near, far []*peer
	for _, q := range who {
		if q.cfg.Site == p.cfg.Site {
			near = append(near, q)
		} else {
			far = append(far, q)
		}
	}
	for i := range min(siteFirst, len(near)) {
		best := i
		for j := i; j < len(near); j++ {
			if near[j].rank(0) > near[best].rank(0) {
				best = j
			}
		}
		near[i], near[best] = near[best], near[i]
	}
	most := max(min(len(near), 3*n/4), n-len(far))
	copy(who[copy(who, near[:most]):], append(far, near[most:]...))
}

// rank is what all peers agree upon.
func (p *peer) rank(content int) uint64 {
	return rand.New(rand.NewPCG(p.w.cfg.Seed^uint64(content), uint64(p.id))).Uint64()
}

// gave counts what has gone to another.
func (p *peer) gave(to *peer, bytes int64) {
	p.sent += bytes
	if p.cfg.Site != to.cfg.Site {
		p.w.result.Crossed += bytes
	}
}

func (p *peer) degree() (n int) {
	for _, c := range p.conns {
		if c != nil {
			n++
		}
	}
	return n
}

func (p *peer) knows(q *peer) bool {
	return slices.ContainsFunc(p.conns, func(c *conn) bool { return c != nil && c.other.own == q })
}

func (p *peer) connect(q *peer) {
	a, b := &conn{own: p, open: true}, &conn{own: q, open: true}
	a.other, b.other = b, a
	a.enter()
	b.enter()
	for _, c := range []*conn{a, b} {
		c.introduce()
	}
}

// enter makes an end known to the schedule of its peer.
func (c *conn) enter() {
	p, q := c.own, c.other.own
	if c.n = slices.Index(p.conns, nil); c.n < 0 {
		c.n = len(p.conns)
		p.conns = append(p.conns, nil)
	}
	p.conns[c.n] = c
	c.want, c.news, c.has = make([]schedule.Want, len(p.parts)), make([]schedule.News, len(p.parts)), make([]uint32, len(p.parts))
	c.out = &flow{from: p, to: q, links: []*link{p.up, q.down}}
	if thin := p.w.leave[p.cfg.Site]; thin != nil && p.cfg.Site != q.cfg.Site {
		c.out.links = append(c.out.links, thin)
	}
	p.giver.AddPeer(c.n, q.id)
	p.giver.SetRTT(c.n, p.roundTrip(c))
	if c.inside() {
		p.giver.SetInside(c.n)
	}
	for i, t := range p.parts {
		if t.taker != nil {
			t.taker.AddPeer(c.n, q.id)
			if c.inside() {
				t.taker.SetInside(p.w.now, c.n, q.rank(i))
			}
			t.taker.SetRTT(c.n, p.roundTrip(c))
		}
	}
}

// idle says whether nothing is on its way to the other end.
func (c *conn) idle() bool { return len(c.serving) == 0 }

// inside says whether both ends are in one site.
func (c *conn) inside() bool { return c.own.cfg.Site != 0 && c.own.cfg.Site == c.other.own.cfg.Site }

// introduce tells the other end what is here.
func (c *conn) introduce() {
	for i, t := range c.own.parts {
		switch {
		case t.seed || t.count == c.own.w.cfg.Pieces:
			c.own.w.tell(c, event{kind: evAll, content: int32(i)})
		case t.count > 0:
			var list []uint32
			for piece, have := range t.have {
				if have {
					list = append(list, uint32(piece))
				}
			}
			c.own.w.tell(c, event{kind: evHave, content: int32(i), list: list})
		}
	}
}

// close ends a connection from this side, the other hears of it.
func (c *conn) close() {
	if !c.open {
		return
	}
	c.own.w.tell(c, event{kind: evClosed})
	c.end()
}

// end forgets a connection on this side.
func (c *conn) end() {
	c.open = false
	p := c.own
	if !c.out.gone {
		c.out.gone = true
		for _, r := range c.serving {
			p.gave(c.other.own, p.w.net.sentOf(c.out, r))
		}
		p.w.net.stop(c.out)
	}
	for _, t := range p.parts {
		for _, r := range t.asked {
			if r.taker == c {
				p.w.result.Wasted += p.w.net.sentOf(c.other.out, r)
			}
		}
		gone := slices.Clone(t.asked)
		t.asked = slices.DeleteFunc(t.asked, func(r *request) bool { return r.taker == c })
		for _, r := range gone {
			p.loses(t, r)
		}
		if t.taker != nil {
			t.taker.RemovePeer(p.w.now, c.n)
		}
	}
	c.serving = nil
	p.giver.RemovePeer(p.w.now, c.n)
	p.conns[c.n] = nil
}

// crash ends a peer at once. The others hear of it.
func (p *peer) crash() {
	if !p.alive {
		return
	}
	p.alive = false
	for _, c := range slices.Clone(p.conns) {
		if c != nil {
			c.close()
		}
	}
}

// hear takes in what has come over a connection.
func (c *conn) hear(e *event) {
	p := c.own
	now := p.w.now
	t := p.parts[e.content]
	switch e.kind {
	case evClosed:
		c.end()
	case evOffer:
		if t.taker != nil && t.taker.Parts(now, c.n, c.idle()) {
			c.close()
		}
	case evAll:
		if t.taker != nil {
			t.taker.HasAll(now, c.n)
		}
		p.giver.SetHave(int(e.content), c.n, p.w.cfg.Pieces)
	case evLost:
		for _, piece := range e.list {
			if t.taker != nil {
				t.taker.Lost(c.n, piece)
			}
		}
		p.wants(int(e.content))
		return
	case evHave, evBegun:
		for _, piece := range e.list {
			switch {
			case t.taker == nil:
			case e.kind == evBegun:
				t.taker.Begun(now, c.n, piece)
			default:
				t.taker.Has(now, c.n, piece)
			}
			if e.kind == evBegun {
				p.giver.Spoke(c.n)
			} else {
				p.giver.HasNow(int(e.content), c.n, piece)
				c.has[e.content]++
			}
		}
		p.giver.SetHave(int(e.content), c.n, c.has[e.content])
		p.wants(int(e.content))
		return
	case evWant:
		c.wanted(e.content, schedule.Want(e.credit))
		if t.taker != nil {
			t.taker.SetGivers(c.n, int(e.piece))
		}
		p.giver.Want(now, c.n, int(e.content), schedule.Want(e.credit))
	case evCredit:
		c.answer(t, e)
		return
	case evGet:
		c.serve(e)
	case evClaims:
		if t.taker != nil {
			for _, lost := range t.taker.Claimed(now, c.n, e.list) {
				p.cancel(t, lost, nil)
			}
		}
	case evPass:
		if c.want[e.content] != schedule.WantNot {
			c.wanted(e.content, later(e.on))
		}
		p.giver.Pass(now, c.n, e.credit, e.on)
	case evPart:
		p.part(c, t, e.req)
		return
	case evArrived:
		p.arrived(c, t, e.req)
	case evCancel:
		c.cancelled(e.req)
	case evEnd: // refused, or cancelled
		p.ended(t, e.req)
	}
	p.act()
}

// answer answers a credit.
func (c *conn) answer(t *part, e *event) {
	p := c.own
	var a schedule.Answer
	if t.taker != nil {
		p.measure()
		a = t.taker.Credit(p.w.now, c.n, e.piece, e.on)
	}
	if a.Silent {
		return
	}
	if !a.Get {
		c.say(event{kind: evPass, content: e.content, credit: e.credit, on: a.Busy})
		return
	}
	r := &request{content: int(e.content), piece: a.Piece, size: p.w.cfg.PieceSize, credit: e.credit, giver: c.other, taker: c}
	t.asked = append(t.asked, r)
	c.say(event{kind: evGet, content: e.content, credit: e.credit, piece: int64(a.Piece), req: r})
	p.wants(int(e.content))
}

// serve takes in a request.
func (c *conn) serve(e *event) {
	p, r := c.own, e.req
	switch p.giver.Get(p.w.now, c.n, e.credit, int(e.content), uint32(e.piece)) {
	case schedule.Unknown:
		panic("sim: a get without a credit")
	case schedule.Expired:
		p.w.tell(c, event{kind: evEnd, content: e.content, req: r})
		return
	}
	if p.cfg.Behaviour == Staller {
		return
	}
	if t := p.parts[e.content]; p.there(r) < r.size && !t.asks(r.piece) {
		p.giver.Ended(p.w.now, c.n, e.credit, false)
		p.w.tell(c, event{kind: evEnd, content: e.content, req: r})
		return
	}
	r.bad = p.cfg.Behaviour == Liar
	c.serving = append(c.serving, r)
	p.w.net.send(c.out, r)
}

// cancelled ends a request that the other does not want any more.
func (c *conn) cancelled(r *request) {
	if !slices.Contains(c.serving, r) {
		return
	}
	c.endless(r)
}

// endless ends a request without its piece.
func (c *conn) endless(r *request) {
	p := c.own
	c.serving = slices.DeleteFunc(c.serving, func(o *request) bool { return o == r })
	p.w.net.remove(c.out, r)
	p.gave(c.other.own, r.sent)
	p.giver.Progress(p.w.now, c.n, r.credit, r.sent)
	p.giver.Ended(p.w.now, c.n, r.credit, false)
	p.w.tell(c, event{kind: evEnd, content: int32(r.content), req: r})
}

// there returns how many bytes of what is asked for can be sent by now.
func (p *peer) there(r *request) int64 {
	if t := p.parts[r.content]; !t.seed && !t.have[r.piece] {
		return t.parts[r.piece]
	}
	return r.size
}

// asks says whether a piece is on its way.
func (t *part) asks(piece uint32) bool {
	return slices.ContainsFunc(t.asked, func(r *request) bool { return r.piece == piece && !r.dropped })
}

// given ends a request of which all has gone that there will be.
func (p *peer) given(r *request) {
	if r.lost && r.sent >= p.there(r) {
		r.giver.endless(r)
	}
}

// more goes on with what waits for a piece.
func (p *peer) more(r *request) {
	for _, c := range p.conns {
		if c != nil && !c.out.on && slices.ContainsFunc(c.serving, func(o *request) bool { return o.content == r.content && o.piece == r.piece }) {
			p.w.net.pick(c.out)
		}
	}
}

// loses ends what waits for a piece that is not on its way any more, and is not there.
func (p *peer) loses(t *part, r *request) {
	if t.taker == nil || t.have[r.piece] || t.asks(r.piece) {
		return
	}
	for _, c := range p.conns {
		if c == nil {
			continue
		}
		c.news[r.content].Lost(p.w.now, r.piece)
		c.plan(r.content)
		for _, o := range slices.Clone(c.serving) {
			if o.content == r.content && o.piece == r.piece {
				o.lost = true
				p.given(o)
			}
		}
	}
}

// part takes in that a part of a piece has come. A piece that is wrong is so in its last part.
func (p *peer) part(c *conn, t *part, r *request) {
	r.come += p.w.part()
	if t.taker == nil || t.have[r.piece] || r.dropped {
		return
	}
	t.parts[r.piece] = max(t.parts[r.piece], r.come)
	p.more(r)
	p.measure()
	if !t.taker.PassOn(p.w.now, c.n, r.piece) {
		return
	}
	for _, other := range p.conns {
		if other == nil || other == c {
			continue
		}
		news := &other.news[r.content]
		if o := other.other.own.parts[r.content]; !news.Spoken() || !o.seed && o.count < p.w.cfg.Pieces {
			news.Begun(p.w.now, r.piece, other.eager(r.content))
			other.plan(r.content)
		}
	}
	p.act()
}

// ended is the end of a request without a piece.
func (p *peer) ended(t *part, r *request) {
	if i := slices.Index(t.asked, r); i >= 0 {
		t.asked = slices.Delete(t.asked, i, i+1)
	}
	p.w.result.Wasted += r.sent
	if t.taker != nil && !r.dropped {
		t.taker.Failed(p.w.now, r.taker.n, r.piece, schedule.FailRejected)
	}
	p.loses(t, r)
}

// arrived is the end of a request with its piece.
func (p *peer) arrived(c *conn, t *part, r *request) {
	now := p.w.now
	if i := slices.Index(t.asked, r); i >= 0 {
		t.asked = slices.Delete(t.asked, i, i+1)
	}
	if t.taker == nil || t.have[r.piece] {
		p.w.result.Wasted += r.size
		return
	}
	t.taker.Received(now, c.n, r.piece, r.size-r.counted)
	if r.bad {
		p.w.result.Wasted += r.size
		t.taker.Failed(now, c.n, r.piece, schedule.FailBad)
		p.banned[c.other.own.id] = true
		c.close()
		p.loses(t, r)
		return
	}
	t.have[r.piece] = true
	delete(t.parts, r.piece)
	t.count++
	p.more(r)
	for _, loser := range t.taker.Verified(now, r.piece) {
		p.cancel(t, loser, r)
	}
	for _, c := range p.conns {
		if c != nil {
			c.news[r.content].Add(now, r.piece, c.eager(r.content))
			c.plan(r.content)
		}
	}
	if t.taker.Missing() == 0 {
		p.complete(t)
	}
}

// cancel gives up a request, if it is not the one that has just arrived.
func (p *peer) cancel(t *part, c schedule.Cancel, but *request) {
	for _, r := range t.asked {
		if r != but && r.piece == c.Piece && r.taker.n == c.Peer && !r.dropped {
			r.dropped = true
			p.loses(t, r)
			p.w.tell(r.taker, event{kind: evCancel, content: int32(r.content), req: r})
		}
	}
}

// complete is called when a content is.
func (p *peer) complete(t *part) {
	t.taker = nil
	if p.left--; p.left > 0 {
		return
	}
	p.w.result.Done[p.id] = p.w.now
	if p.cfg.Behaviour == Honest {
		p.w.open--
	}
	if p.cfg.Leaves {
		p.crash()
	}
}

// later is how much a neighbour wants that has passed.
func later(busy bool) schedule.Want {
	if busy {
		return schedule.WantLater
	}
	return schedule.WantNot
}

// wanted takes in how much the other wants this side.
func (c *conn) wanted(content int32, want schedule.Want) {
	c.want[content] = want
	c.news[content].Wanted(c.own.w.now, c.eager(int(content)))
	c.plan(int(content))
}

// eager is how much the other wants this side as far as news go: who has everything waits for none.
func (c *conn) eager(content int) schedule.Want {
	if t := c.other.own.parts[content]; t.seed || t.count == c.own.w.cfg.Pieces {
		return schedule.WantLater
	}
	return c.want[content]
}

// plan sees to it that news are told in time.
func (c *conn) plan(content int) {
	p := c.own
	if at, ok := c.news[content].Due(); ok && (p.newsAt == 0 || at < p.newsAt) {
		p.newsAt = max(at, 1)
		p.w.at(at, event{kind: evNews, peer: p, version: p.life})
	}
}

// tellNews tells what is due.
func (p *peer) tellNews(life uint32) {
	if !p.alive || life != p.life || p.newsAt == 0 || p.w.now < p.newsAt {
		return
	}
	p.newsAt = 0
	for _, c := range p.conns {
		for i := range p.parts {
			if c == nil {
				continue
			}
			if at, ok := c.news[i].Due(); ok && at <= p.w.now {
				c.flush(int32(i))
			}
			c.plan(i)
		}
	}
}

// flush tells the other what it has not been told.
func (c *conn) flush(content int32) {
	told := c.news[content].Take(c.own.w.now)
	for i, list := range [][]uint32{told.Whole, told.Lost, told.Begun} {
		if len(list) > 0 {
			c.own.w.tell(c, event{kind: []kind{evHave, evLost, evBegun}[i], content: content, list: slices.Clone(list), piece: int64(list[0])})
		}
	}
}

// say tells the other something about a content, and before that the news.
func (c *conn) say(e event) {
	c.flush(e.content)
	c.own.w.tell(c, e)
}

// act carries out what the schedule wants.
func (p *peer) act() {
	if !p.alive {
		return
	}
	p.measure()
	for _, g := range p.giver.Plan(p.w.now) {
		p.conns[g.Peer].say(event{kind: evCredit, content: int32(g.Content), credit: g.Credit, piece: g.Piece, on: g.Insist})
	}
	for i := range p.parts {
		p.wants(i)
	}
}

func (p *peer) wants(content int) {
	t := p.parts[content]
	if t.taker == nil {
		return
	}
	for _, c := range t.taker.Wants(p.w.now) {
		p.conns[c.Peer].say(event{kind: evWant, content: int32(content), credit: uint64(c.Want), piece: int64(t.taker.Givers())})
	}
	claims, tell := t.taker.Claims(p.w.now)
	for _, c := range p.conns {
		if tell && c != nil && c.inside() {
			p.w.tell(c, event{kind: evClaims, content: int32(content), list: claims})
		}
	}
}

// tick is what a peer does again and again.
func (p *peer) tick(life uint32) {
	if !p.alive || life != p.life {
		return
	}
	w := p.w
	w.at(w.now+tickTime, event{kind: evTick, peer: p, version: life})
	if p.left > 0 && w.now >= p.met+meetTime {
		p.meet()
	}
	p.measure()
	p.giver.Sample(w.now, p.total())
	for i, t := range p.parts {
		if t.taker == nil {
			continue
		}
		for _, c := range t.taker.Tick(w.now) {
			p.cancel(t, c, nil)
		}
		if len(p.parts) > 1 {
			continue // a connection is all contents' here
		}
		for _, n := range t.taker.Offers(w.now, func(n int) bool { return p.conns[n].idle() }) {
			p.conns[n].say(event{kind: evOffer, content: int32(i)})
		}
	}
	p.act()
}

// measure tells the schedule what has gone and come by now.
func (p *peer) measure() {
	w := p.w
	for _, f := range p.up.flows { // what waits was told when it began to
		r := f.queue[0]
		p.giver.Progress(w.now, r.giver.n, r.credit, w.net.sentOf(f, r))
	}
	for _, t := range p.parts {
		if t.taker == nil {
			continue
		}
		for _, r := range t.asked {
			if n := w.net.sentOf(r.giver.out, r) - r.counted; n > 0 && !r.dropped {
				r.counted += n
				t.taker.Received(w.now, r.taker.n, r.piece, n)
			}
		}
	}
}

// roundTrip is how far the other end of a connection is.
func (p *peer) roundTrip(c *conn) time.Duration {
	return 2*p.w.cfg.Delay + p.cfg.Late + c.other.own.cfg.Late
}

// total returns the bytes that a peer has sent.
func (p *peer) total() int64 {
	total := p.sent
	for _, c := range p.conns {
		if c == nil {
			continue
		}
		for _, r := range c.serving {
			total += p.w.net.sentOf(c.out, r)
		}
	}
	return total
}
