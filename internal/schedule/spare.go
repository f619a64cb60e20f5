package schedule

import "time"

const (
	// Neighbours is how many neighbours a leecher of a content needs. Those that it has more it can do without.
	Neighbours = 40
	// offerTime is how long an offer counts, beyond two round trips, that was not taken: who takes it does so at once.
	offerTime = time.Second
	// offerPart is how many times more neighbours one has too many than it offers at once to do without: those to which it has offered that it cannot let go
	// of when they offer the same.
	offerPart = 4
)

// Who came first knows all who came after, and who came last only those that it was told of. With more neighbours one is served more often, so that the others
// end later; and each costs a connection, and news. Two that have more than they need, both of them, may part: one offers it, and the other one
// closes, if it still has too many by its own count. So nobody has fewer than it needs because of that, however late it hears what others have.

// SetGivers says how many neighbours a neighbour says to have.
func (t *Taker) SetGivers(n, givers int) {
	if g := t.peer(n); g != nil {
		g.givers = givers
	}
}

// excess returns how many neighbours there are too many, those not counted that may go since it was offered to them; and how many these are. An identity
// counts once, however many neighbours it is: it could drive out all others.
func (t *Taker) excess(now time.Duration) (n, offered int) {
	if len(t.peers) <= Neighbours {
		return 0, 0
	}
	identities := make(map[*supplier]bool)
	for _, g := range t.peers {
		if g == nil {
			continue
		}
		identities[g.supplier] = true
		if g.mayGo(now) {
			offered++
		}
	}
	return len(identities) - Neighbours - offered, offered
}

// mayGo says whether it was offered to a neighbour to part, so short a time ago that it may take that.
func (g *giverOf) mayGo(now time.Duration) bool {
	return g.offered > 0 && now-g.offered < offerTime+2*g.near()
}

// Offers returns the neighbours to which it is to be offered to part. Idle says of one whether nothing is on its way to it.
func (t *Taker) Offers(now time.Duration, idle func(n int) bool) (out []int) {
	more, offered := t.excess(now)
	if more <= 0 {
		return nil
	}
	open := max(1, (more+offered)/offerPart) - offered
	from := t.cfg.Rand.IntN(len(t.peers))
	for i := range t.peers {
		n := (from + i) % len(t.peers)
		if len(out) >= open {
			break
		}
		if g := t.peers[n]; g != nil && g.givers > Neighbours && t.spares(g) && !g.mayGo(now) && idle(n) {
			g.offered = now
			out = append(out, n)
		}
	}
	return out
}

// spares says whether a neighbour could be done without: not one that has everything, nor one that is asked for something. In a site all are needed: those inside hear
// each other's claims, and of those outside there are few.
func (t *Taker) spares(g *giverOf) bool {
	return !g.all && g.asked == 0 && (t.site == nil || len(t.site.order) == 0)
}

// Parts says whether to part from a neighbour that has offered it. Idle says that nothing is on its way to it.
func (t *Taker) Parts(now time.Duration, n int, idle bool) bool {
	g := t.peer(n)
	if g == nil || !idle || !t.spares(g) {
		return false
	}
	more, _ := t.excess(now)
	return more > 0
}
