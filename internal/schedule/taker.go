package schedule

import (
	"cmp"
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// stallTime is how long a request may bring nothing before it is given to others.
	stallTime = 5 * time.Second
	// freshStall is that of a neighbour that has never sent anything: an honest one gives a credit when it can send soon.
	freshStall = 3 * time.Second
	// doubtTime is how long one of those may send nothing before what it is asked for may be asked of those as well who have sent some.
	doubtTime = 500 * time.Millisecond
	// maxTrip is the longest round trip that is waited for.
	maxTrip = time.Second
	// stallPause is how long a neighbour whose request stalled is not asked.
	stallPause = 30 * time.Second
	// enough is how many pieces that move are enough for now, unless a giver insists.
	enough = 4
	// untried is how many pieces that are asked of those who have never sent one count as coming, while nothing has come of them. Whoever promises at once
	// and sends nothing would be enough otherwise.
	untried = 2
	// maxUntried is how many there may be.
	maxUntried = 16
	// spare is how many more givers than are needed are wanted at once.
	spare = 64

	// idleTime is how long a request may bring nothing and still counts as moving.
	idleTime = 500 * time.Millisecond
	// slowPart is how many times less than an equal part of the best rate a piece may bring and still count whole, once it is under way for weighTime.
	slowPart  = 2
	weighTime = 300 * time.Millisecond
	// minInFlight is how many pieces may be in flight however slow the downlink is, and from one neighbour however slow it is.
	minInFlight = 16
	// fillTime is how long a piece counts whole as what fills the downlink, and how much of its rate it counts with after that.
	fillTime  = time.Second
	fillShare = 250 * time.Millisecond
	// endgameGain is how many times sooner a second copy must be expected to be worth it.
	endgameGain = 2
	// minGain is how much must be gained by a second copy.
	minGain = 100 * time.Millisecond
	// maxCopies is how many copies of a piece are in flight at once, in the endgame.
	maxCopies = 2
	// crawlTime is how long the slower of so many copies must have been under way before it is given up for another one, from who is clearly
	// sooner: whoever sends a byte a second would have the piece for ever otherwise.
	crawlTime = time.Second
	// rareDepth is how many of the rarest pieces are looked at for one that a neighbour has.
	rareDepth = 256
	// speedMean is over how many pieces a speed is a mean.
	speedMean = 4
	// rewantTime is how often a neighbour that was passed is looked at again for the endgame.
	rewantTime = 200 * time.Millisecond
	// maxVain is how many credits of one that it was not asked for, and what it sends in two round trips, are passed at once, with no use for any in between; the next ones in vainTime each: an
	// honest giver waits until it is wanted, and others would have all our time.
	maxVain  = 16
	vainTime = 50 * time.Millisecond
	// breakPause is how long one is not asked who went with a request under way, and has never sent a piece, doubling with each time up to stallPause.
	breakPause = time.Second
	// passShare is how many times less than an equal part of the best rate a piece may come and still be passed on while it does: who takes one that comes slowly
	// has it slowly, too, and could have another one fast.
	passShare = 4
	// passTime is how long the next part of a piece that is passed on may be expected to take: those who wait for it must not take us for one who has stalled.
	passTime = time.Second
	// maxLost is how many pieces in a row one may say to be on their way to it, and end without them, before that counts as a refusal: what was on its way to it failed.
	maxLost = 3
	// maxBegun is how many pieces of one neighbour are believed to be on their way to it. It has no use for more.
	maxBegun = 1024
	// window is how many pieces ahead of the first missing one a sequential taker picks.
	window = 64
)

// FailKind says why a request ended without a piece.
type FailKind int

// The kinds.
const (
	FailRejected FailKind = iota // the giver ended it, or it was cancelled
	FailBad                      // the bytes were wrong
	FailOurs                     // they could not be kept: the giver is not to blame
	FailGone                     // the giver has gone
)

// TakerConfig says what a [Taker] decides about.
type TakerConfig struct {
	Pieces      uint32
	PieceLen    func(uint32) int64
	PartLen     int64             // bytes of each part of a piece, which is verified alone
	Have        func(uint32) bool // pieces that are there from the start
	Rand        *rand.Rand
	Sequential  bool
	MaxInFlight int64  // bytes
	Limit       *Limit // shared by all contents of a peer; nil: none
	Site        bool   // it is in a site, of which those that are in it are named by [Taker.SetInside]
	Rank        uint64
}

// Taker decides what one content's leecher asks of whom, and when it wants credits. Neighbours are small numbers.
type Taker struct {
	cfg       TakerConfig
	missing   pieceSet
	left      uint32 // pieces that are missing
	pickable  *rarity
	peers     []*giverOf        // by number
	suppliers map[int]*supplier // by identity: as many as there are members
	flights   []*flight         // requests under way, in the order in which they were made
	inFlight  int64             // bytes asked for and not received
	doubts    int               // of flights
	first     uint32
	turn      uint64
	rate      meter
	best      peak
	came      int64    // bytes since the last tick
	site      *site    // nil: it is in none
	outsiders int      // requests under way to neighbours that are not in it
	speed     float64  // bytes per second at which pieces came, in the mean of all neighbours
	lost      []Cancel // requests that were given up for others, to be cancelled
	forwarded pieceSet // pieces that neighbours were told of before they were whole
}

// supplier is an identity. It outlives its neighbours, so that nobody gains by coming back.
type supplier struct {
	flights int           // requests under way, of all its neighbours
	proven  bool          // it has sent a piece that was right
	broke   int           // how often it went with a request under way, before it had
	held    time.Duration // until when it is not asked for that
}

// giverOf is what a taker knows of a neighbour.
type giverOf struct {
	*supplier
	all     bool
	has     pieceSet
	begun   pieceSet      // of those: what is on its way to it still; nil: nothing is
	coming  int           // how many that are
	lost    int           // of them: how many did not come in a row
	useful  uint32        // pieces that it has and we lack
	told    Want          // how much it was told last that it is wanted
	turn    uint64        // when that was
	passed  bool          // it was told that there is no use for it: it is wanted again when there is
	look    time.Duration // when it is looked at again all the same
	rtt     time.Duration
	nearest trough        // of that
	refused int           // requests in a row that it has ended without a piece
	paused  time.Duration // until when it is not asked, since it stalled
	asked   int64         // bytes asked of it and not received
	rate    meter
	speed   float64       // bytes per second at which pieces came, in the mean; 0: none has
	inside  *insider      // nil: it is not in our site
	wanted  time.Duration // when it was told so, being outside
	limit   *Limit        // of what is asked of it, over all contents; nil: none

	vain     int           // passes of credits that it was not asked for, since it was asked for a piece
	answered time.Duration // when a credit was answered last

	givers  int           // neighbours that it says to have; 0: it has not said
	offered time.Duration // when it was offered to part, last; 0: never
}

// flight is a request under way.
type flight struct {
	peer  int
	piece uint32
	got   int64
	began time.Duration
	last  time.Duration // when the last byte came
	turn  time.Duration // when one came last of a request before it, to the same neighbour

	doubted bool // of one who has never sent anything nothing has come for a while: the piece can be picked all the same
	told    bool // neighbours know that the piece comes
}

// NewTaker makes a taker that knows no neighbours.
func NewTaker(cfg TakerConfig) *Taker {
	cfg.Limit.Piece(cfg.PieceLen(0))
	t := &Taker{cfg: cfg, missing: newPieceSet(cfg.Pieces), forwarded: newPieceSet(cfg.Pieces), pickable: newRarity(cfg.Pieces, cfg.Rand), suppliers: make(map[int]*supplier)}
	for p := range cfg.Pieces {
		if !cfg.Have(p) {
			t.missing.set(p)
			t.left++
			t.pickable.add(p)
		}
	}
	if cfg.Site {
		t.site = newSite(cfg.Pieces, cfg.Rank)
	}
	return t
}

// Givers returns how many neighbours there are, who may give something.
func (t *Taker) Givers() (n int) {
	for _, g := range t.peers {
		if g != nil {
			n++
		}
	}
	return n
}

// Missing returns how many pieces are not verified yet.
func (t *Taker) Missing() uint32 { return t.left }

// InFlight returns the bytes that were asked for and have not come.
func (t *Taker) InFlight() int64 { return t.inFlight }

func (t *Taker) peer(n int) *giverOf {
	if n < 0 || n >= len(t.peers) {
		return nil
	}
	return t.peers[n]
}

func (g *giverOf) hasPiece(p uint32) bool { return g.all || g.has.has(p) }

// AddPeer brings in a neighbour that has nothing yet. Who has proven itself, or broke off, is an identity: one may have several neighbours.
func (t *Taker) AddPeer(n, identity int) {
	for len(t.peers) <= n {
		t.peers = append(t.peers, nil)
	}
	s := t.suppliers[identity]
	if s == nil {
		s = &supplier{}
		t.suppliers[identity] = s
	}
	t.peers[n] = &giverOf{supplier: s, has: newPieceSet(t.cfg.Pieces), paused: s.held}
}

// SetPeerLimit limits what is asked of a neighbour. The limit is shared by the contents that it gives.
func (t *Taker) SetPeerLimit(n int, limit *Limit) {
	if g := t.peer(n); g != nil {
		limit.Piece(t.cfg.PieceLen(0))
		g.limit = limit
	}
}

// Asked returns the bytes that a neighbour was asked for and has not sent.
func (t *Taker) Asked(n int) int64 {
	if g := t.peer(n); g != nil {
		return g.asked
	}
	return 0
}

// begins says whether a neighbour has the beginning of a piece, and waits for the rest itself.
func (g *giverOf) begins(piece uint32) bool { return g.begun.has(piece) }

// ended says that a piece is not on its way to a neighbour any more.
func (g *giverOf) ended(piece uint32) (was bool) {
	if was = g.begins(piece); was {
		g.begun.clear(piece)
		g.coming--
	}
	return was
}

// Begun says that a neighbour has the beginning of a piece, and passes on what comes of it.
func (t *Taker) Begun(now time.Duration, n int, piece uint32) {
	if g := t.peer(n); g != nil && piece < t.cfg.Pieces && !g.hasPiece(piece) && g.coming < maxBegun {
		t.Has(now, n, piece)
		if g.begun == nil {
			g.begun = newPieceSet(t.cfg.Pieces)
		}
		g.begun.set(piece)
		g.coming++
	}
}

// Lost says that a piece of which a neighbour has the beginning does not come to it any more.
func (t *Taker) Lost(n int, piece uint32) {
	if g := t.peer(n); g != nil && piece < t.cfg.Pieces {
		t.loses(g, piece)
	}
}

// loses takes in that a neighbour will not have a piece after all of which it had the beginning, as far as it has said.
func (t *Taker) loses(g *giverOf, piece uint32) (was bool) {
	if !g.ended(piece) {
		return false
	}
	g.has.clear(piece)
	t.pickable.change(piece, false)
	if g.inside != nil {
		t.siteLost(g, piece)
	}
	if t.missing.has(piece) {
		g.useful--
	}
	return true
}

// PassOn says whether neighbours are to be told of a piece that a neighbour sends, of which the first part is verified: once for each request. A piece that
// comes slowly is not passed on before it is whole.
func (t *Taker) PassOn(now time.Duration, n int, piece uint32) bool {
	fs, copies := t.copies(piece)
	for _, f := range fs[:copies] {
		if f.peer != n || f.told {
			continue
		}
		best := t.cfg.Limit.cap(max(t.rate.perSecond(now), t.best.perSecond()))
		if float64(f.got) < max(best/(passShare*enough), float64(t.cfg.PartLen)/passTime.Seconds())*(now-f.began).Seconds() {
			return false
		}
		f.told = true
		t.forwarded.set(piece)
		return true
	}
	return false
}

// Has says that a neighbour has a piece.
func (t *Taker) Has(now time.Duration, n int, piece uint32) {
	g := t.peer(n)
	if g == nil || piece >= t.cfg.Pieces {
		return
	}
	if g.ended(piece) { // it may be asked for now by those who could not wait for it
		g.passed = g.passed && !t.forwarded.has(piece)
		return
	}
	if g.hasPiece(piece) {
		return
	}
	g.has.set(piece)
	t.pickable.change(piece, true)
	if g.inside != nil {
		t.siteHas(now, g, piece)
	}
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
	if g.inside != nil {
		t.count(g, 1)
	}
}

// Reset says that a neighbour has nothing any more, until it says so again.
func (t *Taker) Reset(_ time.Duration, n int) {
	g := t.peer(n)
	if g == nil {
		return
	}
	if g.inside != nil {
		t.siteForget(g)
	}
	for p := range t.cfg.Pieces {
		if g.has.has(p) {
			g.has.clear(p)
			t.pickable.change(p, false)
		}
	}
	g.all, g.useful, g.begun, g.coming = false, 0, nil, 0
}

// RemovePeer forgets a neighbour. What it was asked for is free for others.
func (t *Taker) RemovePeer(now time.Duration, n int) {
	g := t.peer(n)
	if g == nil {
		return
	}
	if g.asked > 0 {
		g.breaks(now)
	}
	for i := 0; i < len(t.flights); {
		if f := t.flights[i]; f.peer == n {
			t.drop(f.piece, n)
		} else {
			i++
		}
	}
	t.Reset(now, n)
	if g.inside != nil {
		t.leaveSite(n, g)
	}
	t.peers[n] = nil
}

// breaks takes in that one goes with a request under way. What breaks off together counts once, and does not count for one who has sent a piece.
func (g *giverOf) breaks(now time.Duration) {
	if g.proven || now < g.held {
		return
	}
	g.held = now + min(breakPause<<min(g.broke, 10), stallPause)
	g.broke++
}

// copies returns the requests for a piece that are under way: two at the most.
func (t *Taker) copies(piece uint32) (fs [maxCopies]*flight, n int) {
	for _, f := range t.flights {
		if f.piece == piece && n < maxCopies {
			fs[n] = f
			n++
		}
	}
	return fs, n
}

// forget takes a request out of the account.
func (t *Taker) forget(f *flight) {
	i := slices.Index(t.flights, f)
	t.flights = slices.Delete(t.flights, i, i+1)
	if f.doubted {
		t.doubts--
	}
	t.inFlight -= t.cfg.PieceLen(f.piece) - f.got
	t.cfg.Limit.Refund(t.cfg.PieceLen(f.piece) - f.got)
	if g := t.peer(f.peer); g != nil {
		if g.inside == nil {
			t.outsiders--
		}
		g.flights--
		g.asked -= t.cfg.PieceLen(f.piece) - f.got
		g.limit.Refund(t.cfg.PieceLen(f.piece) - f.got)
	}
}

// drop ends a request without a piece.
func (t *Taker) drop(piece uint32, n int) {
	fs, copies := t.copies(piece)
	for _, f := range fs[:copies] {
		if f.peer != n {
			continue
		}
		t.forget(f)
		t.free(piece)
		return
	}
}

// free lets a piece be picked, if it is not to come from anybody without a doubt.
func (t *Taker) free(piece uint32) {
	if !t.missing.has(piece) || t.pickable.pos[piece] >= 0 {
		return
	}
	fs, copies := t.copies(piece)
	if slices.ContainsFunc(fs[:copies], func(f *flight) bool { return !f.doubted }) {
		return
	}
	t.pickable.add(piece)
	for _, g := range t.peers { // whoever has it can be used again
		if g != nil && g.hasPiece(piece) {
			g.passed = false
		}
	}
}

// hoped returns how many requests there are of which nothing has come, nor ever has from who was asked, and which are not doubted yet.
func (t *Taker) hoped() (n int) {
	for _, f := range t.flights {
		if t.hopes(f) && !f.doubted {
			n++
		}
	}
	return n
}

// hopes says whether nothing has come for a request, from one who has never sent a piece.
func (t *Taker) hopes(f *flight) bool { return f.got == 0 && !t.peers[f.peer].proven }

// doubt lets what is asked of those who have never sent anything be asked of others.
func (t *Taker) doubt(now time.Duration) {
	for _, f := range t.flights {
		if g := t.peers[f.peer]; !g.proven && !f.doubted && f.silent(now) >= doubtTime+2*g.near() {
			f.doubted = true
			t.doubts++
			t.free(f.piece)
		}
	}
}

// silent returns for how long nothing has come for a request, nor for one before it: a giver sends one piece after the other.
func (f *flight) silent(now time.Duration) time.Duration { return now - max(f.last, f.turn) }

// suits says whether a piece that can be picked may be asked of a neighbour: one that others are asked for, in vain so far, only of one that has
// sent some. If there is none, anybody may have a try.
func (t *Taker) suits(now time.Duration, g *giverOf, piece uint32) bool {
	if t.circles(g, piece) {
		return false
	}
	if t.doubts == 0 {
		return true
	}
	fs, copies := t.copies(piece)
	if copies == 0 {
		return true
	}
	if slices.ContainsFunc(fs[:copies], func(f *flight) bool { return t.peers[f.peer] == g }) {
		return false
	}
	return g.proven || !t.proven(now, piece)
}

// circles says whether a neighbour could wait for a piece that we would wait for: it has it to come, and others were told that we have, too.
func (t *Taker) circles(g *giverOf, piece uint32) bool {
	return t.forwarded.has(piece) && g.begins(piece)
}

// proven says whether one has a piece who has sent some, and may be asked for it.
func (t *Taker) proven(now time.Duration, piece uint32) bool {
	return slices.ContainsFunc(t.peers, func(g *giverOf) bool { return g != nil && g.proven && now >= g.paused && g.hasPiece(piece) })
}

// Answer is what a credit is answered with: a get of Piece, or a pass.
type Answer struct {
	Get       bool
	Piece     uint32
	Duplicate bool // another neighbour is asked for it as well
	Busy      bool // of a pass: not now, but later
	Silent    bool // of a pass: it is not to be sent
}

// Credit answers a neighbour's credit. Named is the piece that it names, or -1. One that insists has nobody else to give to: it is
// passed only if nothing fits.
func (t *Taker) Credit(now time.Duration, n int, named int64, insist bool) Answer {
	g := t.peer(n)
	if g == nil {
		return Answer{}
	}
	unasked := g.told == WantNot
	a := t.credit(now, n, g, named, insist)
	switch {
	case a.Get:
		g.vain = 0
	case !unasked:
	case g.vain < maxVain+int(2*float64(g.rate.perSecond(now))*g.near().Seconds()/float64(t.cfg.PieceLen(0))): // what one that is far has on its way
		g.vain++
	case now-g.answered < vainTime:
		a.Silent = true
		return a
	}
	g.answered = now
	return a
}

func (t *Taker) credit(now time.Duration, n int, g *giverOf, named int64, insist bool) Answer {
	if t.left == 0 || now < g.paused {
		return Answer{}
	}
	switch {
	case t.full(now) || t.crowded(now, g): // not later: who insists would be passed again and again
		return t.pass(now, n, aheadTime)
	case t.outside(g):
		return t.creditOutside(now, n, g, named)
	case !insist && named < 0 && t.hungry(now) <= 0 && g.told == WantNot: // what was said last crosses the credit, and holds
		return Answer{}
	case !insist && named < 0 && t.hungry(now) <= 0:
		t.tell(n, WantLater)
		return Answer{Busy: true}
	}
	if named >= 0 && named < int64(t.cfg.Pieces) && t.pickable.pos[named] >= 0 && !t.cfg.Sequential && t.suits(now, g, uint32(named)) {
		return t.get(now, n, uint32(named), false)
	}
	if p, ok := t.pick(now, g); ok {
		return t.get(now, n, p, false)
	}
	if p, ok := t.endgame(now, g, n); ok {
		return t.get(now, n, p, true)
	}
	return t.pass(now, n, rewantTime)
}

// pass says that there is no use for a neighbour, until it is looked at again.
func (t *Taker) pass(now time.Duration, n int, wait time.Duration) Answer {
	t.tell(n, WantNot)
	g := t.peers[n]
	g.passed, g.look = true, now+wait
	return Answer{}
}

func (t *Taker) get(now time.Duration, n int, piece uint32, duplicate bool) Answer {
	t.pickable.remove(piece)
	t.makeRoom(now, piece)
	t.flights = append(t.flights, &flight{peer: n, piece: piece, began: now, last: now})
	t.inFlight += t.cfg.PieceLen(piece)
	t.cfg.Limit.Charge(t.cfg.PieceLen(piece))
	if t.peers[n].inside == nil {
		t.outsiders++
	}
	t.peers[n].limit.Charge(t.cfg.PieceLen(piece))
	t.peers[n].flights++
	t.peers[n].asked += t.cfg.PieceLen(piece)
	return Answer{Get: true, Piece: piece, Duplicate: duplicate}
}

// near is how far a neighbour is, as far as it is believed: it is the neighbour that decides when it answers.
func (g *giverOf) near() time.Duration { return min(g.rtt, maxTrip) }

// distance returns how far a neighbour is, without the queues on the way to it as far as that can be known.
func (g *giverOf) distance() time.Duration {
	if least := g.nearest.least(); least > 0 {
		return min(g.near(), least)
	}
	return g.near()
}

// hungry returns how many more pieces should be under way: enough of them, and as many as come in the round trip that it takes until
// one begins. Those that do not move are left out of the account, and those that end soon, as many as are enough.
func (t *Taker) hungry(now time.Duration) int {
	moving, hoped, soon, rtt := 0.0, 0, 0, time.Duration(0)
	// The best rate, not the present one: who gets little for a while would be content with little.
	best := t.cfg.Limit.cap(max(t.rate.perSecond(now), t.best.perSecond()))
	for _, f := range t.flights {
		g := t.peers[f.peer]
		if now-f.last >= idleTime+g.near() || t.outside(g) {
			continue
		}
		if t.hopes(f) {
			if hoped++; hoped > untried {
				continue
			}
		}
		rtt = max(rtt, g.near())
		if soon < enough && (pace{f.began, f.last, t.cfg.PieceLen(f.piece), f.got}).soon(now, g.distance()) {
			soon++
			continue
		}
		moving += f.weight(now, best/(slowPart*enough))
	}
	ahead := best * (rtt + aheadTime).Seconds()
	return enough + int(ahead/float64(t.cfg.PieceLen(0))) - int(moving)
}

// weight is how much a request counts as one that moves: less where it brings less than a fair rate, so that four slow ones are not
// enough for one who could have faster ones.
func (f *flight) weight(now time.Duration, fair float64) float64 {
	age := now - f.began
	if age < weighTime || fair <= 0 {
		return 1
	}
	return min(1, float64(f.got)/age.Seconds()/fair)
}

// SetRTT says how far a neighbour is now, with all that waits on the way to it.
func (t *Taker) SetRTT(n int, rtt time.Duration) {
	if g := t.peer(n); g != nil {
		g.rtt = rtt
	}
}

// trip returns how far the farthest neighbour is of which something is asked.
func (t *Taker) trip() (trip time.Duration) {
	for _, f := range t.flights {
		trip = max(trip, t.peers[f.peer].near())
	}
	return trip
}

// full says whether more is coming than the downlink carries in a second and a round trip, or more is in flight than may be, or the limit is used up. What comes slowly, for
// longer than fillTime already, fills nothing: those who send it would keep out those who are fast. Nor does what was promised by more than a few who have
// never sent anything.
func (t *Taker) full(now time.Duration) bool {
	if !t.cfg.Limit.Allows(now) {
		return true
	}
	if t.cfg.MaxInFlight > 0 && t.inFlight >= max(t.cfg.MaxInFlight, 2*t.cfg.PieceLen(0)) {
		return true
	}
	limit := max(minInFlight*t.cfg.PieceLen(0), int64(t.rate.perSecond(now)*(time.Second+t.trip()).Seconds()))
	if t.inFlight < limit {
		return false
	}
	coming, hoped := int64(0), 0
	for _, f := range t.flights {
		rest := t.cfg.PieceLen(f.piece) - f.got
		if t.hopes(f) {
			if hoped++; hoped > untried {
				continue
			}
		}
		if age := now - f.began; age >= fillTime {
			rest = min(rest, int64(float64(f.got)*float64(fillShare)/float64(age)))
		}
		coming += rest
	}
	return coming >= limit
}

// crowded says whether more is asked of a neighbour than it sends in a second, or than its limit allows: it is not to take everything and send nothing. Who has never
// sent a piece, and is not the only one, is asked for no more than an honest giver promises, and all of those for no more than maxUntried.
func (t *Taker) crowded(now time.Duration, g *giverOf) bool {
	if !g.proven && (g.flights >= perLeecher || t.hoped() >= maxUntried) &&
		slices.ContainsFunc(t.peers, func(o *giverOf) bool { return o != nil && o != g && o.useful > 0 }) {
		return true
	}
	return !g.limit.Allows(now) || g.asked >= max(minInFlight*t.cfg.PieceLen(0), int64(g.rate.perSecond(now)))
}

// pick returns the rarest piece that a neighbour has, of those that are missing and not in flight.
func (t *Taker) pick(now time.Duration, g *giverOf) (uint32, bool) {
	return t.pickIf(now, g, nil)
}

// pickIf returns the rarest of those that may be fetched: any, if may is nil.
func (t *Taker) pickIf(now time.Duration, g *giverOf, may func(uint32) bool) (uint32, bool) {
	if t.cfg.Sequential {
		for ; t.first < t.cfg.Pieces && !t.missing.has(t.first); t.first++ {
		}
		for p := t.first; p < min(t.cfg.Pieces, t.first+window); p++ {
			if t.pickable.pos[p] >= 0 && g.hasPiece(p) && (may == nil || may(p)) && t.suits(now, g, p) {
				return p, true
			}
		}
		return 0, false
	}
	for _, p := range t.pickable.order[:min(len(t.pickable.order), rareDepth)] {
		if g.hasPiece(p) && (may == nil || may(p)) && t.suits(now, g, p) {
			return p, true
		}
	}
	if len(t.pickable.order) <= rareDepth {
		return 0, false
	}
	return t.sample(now, g, may)
}

// sample returns the rarest of some pieces that a neighbour has, from a random place on: where it has few of the rarest, looking at
// all in their order would take too long.
func (t *Taker) sample(now time.Duration, g *giverOf, may func(uint32) bool) (best uint32, ok bool) {
	words := len(t.missing)
	from := t.cfg.Rand.IntN(words)
	found := 0
	for i := range words {
		at := (from + i) % words
		w := t.missing[at]
		if !g.all {
			w &= g.has[at]
		}
		if t.outside(g) {
			w &= t.site.lacking[at]
		}
		for ; w != 0; w &= w - 1 {
			p := uint32(at*64 + bits.TrailingZeros64(w))
			if t.pickable.pos[p] < 0 {
				continue
			}
			if (may == nil || may(p)) && t.suits(now, g, p) && (!ok || t.pickable.pos[p] < t.pickable.pos[best]) {
				best, ok = p, true
			}
			if found++; found == rareDepth {
				return best, ok
			}
		}
	}
	return best, ok
}

// endgame returns the piece in flight that is expected last, when everything missing is in flight, and this neighbour
// would finish it clearly sooner.
func (t *Taker) endgame(now time.Duration, g *giverOf, n int) (best uint32, ok bool) {
	worst := time.Duration(-1)
	for _, f := range t.flights {
		if f.peer == n || !g.hasPiece(f.piece) || t.circles(g, f.piece) || !t.last(f.piece) || !g.proven && now-f.began < stallTime && t.proven(now, f.piece) {
			continue
		}
		rest := t.rest(now, f)
		if rest <= worst || rest <= minGain || rest <= endgameGain*t.duration(g, t.cfg.PieceLen(f.piece)) {
			continue
		}
		if fs, copies := t.copies(f.piece); copies < maxCopies || t.crawls(now, g, n, fs) {
			best, worst, ok = f.piece, rest, true
		}
	}
	return best, ok
}

// last says whether a piece in flight is among those that are waited for: everything missing is in flight, or, in order, it is the next one.
func (t *Taker) last(piece uint32) bool {
	if t.cfg.Sequential && t.left > window {
		return piece == t.first
	}
	return len(t.pickable.order) == 0
}

// crawls says whether all copies of a piece would come clearly later than one from this neighbour, and have had their time.
func (t *Taker) crawls(now time.Duration, g *giverOf, n int, fs [maxCopies]*flight) bool {
	for _, f := range fs {
		if f.peer == n || now-f.began < crawlTime && t.peers[f.peer].proven || t.rest(now, f) <= endgameGain*t.duration(g, t.cfg.PieceLen(f.piece)) {
			return false
		}
	}
	return true
}

// makeRoom gives the slowest copy of a piece up, if there are as many as may be.
func (t *Taker) makeRoom(now time.Duration, piece uint32) {
	fs, copies := t.copies(piece)
	if copies < maxCopies {
		return
	}
	slowest := slices.MaxFunc(fs[:], func(a, b *flight) int { return cmp.Compare(t.rest(now, a), t.rest(now, b)) })
	t.lost = append(t.lost, Cancel{slowest.peer, piece})
	if g := t.peers[slowest.peer]; !t.loses(g, piece) && (now-slowest.last >= crawlTime || slowest.doubted) {
		g.paused = now + stallPause
	}
	t.forget(slowest)
}

// rest returns how long a request is expected to take still.
func (t *Taker) rest(now time.Duration, f *flight) time.Duration {
	left := t.cfg.PieceLen(f.piece) - f.got
	switch {
	case now-f.last > time.Second:
		return time.Hour
	case f.got == 0: // it has hardly begun
		return t.duration(t.peers[f.peer], left)
	}
	return time.Duration(float64(now-f.began) * float64(left) / float64(f.got))
}

// duration returns how long a neighbour is expected to take for so many bytes. One of which nothing is known is taken for an
// average one.
func (t *Taker) duration(g *giverOf, n int64) time.Duration {
	speed := g.speed
	if speed == 0 {
		speed = t.speed
	}
	if speed == 0 {
		return 10 * time.Minute
	}
	return time.Duration(float64(n) / speed * float64(time.Second))
}

// learn takes in how fast a piece has come.
func (t *Taker) learn(now time.Duration, f *flight) {
	took := max(now-f.began, time.Millisecond).Seconds()
	speed := float64(t.cfg.PieceLen(f.piece)) / took
	for _, mean := range []*float64{&t.speed, &t.peers[f.peer].speed} {
		if *mean == 0 {
			*mean = speed
		}
		*mean += (speed - *mean) / speedMean
	}
}

// Received says that bytes have come for a request.
func (t *Taker) Received(now time.Duration, n int, piece uint32, bytes int64) {
	t.rate.add(now, bytes)
	t.came += bytes
	behind := false
	for _, f := range t.flights {
		if f.peer == n && (behind || t.peers[n].begins(f.piece)) {
			f.turn = now
		}
		if f.peer == n && f.piece == piece {
			bytes = min(bytes, t.cfg.PieceLen(piece)-f.got)
			f.got += bytes
			f.last, behind = now, true
			if f.doubted {
				f.doubted = false
				t.doubts--
				t.pickable.remove(piece)
			}
			t.inFlight -= bytes
			t.peers[n].asked -= bytes
			t.peers[n].rate.add(now, bytes)
			if t.site != nil {
				t.siteReceived(now, t.peers[n], bytes)
			}
		}
	}
}

// Behind says that bytes of another content have come from a neighbour: what it is asked for of this one may have to wait for that.
func (t *Taker) Behind(now time.Duration, n int) {
	for _, f := range t.flights {
		if f.peer == n && f.got == 0 {
			f.turn = now
		}
	}
}

// Cancel is a request that is to be given up.
type Cancel struct {
	Peer  int
	Piece uint32
}

// Verified says that a piece is ours. Other requests for it are to be cancelled.
func (t *Taker) Verified(now time.Duration, piece uint32) (losers []Cancel) {
	if !t.missing.has(piece) {
		return nil
	}
	t.missing.clear(piece)
	t.left--
	t.pickable.remove(piece)
	fs, copies := t.copies(piece)
	for _, f := range fs[:copies] {
		if f.got == t.cfg.PieceLen(piece) {
			t.learn(now, f)
			t.peers[f.peer].proven, t.peers[f.peer].refused, t.peers[f.peer].lost = true, 0, 0
			if t.site != nil {
				t.siteVerified(now, f)
			}
		}
		losers = append(losers, Cancel{f.peer, piece})
		t.forget(f)
	}
	for _, g := range t.peers {
		if g != nil && g.hasPiece(piece) {
			g.useful--
		}
	}
	return losers
}

// Failed says that a request has ended without a piece.
func (t *Taker) Failed(now time.Duration, n int, piece uint32, kind FailKind) {
	fs, copies := t.copies(piece)
	asked := slices.ContainsFunc(fs[:copies], func(f *flight) bool { return f.peer == n })
	if g := t.peer(n); g != nil && asked && kind != FailOurs {
		waited := t.loses(g, piece)
		if kind == FailGone {
			g.breaks(now)
		}
		t.refuses(now, g, waited)
	}
	t.drop(piece, n)
}

// refuses takes in that a neighbour has ended a request without a piece: who promises and refuses, over and over, would keep the piece from others. One that
// waited for it itself is borne for a while.
func (t *Taker) refuses(now time.Duration, g *giverOf, waited bool) {
	if waited && g.lost < maxLost {
		g.lost++
		return
	}
	g.refused++
	g.paused = max(g.paused, now+min(minWait<<min(g.refused, 12), stallPause))
}

// Want says how much a leecher could use a neighbour.
type Want int

// How much.
const (
	WantNot   Want = iota // the neighbour has nothing for it
	WantLater             // it has, but enough is coming from others: who has nobody else to give to may insist
	WantNow
)

// WantChange is a neighbour that is to be told how much it is wanted.
type WantChange struct {
	Peer int
	Want Want
}

// Wants returns the changes of how much each neighbour is wanted. As many are wanted now as there are pieces too few under way, and
// spare more; those first who have waited longest.
func (t *Taker) Wants(now time.Duration) (out []WantChange) {
	open := 0
	if hungry := t.hungry(now); hungry > 0 {
		open = hungry + spare
	}
	if t.cfg.Limit.Rate() > 0 { // most of those many would be passed
		if open = min(open, 2*enough); !t.cfg.Limit.Allows(now) {
			open = 0
		}
	}
	for _, g := range t.peers {
		if g != nil && g.told == WantNow && !t.outside(g) {
			open--
		}
	}
	for n, g := range t.peers {
		if g == nil || t.outside(g) {
			continue
		}
		t.look(now, n, g)
		switch wanted := g.useful > 0 && t.left > 0 && now >= g.paused; {
		case g.passed: // the pass has said so
		case !wanted && g.told != WantNot:
			out = append(out, t.tell(n, WantNot))
		case wanted && g.told == WantNot && open <= 0:
			out = append(out, t.tell(n, WantLater))
		}
	}
	for ; open > 0; open-- {
		best := -1
		for n, g := range t.peers {
			if g != nil && g.told != WantNow && !t.outside(g) && !g.passed && g.useful > 0 && t.left > 0 && now >= g.paused &&
				(best < 0 || g.turn < t.peers[best].turn) {
				best = n
			}
		}
		if best < 0 {
			break
		}
		out = append(out, t.tell(best, WantNow))
	}
	return t.wantsOutside(now, out)
}

func (t *Taker) tell(n int, want Want) WantChange {
	t.turn++
	g := t.peers[n]
	g.told, g.turn = want, t.turn
	return WantChange{n, want}
}

// look looks again at a neighbour for which there was no use.
func (t *Taker) look(now time.Duration, n int, g *giverOf) {
	if !g.passed || now < g.look || t.full(now) || t.crowded(now, g) {
		return
	}
	g.look = now + rewantTime
	if _, ok := t.pick(now, g); ok {
		g.passed = false
	} else if _, ok := t.endgame(now, g, n); ok {
		g.passed = false
	}
}

// Tick returns the requests that bring nothing. They are free for others already.
func (t *Taker) Tick(now time.Duration) (stalled []Cancel) {
	t.doubt(now)
	for _, g := range t.peers {
		if g != nil && g.rtt > 0 {
			g.nearest.look(now, g.rtt)
		}
	}
	t.best.look(now, t.came, peakSpan)
	t.came = 0
	for _, f := range t.flights {
		if silent := f.silent(now); silent >= stallTime || f.got == 0 && !t.peers[f.peer].proven && silent >= freshStall+t.peers[f.peer].near() {
			stalled = append(stalled, Cancel{f.peer, f.piece})
		}
	}
	for _, c := range stalled {
		t.drop(c.Piece, c.Peer)
		switch g := t.peer(c.Peer); {
		case g == nil:
		case t.loses(g, c.Piece): // what it waits for has stalled
			t.refuses(now, g, true)
		default:
			g.paused = now + stallPause
			t.siteStalled(c.Peer)
		}
	}
	if t.site != nil {
		t.siteTick(now)
	}
	stalled = append(stalled, t.lost...)
	t.lost = nil
	return stalled
}
