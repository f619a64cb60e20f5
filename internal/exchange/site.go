package exchange

import "shoal/internal/wire"

// inside says whether a session is with a peer of our own site.
func (l *loop) inside(n *conn) bool {
	return l.x.cfg.Site != "" && n.s.OtherHello().Site == l.x.cfg.Site
}

// addGiver brings a neighbour into the schedule of a content that is fetched.
func (l *loop) addGiver(ch *channel) {
	c, n := ch.c, ch.conn
	c.taker.AddPeer(n.id, n.identity)
	c.taker.SetPeerLimit(n.id, n.down)
	if l.inside(n) {
		c.taker.SetInside(l.now(), n.id, wire.SiteRank(c.ID, n.s.Peer(), n.s.Instance()))
	}
}

// tellClaims tells those inside what we fetch from outside, where that has changed.
func (l *loop) tellClaims(c *exchanged) {
	pieces, tell := c.taker.Claims(l.now())
	if !tell {
		return
	}
	for _, ch := range c.channels {
		if l.inside(ch.conn) {
			ch.conn.s.Send(&wire.Claim{Channel: ch.n, Pieces: pieces})
		}
	}
}

// hearClaim takes in what one inside fetches from outside. What both fetch is given up by one of them.
func (l *loop) hearClaim(ch *channel, m *wire.Claim) {
	if ch.c.taker == nil {
		return
	}
	for _, lost := range ch.c.taker.Claimed(l.now(), ch.conn.id, m.Pieces) {
		l.cancel(ch.c, lost.Peer, lost.Piece)
	}
}
