package exchange

import (
	"slices"

	"shoal/internal/wire"
)

// spare ends a session over which nothing is exchanged any more, since both sides have more neighbours than they need.
type spare struct{}

func (spare) Error() string { return "both have more neighbours than they need" }

// Reason is what the other side is told.
func (spare) Reason() wire.Reason { return wire.ReasonSpare }

// ErrSpare ends such a session.
var ErrSpare error = spare{}

// offer offers neighbours to part.
func (l *loop) offer(c *exchanged) {
	idle := func(n int) bool { return l.byID[n] != nil && l.byID[n].of[c] != nil && l.byID[n].of[c].idle() }
	for _, n := range c.taker.Offers(l.now(), idle) {
		ch := l.byID[n].of[c]
		ch.conn.s.Send(&wire.Spare{Channel: ch.n})
	}
}

// idle says whether nothing of a content is on its way to a neighbour, or from it, and the session has no other content: it would look as if the two were
// connected, and nobody would open the channel again.
func (ch *channel) idle() bool {
	return ch.active == 0 && ch.conn.opened == 1 && !slices.ContainsFunc(ch.conn.giving, func(g *giving) bool { return g.c == ch.c })
}

// hearSpare parts from a neighbour that has offered it, if it is not needed here either.
func (l *loop) hearSpare(ch *channel) {
	n := ch.conn
	if ch.c.taker == nil || !ch.c.taker.Parts(l.now(), n.id, ch.idle()) {
		return
	}
	n.s.Send(&wire.Close{Channel: ch.n, Reason: wire.ReasonSpare})
	l.closeChannel(ch)
	n.stop(ErrSpare)
}
