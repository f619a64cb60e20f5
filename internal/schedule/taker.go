package schedule

import (
	"math/rand/v2"
	"time"
)

const (
	// stallTime is how long a request may bring nothing before it is given to others.
	stallTime = 5 * time.Second
	// stallPause is how long a neighbour whose request stalled is not asked.
	stallPause = 30 * time.Second
	// minInFlight is how many pieces may be in flight however slow the downlink is.
	minInFlight = 16
	// endgameGain is how many times sooner a second copy must be expected to be worth it.
	endgameGain = 2
	// rewantTime is how often a neighbour that was passed is looked at again for the endgame.
	rewantTime = 200 * time.Millisecond
	// rateTime is over about how long rates are means.
	rateTime = time.Second
	// window is how many pieces ahead of the first missing one a sequential taker picks.
	window = 64
)

// FailKind says why a request ended without a piece.
type FailKind int

// The kinds.
const (
	FailRejected FailKind = iota // the giver ended it, or it was cancelled
	FailBad                      // the bytes were wrong
)

// TakerConfig says what a [Taker] decides about.
type TakerConfig struct {
	Pieces      uint32
	PieceLen    func(uint32) int64
	Have        func(uint32) bool // pieces that are there from the start
	Rand        *rand.Rand
	Sequential  bool
	MaxInFlight int64 // bytes
}

// Taker decides what one content's leecher asks of whom, and when it wants credits. Neighbours are small numbers.
type Taker struct {
	cfg      TakerConfig
	missing  bits
	left     uint32 // pieces that are missing
	pickable *rarity
	peers    []*giverOf // by number
	flights  map[uint32][]*flight
	inFlight int64 // bytes asked for and not received
	first    uint32
	rate     meter
}

// giverOf is what a taker knows of a neighbour.
type giverOf struct {
	all     bool
	has     bits
	useful  uint32 // pieces that it has and we lack
	want    bool   // what it was told last
	passed  bool   // it was told pass: it is wanted again when it could be used
	look    time.Duration
	paused  time.Duration // until when it is not asked, since it stalled
	flights int
	rate    meter
}

// flight is a request under way.
type flight struct {
	peer  int
	piece uint32
	got   int64
	began time.Duration
	last  time.Duration // when the last byte came
}

// meter is a rate: a mean in which what is older than rateTime weighs little.
type meter struct {
	bytes float64
	at    time.Duration
}

func (m *meter) add(now time.Duration, n int64) {
	m.decay(now)
	m.bytes += float64(n)
}

func (m *meter) decay(now time.Duration) {
	if dt := now - m.at; dt > 0 {
		f := 1 - float64(dt)/float64(rateTime)
		m.bytes *= max(f, 0)
		m.at = now
	}
}

// perSecond returns bytes per second.
func (m *meter) perSecond(now time.Duration) float64 {
	m.decay(now)
	return m.bytes / rateTime.Seconds()
}

// NewTaker makes a taker that knows no neighbours.
func NewTaker(cfg TakerConfig) *Taker {
	t := &Taker{cfg: cfg, missing: newBits(cfg.Pieces), pickable: newRarity(cfg.Pieces, cfg.Rand), flights: make(map[uint32][]*flight)}
	for p := range cfg.Pieces {
		if !cfg.Have(p) {
			t.missing.set(p)
			t.left++
			t.pickable.add(p)
		}
	}
	return t
}

// Missing returns how many pieces are not verified yet.
func (t *Taker) Missing() uint32 { return t.left }

func (t *Taker) peer(n int) *giverOf {
	if n < 0 || n >= len(t.peers) {
		return nil
	}
	return t.peers[n]
}

func (g *giverOf) hasPiece(p uint32) bool { return g.all || g.has.has(p) }

// AddPeer brings in a neighbour that has nothing yet.
func (t *Taker) AddPeer(_ time.Duration, n int) {
	for len(t.peers) <= n {
		t.peers = append(t.peers, nil)
	}
	t.peers[n] = &giverOf{has: newBits(t.cfg.Pieces)}
}

// Has says that a neighbour has a piece.
func (t *Taker) Has(_ time.Duration, n int, piece uint32) {
	g := t.peer(n)
	if g == nil || piece >= t.cfg.Pieces || g.hasPiece(piece) {
		return
	}
	g.has.set(piece)
	t.pickable.change(piece, true)
	if t.missing.has(piece) {
		g.useful++
		if t.pickable.pos[piece] >= 0 {
			g.passed = false
		}
	}
}

// HasAll says that a neighbour has every piece.
func (t *Taker) HasAll(now time.Duration, n int) {
	g := t.peer(n)
	if g == nil || g.all {
		return
	}
	t.Reset(now, n)
	g.all, g.useful, g.passed = true, t.left, false
}

// Reset says that a neighbour has nothing any more, until it says so again.
func (t *Taker) Reset(_ time.Duration, n int) {
	g := t.peer(n)
	if g == nil {
		return
	}
	for p := range t.cfg.Pieces {
		if g.has.has(p) {
			g.has.clear(p)
			t.pickable.change(p, false)
		}
	}
	g.all, g.useful = false, 0
}

// RemovePeer forgets a neighbour. What it was asked for is free for others.
func (t *Taker) RemovePeer(now time.Duration, n int) {
	g := t.peer(n)
	if g == nil {
		return
	}
	for p := range t.cfg.Pieces {
		if g.flights == 0 {
			break
		}
		t.drop(p, n)
	}
	t.Reset(now, n)
	t.peers[n] = nil
}

// drop ends a request without a piece.
func (t *Taker) drop(piece uint32, n int) bool {
	fs := t.flights[piece]
	for i, f := range fs {
		if f.peer != n {
			continue
		}
		t.inFlight -= t.cfg.PieceLen(piece) - f.got
		fs = append(fs[:i:i], fs[i+1:]...)
		if g := t.peer(n); g != nil {
			g.flights--
		}
		if len(fs) > 0 {
			t.flights[piece] = fs
			return true
		}
		delete(t.flights, piece)
		if t.missing.has(piece) {
			t.pickable.add(piece)
			for _, g := range t.peers { // whoever has it can be used again
				if g != nil && g.hasPiece(piece) {
					g.passed = false
				}
			}
		}
		return true
	}
	return false
}

// Answer is what a credit is answered with: a get of Piece, or a pass.
type Answer struct {
	Get       bool
	Piece     uint32
	Duplicate bool // another neighbour is asked for it as well
}

// Credit answers a neighbour's credit. Named is the piece that it names, or -1.
func (t *Taker) Credit(now time.Duration, n int, _ uint64, named int64) Answer {
	g := t.peer(n)
	if g == nil || t.left == 0 || now < g.paused {
		return Answer{}
	}
	if t.full(now) {
		g.passed, g.look = true, now
		return Answer{}
	}
	if named >= 0 && named < int64(t.cfg.Pieces) && t.pickable.pos[named] >= 0 && !t.cfg.Sequential {
		return t.get(now, n, uint32(named), false)
	}
	if p, ok := t.pick(g); ok {
		return t.get(now, n, p, false)
	}
	if p, ok := t.endgame(now, g, n); ok {
		return t.get(now, n, p, true)
	}
	g.passed, g.look = true, now
	return Answer{}
}

func (t *Taker) get(now time.Duration, n int, piece uint32, duplicate bool) Answer {
	t.pickable.remove(piece)
	t.flights[piece] = append(t.flights[piece], &flight{peer: n, piece: piece, began: now, last: now})
	t.inFlight += t.cfg.PieceLen(piece)
	t.peers[n].flights++
	return Answer{true, piece, duplicate}
}

// full says whether more is in flight than the downlink carries in a second.
func (t *Taker) full(now time.Duration) bool {
	limit := max(minInFlight*t.cfg.PieceLen(0), int64(t.rate.perSecond(now)))
	if t.cfg.MaxInFlight > 0 {
		limit = min(limit, max(t.cfg.MaxInFlight, 2*t.cfg.PieceLen(0)))
	}
	return t.inFlight >= limit
}

// pick returns the rarest piece that a neighbour has, of those that are missing and not in flight.
func (t *Taker) pick(g *giverOf) (uint32, bool) {
	if t.cfg.Sequential {
		for ; t.first < t.cfg.Pieces && !t.missing.has(t.first); t.first++ {
		}
		for p := t.first; p < min(t.cfg.Pieces, t.first+window); p++ {
			if t.pickable.pos[p] >= 0 && g.hasPiece(p) {
				return p, true
			}
		}
		return 0, false
	}
	for _, p := range t.pickable.order {
		if g.hasPiece(p) {
			return p, true
		}
	}
	return 0, false
}

// endgame returns the piece in flight that is expected last, when everything missing is in flight, and this neighbour
// would finish it clearly sooner.
func (t *Taker) endgame(now time.Duration, g *giverOf, n int) (best uint32, ok bool) {
	if len(t.pickable.order) > 0 || t.cfg.Sequential && t.left > window {
		return 0, false
	}
	worst := time.Duration(-1)
	for p := range t.flightsInOrder() {
		fs := t.flights[p]
		if len(fs) != 1 || fs[0].peer == n || !g.hasPiece(p) {
			continue
		}
		rest := t.rest(now, fs[0])
		own := t.duration(now, g, t.cfg.PieceLen(p))
		if rest > worst && rest > endgameGain*own && rest > 100*time.Millisecond {
			best, worst, ok = p, rest, true
		}
	}
	return best, ok
}

// flightsInOrder yields the pieces in flight in their order: a map's order must not decide.
func (t *Taker) flightsInOrder() func(func(uint32) bool) {
	return func(yield func(uint32) bool) {
		seen := 0
		for p := uint32(0); p < t.cfg.Pieces && seen < len(t.flights); p++ {
			if t.flights[p] != nil {
				seen++
				if !yield(p) {
					return
				}
			}
		}
	}
}

// rest returns how long a request is expected to take still.
func (t *Taker) rest(now time.Duration, f *flight) time.Duration {
	g := t.peers[f.peer]
	left := t.cfg.PieceLen(f.piece) - f.got
	rate := g.rate.perSecond(now) / float64(max(g.flights, 1))
	if quiet := now - f.last; quiet > time.Second || rate < 1 {
		return time.Hour
	}
	return time.Duration(float64(left) / rate * float64(time.Second))
}

// duration returns how long a neighbour is expected to take for so many bytes. One of which nothing is known is taken for an
// average one.
func (t *Taker) duration(now time.Duration, g *giverOf, n int64) time.Duration {
	rate := g.rate.perSecond(now) / float64(g.flights+1)
	if rate < 1 {
		rate = t.rate.perSecond(now) / 2
	}
	if rate < 1 {
		return 10 * time.Minute
	}
	return time.Duration(float64(n) / rate * float64(time.Second))
}

// Received says that bytes have come for a request.
func (t *Taker) Received(now time.Duration, n int, piece uint32, bytes int64) {
	t.rate.add(now, bytes)
	if g := t.peer(n); g != nil {
		g.rate.add(now, bytes)
	}
	for _, f := range t.flights[piece] {
		if f.peer == n {
			bytes = min(bytes, t.cfg.PieceLen(piece)-f.got)
			f.got += bytes
			f.last = now
			t.inFlight -= bytes
		}
	}
}

// Cancel is a request that is to be given up.
type Cancel struct {
	Peer  int
	Piece uint32
}

// Verified says that a piece is ours. Other requests for it are to be cancelled.
func (t *Taker) Verified(_ time.Duration, piece uint32) (losers []Cancel) {
	if !t.missing.has(piece) {
		return nil
	}
	t.missing.clear(piece)
	t.left--
	t.pickable.remove(piece)
	for _, f := range t.flights[piece] {
		losers = append(losers, Cancel{f.peer, piece})
		t.inFlight -= t.cfg.PieceLen(piece) - f.got
		if g := t.peer(f.peer); g != nil {
			g.flights--
		}
	}
	delete(t.flights, piece)
	for _, g := range t.peers {
		if g != nil && g.hasPiece(piece) {
			g.useful--
		}
	}
	return losers
}

// Failed says that a request has ended without a piece.
func (t *Taker) Failed(_ time.Duration, n int, piece uint32, _ FailKind) { t.drop(piece, n) }

// WantChange is a neighbour that is to be told that it is wanted, or no more.
type WantChange struct {
	Peer int
	On   bool
}

// Wants returns the changes of who is wanted since the last time.
func (t *Taker) Wants(now time.Duration) (out []WantChange) {
	full := t.full(now)
	for n, g := range t.peers {
		if g == nil {
			continue
		}
		if g.passed && !full && now-g.look >= rewantTime {
			g.look = now
			if _, ok := t.pick(g); ok {
				g.passed = false
			} else if _, ok := t.endgame(now, g, n); ok {
				g.passed = false
			}
		}
		if g.passed {
			g.want = false // the pass has said so
			continue
		}
		if want := g.useful > 0 && t.left > 0 && now >= g.paused; want != g.want {
			g.want = want
			out = append(out, WantChange{n, want})
		}
	}
	return out
}

// Tick returns the requests that bring nothing. They are free for others already.
func (t *Taker) Tick(now time.Duration) (stalled []Cancel) {
	for p := range t.flightsInOrder() {
		for _, f := range t.flights[p] {
			if now-f.last >= stallTime {
				stalled = append(stalled, Cancel{f.peer, p})
			}
		}
	}
	for _, c := range stalled {
		if t.drop(c.Piece, c.Peer); t.peer(c.Peer) != nil {
			t.peers[c.Peer].paused = now + stallPause
		}
	}
	return stalled
}
