package exchange

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"shoal/internal/content"
	"shoal/internal/peer"
	"shoal/internal/schedule"
	"shoal/internal/store"
	"shoal/internal/wire"

	"github.com/bits-and-blooms/bitset"
)

// hear takes in one message of a neighbour.
func (l *loop) hear(n *conn, m wire.Message) {
	switch m := m.(type) {
	case *wire.Open:
		l.hearOpen(n, m)
	case *wire.Get: // each gets its end, even where the channel is gone
		l.hearGet(n, m)
	case *wire.Info:
		l.with(n, m.Channel, func(ch *channel) { l.hearInfo(ch, m) })
	case *wire.Refuse:
		l.with(n, m.Channel, l.hearClosed)
	case *wire.Close:
		l.with(n, m.Channel, l.hearClosed)
	case *wire.Manifest:
		l.with(n, m.Channel, func(ch *channel) { l.hearManifest(ch, m) })
	case *wire.Part:
		l.with(n, m.Channel, func(ch *channel) { l.hearPart(ch, m) })
	case *wire.Have:
		l.with(n, m.Channel, func(ch *channel) { l.hearHave(ch, m) })
	case *wire.Reset:
		l.with(n, m.Channel, func(ch *channel) { l.hearReset(ch, m) })
	case *wire.Want:
		l.with(n, m.Channel, func(ch *channel) {
			l.wanted(ch, wanted(m.On, m.Later))
			if m.Neighbours > 0 && ch.c.taker != nil {
				ch.c.taker.SetGivers(n.id, int(min(m.Neighbours, math.MaxInt32)))
			}
			if ch.c.Manifest != nil {
				l.giver.Want(l.now(), n.id, ch.c.number, ch.theirWant)
			}
		})
	case *wire.Credit:
		l.with(n, m.Channel, func(ch *channel) { l.hearCredit(ch, m) })
	case *wire.Spare:
		l.with(n, m.Channel, l.hearSpare)
	case *wire.Claim:
		l.with(n, m.Channel, func(ch *channel) { l.hearClaim(ch, m) })
	case *wire.Pass:
		c := l.giver.Pass(l.now(), n.id, m.Credit, m.Later)
		l.with(n, m.Channel, func(ch *channel) {
			if ch.c.number == c && ch.theirWant != schedule.WantNot {
				l.wanted(ch, wanted(m.Later, true))
			}
		})
	default:
		n.stop(offence(OffenceChannel, "a %T between peers", m))
	}
}

// wanted is what a message says of how much we are wanted.
func wanted(on, later bool) schedule.Want {
	switch {
	case !on:
		return schedule.WantNot
	case later:
		return schedule.WantLater
	}
	return schedule.WantNow
}

// with does something with a channel. A message for one that is closed was on its way when that happened.
func (l *loop) with(n *conn, number uint64, do func(*channel)) {
	if ch := n.channels[number]; ch != nil {
		do(ch)
	}
}

// hearOpen takes a channel that the other opens. When both opened one at once, the dialler's is used.
func (l *loop) hearOpen(n *conn, m *wire.Open) {
	if dialler := m.Channel%2 == 1; dialler == n.s.Dialled() || n.channels[m.Channel] != nil {
		n.stop(offence(OffenceChannel, "channel %d is not the other's to open", m.Channel))
		return
	}
	c := l.contents[m.ID]
	if c == nil && n.opened < maxChannels {
		c = l.wake(m.ID)
	}
	if c == nil || n.opened >= maxChannels {
		reason := wire.ReasonUnknown
		if c != nil {
			reason = wire.ReasonLimit
		}
		n.s.Send(&wire.Refuse{Channel: m.Channel, Reason: reason})
		return
	}
	if own := n.of[c]; own != nil {
		if n.s.Dialled() {
			return // ours is used: the other finds our open, and drops its own
		}
		l.hearClosed(own)
	}
	ch := l.newChannel(n, c, m.Channel)
	l.sendInfo(ch)
	l.snapshot(ch)
}

// hearClosed takes in that the other has refused, closed or replaced a channel. All that was said on it may be said again on the next one, which is work; only
// an open of ours to which nothing was said costs nothing.
func (l *loop) hearClosed(ch *channel) {
	if ours := ch.n%2 == 1 == ch.conn.s.Dialled(); !ours || ch.info || ch.all || ch.theirs != nil {
		l.again(ch.conn, ch.c.pieces())
	}
	l.closeChannel(ch)
}

// hearInfo learns what the other knows.
func (l *loop) hearInfo(ch *channel, m *wire.Info) {
	c := ch.c
	if ch.info && m.Epoch != ch.epoch {
		l.hearReset(ch, &wire.Reset{Epoch: m.Epoch})
	}
	ch.info, ch.known, ch.size, ch.epoch = true, m.Known, m.Size, m.Epoch
	if m.Known && c.Manifest != nil && m.Size != c.Manifest.Geo.Size {
		l.blame(ch, offence(OffenceSize, "%d bytes, the content has %d", m.Size, c.Manifest.Geo.Size))
		return
	}
	if m.All && !ch.all {
		ch.all = true
		l.takeHaves(ch)
	}
	l.countHave(ch)
	if c.Manifest == nil {
		l.askManifest(c)
	}
}

func (l *loop) hearManifest(ch *channel, m *wire.Manifest) {
	c := ch.c
	if c.Manifest == nil {
		return
	}
	if c.encoded == nil && !l.encode(c, asked{ch, m}) {
		return
	}
	if m.Offset >= uint64(len(c.encoded)) {
		ch.conn.stop(offence(OffenceManifest, "asked for offset %d of %d", m.Offset, len(c.encoded)))
		return
	}
	part := c.encoded[m.Offset:]
	part = part[:min(len(part), wire.MaxPart)]
	ch.conn.s.Send(&wire.Part{Channel: ch.n, Offset: m.Offset, Total: uint64(len(c.encoded)), Bytes: part})
}

// pieces calls do for each piece that a have names.
func pieces(m *wire.Have, do func(piece uint32)) {
	for i, b := range m.Bitmap {
		for bit := range uint32(8) {
			if b&(0x80>>bit) != 0 {
				do(m.First + uint32(i)*8 + bit)
			}
		}
	}
	at := m.First
	for i := 0; i+1 < len(m.Runs); i += 2 {
		at += m.Runs[i]
		for range m.Runs[i+1] {
			do(at)
			at++
		}
	}
}

func (l *loop) hearHave(ch *channel, m *wire.Have) {
	c := ch.c
	if m.Epoch != ch.epoch {
		return // of an old epoch
	}
	if m.Begun || m.Lost {
		l.hearComing(ch, m)
		return
	}
	if ch.theirs == nil {
		ch.theirs = bitset.New(0)
	}
	before, named := ch.theirs.Count(), int64(0)
	defer func() { l.again(ch.conn, named-int64(ch.theirs.Count()-before)) }()
	pieces(m, func(piece uint32) {
		named++
		if c.Manifest != nil && piece >= c.Manifest.Geo.Pieces {
			return
		}
		if piece < content.MaxPieces && !ch.theirs.Test(uint(piece)) {
			ch.theirs.Set(uint(piece))
			if c.taker != nil {
				c.taker.Has(l.now(), ch.conn.id, piece)
			}
			if c.Manifest != nil {
				l.giver.HasNow(c.number, ch.conn.id, piece)
			}
		}
	})
	l.countHave(ch)
	if c.Manifest != nil && ch.theirs.Count() == uint(c.Manifest.Geo.Pieces) && !ch.full {
		ch.full = true
		c.copied(l.now())
		if c.Copied != nil {
			c.Copied(ch.conn.s.Addr())
		}
	}
}

// takeHaves tells the schedule what a neighbour has, as far as it was told before there was one.
func (l *loop) takeHaves(ch *channel) {
	c := ch.c
	if c.taker == nil {
		return
	}
	if ch.all {
		c.taker.HasAll(l.now(), ch.conn.id)
		return
	}
	if ch.theirs == nil {
		return
	}
	for piece, ok := ch.theirs.NextSet(0); ok && piece < uint(c.Manifest.Geo.Pieces); piece, ok = ch.theirs.NextSet(piece + 1) {
		c.taker.Has(l.now(), ch.conn.id, uint32(piece))
	}
}

func (l *loop) hearReset(ch *channel, m *wire.Reset) {
	l.again(ch.conn, ch.c.pieces())
	ch.epoch, ch.all, ch.full, ch.theirs = m.Epoch, false, false, nil
	if ch.c.taker != nil {
		ch.c.taker.Reset(l.now(), ch.conn.id)
	}
	l.countHave(ch)
}

// countHave tells the schedule how much a neighbour has, as one that takes.
func (l *loop) countHave(ch *channel) {
	switch m := ch.c.Manifest; {
	case m == nil:
	case ch.all:
		l.giver.SetHave(ch.c.number, ch.conn.id, m.Geo.Pieces)
	case ch.theirs == nil:
		l.giver.SetHave(ch.c.number, ch.conn.id, 0)
	default:
		l.giver.SetHave(ch.c.number, ch.conn.id, uint32(ch.theirs.Count()))
	}
}

// hearCredit answers a credit, at once: with a get or a pass.
func (l *loop) hearCredit(ch *channel, m *wire.Credit) {
	c := ch.c
	if now := time.Now(); c.taker == nil || m.Epoch != ch.epoch || now.Before(c.paused) || now.Before(ch.resting) {
		ch.passed = true
		ch.conn.s.Send(&wire.Pass{Channel: ch.n, Credit: m.Number})
		return
	}
	named := int64(-1)
	if m.Piece != nil {
		named = int64(*m.Piece)
	}
	answer := c.taker.Credit(l.now(), ch.conn.id, named, m.Insist)
	if !answer.Get {
		ch.ourWant = wanted(answer.Busy, true)
		if answer.Silent {
			return
		}
		l.say(ch, &wire.Pass{Channel: ch.n, Credit: m.Number, Later: answer.Busy})
		return
	}
	p := &place{x: l.x, ch: ch, piece: answer.Piece, w: c.download.Begin(answer.Piece)}
	l.flush(ch)
	request, ok := ch.conn.s.Get(wire.Get{Channel: ch.n, Epoch: ch.epoch, Credit: m.Number, Piece: answer.Piece, Proof: ch.forwards(answer.Piece)}, p)
	c.places[answer.Piece] = append(c.places[answer.Piece], &fetch{p: p, request: request})
	ch.active++
	if !ok { // the session has just ended
		p.w.Abort()
		l.ended(p, wire.ReasonClosing, false, nil)
	}
}

// hearGet serves a piece for which there is a credit.
func (l *loop) hearGet(n *conn, m *wire.Get) {
	ch := n.channels[m.Channel]
	var c *exchanged
	number := -1
	if ch != nil {
		c, number = ch.c, ch.c.number
	}
	switch l.giver.Get(l.now(), n.id, m.Credit, number, m.Piece) {
	case schedule.Unknown:
		n.s.Refuse(m.Request, wire.ReasonProtocol)
		n.stop(offence(OffenceRequest, "request %d for piece %d on credit %d", m.Request, m.Piece, m.Credit))
		return
	case schedule.Expired:
		n.s.Refuse(m.Request, wire.ReasonExpired)
		return
	}
	refuse := wire.ReasonOK
	switch {
	case c == nil:
		refuse = wire.ReasonUnknown
	case m.Epoch != c.epoch:
		refuse = wire.ReasonReset
	case !c.has(m.Piece) && !c.comes(m.Piece):
		refuse = wire.ReasonMissing
	}
	if refuse != wire.ReasonOK {
		n.s.Refuse(m.Request, refuse)
		if refuse == wire.ReasonMissing { // it was told what there is, or will be soon
			l.giver.Refused(l.now(), n.id, m.Credit)
		} else {
			l.giver.Ended(l.now(), n.id, m.Credit, false)
		}
		return
	}
	l.serve(ch, m)
}

func (l *loop) serve(ch *channel, m *wire.Get) {
	c, n, x := ch.c, ch.conn, l.x
	g := c.Manifest.Geo
	given := &giving{credit: m.Credit, c: c, piece: m.Piece}
	ch.conn.giving = append(ch.conn.giving, given)
	s := peer.Serving{
		Request: m.Request, From: c.Source, Off: g.Offset(m.Piece), Len: g.Len(m.Piece),
		Progress: func(bytes int64) { x.sent.Add(bytes); n.sent.Add(bytes); given.sent.Add(bytes) },
		Failed: func(err error) {
			x.cfg.Log.Warn("cannot read a piece", "piece", m.Piece, "err", err)
			x.post(func(l *loop) { l.unreadable(c, err) })
		},
		Done: func(sent int64, reason wire.Reason) {
			x.post(func(l *loop) {
				ch.conn.gave(given)
				given.look()
				ch.sent += sent
				c.sent += sent
				if l.byID[ch.conn.id] == ch.conn {
					l.giver.Progress(l.now(), ch.conn.id, m.Credit, sent)
					if reason == wire.ReasonCancelled {
						l.giver.Cancelled(l.now(), ch.conn.id, m.Credit)
					} else {
						l.giver.Ended(l.now(), ch.conn.id, m.Credit, reason == wire.ReasonOK)
					}
				}
			})
		},
	}
	l.follow(given, &s)
	if from, whole := c.Source, c.Manifest; m.Proof {
		s.Proof = func() []byte { return c.proofs.encoded(from, whole, m.Piece) }
	}
	if c.Check != nil {
		s.Check = func() error {
			err := c.Check(m.Piece)
			if errors.Is(err, store.ErrChanged) {
				x.post(func(l *loop) { l.changed(c, err) })
			}
			return err
		}
	}
	if !ch.conn.s.Serve(s) {
		ch.conn.gave(given)
		l.giver.Ended(l.now(), ch.conn.id, m.Credit, false)
	}
}

// gave forgets a request that is served no more.
func (n *conn) gave(g *giving) {
	n.giving = slices.DeleteFunc(n.giving, func(other *giving) bool { return other == g })
}

// changed withdraws a content whose file is not what it was.
func (l *loop) changed(c *exchanged, err error) {
	if l.contents[c.ID] != c {
		return
	}
	c.epoch++
	for _, ch := range c.channels {
		ch.conn.s.Send(&wire.Reset{Channel: ch.n, Epoch: c.epoch})
	}
	l.remove(c.ID)
	if c.Changed != nil {
		c.Changed(err)
	}
}

// unreadable withdraws a content that cannot be read any more: whoever asks for it is better off with others. What fails for want of
// descriptors or memory is refused for now, and no more.
func (l *loop) unreadable(c *exchanged, err error) {
	if l.contents[c.ID] != c || store.IsShortage(err) {
		return
	}
	if c.taker != nil { // what we give is what we fetch
		l.storeFailed(c, err)
		return
	}
	l.changed(c, fmt.Errorf("it cannot be read: %w", err))
}

// ended takes in the end of one of our requests.
func (l *loop) ended(p *place, reason wire.Reason, first bool, err error) {
	ch, c := p.ch, p.ch.c
	ch.active--
	var whole int64
	givenUp := false // the schedule has forgotten it, and may have asked the same neighbour again
	c.places[p.piece] = slices.DeleteFunc(c.places[p.piece], func(f *fetch) bool {
		if f.p == p {
			l.came(c, p.piece, f)
			whole, givenUp = f.counted, f.givenUp
		}
		return f.p == p
	})
	if len(c.places[p.piece]) == 0 {
		delete(c.places, p.piece)
	}
	if !c.has(p.piece) && !c.comes(p.piece) {
		l.lose(c, p.piece)
	}
	now := l.now()
	switch {
	case errors.Is(err, store.ErrBadPiece):
		c.wasted += whole
		if c.taker != nil {
			c.taker.Failed(now, ch.conn.id, p.piece, schedule.FailBad)
		}
		l.blame(ch, offence(OffencePiece, "piece %d", p.piece))
	case err != nil:
		c.wasted += whole
		if c.taker != nil {
			c.taker.Failed(now, ch.conn.id, p.piece, schedule.FailOurs)
		}
		l.storeFailed(c, err)
	case reason == wire.ReasonOK && first:
		l.verified(c, p.piece)
	default:
		if reason == wire.ReasonRead { // its disk has a reason that will not be gone at once
			ch.resting = time.Now().Add(pauseTime)
		}
		c.wasted += whole
		if c.taker != nil && !givenUp {
			c.taker.Failed(now, ch.conn.id, p.piece, failure(reason))
		}
	}
}

// failure says what an end without a piece is for the schedule.
func failure(reason wire.Reason) schedule.FailKind {
	if reason == wire.ReasonClosing {
		return schedule.FailGone
	}
	return schedule.FailRejected
}

// verified takes in a piece that is ours now.
func (l *loop) verified(c *exchanged, piece uint32) {
	now := l.now()
	if c.taker != nil {
		for _, cancel := range c.taker.Verified(now, piece) {
			l.cancel(c, cancel.Peer, cancel.Piece)
		}
	}
	l.more(c, piece)
	for _, ch := range c.channels {
		ch.news.Add(now, piece, ch.eager())
		l.plan(ch)
	}
	if c.taker == nil || c.taker.Missing() > 0 {
		return
	}
	for _, ch := range c.channels {
		l.flush(ch)
	}
	l.tellWants(c)
	l.look(c, now)
	c.taker = nil
	c.publish()
	c.Complete()
}

// storeFailed pauses a download whose disk is full, and ends one whose disk fails otherwise.
func (l *loop) storeFailed(c *exchanged, err error) {
	var full *store.SpaceError
	if errors.As(err, &full) {
		c.paused = time.Now().Add(pauseTime)
		return
	}
	c.taker = nil
	c.Failed(err)
}

// blame cuts a neighbour off.
func (l *loop) blame(ch *channel, o *Offence) {
	if ch.c.Note != nil {
		ch.c.Note(ch.conn.s.Addr(), o)
	}
	l.closeChannel(ch)
	ch.conn.stop(o)
}

// sortPieces puts pieces in order, each once.
func sortPieces(p []uint32) { slices.Sort(p) }

// maxRuns bounds the runs of one have, so that its frame fits: each number takes at most five bytes.
const maxRuns = 4096

// haves makes the messages that tell of pieces, which it puts in order.
func haves(channel, epoch uint64, pieces []uint32) (out []*wire.Have) {
	for sortPieces(pieces); len(pieces) > 0; {
		m := &wire.Have{Channel: channel, Epoch: epoch, First: pieces[0]}
		at := pieces[0]
		for len(pieces) > 0 && len(m.Runs) < maxRuns {
			n := 1
			for n < len(pieces) && pieces[n] <= pieces[n-1]+1 {
				n++
			}
			end := pieces[n-1] + 1
			m.Runs = append(m.Runs, pieces[0]-at, end-pieces[0])
			at, pieces = end, pieces[n:]
		}
		m.More = len(pieces) > 0
		out = append(out, m)
	}
	return out
}
