package hostile

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"shoal/internal/classic"
	"shoal/internal/swarm"

	"golang.org/x/sync/errgroup"
)

// oldScript is what a role does in the classic protocol.
type oldScript struct {
	// chunk answers a request for a chunk. Others ask for the last one to learn how long a file is, and read no more than the header: who
	// sends a right one is believed.
	chunk func(o *old, c net.Conn, i, size uint32) error
	reads func(ctx context.Context, c net.Conn) io.Reader // how requests are read; nil: as they come
	ask   func(o *old, c net.Conn) error                  // is hostile to who was connected to
	life  func() time.Duration                            // how long it stays in the swarm; nil: to the end
	holds int                                             // connections to each peer; 0: one
}

var oldScripts = map[Role]oldScript{
	Poisoner:   {chunk: poisonChunk, ask: drain(0)},
	Staller:    {chunk: halfChunk, ask: halfHeader},
	SlowReader: {chunk: silentChunk, reads: trickle, ask: drain(1)},
	SlowWriter: {chunk: dripChunk, ask: dripHeader},
	Flapper: {chunk: cutChunk, ask: cutShort, life: func() time.Duration {
		return 200*time.Millisecond + rand.N(1300*time.Millisecond)
	}},
	Sybil:       {chunk: headerOnly, ask: drain(1)},
	Hoarder:     {chunk: headerOnly, ask: readNothing, holds: 32},
	HaveLiar:    {chunk: emptyChunk, ask: questions},
	FrameBomber: {chunk: bombChunk, ask: bombHeader},
}

// old is a hostile peer of the classic protocol.
type old struct {
	cfg    Config
	script oldScript
	ctx    context.Context
	talks  sync.WaitGroup

	mu    sync.Mutex // guards known
	known map[netip.AddrPort]context.CancelFunc
}

// oldMember enters the classic swarm, and is hostile to all that the server names.
func oldMember(ctx context.Context, cfg Config) error {
	s := oldScripts[cfg.Role]
	if s.life == nil {
		return oldStay(ctx, cfg, s)
	}
	for ctx.Err() == nil {
		short, cancel := context.WithTimeout(ctx, s.life())
		err := oldStay(short, cfg, s)
		cancel()
		if err != nil && short.Err() == nil {
			return err
		}
		rest(ctx, calm)
	}
	return nil
}

func oldStay(ctx context.Context, cfg Config, s oldScript) error {
	local, err := netip.ParseAddr(cfg.Host)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp4", net.JoinHostPort(cfg.Host, "0"))
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	o := &old{cfg: cfg, script: s, ctx: ctx, known: make(map[netip.AddrPort]context.CancelFunc)}
	defer o.talks.Wait()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	client := swarm.NewClient(swarm.ClientConfig{Server: cfg.Classic, Local: local, Port: uint16(ln.Addr().(*net.TCPAddr).Port)})
	g.Go(func() error { return client.Run(ctx, o.heard) })
	g.Go(func() error {
		for {
			c, err := ln.Accept()
			if err != nil {
				return nil
			}
			o.talks.Go(func() { o.serve(c) })
		}
	})
	return g.Wait()
}

// heard is hostile to those who came, and leaves those alone who went.
func (o *old) heard(e swarm.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch stop := o.known[e.Addr]; {
	case e.Kind == swarm.Gone && stop != nil:
		stop()
		delete(o.known, e.Addr)
	case e.Kind == swarm.Came && stop == nil && o.cfg.Side.takes():
		ctx, stop := context.WithCancel(o.ctx)
		o.known[e.Addr] = stop
		for range max(1, o.script.holds) {
			o.talks.Go(func() { again(ctx, calm, func() { o.visit(ctx, e.Addr) }) })
		}
	}
}

// visit is hostile to a peer over one connection.
func (o *old) visit(ctx context.Context, to netip.AddrPort) {
	c, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	o.cfg.Tally.Talks.Add(1)
	if err := o.script.ask(o, c); err != nil && ctx.Err() == nil && !errors.Is(err, errEnough) {
		o.cfg.Tally.Ended.Add(1)
	}
}

// chunks returns how many chunks the content has, and how long one is.
func (o *old) chunks() (n uint32, size func(i uint32) uint32) {
	n, last, _ := classic.Chunks(o.cfg.Size)
	return n, func(i uint32) uint32 {
		if i+1 == n {
			return last
		}
		return classic.ChunkSize
	}
}

// serve answers who has connected.
func (o *old) serve(c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(o.ctx, func() { c.Close() })()
	if !o.cfg.Side.gives() {
		return
	}
	o.cfg.Tally.Talks.Add(1)
	in := io.Reader(c)
	if o.script.reads != nil {
		in = o.script.reads(o.ctx, c)
	}
	n, size := o.chunks()
	for b := make([]byte, classic.HeaderSize); ; {
		if _, err := io.ReadFull(in, b); err != nil {
			return
		}
		m, err := classic.ParseHeader(b)
		if err != nil {
			return
		}
		switch m := m.(type) {
		case classic.FileRequest:
			answer := classic.FileResponse{}
			if m.Name == o.cfg.Name {
				answer.Chunks = n
			}
			_, err = c.Write(answer.Append(nil))
		case classic.ChunkRequest:
			for i := m.First; i <= m.Last && i < n && err == nil; i++ {
				err = o.chunk(c, i, size(i))
			}
		}
		if err != nil {
			return
		}
	}
}

// chunk answers a request for a chunk.
func (o *old) chunk(c net.Conn, i, size uint32) error {
	o.cfg.Tally.Asked.Add(1)
	return o.script.chunk(o, c, i, size)
}

// announce sends the header of a chunk, as it should be.
func announce(c net.Conn, i, size uint32) error {
	_, err := c.Write(classic.ChunkResponse{Index: i, Size: size}.Append(nil))
	return err
}

// wrong sends wrong bytes.
func (o *old) wrong(c net.Conn, n uint32) error {
	b := make([]byte, 64<<10)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	for n > 0 {
		k, err := c.Write(b[:min(n, uint32(len(b)))])
		o.cfg.Tally.Given.Add(int64(k))
		if err != nil {
			return err
		}
		n -= uint32(k)
	}
	return nil
}

// hold waits until the other side, or our own, has enough.
func (o *old) hold(c net.Conn) error {
	_, err := io.Copy(io.Discard, c)
	return errors.Join(err, io.EOF)
}

func poisonChunk(o *old, c net.Conn, i, size uint32) error {
	if err := announce(c, i, size); err != nil {
		return err
	}
	return o.wrong(c, size)
}

func halfChunk(o *old, c net.Conn, i, size uint32) error {
	if err := errors.Join(announce(c, i, size), o.wrong(c, size/2)); err != nil {
		return err
	}
	return o.hold(c)
}

func silentChunk(o *old, c net.Conn, _, _ uint32) error { return o.hold(c) }

func headerOnly(o *old, c net.Conn, i, size uint32) error {
	if err := announce(c, i, size); err != nil {
		return err
	}
	return o.hold(c)
}

// emptyChunk sends a header, and nothing of what it announces.
func emptyChunk(_ *old, c net.Conn, i, size uint32) error {
	return errors.Join(announce(c, i, size), errEnough)
}

func cutChunk(o *old, c net.Conn, i, size uint32) error {
	return errors.Join(announce(c, i, size), o.wrong(c, size/4), errEnough)
}

func dripChunk(o *old, c net.Conn, i, size uint32) error {
	if err := announce(c, i, size); err != nil {
		return err
	}
	for range size {
		if err := o.wrong(c, 1); err != nil || !rest(o.ctx, second) {
			return errEnough
		}
	}
	return nil
}

// bombChunk answers with a header that nobody should send.
func bombChunk(o *old, c net.Conn, i, size uint32) error {
	_, err := c.Write(oldBomb(o.cfg.Tally.Bombs.Add(1), o.cfg.Name, i, size))
	return errors.Join(err, o.hold(c))
}

// oldBomb returns a header in which something is wrong.
func oldBomb(turn int64, name string, i, size uint32) []byte {
	b := classic.ChunkResponse{Index: i, Size: size}.Append(nil)
	switch turn % 7 {
	case 0:
		b[0] = 200
	case 1:
		binary.BigEndian.PutUint32(b[len(b)-4:], 0xffffffff) // its size
	case 2:
		binary.BigEndian.PutUint32(b[len(b)-4:], 0)
	case 3:
		binary.BigEndian.PutUint32(b[len(b)-8:], 0xffffffff) // its index
	case 4:
		b = classic.FileRequest{Name: name}.Append(nil)
		copy(b[1:], strings.Repeat("a", 255)) // a name without end
	case 5:
		b = classic.ChunkRequest{Name: name, First: 0xfffffffe, Last: 0xffffffff}.Append(nil)
	case 6:
		b = []byte(strings.Repeat("GET / HTTP/1.1\r\n", 1000))
	}
	return b
}

// all asks for all chunks.
func (o *old) all(c net.Conn) error {
	n, _ := o.chunks()
	_, err := c.Write(classic.ChunkRequest{Name: o.cfg.Name, Last: n - 1}.Append(nil))
	return err
}

// drain asks for everything, and reads it: so many bytes a second, or with 0 as fast as they come.
func drain(every int) func(o *old, c net.Conn) error {
	return func(o *old, c net.Conn) error {
		if err := o.all(c); err != nil {
			return err
		}
		in := io.Reader(c)
		if every > 0 {
			in = trickle(o.ctx, c)
		}
		n, err := io.Copy(io.Discard, in)
		o.cfg.Tally.Taken.Add(n)
		return errors.Join(err, io.EOF)
	}
}

// trickle reads a byte a second.
func trickle(ctx context.Context, c net.Conn) io.Reader { return &trickled{ctx, c} }

type trickled struct {
	ctx context.Context
	c   net.Conn
}

func (t *trickled) Read(b []byte) (int, error) {
	if !rest(t.ctx, second) {
		return 0, t.ctx.Err()
	}
	return t.c.Read(b[:1])
}

func halfHeader(o *old, c net.Conn) error {
	if _, err := c.Write(classic.FileRequest{Name: o.cfg.Name}.Append(nil)[:classic.HeaderSize/2]); err != nil {
		return err
	}
	return o.hold(c)
}

func dripHeader(o *old, c net.Conn) error {
	for _, b := range (classic.FileRequest{Name: o.cfg.Name}).Append(nil) {
		if _, err := c.Write([]byte{b}); err != nil || !rest(o.ctx, second) {
			return err
		}
	}
	return nil
}

// cutShort asks for everything, and goes when it begins to come.
func cutShort(o *old, c net.Conn) error {
	if err := o.all(c); err != nil {
		return err
	}
	n, _ := io.CopyN(io.Discard, c, 64<<10)
	o.cfg.Tally.Taken.Add(n)
	return errEnough
}

func readNothing(o *old, c net.Conn) error {
	if err := o.all(c); err != nil {
		return err
	}
	rest(o.ctx, writeTime)
	return errEnough
}

// questions asks the same over and over.
func questions(o *old, c net.Conn) error {
	q := classic.FileRequest{Name: o.cfg.Name}.Append(nil)
	for b := make([]byte, classic.HeaderSize); ; {
		if _, err := c.Write(q); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
		o.cfg.Tally.Taken.Add(int64(len(b)))
	}
}

func bombHeader(o *old, c net.Conn) error {
	if _, err := c.Write(oldBomb(o.cfg.Tally.Bombs.Add(1), o.cfg.Name, 0, 1)); err != nil {
		return err
	}
	return o.hold(c)
}
