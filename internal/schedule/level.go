package schedule

// levelMost is how many times more, or less, often than a middling leecher one is served that lacks more, or less.
const levelMost = 4

// A leecher may know few who are fast, or few at all, and one that ends last ends late for all who wait for it. So who lacks more of a content than the others is
// served more often, by the fourth power of how much more: in the middle of a swarm a tenth more of what is missing is a turn and a half for one. Near the end, when little is
// missing, everybody's share follows what it lacks.
//
// A source serves all alike. Whoever passes nothing on, or what is wrong, falls behind as soon as the others find that out, and it is the one that never does, for it takes
// nothing of them: it would give them what nobody gets from them.

// SetHave says how many pieces of a content a neighbour has, as far as it has said.
func (g *Giver) SetHave(c, n int, pieces uint32) {
	l, v := g.peer(n), g.content(c)
	if l == nil || v == nil {
		return
	}
	if pieces == 0 {
		delete(l.have, c)
		return
	}
	if l.have == nil {
		l.have = make(map[int]uint32)
	}
	l.have[c] = min(pieces, v.pieces)
}

// What has not left yet goes to the source's own site first, which those outside get it from: what is given to them does not come back over a thin link, and would leave once more.

// level takes in who lacks how much, of those that want something, and who is to be served before others.
func (g *Giver) level() {
	each := func(do func(l *leecher, v *given, lacks float64)) {
		for _, l := range g.peers {
			if l == nil {
				continue
			}
			for _, list := range [][]int{l.wants, l.later} {
				for _, c := range list {
					v := g.contents[c]
					do(l, v, float64(v.pieces-l.have[c]+1))
				}
			}
		}
	}
	each(func(l *leecher, v *given, _ float64) { l.weight, l.first, v.takers, v.lacking = 0, false, 0, 0 })
	each(func(_ *leecher, v *given, lacks float64) {
		v.takers++
		v.lacking += lacks
	})
	each(func(l *leecher, v *given, lacks float64) {
		weight := 1.0
		if !v.source {
			weight = lacks * v.takers / v.lacking
			weight *= weight
			weight = min(max(weight*weight, 1.0/levelMost), levelMost)
		}
		l.weight = max(l.weight, weight) // by that of its contents of which it lacks most
		l.first = l.first || l.inside && v.isFresh()
	})
}
