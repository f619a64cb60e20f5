package hostile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"shoal/internal/wire"
)

// talk is one connection between a hostile peer and another. One goroutine reads; whoever writes holds out.
type talk struct {
	v        *villain
	conn     *tls.Conn
	dialled  bool
	other    wire.PeerID
	instance uint64
	side     Side
	ctx      context.Context
	stop     context.CancelFunc
	busy     sync.WaitGroup

	channel uint64 // of the content; 0: there is none
	epoch   uint64 // the other's
	has     []bool // what the other has, by piece
	wanted  bool   // the other wants something
	open    int    // credits that were not answered
	credits uint64 // that were given
	asked   uint64 // requests that were made
	turn    int    // counts what a script does in turn

	out sync.Mutex
}

// greet brings the connection to where both sides use it.
func (t *talk) greet() error {
	t.conn.SetDeadline(time.Now().Add(dialTime))
	hello := t.v.hello(t.instance, 0)
	if err := t.say(&hello); err != nil {
		return err
	}
	m, err := t.hear(t.conn)
	if err != nil {
		return err
	}
	theirs, ok := m.(*wire.Hello)
	if !ok {
		return errEnough
	}
	if strings.HasPrefix(theirs.Agent, agent) {
		return errFellow
	}
	self := t.v.sw.Self()
	order := bytes.Compare(self[:], t.other[:])
	if order < 0 || order == 0 && t.instance < theirs.Instance {
		err = t.say(&wire.Use{})
	} else if m, err = t.hear(t.conn); err == nil {
		if _, ok = m.(*wire.Use); !ok {
			err = errEnough
		}
	}
	t.conn.SetDeadline(time.Time{})
	return err
}

// say sends messages.
func (t *talk) say(ms ...wire.Message) error {
	var b []byte
	for _, m := range ms {
		b = wire.Append(b, m)
	}
	return t.write(b)
}

// write sends bytes, whatever they are.
func (t *talk) write(b []byte) error {
	t.out.Lock()
	defer t.out.Unlock()
	t.conn.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := t.conn.Write(b)
	return err
}

// drip sends bytes one at a time. Nothing else is sent meanwhile.
func (t *talk) drip(b []byte) {
	t.out.Lock()
	defer t.out.Unlock()
	for i := range b {
		t.conn.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := t.conn.Write(b[i : i+1]); err != nil || !rest(t.ctx, second) {
			return
		}
	}
}

// hear returns the next message; nil for data, and for what is to be ignored.
func (t *talk) hear(in io.Reader) (wire.Message, error) {
	var head [wire.HeaderSize]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	h, err := wire.ParseHeader(head[:])
	if err != nil {
		return nil, err
	}
	if h.Type == wire.TypeData {
		n, err := io.CopyN(io.Discard, in, int64(h.Len))
		t.v.cfg.Tally.Taken.Add(n)
		return nil, err
	}
	payload := make([]byte, h.Len)
	if _, err := io.ReadFull(in, payload); err != nil {
		return nil, err
	}
	return wire.Parse(h.Type, payload)
}

// converse does what the script says until the connection ends.
func (t *talk) converse() error {
	s := t.v.script
	if s.bomb != nil {
		return s.bomb(t)
	}
	t.busy.Go(func() {
		for n := uint64(1); rest(t.ctx, pingEvery); n++ {
			if t.say(&wire.Ping{Number: n}) != nil {
				return
			}
		}
	})
	if t.side == Taking || t.dialled { // who gives may be asked by the other; who connects begins
		if err := t.begin(); err != nil {
			return err
		}
	}
	in := bufio.NewReaderSize(&slow{t: t, every: s.reads}, 4<<10)
	for {
		m, err := t.hear(in)
		if err != nil {
			return err
		}
		if err := t.take(m); err != nil {
			return err
		}
	}
}

// slow is the connection's bytes, a few a second if the script wants it so.
type slow struct {
	t     *talk
	every int // bytes a second; 0: any number
}

func (s *slow) Read(b []byte) (int, error) {
	if s.every == 0 {
		return s.t.conn.Read(b)
	}
	if !rest(s.t.ctx, second) {
		return 0, s.t.ctx.Err()
	}
	return s.t.conn.Read(b[:min(len(b), s.every)])
}

// begin opens the content's channel.
func (t *talk) begin() error {
	t.channel = 2
	if t.dialled {
		t.channel = 1
	}
	return t.say(&wire.Open{Channel: t.channel, ID: t.v.cfg.Manifest.ID}, t.info(), &wire.Want{Channel: t.channel, On: t.side == Taking})
}

// info says that we have everything, or on a connection for taking nothing.
func (t *talk) info() wire.Message {
	return &wire.Info{Channel: t.channel, Known: true, Size: t.v.cfg.Manifest.Geo.Size, Epoch: 1, All: t.side == Giving}
}

// take takes in one message.
func (t *talk) take(m wire.Message) error {
	s := t.v.script
	switch m := m.(type) {
	case *wire.Ping:
		return t.say(&wire.Pong{Number: m.Number})
	case *wire.Bye:
		return errors.New("bye")
	case *wire.Open:
		return t.opened(m)
	case *wire.Info:
		t.epoch = m.Epoch
		if m.All && m.Known {
			t.told(&wire.Have{Runs: []uint32{0, t.v.cfg.Manifest.Geo.Pieces}})
		}
	case *wire.Have:
		t.told(m)
	case *wire.Manifest:
		if s.manifest != nil {
			return s.manifest(t, m)
		}
	case *wire.Want:
		t.wanted = m.On
		return t.grant()
	case *wire.Pass:
		t.open, t.wanted = max(0, t.open-1), m.Later
		return t.grant()
	case *wire.Get:
		t.open = max(0, t.open-1)
		t.v.cfg.Tally.Asked.Add(1)
		if err := s.get(t, m); err != nil {
			return err
		}
		return t.grant()
	case *wire.Credit:
		return s.credit(t, m)
	}
	return nil
}

// opened takes the other's channel for the content, unless ours is the one to use.
func (t *talk) opened(m *wire.Open) error {
	switch {
	case m.ID != t.v.cfg.Manifest.ID:
		return t.say(&wire.Refuse{Channel: m.Channel, Reason: wire.ReasonUnknown})
	case t.dialled && t.channel != 0:
		return nil
	}
	t.channel = m.Channel
	if err := t.say(t.info()); err != nil || t.side == Giving {
		return err
	}
	return t.say(&wire.Want{Channel: t.channel, On: true})
}

// told notes what the other has.
func (t *talk) told(m *wire.Have) {
	pieces := t.v.cfg.Manifest.Geo.Pieces
	if t.has == nil {
		t.has = make([]bool, pieces)
	}
	note := func(p uint32) {
		if p < pieces {
			t.has[p] = true
		}
	}
	for i := range uint32(8 * len(m.Bitmap)) {
		if m.Bitmap[i/8]&(0x80>>(i%8)) != 0 {
			note(m.First + i)
		}
	}
	at := m.First
	for i := 0; i+1 < len(m.Runs); i += 2 {
		at += m.Runs[i]
		for range m.Runs[i+1] {
			note(at)
			at++
		}
	}
}

// grant keeps as many credits out as the script wants. All of them insist.
func (t *talk) grant() error {
	for t.wanted && t.channel != 0 && t.open < t.v.script.credits {
		t.open++
		t.credits++
		if err := t.say(&wire.Credit{Channel: t.channel, Epoch: 1, Number: t.credits, Insist: true}); err != nil {
			return err
		}
	}
	return nil
}

// request answers a credit with a request for the piece that it names, or for any that the other has.
func (t *talk) request(c *wire.Credit) *wire.Get {
	piece := rand.Uint32N(t.v.cfg.Manifest.Geo.Pieces)
	for range 64 {
		if t.has != nil && t.has[piece] {
			break
		}
		piece = rand.Uint32N(t.v.cfg.Manifest.Geo.Pieces)
	}
	if c.Piece != nil {
		piece = *c.Piece
	}
	t.asked++
	return &wire.Get{Channel: t.channel, Epoch: t.epoch, Credit: c.Number, Request: t.asked, Piece: piece}
}

// noise sends wrong bytes in answer to a request.
func (t *talk) noise(g *wire.Get, n int64) error {
	b := make([]byte, 16<<10)
	for n > 0 {
		part := b[:min(n, int64(len(b)))]
		for i := 0; i < len(part); i += 64 {
			part[i] = byte(rand.Uint32())
		}
		if err := t.write(append(wire.AppendData(nil, g.Request, len(part)), part...)); err != nil {
			return err
		}
		t.v.cfg.Tally.Given.Add(int64(len(part)))
		n -= int64(len(part))
	}
	return nil
}

// pieceLen returns the length of the piece that is asked for, 0 for one that there is not.
func (t *talk) pieceLen(g *wire.Get) int64 {
	if geo := t.v.cfg.Manifest.Geo; g.Piece < geo.Pieces {
		return geo.Len(g.Piece)
	}
	return 0
}
