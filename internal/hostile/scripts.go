package hostile

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"shoal/internal/wire"
)

// script is what a role does with what it hears, in our own protocol.
type script struct {
	manifest func(t *talk, m *wire.Manifest) error // nil: who asks for the manifest gets no answer
	credits  int                                   // how many are out at a time
	get      func(t *talk, g *wire.Get) error
	credit   func(t *talk, c *wire.Credit) error
	reads    int                  // bytes a second; 0: as fast as they come
	life     func() time.Duration // how long it stays in the swarm; nil: to the end
	taking   int                  // connections to take on, to each peer; 0: one
	bomb     func(t *talk) error  // instead of all that
}

func (s script) holds() int { return max(1, s.taking) }

var scripts = map[Role]script{
	Poisoner:   {manifest: whole, credits: 4, get: poison, credit: leech},
	Staller:    {credits: 16, get: half, credit: silence},
	SlowReader: {manifest: whole, credits: 16, get: ignore, credit: leech, reads: 1 << 10},
	SlowWriter: {manifest: dripManifest, credits: 16, get: dripPiece, credit: dripGet},
	Flapper: {manifest: whole, credits: 4, get: half, credit: leech, life: func() time.Duration {
		return 200*time.Millisecond + rand.N(1300*time.Millisecond)
	}},
	Sybil:       {credits: 16, get: ignore, credit: leech},
	Hoarder:     {credits: 64, get: ignore, credit: hoard, taking: holds},
	HaveLiar:    {credits: 4, get: refuse, credit: churn},
	FrameBomber: {bomb: bomb},
}

// whole gives the manifest as it is.
func whole(t *talk, m *wire.Manifest) error {
	b := t.v.cfg.Manifest.Append(nil)
	part := b[min(m.Offset, uint64(len(b)-1)):]
	return t.say(&wire.Part{Channel: t.channel, Offset: m.Offset, Total: uint64(len(b)), Bytes: part[:min(len(part), wire.MaxPart)]})
}

// dripManifest gives it a byte a second.
func dripManifest(t *talk, m *wire.Manifest) error {
	b := t.v.cfg.Manifest.Append(nil)
	at := min(m.Offset, uint64(len(b)-1))
	t.busy.Go(func() {
		if rest(t.ctx, second) {
			_ = t.say(&wire.Part{Channel: t.channel, Offset: m.Offset, Total: uint64(len(b)), Bytes: b[at : at+1]})
		}
	})
	return nil
}

func poison(t *talk, g *wire.Get) error {
	if err := t.noise(g, t.pieceLen(g)); err != nil {
		return err
	}
	return t.say(&wire.End{Request: g.Request, Reason: wire.ReasonOK})
}

func half(t *talk, g *wire.Get) error { return t.noise(g, t.pieceLen(g)/2) }

func ignore(*talk, *wire.Get) error { return nil }

func refuse(t *talk, g *wire.Get) error {
	return t.say(&wire.End{Request: g.Request, Reason: wire.ReasonMissing})
}

// dripPiece gives a piece in frames of one byte, one a second.
func dripPiece(t *talk, g *wire.Get) error {
	t.busy.Go(func() {
		for range t.pieceLen(g) {
			if t.noise(g, 1) != nil || !rest(t.ctx, second) {
				return
			}
		}
	})
	return nil
}

// leech takes whatever it is given.
func leech(t *talk, c *wire.Credit) error { return t.say(t.request(c)) }

func silence(*talk, *wire.Credit) error { return nil }

// churn has no use for a credit, and wants one again at once.
func churn(t *talk, c *wire.Credit) error {
	return t.say(&wire.Pass{Channel: t.channel, Credit: c.Number}, &wire.Want{Channel: t.channel, On: true})
}

// dripGet asks for a piece, a byte of the message a second.
func dripGet(t *talk, c *wire.Credit) error {
	if t.turn++; t.turn > 2 { // more would only wait for those
		return nil
	}
	b := wire.Append(nil, t.request(c))
	t.busy.Go(func() { t.drip(b) })
	return nil
}

// hoard lets credits expire on one connection, and on the next asks for all that it is offered and reads nothing of it.
func hoard(t *talk, c *wire.Credit) error {
	if t.instance%2 == 0 {
		return nil
	}
	if t.turn++; t.turn < 2 {
		return t.say(t.request(c))
	}
	if err := t.say(t.request(c)); err != nil {
		return err
	}
	rest(t.ctx, writeTime)
	return errEnough
}

// bombs are frames that nobody should send, one to a connection.
var bombs = []func() []byte{
	func() []byte { return []byte{0xff, 0xff, 0xff, 0xff, byte(wire.TypeData), 1} },
	func() []byte { return []byte{0, 1, 0, 2, byte(wire.TypeWant)} },
	func() []byte { return []byte{0, 0, 0, 0, byte(wire.TypePing)} },
	func() []byte { return []byte{0, 0, 0, 1, 200} },                                                // unknown, and even
	func() []byte { return bytes.Repeat([]byte{0, 0, 0, 1, 201}, 100_000) },                         // unknown, and odd: to be ignored
	func() []byte { return []byte{0, 0, 0, 2, byte(wire.TypeWant), 0xff} },                          // no CBOR
	func() []byte { return append([]byte{0, 0, 0x10, 0, byte(wire.TypeWant)}, deep(0x0fff)...) },    // arrays in arrays
	func() []byte { return append(wire.AppendData(nil, 1<<40, 1), 0) },                              // for a request that was never made
	func() []byte { return bytes.Repeat(append(wire.AppendData(nil, 1<<40, 0), 0)[:6], 1000) },      // and half a one
	func() []byte { return wire.Append(nil, &wire.Hello{Version: 1}) },                              // a second one
	func() []byte { return wire.Append(nil, &wire.Enter{}) },                                        // for a server
	func() []byte { return wire.Append(nil, &wire.Get{Channel: 1, Credit: 9, Request: 1}) },         // without a credit
	func() []byte { return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 5, 6}, 0xa1011bff) },       // a number cut short
	func() []byte { return bytes.Repeat(wire.Append(nil, &wire.Want{Channel: 77, On: true}), 1e5) }, // for no channel
}

// deep is arrays in arrays.
func deep(n int) []byte { return bytes.Repeat([]byte{0x81}, n) }

// bomb sends one of those, and waits for what becomes of it.
func bomb(t *talk) error {
	b := bombs[t.v.cfg.Tally.Bombs.Add(1)%int64(len(bombs))]()
	if err := t.write(b); err != nil {
		return err
	}
	t.conn.SetReadDeadline(time.Now().Add(3 * second))
	for {
		if _, err := t.hear(t.conn); err != nil {
			return err
		}
	}
}
