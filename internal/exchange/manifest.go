package exchange

import (
	"slices"
	"time"

	"shoal/internal/content"
	"shoal/internal/wire"
)

const (
	// manifestTimeout is how long a neighbour may be silent that was asked for a manifest.
	manifestTimeout = 5 * time.Second
	// manifestPatience, and two round trips, is how long all who were asked may be silent before one more is; while it comes from somebody, that is
	// latePatience. Who has been silent for silentTime makes room for another one.
	manifestPatience = 50 * time.Millisecond
	maxManifestTrip  = 200 * time.Millisecond // which is believed: it is the neighbour that decides when it answers
	latePatience     = 2 * time.Second
	silentTime       = time.Second
	// maxAsked bounds those who are asked at once: what each has sent is kept until one has sent all.
	maxAsked = 4
)

// asking is a neighbour that is asked for a manifest. What it sends comes from it alone, and it alone is to blame if that is wrong.
type asking struct {
	ch    *channel
	at    time.Time // when it was asked, or sent something last
	parts []byte
}

// askManifest asks for the manifest: one neighbour, and another one each time that nothing has come for a while. Whoever has it says that it
// has, but so do those who only want to be waited for: who is asked is left to chance, and those of another identity go first.
func (l *loop) askManifest(c *exchanged) {
	if c.Manifest != nil || len(c.asked) > 0 && time.Since(c.askedAt) < c.manifestPatience() {
		return
	}
	var best *channel
	ties := 0
	for _, ch := range c.channels {
		switch {
		case !ch.known || slices.ContainsFunc(c.asked, func(a *asking) bool { return a.ch == ch }):
		case best == nil || c.triedOf(ch) < c.triedOf(best):
			best, ties = ch, 1
		case c.triedOf(ch) == c.triedOf(best):
			if ties++; l.rand.IntN(ties) == 0 {
				best = ch
			}
		}
	}
	if best == nil || len(c.asked) >= maxAsked && !c.dropSilent() {
		return
	}
	if c.tried == nil {
		c.tried = make(map[wire.PeerID]int)
	}
	c.tried[best.conn.s.Peer()]++
	c.askedAt = time.Now()
	c.asked = append(c.asked, &asking{ch: best, at: c.askedAt})
	best.conn.s.Send(&wire.Manifest{Channel: best.n})
}

// triedOf returns how often the peer behind a channel was asked.
func (c *exchanged) triedOf(ch *channel) int { return c.tried[ch.conn.s.Peer()] }

func (c *exchanged) manifestPatience() time.Duration {
	trip := time.Duration(0)
	for _, a := range c.asked {
		if len(a.parts) > 0 && time.Since(a.at) < latePatience {
			return latePatience
		}
		trip = max(trip, a.ch.conn.s.RTT())
	}
	return manifestPatience + 2*min(trip, maxManifestTrip)
}

// dropSilent leaves the one alone, for now, that has been silent for longest; false if nobody has been for long enough.
func (c *exchanged) dropSilent() bool {
	oldest := slices.MinFunc(c.asked, func(a, b *asking) int { return a.at.Compare(b.at) })
	if time.Since(oldest.at) < silentTime {
		return false
	}
	c.unask(oldest.ch)
	return true
}

// unask forgets that a neighbour was asked, and says whether it was.
func (c *exchanged) unask(ch *channel) bool {
	before := len(c.asked)
	c.asked = slices.DeleteFunc(c.asked, func(a *asking) bool { return a.ch == ch })
	return len(c.asked) < before
}

// lateManifest looks at those who were asked for the manifest.
func (l *loop) lateManifest(c *exchanged) {
	for _, a := range slices.Clone(c.asked) {
		if time.Since(a.at) > manifestTimeout {
			a.ch.known = false // it is not asked again
			c.unask(a.ch)
		}
	}
	l.askManifest(c)
}

// hearPart collects the manifest.
func (l *loop) hearPart(ch *channel, m *wire.Part) {
	c := ch.c
	i := slices.IndexFunc(c.asked, func(a *asking) bool { return a.ch == ch })
	if i < 0 {
		return
	}
	a := c.asked[i]
	if m.Offset != uint64(len(a.parts)) {
		l.blame(ch, offence(OffenceManifest, "a part at %d, not at %d", m.Offset, len(a.parts)))
		return
	}
	a.parts = append(a.parts, m.Bytes...)
	if len(m.Bytes) == wire.MaxPart { // smaller ones win no time
		a.at = time.Now()
	}
	if uint64(len(a.parts)) < m.Total {
		ch.conn.s.Send(&wire.Manifest{Channel: ch.n, Offset: uint64(len(a.parts))})
		return
	}
	manifest, err := content.ParseManifest(c.ID, a.parts)
	if err != nil {
		l.blame(ch, offence(OffenceManifest, "%v", err))
		return
	}
	l.learn(c, manifest)
}

// learn takes over the manifest.
func (l *loop) learn(c *exchanged, m *content.Manifest) {
	c.Manifest, c.asked, c.tried = m, nil, nil
	l.giver.AddContent(c.number, m.Geo.Piece, m.Geo.Pieces, false)
	for _, ch := range slices.Clone(c.channels) {
		if ch.known && ch.size != m.Geo.Size {
			l.blame(ch, offence(OffenceSize, "%d bytes, the content has %d", ch.size, m.Geo.Size))
			continue
		}
		l.giver.Want(l.now(), ch.conn.id, c.number, ch.theirWant)
		l.countHave(ch)
		if ch.theirs != nil {
			if piece, any := ch.theirs.NextSet(0); any { // one is enough for who is no source
				l.giver.HasNow(c.number, ch.conn.id, uint32(piece))
			}
		}
	}
	c.Fetched(m)
}
