package schedule

import (
	"slices"
	"time"
)

const (
	// siteFetchers is how many leechers of a site fetch from outside: some, for one may be slow, and few, for each has pieces under way.
	siteFetchers = 4
	// siteEnough is how many pieces each of them has under way from outside, and as many more as come in a round trip and aheadTime.
	siteEnough = 2
	// siteSpare is how many more givers outside than are needed are wanted at once, siteWantTime how long one of those may give nothing
	// before another is asked as well.
	siteSpare    = 4
	siteWantTime = 100 * time.Millisecond
	// siteSilence is how long a fetcher may neither bring nor claim anything before the next one takes its place, and
	// siteBarren how long it may claim and bring nothing.
	siteSilence = 6 * time.Second
	siteBarren  = 2 * time.Minute
	// claimTime is how long a claim holds that is not renewed, claimEvery how often it is.
	claimTime  = 6 * time.Second
	claimEvery = 2 * time.Second
	// claimLinger is how long a piece that has come is claimed still: until others have been told that it is there.
	claimLinger = time.Second
	// MaxClaims bounds the pieces that one leecher claims.
	MaxClaims = 64
	// stealTime is how long a piece may be claimed, at least, before one who has nothing else to fetch takes it too.
	stealTime = 10 * time.Second
	// trustTime is how long the site may say that it has pieces, and give none, before it is not believed. So many bytes are something.
	trustTime  = 10 * time.Second
	trustBytes = 256 << 10
)

// site is what a taker knows of the site that it is in: who else of it fetches the same content, what they have, and what they fetch
// from outside. While it knows nobody there, all neighbours are alike.
//
// A piece that nobody inside has is fetched from outside by one of the site's fetchers, who claims it while it is on its way. The fetchers
// are those that rank first of all leechers that are not complete, by numbers on which all agree. Who brings and claims nothing loses its place
// to the next one for as long as that lasts.
type site struct {
	rank    uint64
	order   []int    // neighbours inside, those that rank first first
	level   []uint16 // of each piece: how many neighbours inside have it and are believed, those that have all not counted
	lacking pieceSet // pieces that none of those has
	all     int      // neighbours inside that have everything and are believed
	fetcher bool     // we are one
	stale   bool     // who is there has changed since that was found out
	team    []uint64 // how the others that are rank

	claims map[uint32]claim // pieces that others inside fetch
	landed []landing        // pieces that have come from outside just now
	told   []uint32         // what we have claimed last
	toldAt time.Duration

	gave  time.Duration // when something came from inside last, or there was nothing to come
	bytes int64         // that came from inside since
	took  time.Duration // that a piece from outside takes, in the mean
	rate  meter         // of what comes from outside
}

// claim is a piece that others of the site fetch from outside.
type claim struct {
	by    int // so many
	since time.Duration
}

// insider is what a taker knows of a neighbour inside.
type insider struct {
	rank    uint64
	pieces  uint32        // that it has
	doubted bool          // it has pieces that we lack, and gives none
	fetches bool          // it is one of the fetchers, or has failed as one
	since   time.Duration // when that began, or there was nothing to fetch
	brought time.Duration // when it had a piece that nobody else inside has, last
	claims  []uint32
	claimed time.Duration // when it said so
}

// newSite makes a site of which nobody else is known.
func newSite(pieces uint32, rank uint64) *site {
	s := &site{rank: rank, level: make([]uint16, pieces), lacking: newPieceSet(pieces), claims: make(map[uint32]claim)}
	for p := range pieces {
		s.lacking.set(p)
	}
	return s
}

// SetInside says that a neighbour, which has just been added, is in our own site, and how it ranks there.
func (t *Taker) SetInside(now time.Duration, n int, rank uint64) {
	g, s := t.peer(n), t.site
	if s == nil || g == nil || g.inside != nil {
		return
	}
	g.inside = &insider{rank: rank, since: now, brought: now}
	if len(s.order) == 0 {
		s.gave = now
	}
	at, _ := slices.BinarySearchFunc(s.order, rank, func(o int, rank uint64) int {
		if t.peers[o].inside.rank > rank {
			return -1
		}
		return 1
	})
	s.order = slices.Insert(s.order, at, n)
	s.stale = true
}

// outside says whether a neighbour is outside of the site that we share with others.
func (t *Taker) outside(g *giverOf) bool {
	return t.site != nil && g.inside == nil && len(t.site.order) > 0
}

// siteHas takes in that a neighbour inside has one piece more.
func (t *Taker) siteHas(now time.Duration, g *giverOf, piece uint32) {
	s, in := t.site, g.inside
	if in.pieces++; in.doubted {
		return
	}
	if s.level[piece]++; s.level[piece] == 1 {
		if s.lacking.clear(piece); t.missing.has(piece) {
			in.brought = now
		}
	}
}

// siteLost takes in that a neighbour inside does not have a piece after all.
func (t *Taker) siteLost(g *giverOf, piece uint32) {
	s, in := t.site, g.inside
	if in.pieces--; in.doubted {
		return
	}
	if s.level[piece]--; s.level[piece] == 0 {
		s.lacking.set(piece)
	}
}

// siteForget takes in that a neighbour inside has nothing any more.
func (t *Taker) siteForget(g *giverOf) {
	t.count(g, -1)
	g.inside.pieces, g.inside.doubted = 0, false
}

// count counts what a neighbour inside has, or takes that back, if it is believed.
func (t *Taker) count(g *giverOf, by int) {
	s := t.site
	if g.inside.doubted {
		return
	}
	if g.all {
		s.all += by
		return
	}
	for p := range t.cfg.Pieces {
		if !g.has.has(p) {
			continue
		}
		if s.level[p] += uint16(by); s.level[p] == 0 {
			s.lacking.set(p)
		} else {
			s.lacking.clear(p)
		}
	}
}

// believe says whether what a neighbour inside says to have counts.
func (t *Taker) believe(g *giverOf, on bool) {
	if g.inside.doubted == !on {
		return
	}
	if on {
		g.inside.doubted = false
		t.count(g, 1)
		return
	}
	t.count(g, -1)
	g.inside.doubted = true
	t.claim(0, g.inside, nil)
}

// leaveSite forgets a neighbour inside.
func (t *Taker) leaveSite(n int, g *giverOf) {
	t.claim(0, g.inside, nil)
	t.site.stale = true
	t.site.order = slices.DeleteFunc(t.site.order, func(o int) bool { return o == n })
}

// Claimed says which pieces a neighbour inside fetches from outside, instead of those that it said before. Of two who have begun with the
// same one, the one that ranks lower gives it up: those requests are to be cancelled. They are free for others already.
func (t *Taker) Claimed(now time.Duration, n int, pieces []uint32) (lost []Cancel) {
	g := t.peer(n)
	if g == nil || g.inside == nil || g.inside.doubted || now-max(g.inside.since, g.inside.brought) >= siteBarren {
		return nil
	}
	var list []uint32
	for _, p := range pieces[:min(len(pieces), MaxClaims)] {
		if p < t.cfg.Pieces && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	t.claim(now, g.inside, list)
	for _, f := range t.flights {
		if t.outside(t.peers[f.peer]) && g.inside.rank > t.site.rank && 2*f.got < t.cfg.PieceLen(f.piece) && slices.Contains(list, f.piece) {
			lost = append(lost, Cancel{f.peer, f.piece})
		}
	}
	for _, c := range lost {
		t.drop(c.Piece, c.Peer)
	}
	return lost
}

func (t *Taker) claim(now time.Duration, in *insider, pieces []uint32) {
	s := t.site
	for _, p := range pieces { // the new ones first: what is claimed again was claimed all the time
		c := s.claims[p]
		if c.by == 0 {
			c.since = now
		}
		c.by++
		s.claims[p] = c
	}
	for _, p := range in.claims {
		c := s.claims[p]
		if c.by--; c.by > 0 {
			s.claims[p] = c
		} else {
			delete(s.claims, p)
		}
	}
	in.claims, in.claimed = pieces, now
}

// Claims returns what we fetch from outside, if those inside are to be told: all of it, instead of what they were told before.
func (t *Taker) Claims(now time.Duration) (pieces []uint32, tell bool) {
	s := t.site
	if s == nil || len(s.order) == 0 || t.outsiders == 0 && len(s.told) == 0 {
		return nil, false
	}
	for _, f := range t.flights {
		if g := t.peers[f.peer]; g.inside == nil && len(pieces) < MaxClaims {
			pieces = append(pieces, f.piece)
		}
	}
	s.landed = slices.DeleteFunc(s.landed, func(l landing) bool { return now >= l.due })
	for _, l := range s.landed {
		if len(pieces) < MaxClaims && !slices.Contains(pieces, l.piece) {
			pieces = append(pieces, l.piece)
		}
	}
	news := slices.ContainsFunc(pieces, func(p uint32) bool { return !slices.Contains(s.told, p) })
	if !news && now-s.toldAt < claimEvery {
		return nil, false // what we do not fetch any more is told later
	}
	s.told, s.toldAt = pieces, now
	return pieces, true
}

// siteReceived takes in that bytes have come.
func (t *Taker) siteReceived(now time.Duration, g *giverOf, bytes int64) {
	s := t.site
	if g.inside == nil {
		s.rate.add(now, bytes)
		return
	}
	if s.bytes += bytes; s.bytes >= min(trustBytes, t.cfg.PieceLen(0)) {
		s.gave, s.bytes = now, 0
	}
}

// siteStalled takes in that a neighbour has not sent what it was asked for.
func (t *Taker) siteStalled(n int) {
	if g := t.peer(n); t.site != nil && g != nil && g.inside != nil {
		t.believe(g, false)
	}
}

// siteVerified takes in that a request has brought its piece.
func (t *Taker) siteVerified(now time.Duration, f *flight) {
	s, g := t.site, t.peers[f.peer]
	if g.inside != nil {
		t.believe(g, true)
		s.gave, s.bytes = now, 0
		return
	}
	if s.took == 0 {
		s.took = now - f.began
	}
	s.took += (now - f.began - s.took) / speedMean
	if len(s.landed) < MaxClaims {
		s.landed = append(s.landed, landing{piece: f.piece, due: now + claimLinger})
	}
}

// siteTick looks at deadlines: who of the site is not to be believed or waited for any more.
func (t *Taker) siteTick(now time.Duration) {
	s := t.site
	if len(s.order) == 0 {
		return
	}
	useful := false
	for _, n := range s.order {
		g := t.peers[n]
		useful = useful || g.useful > 0 && !g.inside.doubted
		if in := g.inside; len(in.claims) > 0 && (now-in.claimed >= claimTime || now-max(in.since, in.brought) >= siteBarren) {
			t.claim(now, in, nil)
		}
	}
	switch {
	case !useful:
		s.gave, s.bytes = now, 0
	case now-s.gave >= trustTime:
		for _, n := range s.order {
			if g := t.peers[n]; g.useful > 0 {
				t.believe(g, false)
			}
		}
	}
	t.elect(now)
}

// elect finds out whether we are one of the site's fetchers.
func (t *Taker) elect(now time.Duration) {
	s := t.site
	need := t.needed()
	places := siteFetchers
	s.stale = false
	s.team = s.team[:0]
	for _, n := range s.order {
		g := t.peers[n]
		in := g.inside
		if in.rank < s.rank {
			break
		}
		if g.all || in.pieces == t.cfg.Pieces || in.doubted {
			continue
		}
		if places == 0 {
			in.fetches = false
			continue
		}
		if !in.fetches || !need {
			in.fetches, in.since = true, now
		}
		if now-max(in.since, in.brought) < siteSilence || len(in.claims) > 0 {
			places--
			s.team = append(s.team, in.rank)
		}
	}
	s.fetcher = places > 0
}

// needed says whether somebody outside has a piece that nobody inside has.
func (t *Taker) needed() bool {
	s := t.site
	if s.all > 0 {
		return false
	}
	for _, g := range t.peers {
		if g == nil || g.inside != nil || g.useful == 0 {
			continue
		}
		for i, w := range s.lacking {
			if w&t.missing[i] != 0 && (g.all || w&t.missing[i]&g.has[i] != 0) {
				return true
			}
		}
	}
	return false
}

// hungryOutside returns how many more pieces a fetcher should have under way from outside.
func (t *Taker) hungryOutside(now time.Duration, g *giverOf) int {
	ahead := t.site.rate.perSecond(now) * (g.near() + aheadTime).Seconds()
	return siteEnough + int(ahead/float64(t.cfg.PieceLen(0))) - t.outsiders
}

// mayFetch says whether a piece that we lack may be fetched from outside.
func (t *Taker) mayFetch(piece uint32) bool {
	s := t.site
	return t.pickable.pos[piece] >= 0 && s.all == 0 && s.lacking.has(piece) && s.claims[piece].by == 0
}

// ours says whether a piece is rather ours than another fetcher's: each begins with others.
func (t *Taker) ours(piece uint32) bool {
	own := mix(t.site.rank, piece)
	return !slices.ContainsFunc(t.site.team, func(rank uint64) bool { return mix(rank, piece) > own })
}

// mix returns a number that looks random.
func mix(rank uint64, piece uint32) uint64 {
	x := (rank ^ uint64(piece)*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>31) * 0x94d049bb133111eb
	return x ^ x>>29
}

// creditOutside answers a credit of a neighbour outside.
func (t *Taker) creditOutside(now time.Duration, n int, g *giverOf, named int64) Answer {
	if t.site.stale {
		t.elect(now)
	}
	if !t.site.fetcher || t.hungryOutside(now, g) <= 0 {
		return t.pass(now, n, aheadTime)
	}
	if named >= 0 && named < int64(t.cfg.Pieces) && t.mayFetch(uint32(named)) && !t.cfg.Sequential && t.suits(now, g, uint32(named)) {
		return t.get(now, n, uint32(named), false)
	}
	if p, ok := t.pickOutside(now, g); ok {
		return t.get(now, n, p, false)
	}
	if p, ok := t.rescue(now, g, n); ok {
		return t.get(now, n, p, true)
	}
	return t.pass(now, n, rewantTime)
}

// pickOutside returns a piece that a neighbour outside has and that may be fetched there: the rarest that nobody claims, else one that
// is claimed for too long.
func (t *Taker) pickOutside(now time.Duration, g *giverOf) (uint32, bool) {
	if t.site.all > 0 {
		return 0, false
	}
	if p, ok := t.pickIf(now, g, func(p uint32) bool { return t.mayFetch(p) && t.ours(p) }); ok {
		return p, true
	}
	if p, ok := t.pickIf(now, g, t.mayFetch); ok {
		return p, true
	}
	if t.outsiders > 0 {
		return 0, false
	}
	for _, n := range t.site.order {
		for _, p := range t.peers[n].inside.claims {
			c := t.site.claims[p]
			if g.hasPiece(p) && t.pickable.pos[p] >= 0 && t.site.lacking.has(p) && c.by == 1 && now-c.since >= max(stealTime, 2*t.site.took) && t.suits(now, g, p) {
				return p, true
			}
		}
	}
	return 0, false
}

// rescue returns a piece that one inside sends who is not believed any more, and that nobody else inside has.
func (t *Taker) rescue(now time.Duration, g *giverOf, n int) (uint32, bool) {
	for _, f := range t.flights {
		from := t.peers[f.peer].inside
		if from == nil || !from.doubted || f.peer == n || !g.hasPiece(f.piece) || t.circles(g, f.piece) || t.site.all > 0 || !t.site.lacking.has(f.piece) {
			continue
		}
		if _, copies := t.copies(f.piece); copies < maxCopies && now-f.began >= trustTime {
			return f.piece, true
		}
	}
	return 0, false
}

// wantsOutside returns the changes of how much neighbours outside are wanted: by a fetcher, as many as it lacks pieces under way, and
// siteSpare more; nobody by others.
func (t *Taker) wantsOutside(now time.Duration, out []WantChange) []WantChange {
	s := t.site
	if s == nil || len(s.order) == 0 {
		return out
	}
	if s.stale {
		t.elect(now)
	}
	waiting := 0
	for n, g := range t.peers {
		if g == nil || g.inside != nil {
			continue
		}
		if g.passed && now >= g.look {
			g.passed = false
		}
		wanted := s.fetcher && g.useful > 0 && t.left > 0 && now >= g.paused
		if g.told != WantNot && (!wanted || g.told == WantLater) {
			out = append(out, t.tell(n, WantNot))
		}
		if g.told == WantNow && now-g.wanted < siteWantTime+2*g.near() {
			waiting++
		}
	}
	for s.fetcher && t.left > 0 {
		best := -1
		for n, g := range t.peers {
			if g != nil && g.inside == nil && g.told == WantNot && !g.passed && g.useful > 0 && now >= g.paused &&
				(best < 0 || g.turn < t.peers[best].turn) {
				best = n
			}
		}
		if best < 0 {
			break
		}
		g := t.peers[best]
		hungry := t.hungryOutside(now, g)
		if hungry <= 0 || waiting >= hungry+siteSpare || t.full(now) {
			break
		}
		if !t.useOutside(now, best, g) {
			g.passed, g.look = true, now+rewantTime
			continue
		}
		g.wanted = now
		waiting++
		out = append(out, t.tell(best, WantNow))
	}
	return out
}

// useOutside says whether there is a piece that may be fetched of a neighbour outside.
func (t *Taker) useOutside(now time.Duration, n int, g *giverOf) bool {
	if _, ok := t.pickOutside(now, g); ok {
		return true
	}
	_, ok := t.rescue(now, g, n)
	return ok
}
