package schedule

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// promises is how many promises there may be to leechers that take what they are sent: as many as make the luck of where they
	// go even out. One more while there is a piece that has not left yet, lest who alone has it idles.
	promises      = 4
	freshPromises = 5
	// perLeecher is how many of those one leecher may have, unless it takes more in a round trip.
	perLeecher = 2
	// maxPromises bounds those of one leecher, however much it takes: a session serves no more at once.
	maxPromises = 512
	// aheadTime is how much of the uplink is promised beyond what a round trip takes, so that it does not idle while we think.
	aheadTime = 40 * time.Millisecond
	// insistTrips is how many round trips before the uplink idles, and half of aheadTime, those are insisted with who have enough: the first may pass.
	insistTrips = 3
	// farTime is the round trip from which on a leecher is far.
	farTime = 150 * time.Millisecond
	// maxAhead bounds what is promised ahead of a far neighbour's answers, as time of the uplink.
	maxAhead = time.Second
	// takenMean is over how many credits the part that is used is a mean, leastTaken what it is taken for at least.
	takenMean  = 16
	leastTaken = 0.25
	// rttMean is over how many answers a round trip is a mean.
	rttMean = 8
	// sampleSpan is the shortest span over which rates are measured.
	sampleSpan = 40 * time.Millisecond
	// meanTime is over about how long a leecher's rate is a mean.
	meanTime = 200 * time.Millisecond
	// limitTime is how long a leecher must have been sent to before it may count as one that takes less than its share.
	limitTime = 250 * time.Millisecond
	// busy is the part of the uplink from which on it counts as busy: then nobody counts as slow.
	busy = 0.9
	// crawls is how many times less than its share a leecher takes at its best that counts as slow, however busy the uplink is.
	crawls = 8
	// minPatience is how long the same promises may stand while somebody goes without, before one more is tried: those who have them may take
	// so little that the uplink was never seen to be more. It doubles with each that brings nothing, up to maxPatience.
	minPatience = 2 * time.Second
	maxPatience = time.Minute
	// grows is how many times the uplink must be what it was, to have grown.
	grows = 1.25
	// A credit expires after minExpiry, four round trips, or twice what an answer took that came too late, at most maxExpiry; each expiry in a row
	// doubles a pause.
	minExpiry = 250 * time.Millisecond
	maxExpiry = 2 * time.Second
	maxPause  = 30 * time.Second
	// newsTime is how long after its end a sent piece may go without anybody having it, before it counts as unsent.
	newsTime = 2 * time.Second
	// emptyAnswers is how many answers in a row may bring nothing (a pass, a request for what is not there) before the next credit waits: from
	// minWait on, doubling up to maxWait. Who answers at once and wants again at once would have all our time.
	emptyAnswers = 16
	minWait      = 20 * time.Millisecond
	maxWait      = 500 * time.Millisecond
	// maxOwed is how many pieces one may take and say nothing of, before others are served first; and how many of a source's of which nobody has
	// said anything in newsTime, before it is given one at a time.
	maxOwed = 3
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
	Insist  bool // there is nobody else: it is to be used even by one who is busy
	Expires time.Duration
}

// GiverConfig says how a [Giver] works.
type GiverConfig struct {
	Rand *rand.Rand
}

// Giver decides to whom a peer promises its next piece, over all contents.
//
// A promise is a credit that is out, or a transfer under way. There are a few at a time to leechers that take what they are sent, and as many
// more as the uplink carries in a round trip and aheadTime. A leecher that takes less than its share, though the uplink is not busy,
// does not count: others are promised beside it.
type Giver struct {
	cfg      GiverConfig
	contents []*given     // by number
	peers    []*leecher   // by number
	who      map[int]*who // by identity: as many as there are members
	turn     int64
	next     uint64        // number of the next credit
	beside   int           // transfers under way that it does not decide about
	taken    float64       // the part of credits that are used, of late
	soonest  time.Duration // no credit expires, and no landing is due, before
	changed  time.Duration // when a promise was given or ended last
	patience time.Duration
	tries    int           // promises that were given since patience had ended
	tried    time.Duration // when one was given last to who has never said that it has a piece
	limit    *Limit
	each     int64 // bytes per second that any one identity is promised; 0: no limit
	largest  int64 // bytes of a piece
	leveled  bool  // it is known who is behind, in this plan

	uplink  float64       // bytes per second, the best of the last windows
	rate    float64       // bytes per second, of late
	total   int64         // bytes at the last sample
	at      time.Duration // of the last sample
	peak    peak
	sampled bool
}

// given is a content.
type given struct {
	piece  int64 // bytes
	pieces uint32
	source bool
	unsent *line            // pieces that have not left yet, in chance order; only of a source that somebody wants something of
	named  map[uint32]int   // pieces in credits and transfers
	landed []landing        // pieces that have left, and that nobody has said to have
	known  pieceSet         // pieces that somebody has said to have
	has    map[int]pieceSet // by neighbour; only of a source
	served int64            // the turn at which it was served last

	takers, lacking float64 // leechers that want it, and the pieces that they lack, in all
}

type landing struct {
	piece uint32
	due   time.Duration
	to    *who
}

// who is an identity. It outlives its neighbours, so that nobody gains by coming back.
type who struct {
	served int64         // the turn at which it was served last
	streak int           // credits that expired in a row
	paused time.Duration // until when it gets none
	limit  *Limit        // of what it is promised; nil: none
	empty  int           // answers in a row that brought nothing
	quiet  int           // pieces that it took, since it last said that it has any
	took   time.Duration // when the first of those had gone
	broke  int           // pieces that did not go to their end
	spoke  bool          // it has said at least once that it has one
	held   time.Duration // until when it gets none, as it says nothing
	out    int           // promises of all its neighbours
	owed   int           // pieces that it took and that nobody has said to have, since it last said anything
}

// leecher is a neighbour.
type leecher struct {
	*who
	rtt      time.Duration
	wants    []int // contents of which it wants pieces now
	later    []int // contents of which it wants pieces, but has enough coming for now
	promises []*promise
	expired  []*promise
	near     trough        // of how long its answers take
	waited   time.Duration // how long its answers take, also those that came after a credit had expired

	inside bool           // it is in our site; of who is in none all are outside
	first  bool           // it is served before others: it is inside, and wants what has not left yet
	have   map[int]uint32 // pieces that it has, by content
	weight float64        // how much more often than others it is served; of those that want something

	sent  int64         // bytes since the last sample
	rate  float64       // bytes per second, of late
	best  float64       // the most of it since it was last idle
	since time.Duration // when it began to be sent to without a pause; -1: it is not
	slow  bool          // it takes less than its share of an uplink that is not busy
}

// promise is a credit that is out, or a transfer under way.
type promise struct {
	Grant
	at     time.Duration // when it was given
	active bool
	taken  uint32 // the piece of the transfer
	size   int64  // bytes of a piece
	sent   int64  // of those
	began  time.Duration
	moved  time.Duration // when the last of those had gone
}

// pace returns how the transfer goes.
func (p *promise) pace() pace { return pace{p.began, p.moved, p.size, p.sent} }

// NewGiver makes a giver that has no contents.
func NewGiver(cfg GiverConfig) *Giver {
	return &Giver{cfg: cfg, who: make(map[int]*who), next: 1, taken: 1, patience: minPatience, limit: NewLimit(freshPromises)}
}

// AddContent brings in a content of so many pieces. A source has had all of it from the start: it names each piece once before it repeats any.
func (g *Giver) AddContent(c int, pieceSize int64, pieces uint32, source bool) {
	for len(g.contents) <= c {
		g.contents = append(g.contents, nil)
	}
	g.limit.Piece(max(pieceSize, 1))
	g.largest = max(g.largest, pieceSize)
	for _, w := range g.who {
		w.limit.Piece(g.largest)
	}
	g.contents[c] = &given{piece: max(pieceSize, 1), pieces: pieces, source: source, named: make(map[uint32]int), has: make(map[int]pieceSet)}
}

// prepare makes the order in which a source names its pieces, once somebody wants any: contents that nobody wants cost nothing.
func (g *Giver) prepare(v *given) {
	if v.unsent != nil || !v.source {
		return
	}
	v.unsent, v.known = newLine(g.cfg.Rand.Perm(int(v.pieces))), newPieceSet(v.pieces)
}

// RemoveContent forgets a content. Transfers of it go on.
func (g *Giver) RemoveContent(c int) {
	if g.content(c) == nil {
		return
	}
	g.contents[c] = nil
	for _, l := range g.peers {
		if l != nil {
			l.wants, l.later = without(l.wants, c), without(l.later, c)
			delete(l.have, c)
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
		g.who[identity] = &who{served: -1 - g.cfg.Rand.Int64N(1<<32)} // by chance among those that were never served
		if g.each > 0 {
			g.limitWho(0, g.who[identity], 0)
		}
	}
	g.peers[n] = &leecher{who: g.who[identity], since: -1}
}

// RemovePeer forgets a neighbour, and what it was promised.
func (g *Giver) RemovePeer(now time.Duration, n int) {
	l := g.peer(n)
	if l == nil {
		return
	}
	if l.sending() {
		l.breaks(now)
	}
	for len(l.promises) > 0 {
		g.settle(l, l.promises[0], false, now)
	}
	g.peers[n] = nil
	for _, v := range g.contents {
		if v != nil {
			delete(v.has, n)
		}
	}
}

// SetRTT says how far a neighbour is that has answered nothing yet.
func (g *Giver) SetRTT(n int, rtt time.Duration) {
	if l := g.peer(n); l != nil && l.rtt == 0 {
		l.rtt = rtt
	}
}

// SetInside says that a neighbour is in our site, all others are not.
func (g *Giver) SetInside(n int) {
	if l := g.peer(n); l != nil {
		l.inside = true
	}
}

// Want says how much a neighbour could use pieces of a content that we have.
func (g *Giver) Want(_ time.Duration, n, c int, want Want) {
	l := g.peer(n)
	if l == nil || g.content(c) == nil {
		return
	}
	l.wants, l.later = without(l.wants, c), without(l.later, c)
	switch want {
	case WantNow:
		g.prepare(g.contents[c])
		l.wants = append(l.wants, c)
	case WantLater:
		g.prepare(g.contents[c])
		l.later = append(l.later, c)
	}
}

// without takes something out of a list.
func without[T comparable](list []T, x T) []T {
	if i := slices.Index(list, x); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// Spoke says that a neighbour has said that it has something, or the beginning of it.
func (g *Giver) Spoke(n int) {
	if l := g.peer(n); l != nil {
		l.quiet, l.owed, l.spoke, l.held = 0, 0, true, 0
	}
}

// HasNow says that a neighbour has one piece more.
func (g *Giver) HasNow(c, n int, piece uint32) {
	g.Spoke(n)
	v := g.content(c)
	if v == nil || !v.source || piece >= v.pieces {
		return
	}
	g.prepare(v)
	v.known.set(piece)
	if v.has[n] == nil {
		v.has[n] = make(pieceSet, len(v.known))
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
	return slices.IndexFunc(l.expired, func(p *promise) bool { return p.Credit == credit })
}

// settle ends a promise: its piece has left, or is free again.
func (g *Giver) settle(l *leecher, p *promise, ok bool, now time.Duration) {
	g.changed = max(g.changed, now)
	g.limit.Refund(p.size - p.sent)
	l.limit.Refund(p.size - p.sent)
	i := slices.Index(l.promises, p)
	l.promises = slices.Delete(l.promises, i, i+1)
	l.out--
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
		v.landed = append(v.landed, landing{uint32(piece), now + newsTime, l.who})
		g.soonest = min(g.soonest, now+newsTime)
	}
}

func (v *given) free(piece uint32) {
	if v.named[piece]--; v.named[piece] <= 0 {
		delete(v.named, piece)
	}
}

// requeue lets a piece that has not left be named again, before all others.
func (v *given) requeue(piece uint32) {
	if v.unsent != nil && !v.unsent.has(piece) && v.named[piece] == 0 && !v.known.has(piece) {
		v.unsent.push(piece)
	}
}

// answered takes in how long an answer to a credit took: what a round trip is, with all that waits before and behind it.
func (l *leecher) answered(now, took time.Duration) {
	l.near.look(now, took)
	if l.rtt == 0 {
		l.rtt = took
	}
	l.rtt += (took - l.rtt) / rttMean
	l.waited += (took - l.waited) / rttMean
}

// distance returns how far a leecher is, without the queues on the way to it as far as that can be known.
func (l *leecher) distance() time.Duration {
	if near := l.near.least(); near > 0 {
		return min(l.rtt, near)
	}
	return l.rtt
}

// tooLate takes in an answer to a credit that had expired: the next ones live longer. Who has a slow way back would else be paused again and again. How far
// it is, and so what is promised ahead, is not concluded from it.
func (l *leecher) tooLate(p *promise, now time.Duration) {
	if took := min(now-p.at, maxExpiry); took > l.waited && !p.active {
		l.waited = took
	}
	p.active = true // once is enough
}

// Pass says that a neighbour has no use for a credit: none at all, or with busy, not now. It says want again when that changes. It
// returns the content of the credit, -1 if there is none: then nothing has changed.
func (g *Giver) Pass(now time.Duration, n int, credit uint64, busy bool) (c int) {
	c = -1
	l := g.peer(n)
	if l == nil {
		return c
	}
	if p := l.find(credit); p != nil && !p.active {
		l.streak = 0
		l.answered(now, now-p.at)
		l.wait(now)
		g.taken += (leastTaken - g.taken) / takenMean
		g.settle(l, p, false, now)
		c = p.Content
	} else if i := l.late(credit); i >= 0 {
		l.tooLate(l.expired[i], now)
		c = l.expired[i].Content
	}
	if g.content(c) == nil {
		return -1
	}
	wanted := slices.Contains(l.wants, c) || slices.Contains(l.later, c)
	l.wants, l.later = without(l.wants, c), without(l.later, c)
	if busy && wanted {
		l.later = append(l.later, c)
	}
	return c
}

// Get says that a neighbour uses a credit. The promise is a transfer then, until [Giver.Ended].
func (g *Giver) Get(now time.Duration, n int, credit uint64, c int, piece uint32) GetResult {
	l := g.peer(n)
	if l == nil {
		return Expired
	}
	p := l.find(credit)
	if p == nil || p.active {
		if i := l.late(credit); i >= 0 {
			l.tooLate(l.expired[i], now)
			return Expired
		}
		return Unknown
	}
	if c >= 0 && p.Content != c {
		return Unknown
	}
	l.streak = 0
	l.answered(now, now-p.at)
	if v := g.content(p.Content); v != nil && v.source {
		if p.Piece >= 0 && p.Piece != int64(piece) {
			v.free(uint32(p.Piece))
			v.requeue(uint32(p.Piece))
		}
		if p.Piece != int64(piece) {
			v.named[piece]++
		}
		if v.unsent != nil {
			v.unsent.remove(piece)
		}
	}
	p.active, p.taken, p.began, p.moved = true, piece, now, now
	g.taken += (1 - g.taken) / takenMean
	g.turn++
	l.served = g.turn
	return OK
}

// wait takes in an answer that brought nothing.
func (l *leecher) wait(now time.Duration) {
	if l.empty++; l.empty > emptyAnswers {
		l.paused = max(l.paused, now+min(minWait<<min(l.empty-emptyAnswers-1, 12), maxWait))
	}
}

// Refused says that a request was for a piece that is not there.
func (g *Giver) Refused(now time.Duration, n int, credit uint64) {
	if l := g.peer(n); l != nil {
		l.wait(now)
	}
	g.Ended(now, n, credit, false)
}

// Cancelled says that a neighbour has broken a transfer off.
func (g *Giver) Cancelled(now time.Duration, n int, credit uint64) {
	if l := g.peer(n); l != nil {
		l.breaks(now)
	}
	g.Ended(now, n, credit, false)
}

// Ended says that a transfer is over, and whether it went to its end.
func (g *Giver) Ended(now time.Duration, n int, credit uint64, ok bool) {
	l := g.peer(n)
	if l == nil {
		return
	}
	if ok {
		l.empty = 0
		g.keeps(now, l)
	}
	if p := l.find(credit); p != nil {
		g.settle(l, p, ok, now)
	}
}

// Progress says how many bytes of a transfer have gone in all.
func (g *Giver) Progress(now time.Duration, n int, credit uint64, sent int64) {
	l := g.peer(n)
	if l == nil {
		return
	}
	if p := l.find(credit); p != nil && p.active && sent > p.sent {
		sent = min(sent, p.size)
		l.sent += sent - p.sent
		p.sent, p.moved = sent, now
	}
}

// Sample says how many bytes have gone in all, whatever for. It is called some twenty times a second.
func (g *Giver) Sample(now time.Duration, total int64) {
	dt := now - g.at
	if !g.sampled || dt < 0 {
		g.sampled, g.at, g.total = true, now, total
		return
	}
	if dt < sampleSpan {
		return
	}
	weight := min(1, dt.Seconds()/meanTime.Seconds())
	g.rate += weight * (float64(total-g.total)/dt.Seconds() - g.rate)
	g.peak.look(now, total-g.total, g.leastSpan())
	if best := g.limit.cap(g.peak.perSecond()); best > grows*g.uplink {
		g.uplink, g.patience = best, minPatience
	} else {
		g.uplink = best
	}
	g.at, g.total = now, total
	sending := 0
	for _, l := range g.peers {
		if l == nil {
			continue
		}
		if !l.sending() && l.sent == 0 {
			l.since, l.slow, l.rate, l.best = -1, false, 0, l.best*(1-weight/4)
			continue
		}
		if l.since < 0 {
			l.since = now
		}
		l.rate += weight * (float64(l.sent)/dt.Seconds() - l.rate)
		l.best = max(l.rate, l.best*(1-weight/16))
		l.sent = 0
		sending++
	}
	for _, l := range g.peers {
		if l != nil && l.since >= 0 {
			share := g.uplink / float64(sending)
			l.slow = now-l.since >= limitTime && (g.rate < busy*g.uplink && 2*l.rate < share || crawls*l.best < share)
		}
	}
}

// leastSpan returns over how long acknowledgements must be counted, to know a rate from them.
func (g *Giver) leastSpan() time.Duration {
	wait := time.Duration(0)
	for _, l := range g.peers {
		if l != nil && l.sending() {
			wait = max(wait, l.rtt-l.near.ever)
		}
	}
	return min(max(ackSpan, ackWaits*wait), maxAckSpan)
}

func (l *leecher) sending() bool {
	for _, p := range l.promises {
		if p.active {
			return true
		}
	}
	return false
}

// expire takes back the credits that were not used in time.
func (g *Giver) expire(now time.Duration) {
	if now < g.soonest {
		return
	}
	g.soonest = now + time.Hour
	for _, l := range g.peers {
		if l == nil {
			continue
		}
		for i := 0; i < len(l.promises); {
			p := l.promises[i]
			if p.active || now < p.Expires {
				if !p.active {
					g.soonest = min(g.soonest, p.Expires)
				}
				i++
				continue
			}
			g.settle(l, p, false, now)
			if l.expired = append(l.expired, p); len(l.expired) > keptExpired {
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
			if !v.known.has(v.landed[0].piece) {
				v.landed[0].to.owed++
			}
			v.requeue(v.landed[0].piece)
			v.landed = v.landed[1:]
		}
		if len(v.landed) > 0 {
			g.soonest = min(g.soonest, v.landed[0].due)
		}
	}
}

// Plan returns the credits that are to be given now.
func (g *Giver) Plan(now time.Duration) (out []Grant) {
	g.expire(now)
	g.leveled = false
	most := float64(promises)
	if g.fresh() {
		most = freshPromises
	}
	for g.limit.Allows(now) {
		n, insist := -1, false
		count, rest, ahead, low, far := g.promised(now)
		trust := g.trust(now)
		may := func(room func(*leecher) bool) func(*leecher) bool {
			return func(l *leecher) bool { return trust.passes(l) && room(l) }
		}
		if count < most+far || rest < ahead {
			n = g.choose(now, false, may((*leecher).room))
		}
		if n < 0 && rest < low { // the uplink is about to idle
			n, insist = g.choose(now, true, may((*leecher).room)), true
		}
		if n < 0 && rest < low {
			n, insist = g.choose(now, false, trust.last), false
		}
		if n < 0 && (count < most+far || rest < ahead) { // is anybody far who may have more?
			n, insist = g.choose(now, false, may((*leecher).alone)), false
		}
		if n < 0 && now-g.changed >= g.patience && !g.limited() {
			if n, insist = g.choose(now, false, may((*leecher).room)), false; n >= 0 {
				g.patience = min(2*g.patience, maxPatience)
				g.tries++
			}
		}
		if n < 0 {
			return out
		}
		out = append(out, g.promise(now, n, insist))
	}
	return out
}

// SetLimit limits the bytes per second that are promised; 0: no limit.
func (g *Giver) SetLimit(now time.Duration, rate int64) {
	under := int64(0)
	for _, l := range g.peers {
		if l == nil {
			continue
		}
		for _, p := range l.promises {
			under += p.size - p.sent
		}
	}
	g.limit.Set(now, rate, under)
	g.uplink = g.limit.cap(g.peak.perSecond())
}

// SetPeerLimit limits the bytes per second that any one identity is promised; 0: no limit.
func (g *Giver) SetPeerLimit(now time.Duration, rate int64) {
	g.each = rate
	under := make(map[*who]int64)
	for _, l := range g.peers {
		if l == nil {
			continue
		}
		for _, p := range l.promises {
			under[l.who] += p.size - p.sent
		}
	}
	for _, w := range g.who {
		g.limitWho(now, w, under[w])
	}
}

func (g *Giver) limitWho(now time.Duration, w *who, under int64) {
	if w.limit == nil {
		w.limit = NewLimit(perLeecher)
		w.limit.Piece(max(g.largest, 1))
	}
	w.limit.Set(now, g.each, under)
}

// Limit returns the bytes per second that are promised at most, 0 if there is no limit.
func (g *Giver) Limit() int64 { return g.limit.Rate() }

// limited says whether the limit is what holds the uplink back: then more promises bring nothing.
func (g *Giver) limited() bool {
	rate := g.limit.Rate()
	return rate > 0 && g.rate >= busy*float64(rate)
}

// promise gives a leecher a credit for what of its wants was served longest ago.
func (g *Giver) promise(now time.Duration, n int, insist bool) Grant {
	l := g.peers[n]
	wants := l.wants
	if insist {
		wants = l.later
	}
	c := wants[0]
	for _, other := range wants {
		if g.contents[other].served < g.contents[c].served {
			c = other
		}
	}
	v := g.contents[c]
	expiry := min(max(minExpiry, 4*l.rtt, 2*l.waited), maxExpiry)
	p := &promise{
		at: now, Grant: Grant{Peer: n, Content: c, Credit: g.next, Piece: g.name(v, n), Insist: insist, Expires: now + expiry}, size: v.piece,
	}
	g.soonest = min(g.soonest, p.Expires)
	g.changed = now
	if !l.spoke {
		g.tried = now
	}
	g.next++
	l.promises = append(l.promises, p)
	l.out++
	g.limit.Charge(p.size)
	l.limit.Charge(p.size)
	g.turn++
	l.served, v.served = g.turn, g.turn
	return p.Grant
}

// promised returns how much is promised to leechers that take what they are sent, how much the uplink carries while they answer, and how
// many pieces that is. Where it is some, credits that are out count with the part of them that was used of late: to be passed takes time. Transfers that end soon do not count, as many
// of them as there are promises.
func (g *Giver) promised(now time.Duration) (count, rest, ahead, low, far float64) {
	rtt, size := time.Duration(0), 1.0
	credits, soon := 0.0, 0
	for _, l := range g.peers {
		if l == nil || l.slow {
			continue
		}
		for _, p := range l.promises {
			if p.active && soon < promises && p.pace().soon(now, l.distance()) {
				soon++
			} else {
				count++
			}
			if p.active || p.Insist {
				rest += float64(p.size - p.sent)
			} else {
				rest += g.taken * float64(p.size)
				credits++
			}
			rtt = max(rtt, l.distance())
			size = max(size, float64(p.size))
		}
	}
	count += float64(g.beside)
	ahead = max(1, g.uplink*min(rtt+aheadTime, maxAhead).Seconds())
	if far = math.Floor(ahead / size); far > 0 {
		count -= credits * (1 - g.taken)
	}
	low = max(ahead/2, g.uplink*(min(insistTrips*rtt, 2*aheadTime)+aheadTime/2).Seconds())
	return count, rest, ahead, low, far
}

// room says whether a leecher may have another promise: two, and what it takes in a round trip and aheadTime beyond.
func (l *leecher) room() bool {
	if l.streak > 0 || l.owed >= maxOwed {
		return len(l.promises) == 0
	}
	if len(l.promises) >= maxPromises {
		return false
	}
	return len(l.promises) < perLeecher || !l.slow && float64(l.rest()) < l.trip()
}

// alone says whether one that is far may have another promise when nobody else can be given any: as many as all together may have otherwise.
// With two, no more would ever be seen to be taken than two in a round trip.
func (l *leecher) alone() bool {
	if l.rtt < farTime || l.streak > 0 || l.owed >= maxOwed || l.slow || len(l.promises) == 0 || len(l.promises) >= maxPromises {
		return false
	}
	return float64(l.rest()) < l.trip()+float64(promises*l.promises[0].size)
}

// rest returns the bytes that are promised and have not gone.
func (l *leecher) rest() (n int64) {
	for _, p := range l.promises {
		n += p.size - p.sent
	}
	return n
}

// trip returns the bytes that it takes in a round trip and aheadTime.
func (l *leecher) trip() float64 { return l.best * min(l.rtt+aheadTime, maxAhead).Seconds() }

// before says whether a leecher is served before another: who passes on what it takes, or at least says that it has it, goes first; then who is in our site and wants what has not left yet;
// then who has waited for more turns, by how often it is to be served.
func (g *Giver) before(l, other *leecher) bool {
	if first, second := l.quiet < maxOwed, other.quiet < maxOwed; first != second {
		return first
	}
	if l.first != other.first {
		return l.first
	}
	return float64(g.turn+1-l.served)*l.weight > float64(g.turn+1-other.served)*other.weight
}

// choose returns the leecher whose turn it is, of those that want something, now or later; -1 if there is none.
func (g *Giver) choose(now time.Duration, later bool, room func(*leecher) bool) int {
	if !g.leveled { // most of the time nothing is to be given
		g.level()
		g.leveled = true
	}
	best := -1
	for n, l := range g.peers {
		if l == nil || now < l.paused || !later && len(l.wants) == 0 || later && len(l.later) == 0 || !room(l) || !l.limit.Allows(now) {
			continue
		}
		if best < 0 || g.before(l, g.peers[best]) {
			best = n
		}
	}
	return best
}

// name returns a piece that has not left yet and that the leecher lacks, or -1.
func (g *Giver) name(v *given, n int) int64 {
	if v.unsent == nil {
		return -1
	}
	found, looked := int64(-1), 0
	v.unsent.all(func(p uint32) bool {
		if v.known.has(p) { // it came to somebody from elsewhere
			v.unsent.remove(p)
			return true
		}
		if !v.has[n].has(p) {
			found = int64(p)
			v.unsent.remove(p)
			v.named[p]++
			return false
		}
		looked++
		return looked < nameDepth
	})
	return found
}

// isFresh says whether there is a piece that has not left yet.
func (v *given) isFresh() bool { return v.unsent != nil && v.unsent.n > 0 }

// Beside says how many transfers are under way that the giver does not decide about. Each counts as a promise.
func (g *Giver) Beside(n int) { g.beside = n }

// Busy says whether anybody was promised or wants anything.
func (g *Giver) Busy() bool {
	for _, l := range g.peers {
		if l != nil && len(l.promises)+len(l.wants)+len(l.later) > 0 {
			return true
		}
	}
	return false
}

// fresh says whether there is a piece that has not left yet.
func (g *Giver) fresh() bool {
	for _, v := range g.contents {
		if v != nil && v.isFresh() {
			return true
		}
	}
	return false
}
