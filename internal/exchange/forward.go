package exchange

import (
	"io"
	"slices"
	"sync"

	"shoal/internal/content"
	"shoal/internal/peer"
	"shoal/internal/store"
	"shoal/internal/wire"
)

// maxProofs is of how many pieces of a content the values of the parts are kept, 256 bytes each.
const maxProofs = 1024

// proofs are the values of pieces' parts, of those that were fetched or given of late. Its methods may be called from any goroutine.
type proofs struct {
	mu sync.Mutex
	of map[uint32][]content.CV
}

func (p *proofs) get(piece uint32) []content.CV {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of[piece]
}

func (p *proofs) put(piece uint32, parts []content.CV) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = make(map[uint32][]content.CV)
	}
	for other := range p.of {
		if len(p.of) < maxProofs {
			break
		}
		delete(p.of, other) // any
	}
	p.of[piece] = parts
}

// encoded returns the values of a piece's parts as they are sent; nil if they cannot be told. It may read the piece.
func (p *proofs) encoded(from io.ReaderAt, m *content.Manifest, piece uint32) (b []byte) {
	parts := p.get(piece)
	if parts == nil {
		var err error
		if parts, err = store.PartsOf(from, m.Geo, piece); err != nil || !m.IsBare() && !m.Proves(piece, parts) {
			return nil // what cannot be read, or has changed, is refused when it is to be sent
		}
		p.put(piece, parts)
	}
	for i := range parts {
		b = append(b, parts[i][:]...)
	}
	return b
}

// valuesOf reads what encoded has made.
func valuesOf(b []byte) (parts []content.CV) {
	for ; len(b) >= len(content.CV{}); b = b[len(content.CV{}):] {
		parts = append(parts, content.CV(b))
	}
	return parts
}

// A piece is passed on while it comes: as soon as its first part is verified, neighbours are told that it has begun, and who asks for it is sent
// what there is, and the rest when it comes. If it does not come after all, they are told so by the end of their request.

// lacks says whether a neighbour may have use for a piece.
func (ch *channel) lacks(piece uint32) bool {
	return !ch.all && !ch.full && (ch.theirs == nil || !ch.theirs.Test(uint(piece)))
}

// forwards says whether a piece that a neighbour is asked for can be passed on to another while it comes.
func (ch *channel) forwards(piece uint32) bool {
	return ch.c.Manifest.Geo.Parts(piece) > 1 &&
		slices.ContainsFunc(ch.c.channels, func(other *channel) bool { return other != ch && other.info && other.lacks(piece) })
}

// grown takes in that one part more of a piece is there.
func (l *loop) grown(p *place) {
	c := p.ch.c
	if c.taker != nil && c.taker.PassOn(l.now(), p.ch.conn.id, p.piece) {
		p.told = true
		for _, ch := range c.channels {
			if ch != p.ch && (ch.lacks(p.piece) || !ch.news.Spoken()) {
				ch.news.Begun(l.now(), p.piece, ch.eager())
				l.plan(ch)
			}
		}
	}
	waits := l.more(c, p.piece)
	p.deaf.Store(p.told && !waits)
}

// eachWaiting calls do for each request of others for a piece that is served.
func (l *loop) eachWaiting(c *exchanged, piece uint32, do func(n *conn, g *giving)) {
	for _, n := range l.byID {
		if n == nil {
			continue
		}
		for _, g := range n.giving {
			if g.c == c && g.piece == piece {
				do(n, g)
			}
		}
	}
}

// more has those served who wait for what has come of a piece, and says whether there are any.
func (l *loop) more(c *exchanged, piece uint32) (any bool) {
	l.eachWaiting(c, piece, func(n *conn, _ *giving) {
		n.s.More()
		any = true
	})
	return any
}

// lose ends the requests of those who wait for a piece that does not come any more, and tells all who were told that it does.
func (l *loop) lose(c *exchanged, piece uint32) {
	for _, ch := range c.channels {
		ch.news.Lost(l.now(), piece)
		l.plan(ch)
	}
	l.eachWaiting(c, piece, func(n *conn, g *giving) {
		g.lost.Store(true)
		n.s.More()
	})
}

// comes says whether the beginning of a piece is there, and the rest is on its way.
func (c *exchanged) comes(piece uint32) bool {
	return c.download != nil && c.download.Verified(piece) > 0 && slices.ContainsFunc(c.places[piece], func(f *fetch) bool { return !f.givenUp })
}

// follow has a request served with what comes of a piece.
func (l *loop) follow(g *giving, s *peer.Serving) {
	c := g.c
	if c.has(g.piece) {
		return
	}
	for _, f := range c.places[g.piece] {
		f.p.deaf.Store(false)
	}
	d := c.download
	s.Ready = func() (int64, bool) {
		lost := g.lost.Load() // before it is looked what there is
		return d.Verified(g.piece), lost
	}
}

// hearComing takes in of which pieces a neighbour has the beginning, or that they do not come to it any more.
func (l *loop) hearComing(ch *channel, m *wire.Have) {
	c, named := ch.c, int64(0)
	pieces(m, func(piece uint32) {
		named++
		if c.Manifest == nil || piece >= c.Manifest.Geo.Pieces || !ch.lacks(piece) {
			return
		}
		switch {
		case c.taker == nil:
		case m.Lost:
			c.taker.Lost(ch.conn.id, piece)
		default:
			c.taker.Begun(l.now(), ch.conn.id, piece)
		}
	})
	if m.Begun {
		l.giver.Spoke(ch.conn.id)
	}
	l.again(ch.conn, named)
}
