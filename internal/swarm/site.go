package swarm

import (
	"cmp"
	"slices"

	"shoal/internal/wire"
)

const (
	// siteDraw is how many of a draw are of the follower's own site, if there are so many; siteFirst how many of those are the ones that
	// rank first there: all know them, for they fetch from outside.
	siteDraw  = 30
	siteFirst = 8
	// siteLook bounds the holders that are looked at for one draw.
	siteLook = 4096
)

// SetSite says where somebody is who has entered; empty: nowhere in particular.
func (t *Table) SetSite(k PeerKey, site string) {
	if p := t.peers[k]; p != nil {
		p.site = site
	}
}

// drawFor returns holders of a content for one who follows it, at random: most of its own site, if it is in one, and the rest of others.
func (t *Table) drawFor(p *tablePeer, c *tableContent) (out []PeerKey) {
	if p.site == "" {
		for _, i := range t.draw(len(c.holders)) {
			out = append(out, c.holders[i])
		}
		return out
	}
	var near, far []PeerKey
	from := t.rand.IntN(max(1, len(c.holders)))
	for i := range min(len(c.holders), siteLook) {
		switch h := c.holders[(from+i)%len(c.holders)]; {
		case h == p.key:
		case t.peers[h].site == p.site:
			near = append(near, h)
		default:
			far = append(far, h)
		}
	}
	first := slices.Clone(near)
	slices.SortFunc(first, func(a, b PeerKey) int {
		return cmp.Compare(wire.SiteRank(c.id, b.ID, b.Instance), wire.SiteRank(c.id, a.ID, a.Instance))
	})
	first = first[:min(len(first), siteFirst)]
	near = slices.DeleteFunc(near, func(k PeerKey) bool { return slices.Contains(first, k) })
	for _, list := range [][]PeerKey{near, far} {
		t.rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	near = append(first, near...)
	most := max(min(len(near), siteDraw), drawSize-len(far))
	out = append(near[:min(len(near), most)], far...)
	return out[:min(len(out), drawSize)]
}
