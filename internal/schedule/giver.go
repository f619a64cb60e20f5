package schedule

import (
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// promiseTime is how much time of the uplink promises may take.
	promiseTime = 250 * time.Millisecond
	// perLeecher is the most promises to one leecher, or more small pieces that make perLeecherBytes.
	perLeecher      = 2
	perLeecherBytes = 512 << 10
	// startPieces is the budget of a giver that has measured nothing.
	startPieces = 4
	// growth is how much more than was measured is promised, so that a faster uplink is found out.
	growth = 1.5
	// windows is over how many spans of promiseTime the uplink's maximum is kept.
	windows = 40
	// A credit expires after minExpiry or four round trips, at most maxExpiry; each expiry in a row doubles a pause.
	minExpiry = 250 * time.Millisecond
	maxExpiry = 2 * time.Second
	maxPause  = 30 * time.Second
	// newsTime is how long after its end a sent piece may go without anybody having it, before it counts as unsent.
	newsTime = 2 * time.Second
	// keptExpired is how many expired credits of a leecher are remembered.
	keptExpired = 64
	// nameDepth is how many of the pieces that have not left are looked at for one that a leecher lacks.
	nameDepth = 64
)

// GetResult says what a get is.
type GetResult int

// The results.
const (
	OK      GetResult = iota // there was such a credit, and it is used now
	Expired                  // there was
	Unknown                  // there never was, or it is used: an offence
)

// Grant is a credit to be given. Piece is the piece that it names, or -1.
type Grant struct {
	Peer    int
	Content int
	Credit  uint64
	Piece   int64
	Expires time.Duration
}

// GiverConfig says how a [Giver] works.
type GiverConfig struct {
	Rand *rand.Rand
}

// Giver decides to whom a peer promises its next piece, over all contents.
type Giver struct {
	cfg      GiverConfig
	contents []*given     // by number
	peers    []*leecher   // by number
	who      map[int]*who // by identity: as many as there are members
	turn     uint64
	next     uint64 // number of the next credit
	promised int64  // bytes
	promises int
	sent     []int64 // bytes in each of the last windows
	total    int64   // at the begin of the newest window
	began    time.Duration
	measured bool
}

// given is a content.
type given struct {
	piece  int64 // bytes
	pieces uint32
	source bool
	order  []uint32       // pieces that have not left yet, in chance order, the next one last; only of a source
	queued bits           // those that are in order
	named  map[uint32]int // pieces in credits and transfers
	landed []landing      // pieces that have left, and that nobody has said to have
	known  bits           // pieces that somebody has said to have
	has    map[int]bits   // by neighbour; only of a source
}

type landing struct {
	piece uint32
	due   time.Duration
}

// who is an identity. It outlives its neighbours, so that nobody gains by coming back.
type who struct {
	served uint64        // the turn at which it was served last
	streak int           // credits that expired in a row
	paused time.Duration // until when it gets none
}

// leecher is a neighbour.
type leecher struct {
	*who
	rtt      time.Duration
	wants    []int // contents, in the order in which they were wanted
	promises []*promise
	expired  []Grant
}

// promise is a credit that is out, or a transfer under way.
type promise struct {
	Grant
	active bool
	taken  uint32 // the piece of the transfer
	size   int64  // bytes that it counts as
}

// NewGiver makes a giver that has no contents.
func NewGiver(cfg GiverConfig) *Giver {
	return &Giver{cfg: cfg, who: make(map[int]*who), next: 1, sent: []int64{0}}
}

// AddContent brings in a content. A source has had all of it from the start: it names pieces that have not left yet.
func (g *Giver) AddContent(c int, pieceSize int64, source bool) {
	for len(g.contents) <= c {
		g.contents = append(g.contents, nil)
	}
	g.contents[c] = &given{piece: max(pieceSize, 1), source: source, named: make(map[uint32]int), has: make(map[int]bits)}
}

// Pieces tells a source how many pieces it has: it names each of them once before it repeats any.
func (g *Giver) Pieces(c int, pieces uint32) {
	v := g.content(c)
	if v == nil || !v.source {
		return
	}
	v.pieces, v.queued, v.known = pieces, newBits(pieces), newBits(pieces)
	v.order = make([]uint32, pieces)
	for i, p := range g.cfg.Rand.Perm(int(pieces)) {
		v.order[i] = uint32(p)
		v.queued.set(uint32(i))
	}
}

// RemoveContent forgets a content. Transfers of it go on.
func (g *Giver) RemoveContent(c int) {
	if g.content(c) == nil {
		return
	}
	g.contents[c] = nil
	for _, l := range g.peers {
		if l != nil {
			l.wants = slices.DeleteFunc(l.wants, func(w int) bool { return w == c })
		}
	}
}

func (g *Giver) content(c int) *given {
	if c < 0 || c >= len(g.contents) {
		return nil
	}
	return g.contents[c]
}

func (g *Giver) peer(n int) *leecher {
	if n < 0 || n >= len(g.peers) {
		return nil
	}
	return g.peers[n]
}

// AddPeer brings in a neighbour. Fairness is between identities: one may have several neighbours.
func (g *Giver) AddPeer(n, identity int) {
	for len(g.peers) <= n {
		g.peers = append(g.peers, nil)
	}
	if g.who[identity] == nil {
		g.who[identity] = &who{}
	}
	g.peers[n] = &leecher{who: g.who[identity]}
}

// RemovePeer forgets a neighbour, and what it was promised.
func (g *Giver) RemovePeer(_ time.Duration, n int) {
	l := g.peer(n)
	if l == nil {
		return
	}
	for _, p := range slices.Clone(l.promises) {
		g.settle(l, p, false, 0)
	}
	g.peers[n] = nil
	for _, v := range g.contents {
		if v != nil {
			delete(v.has, n)
		}
	}
}

// SetRTT says how far a neighbour is.
func (g *Giver) SetRTT(n int, rtt time.Duration) {
	if l := g.peer(n); l != nil {
		l.rtt = rtt
	}
}

// Want says whether a neighbour could use pieces of a content that we have.
func (g *Giver) Want(_ time.Duration, n, c int, on bool) {
	l := g.peer(n)
	if l == nil || g.content(c) == nil {
		return
	}
	i := slices.Index(l.wants, c)
	switch {
	case on && i < 0:
		l.wants = append(l.wants, c)
	case !on && i >= 0:
		l.wants = slices.Delete(l.wants, i, i+1)
	}
}

// Gained says that we have one more piece.
func (g *Giver) Gained(time.Duration, int, uint32) {}

// HasNow says that a neighbour has a piece.
func (g *Giver) HasNow(c, n int, piece uint32) {
	v := g.content(c)
	if v == nil || !v.source || piece >= v.pieces {
		return
	}
	v.known.set(piece)
	if v.has[n] == nil {
		v.has[n] = make(bits, len(v.known))
	}
	v.has[n].set(piece)
}

// find returns a promise of a neighbour.
func (l *leecher) find(credit uint64) *promise {
	for _, p := range l.promises {
		if p.Credit == credit {
			return p
		}
	}
	return nil
}

// late returns which of the expired credits this is, or -1.
func (l *leecher) late(credit uint64) int {
	return slices.IndexFunc(l.expired, func(g Grant) bool { return g.Credit == credit })
}

// settle ends a promise: its piece has left, or is free again.
func (g *Giver) settle(l *leecher, p *promise, ok bool, now time.Duration) {
	i := slices.Index(l.promises, p)
	l.promises = slices.Delete(l.promises, i, i+1)
	g.promises--
	g.promised -= p.size
	v := g.content(p.Content)
	if v == nil || !v.source {
		return
	}
	piece := int64(p.taken)
	if !p.active {
		piece = p.Piece
	}
	if piece < 0 {
		return
	}
	v.free(uint32(piece))
	switch {
	case piece >= int64(v.pieces): // such a piece was asked for, and refused
	case !ok:
		v.requeue(uint32(piece))
	case !v.known.has(uint32(piece)):
		v.landed = append(v.landed, landing{uint32(piece), now + newsTime})
	}
}

func (v *given) free(piece uint32) {
	if v.named[piece]--; v.named[piece] <= 0 {
		delete(v.named, piece)
	}
}

// requeue lets a piece that has not left be named again, before all others.
func (v *given) requeue(piece uint32) {
	if v.queued != nil && !v.queued.has(piece) && v.named[piece] == 0 && !v.known.has(piece) {
		v.queued.set(piece)
		v.order = append(v.order, piece)
	}
}

// Pass says that a neighbour has no use for a credit. It says want again when it could use one.
func (g *Giver) Pass(now time.Duration, n int, credit uint64) {
	l := g.peer(n)
	if l == nil {
		return
	}
	if p := l.find(credit); p != nil && !p.active {
		l.streak = 0
		g.settle(l, p, false, now)
		g.Want(now, n, p.Content, false)
	} else if i := l.late(credit); i >= 0 {
		g.Want(now, n, l.expired[i].Content, false)
	}
}

// Get says that a neighbour uses a credit. The promise is a transfer then, until [Giver.Ended].
func (g *Giver) Get(now time.Duration, n int, credit uint64, c int, piece uint32) GetResult {
	l := g.peer(n)
	if l == nil {
		return Expired
	}
	p := l.find(credit)
	if p == nil || p.active {
		if l.late(credit) >= 0 {
			return Expired
		}
		return Unknown
	}
	if c >= 0 && p.Content != c {
		return Unknown
	}
	l.streak = 0
	if v := g.content(p.Content); v != nil && v.source {
		if p.Piece >= 0 && p.Piece != int64(piece) {
			v.free(uint32(p.Piece))
			v.requeue(uint32(p.Piece))
		}
		if p.Piece != int64(piece) {
			v.named[piece]++
		}
		if v.queued != nil && v.queued.has(piece) {
			v.queued.clear(piece)
			v.order = slices.DeleteFunc(v.order, func(q uint32) bool { return q == piece })
		}
	}
	p.active, p.taken = true, piece
	g.turn++
	l.served = g.turn
	return OK
}

// Ended says that a transfer is over.
func (g *Giver) Ended(now time.Duration, n int, credit uint64, ok bool) {
	l := g.peer(n)
	if l == nil {
		return
	}
	if p := l.find(credit); p != nil {
		g.settle(l, p, ok, now)
	}
}

// Sample says how many bytes have been sent in all. It is called a few times in each span of promiseTime.
func (g *Giver) Sample(now time.Duration, total int64, _, _, _ bool) {
	if !g.measured {
		g.measured, g.began, g.total = true, now, total
	}
	last := len(g.sent) - 1
	g.sent[last] = max(g.sent[last], total-g.total)
	if now-g.began >= promiseTime {
		g.began, g.total = now, total
		g.sent = append(g.sent, 0)
		if len(g.sent) > windows {
			g.sent = g.sent[1:]
		}
	}
}

// budget returns how many bytes may be promised.
func (g *Giver) budget(piece int64) int64 {
	return max(startPieces*piece, int64(growth*float64(slices.Max(g.sent))))
}

// expire takes back the credits that were not used in time.
func (g *Giver) expire(now time.Duration) {
	for _, l := range g.peers {
		if l == nil {
			continue
		}
		for _, p := range slices.Clone(l.promises) {
			if p.active || now < p.Expires {
				continue
			}
			g.settle(l, p, false, now)
			if l.expired = append(l.expired, p.Grant); len(l.expired) > keptExpired {
				l.expired = l.expired[1:]
			}
			if now >= l.paused { // those that expire together count once
				l.paused = now + min(minExpiry<<min(l.streak, 10), maxPause)
				l.streak++
			}
		}
	}
	for _, v := range g.contents {
		if v == nil {
			continue
		}
		for len(v.landed) > 0 && now >= v.landed[0].due {
			v.requeue(v.landed[0].piece)
			v.landed = v.landed[1:]
		}
	}
}

// Plan returns the credits that are to be given now.
func (g *Giver) Plan(now time.Duration) (out []Grant) {
	g.expire(now)
	for {
		n, c := g.choose(now)
		if n < 0 {
			return out
		}
		l, v := g.peers[n], g.contents[c]
		expiry := min(max(minExpiry, 4*l.rtt), maxExpiry)
		p := &promise{Grant: Grant{Peer: n, Content: c, Credit: g.next, Piece: g.name(v, n), Expires: now + expiry}, size: v.piece}
		g.next++
		l.promises = append(l.promises, p)
		g.promises++
		g.promised += v.piece
		g.turn++
		l.served = g.turn
		out = append(out, p.Grant)
	}
}

// choose returns the wanting leecher whose identity was served longest ago, and the content that it wants first; -1 if there
// is none, or no room for another promise.
func (g *Giver) choose(now time.Duration) (peer, content int) {
	best, what := -1, 0
	for n, l := range g.peers {
		if l == nil || len(l.wants) == 0 || now < l.paused {
			continue
		}
		c := l.wants[int(g.turn)%len(l.wants)]
		v := g.contents[c]
		limit := max(perLeecher, int(perLeecherBytes/v.piece))
		if l.streak > 0 {
			limit = 1
		}
		if len(l.promises) >= limit || (g.promises >= 2 && g.promised+v.piece > g.budget(v.piece)) {
			continue
		}
		if best < 0 || l.served < g.peers[best].served {
			best, what = n, c
		}
	}
	return best, what
}

// name returns a piece that has not left yet and that the leecher lacks, or -1.
func (g *Giver) name(v *given, n int) int64 {
	for i := len(v.order) - 1; i >= max(0, len(v.order)-nameDepth); i-- {
		p := v.order[i]
		if v.has[n].has(p) {
			continue
		}
		v.order = slices.Delete(v.order, i, i+1)
		v.queued.clear(p)
		v.named[p]++
		return int64(p)
	}
	return -1
}
