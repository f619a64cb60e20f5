package exchange

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/content"
	"shoal/internal/peer"
	"shoal/internal/store"
	"shoal/internal/wire"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table is one exchange with the neighbours that sit around it, in fake time.
type table struct {
	t       *testing.T
	x       *Exchange
	want    []byte
	m       *content.Manifest
	seat    byte
	late    time.Duration // how late guests answer pings
	dialled bool          // it is the guests who have dialled
	c       *Content

	mu      sync.Mutex // guards what follows
	fetched *content.Manifest
	notes   []string
	changed int
	failed  error
	done    bool
}

func newTable(t *testing.T, pieces int) *table {
	return newTableIn(t, pieces, "")
}

// newTableIn is a table at a site.
func newTableIn(t *testing.T, pieces int, site string) *table {
	b := &table{t: t, x: New(Config{Seed: 1, Site: site}), want: make([]byte, pieces*content.MinPiece-100)}
	for i := range b.want {
		b.want[i] = byte(rand.Uint32())
	}
	var err error
	if b.m, err = store.Hash(t.Context(), bytes.NewReader(b.want), int64(len(b.want)), 1, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = b.x.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return b
}

func (b *table) lock(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do()
}

// content is what the exchange is to have: with change it is filled in.
func (b *table) content(change func(*Content)) *Content {
	c := &Content{
		ID:       b.m.ID,
		Fetched:  func(m *content.Manifest) { b.lock(func() { b.fetched = m }) },
		Complete: func() { b.lock(func() { b.done = true }) },
		Failed:   func(err error) { b.lock(func() { b.failed = err }) },
		Changed:  func(error) { b.lock(func() { b.changed++ }) },
		Note:     func(who string, o *Offence) { b.lock(func() { b.notes = append(b.notes, o.Reason) }) },
	}
	if change != nil {
		change(c)
	}
	b.c = c
	b.x.Add(c)
	return c
}

// share lets the exchange have all of the content.
func (b *table) share() *Content {
	return b.content(func(c *Content) { c.Manifest, c.Source = b.m, bytes.NewReader(b.want) })
}

// fetch lets the exchange have nothing of the content, but know it.
func (b *table) fetch(disk store.Disk) *store.Download {
	b.t.Helper()
	b.content(func(c *Content) { c.Manifest = b.m })
	return b.begin(disk)
}

// begin lets the exchange fetch the content, of which it has nothing.
func (b *table) begin(disk store.Disk) *store.Download {
	b.t.Helper()
	d, err := store.OpenDownload(b.t.Context(), store.DownloadConfig{
		Dir: b.t.TempDir(), Target: "f", Key: "k", Manifest: b.m, Workers: 1, Disk: disk,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { d.Close() })
	b.x.Begin(b.m.ID, d)
	return d
}

// guest is a neighbour whose every frame the test says.
type guest struct {
	t     *testing.T
	s     *peer.Session
	conn  net.Conn
	heard chan any
	kept  []any
	late  time.Duration
	ended chan struct{}
	why   error // of the end; after ended
	busy  sync.WaitGroup
}

// part is a data frame.
type part struct {
	request uint64
	b       []byte
}

// sit brings a guest to the table. We are the dialler, unless the table says otherwise: our channels are odd, the guest's even.
func (b *table) sit() *guest { b.t.Helper(); return b.sitOver(nil) }

// sitOver is sit over a network that can be asked.
func (b *table) sitOver(below peer.Below) *guest {
	b.t.Helper()
	return b.sitWith(below, "")
}

// sitWith is sitOver for a guest of a site.
func (b *table) sitWith(below peer.Below, site string) *guest {
	b.t.Helper()
	b.seat++
	ours, theirs := pair()
	g := &guest{t: b.t, late: b.late, conn: theirs, heard: make(chan any, 1<<16), ended: make(chan struct{})}
	joined := make(chan struct{})
	g.s = peer.NewSession(peer.SessionConfig{
		Conn: ours, Flush: func() error { return nil }, Below: below, Self: wire.PeerID{0}, Other: wire.PeerID{b.seat}, Dialled: !b.dialled,
		Hello:  wire.Hello{Version: 1, Instance: 1},
		Handle: func(s *peer.Session, m wire.Message) error { <-joined; return b.x.Handle(s, m) },
	})
	ctx, stop := context.WithCancelCause(b.t.Context())
	go func() {
		defer close(g.ended)
		err := g.s.Run(ctx)
		g.why = errors.Join(context.Cause(ctx), err)
		b.x.Leave(g.s)
	}()
	go g.listen()
	b.t.Cleanup(func() { stop(nil); theirs.Close(); <-g.ended; g.busy.Wait() })
	g.says(&wire.Hello{Version: 1, Instance: 2, Site: site})
	<-g.s.Ready()
	b.x.Join(g.s, stop)
	close(joined)
	return g
}

func (g *guest) listen() {
	defer close(g.heard)
	in := bufio.NewReader(g.conn)
	for {
		var head [wire.HeaderSize]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		h, err := wire.ParseHeader(head[:])
		if err != nil {
			g.t.Error(err)
			return
		}
		payload := make([]byte, h.Len)
		if _, err := io.ReadFull(in, payload); err != nil {
			return
		}
		if h.Type == wire.TypeData {
			request, raw, _ := wire.ParseData(payload)
			g.heard <- part{request, raw}
			continue
		}
		m, err := wire.Parse(h.Type, payload)
		if err != nil {
			g.t.Error(err)
			return
		}
		if ping, is := m.(*wire.Ping); is {
			g.busy.Go(func() {
				time.Sleep(g.late)
				g.says(&wire.Pong{Number: ping.Number})
			})
			continue
		}
		g.heard <- m
	}
}

func (g *guest) says(ms ...wire.Message) error {
	var b []byte
	for _, m := range ms {
		b = wire.Append(b, m)
	}
	_, err := g.conn.Write(b)
	return err
}

func (g *guest) gives(request uint64, b []byte, reason wire.Reason) {
	for chunk := range slices.Chunk(b, wire.MaxDataBytes) {
		_, _ = g.conn.Write(append(wire.AppendData(nil, request, len(chunk)), chunk...))
	}
	g.says(&wire.End{Request: request, Reason: reason})
}

// settle takes in all that was said so far.
func (g *guest) settle() {
	synctest.Wait()
	for {
		select {
		case m, ok := <-g.heard:
			if !ok {
				return
			}
			g.kept = append(g.kept, m)
			continue
		default:
		}
		return
	}
}

// heardA returns the first message of a kind that was not asked for yet, nil if there is none.
func heardA[T any](g *guest) (m T, ok bool) {
	g.settle()
	for i, k := range g.kept {
		if m, ok = k.(T); ok {
			g.kept = slices.Delete(g.kept, i, i+1)
			return m, true
		}
	}
	return m, false
}

// hears is heardA where there must be one.
func hears[T any](g *guest) T {
	g.t.Helper()
	m, ok := heardA[T](g)
	if !ok {
		g.t.Fatalf("no %T came, but %v", m, g.kept)
	}
	return m
}

// isCutOff says whether the session has ended, and because of what.
func (g *guest) isCutOff(reason string) {
	g.t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	select {
	case <-g.ended:
	default:
		g.t.Errorf("it is not cut off for %q", reason)
		return
	}
	var o *Offence
	if !errors.As(g.why, &o) || o.Reason != reason {
		g.t.Errorf("it is cut off because of %v, want %q", g.why, reason)
	}
}

func (g *guest) stays() {
	g.t.Helper()
	synctest.Wait()
	select {
	case <-g.ended:
		g.t.Errorf("it is cut off: %v", g.why)
	default:
	}
}

// holds answers our open: the guest has everything, it says.
func (g *guest) holds(b *table) (channel uint64) {
	g.t.Helper()
	channel = hears[*wire.Open](g).Channel
	g.says(&wire.Info{Channel: channel, Known: true, Size: b.m.Geo.Size, Epoch: 1, All: true})
	return channel
}

// asks opens a channel to what we share, and wants it.
func (g *guest) asks(b *table, channel uint64) {
	g.t.Helper()
	g.says(&wire.Open{Channel: channel, ID: b.m.ID}, &wire.Info{Channel: channel, Epoch: 1}, &wire.Want{Channel: channel, On: true})
	hears[*wire.Info](g)
}

// bytesOf returns the bytes of a piece.
func (b *table) bytesOf(p uint32) []byte {
	return b.want[b.m.Geo.Offset(p) : b.m.Geo.Offset(p)+b.m.Geo.Len(p)]
}

// serves answers all that we ask of it as it should, until nothing is missing.
func (g *guest) serves(b *table, d *store.Download, channel uint64) {
	g.t.Helper()
	for credit := uint64(1000); !d.HaveAll(); credit++ {
		g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credit})
		g.settle()
		if get, ok := heardA[*wire.Get](g); ok {
			g.gives(get.Request, b.bytesOf(get.Piece), wire.ReasonOK)
		} else {
			time.Sleep(100 * time.Millisecond)
		}
		if credit > 3000 {
			g.t.Fatalf("it does not end: %+v", b.c.Progress())
		}
		g.settle()
	}
}

func inBubble(t *testing.T, name string, do func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, do) })
}

func TestAManifestIsAskedElsewhereWhenItsGiverFails(t *testing.T) {
	encodedOf := func(b *table) []byte { return b.m.Append(nil) }
	whole := func(b *table, channel uint64, bytes []byte) *wire.Part {
		return &wire.Part{Channel: channel, Total: uint64(len(bytes)), Bytes: bytes}
	}
	for name, c := range map[string]struct {
		offence string // empty: it is only not waited for
		do      func(b *table, g *guest, channel uint64)
	}{
		"a flipped bit": {OffenceManifest, func(b *table, g *guest, channel uint64) {
			m := encodedOf(b)
			m[20] ^= 1
			g.says(whole(b, channel, m))
		}},
		"a forged shorter size": {OffenceManifest, func(b *table, g *guest, channel uint64) {
			m := encodedOf(b)
			size := b.m.Geo.Size - 1
			for i := range 8 {
				m[i] = byte(size >> (56 - 8*i))
			}
			g.says(whole(b, channel, m[:len(m)-1]))
		}},
		"cut off": {OffenceManifest, func(b *table, g *guest, channel uint64) { g.says(whole(b, channel, encodedOf(b)[:50])) }},
		"at a wrong place": {OffenceManifest, func(b *table, g *guest, channel uint64) {
			g.says(&wire.Part{Channel: channel, Offset: 5, Total: 50, Bytes: []byte("x")})
		}},
		"twice": {OffenceManifest, func(b *table, g *guest, channel uint64) {
			p := &wire.Part{Channel: channel, Total: 50, Bytes: []byte("x")}
			g.says(p, p)
		}},
		"endless": {"", func(b *table, g *guest, channel uint64) {
			g.busy.Go(func() {
				for at := uint64(0); g.says(&wire.Part{Channel: channel, Offset: at, Total: 8 << 20, Bytes: []byte("x")}) == nil; at++ {
					time.Sleep(4 * time.Second)
				}
			})
		}},
		"silence": {"", func(*table, *guest, uint64) {}},
		"it refuses": {"", func(_ *table, g *guest, channel uint64) {
			g.says(&wire.Refuse{Channel: channel, Reason: wire.ReasonUnknown})
		}},
		"it goes": {"", func(_ *table, g *guest, _ uint64) { g.conn.Close() }},
		"too large": {"", func(_ *table, g *guest, channel uint64) {
			b := wire.Append(nil, &wire.Part{Channel: channel, Total: 60 << 10, Bytes: make([]byte, 60<<10)})
			_, _ = g.conn.Write(b)
		}},
	} {
		inBubble(t, name, func(t *testing.T) {
			b := newTable(t, 3)
			b.content(nil)
			bad := b.sit()
			channel := bad.holds(b)
			hears[*wire.Manifest](bad)
			good := b.sit()
			other := good.holds(b)
			if _, ok := heardA[*wire.Manifest](good); ok {
				t.Fatal("two are asked at once")
			}
			c := c
			c.do(b, bad, channel)
			if c.offence != "" {
				bad.isCutOff(c.offence)
			}
			for range 10 {
				good.settle()
				if !slices.ContainsFunc(good.kept, func(m any) bool { _, is := m.(*wire.Manifest); return is }) {
					time.Sleep(time.Second)
				}
			}
			hears[*wire.Manifest](good)
			good.says(whole(b, other, encodedOf(b)))
			good.stays()
			b.lock(func() {
				if b.fetched == nil || b.fetched.Geo != b.m.Geo {
					t.Error("the manifest was not learned")
				}
				if c.offence == "" && len(b.notes) > 0 || c.offence != "" && !slices.Equal(b.notes, []string{c.offence}) {
					t.Errorf("blamed for %q", b.notes)
				}
			})
		})
	}
}

// Those who are slow to answer are waited for, though more are asked meanwhile.
func TestWhoIsSlowToSendAManifestIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 3)
		b.content(nil)
		const late = 600 * time.Millisecond
		asked := make(map[*guest]time.Time)
		channels := make(map[*guest]uint64)
		for range 20 {
			g := b.sit()
			channels[g] = g.holds(b)
		}
		whole := b.m.Append(nil)
		for began := time.Now(); time.Since(began) < 2*late; time.Sleep(10 * time.Millisecond) {
			for g, channel := range channels {
				if _, ok := heardA[*wire.Manifest](g); ok {
					asked[g] = time.Now()
				}
				if at, ok := asked[g]; ok && time.Since(at) >= late {
					g.says(&wire.Part{Channel: channel, Total: uint64(len(whole)), Bytes: whole})
					delete(asked, g)
				}
			}
		}
		b.lock(func() {
			if b.fetched == nil {
				t.Error("everybody has it and sends it, and it was not learned")
			}
		})
	})
}

// Thirty that say that they have the manifest, and never send it, are asked a few at a time, not one after the other.
func TestManyWhoAreSilentDoNotKeepAManifestFromUs(t *testing.T) {
	for _, late := range []time.Duration{0, 4 * time.Second} { // they seem to be far away, too
		synctest.Test(t, func(t *testing.T) { manyAreSilent(t, late) })
	}
}

func manyAreSilent(t *testing.T, late time.Duration) {
	b := newTable(t, 3)
	b.late = late
	var silent []*guest
	for range 30 {
		silent = append(silent, b.sit())
	}
	b.late = 0
	good := b.sit()
	time.Sleep(time.Minute)
	b.content(nil)
	for _, g := range silent {
		g.holds(b)
	}
	channel := good.holds(b)
	began, asked := time.Now(), false
	for !asked && time.Since(began) < time.Minute {
		time.Sleep(100 * time.Millisecond)
		_, asked = heardA[*wire.Manifest](good)
	}
	if took := time.Since(began); !asked || took > 31/maxAsked*(silentTime+time.Second) {
		t.Fatalf("the one who has it was asked after %v: %v", took, asked)
	}
	good.says(&wire.Part{Channel: channel, Total: uint64(len(b.m.Append(nil))), Bytes: b.m.Append(nil)})
	for _, g := range append(silent, good) {
		g.stays()
	}
	b.lock(func() {
		if b.fetched == nil {
			t.Error("the manifest was not learned")
		}
	})
}

func TestAWrongSizeIsAnOffenceAlsoWhenItWasClaimedBeforeWeKnew(t *testing.T) {
	for _, early := range []bool{false, true} {
		inBubble(t, fmt.Sprint(early), func(t *testing.T) {
			b := newTable(t, 3)
			b.content(func(c *Content) {
				if !early {
					c.Manifest = b.m
				}
			})
			good := b.sit()
			channel := good.holds(b)
			liar := b.sit()
			hears[*wire.Open](liar)
			liar.says(&wire.Info{Channel: 1, Known: true, Size: b.m.Geo.Size + 1, Epoch: 1, All: true})
			if early {
				hears[*wire.Manifest](good)
				good.says(&wire.Part{Channel: channel, Total: uint64(len(b.m.Append(nil))), Bytes: b.m.Append(nil)})
			}
			liar.isCutOff(OffenceSize)
			good.stays()
		})
	}
}

func TestAGetNeedsACreditOfItsOwn(t *testing.T) {
	type move struct {
		offence bool
		reason  wire.Reason
		get     func(credit uint64, g *guest) wire.Get
	}
	plain := func(credit uint64) wire.Get { return wire.Get{Channel: 2, Epoch: 1, Credit: credit, Request: 1} }
	for name, c := range map[string]move{
		"one that was never given": {true, wire.ReasonProtocol, func(credit uint64, _ *guest) wire.Get { return plain(credit + 999) }},
		"one that is used": {true, wire.ReasonProtocol, func(credit uint64, g *guest) wire.Get {
			get := plain(credit)
			g.says(&get)
			hears[*wire.End](g)
			get.Request = 2
			return get
		}},
		"another channel's": {true, wire.ReasonProtocol, func(credit uint64, g *guest) wire.Get {
			get := plain(credit)
			get.Channel = 4
			return get
		}},
		"another neighbour's": {true, wire.ReasonProtocol, nil},
		"one that expired": {false, wire.ReasonExpired, func(credit uint64, g *guest) wire.Get {
			time.Sleep(3 * time.Second)
			return plain(credit)
		}},
		"a piece that is none": {false, wire.ReasonMissing, func(credit uint64, _ *guest) wire.Get {
			get := plain(credit)
			get.Piece = content.MaxPieces - 1
			return get
		}},
		"an old epoch": {false, wire.ReasonReset, func(credit uint64, _ *guest) wire.Get {
			get := plain(credit)
			get.Epoch = 7
			return get
		}},
		"a channel that is closed": {false, wire.ReasonUnknown, func(credit uint64, g *guest) wire.Get {
			g.says(&wire.Close{Channel: 2})
			return plain(credit)
		}},
		"as it should be": {false, wire.ReasonOK, func(credit uint64, _ *guest) wire.Get { return plain(credit) }},
	} {
		inBubble(t, name, func(t *testing.T) {
			b := newTable(t, 3)
			b.share()
			second := newTable(t, 2)
			b.x.Add(&Content{ID: second.m.ID, Manifest: second.m, Source: bytes.NewReader(second.want)})
			g := b.sit()
			g.asks(b, 2)
			credit := hears[*wire.Credit](g)
			g.asks(second, 4)
			var get wire.Get
			if c.get == nil {
				other := b.sit()
				other.asks(b, 2)
				time.Sleep(300 * time.Millisecond) // until the first one's have expired
				get = plain(hears[*wire.Credit](other).Number)
			} else {
				get = c.get(credit.Number, g)
			}
			g.says(&get)
			if end := hears[*wire.End](g); end.Request != get.Request || end.Reason != c.reason {
				t.Errorf("it ended with %+v, want reason %d", end, c.reason)
			}
			if c.offence {
				g.isCutOff(OffenceRequest)
			} else {
				g.stays()
			}
		})
	}
}

func TestWhatBreaksTheOrderOfChannelsIsAnOffence(t *testing.T) {
	for name, do := range map[string]func(b *table, g *guest){
		"our number":            func(b *table, g *guest) { g.says(&wire.Open{Channel: 3, ID: b.m.ID}) },
		"a number in use":       func(b *table, g *guest) { g.asks(b, 2); g.says(&wire.Open{Channel: 2, ID: b.m.ID}) },
		"a message to a server": func(_ *table, g *guest) { g.says(&wire.List{Query: 1}) },
		"removals":              func(_ *table, g *guest) { g.says(&wire.Removed{Statements: [][]byte{{1}}}) },
	} {
		inBubble(t, name, func(t *testing.T) {
			b := newTable(t, 1)
			b.share()
			g := b.sit()
			do(b, g)
			g.isCutOff(OffenceChannel)
		})
	}
	inBubble(t, "unknown", func(t *testing.T) {
		b := newTable(t, 1)
		b.share()
		g := b.sit()
		for n := uint64(2); n < 2000; n += 2 {
			g.says(&wire.Open{Channel: n, ID: content.ID{byte(n), byte(n >> 8), 1}})
		}
		g.says(&wire.Manifest{Channel: 99}, &wire.Have{Channel: 99, Runs: []uint32{0, 1}}, &wire.Want{Channel: 99, On: true},
			&wire.Credit{Channel: 99, Number: 1}, &wire.Pass{Channel: 99, Credit: 1}, &wire.Reset{Channel: 99}, &wire.Close{Channel: 99})
		g.stays()
		if r := hears[*wire.Refuse](g); r.Reason != wire.ReasonUnknown || b.x.Neighbours(b.m.ID) != 0 {
			t.Errorf("%+v", r)
		}
	})
}

func TestWhoWasRefusedIsToldWhenWeHaveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 2)
		g := b.sit()
		g.says(&wire.Open{Channel: 2, ID: b.m.ID})
		hears[*wire.Refuse](g)
		b.share()
		if open := hears[*wire.Open](g); open.ID != b.m.ID {
			t.Errorf("%+v", open)
		}
		if info := hears[*wire.Info](g); !info.All {
			t.Errorf("%+v", info)
		}
	})
}

// A content is on a session once, however often it is opened: a neighbour cannot make us keep more.
func TestAContentHasOneChannelOnASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 2)
		b.share()
		g := b.sit()
		for n := uint64(2); n < 200; n += 2 {
			g.says(&wire.Open{Channel: n, ID: b.m.ID})
		}
		g.stays()
		if n := b.x.Neighbours(b.m.ID); n != 1 {
			t.Errorf("%d channels", n)
		}
	})
}

func TestAWrongPieceCutsItsGiverOffAndIsFetchedElsewhere(t *testing.T) {
	for name, spoil := range map[string]func(b []byte) []byte{
		"a flipped bit": func(b []byte) []byte { b[7] ^= 1; return b },
		"short":         func(b []byte) []byte { return b[:len(b)-1] },
		"nothing":       func([]byte) []byte { return nil },
		"long":          func(b []byte) []byte { return append(b, 0) },
		"much too long": func(b []byte) []byte { return bytes.Repeat(b, 20) },
	} {
		inBubble(t, name, func(t *testing.T) {
			b := newTable(t, 4)
			d := b.fetch(nil)
			liar := b.sit()
			channel := liar.holds(b)
			liar.says(&wire.Credit{Channel: channel, Epoch: 1, Number: 1})
			get := hears[*wire.Get](liar)
			liar.gives(get.Request, spoil(bytes.Clone(b.bytesOf(get.Piece))), wire.ReasonOK)
			liar.isCutOff(OffencePiece)
			if d.Have(get.Piece) {
				t.Error("it counts as verified")
			}
			good := b.sit()
			good.serves(b, d, good.holds(b))
			b.lock(func() {
				if !b.done || !slices.Equal(b.notes, []string{OffencePiece}) {
					t.Errorf("complete: %v; blamed for %q", b.done, b.notes)
				}
			})
			if p := b.c.Progress(); p.Received-p.Wasted != b.m.Geo.Size || p.Wasted > 2*b.m.Geo.Piece {
				t.Errorf("received %d, of which %d wasted", p.Received, p.Wasted)
			}
		})
	}
}

// One that says it has everything, and gives nothing, holds nobody up.
func TestALyingHaveHoldsNobodyUp(t *testing.T) {
	for name, answer := range map[string]func(g *guest, get *wire.Get){
		"it refuses":  func(g *guest, get *wire.Get) { g.gives(get.Request, nil, wire.ReasonMissing) },
		"it is quiet": func(*guest, *wire.Get) {},
		"it drips":    func(g *guest, get *wire.Get) { _, _ = g.conn.Write(append(wire.AppendData(nil, get.Request, 1), 1)) },
	} {
		inBubble(t, name, func(t *testing.T) {
			b := newTable(t, 4)
			d := b.fetch(nil)
			liar := b.sit()
			channel := liar.holds(b)
			for credit := range uint64(10) {
				liar.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credit + 1})
			}
			asked := 0
			for get, ok := heardA[*wire.Get](liar); ok; get, ok = heardA[*wire.Get](liar) {
				answer(liar, get)
				asked++
			}
			if asked == 0 {
				t.Fatal("it is never asked")
			}
			began := time.Now()
			good := b.sit()
			good.serves(b, d, good.holds(b))
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
			liar.stays()
		})
	}
}

func TestHavesOfPiecesThatAreNoneCountForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 3)
		copied := 0
		b.content(func(c *Content) {
			c.Manifest, c.Source, c.Copied = b.m, bytes.NewReader(b.want), func(string) { copied++ }
		})
		g := b.sit()
		g.asks(b, 2)
		g.says(&wire.Have{Channel: 2, Epoch: 1, First: 2, Runs: []uint32{0, content.MaxPieces - 2}},
			&wire.Have{Channel: 2, Epoch: 1, First: 0, Bitmap: bytes.Repeat([]byte{0x0f}, 100)},
			&wire.Have{Channel: 2, Epoch: 9, Runs: []uint32{0, 3}})
		time.Sleep(time.Second)
		g.stays()
		if n := b.c.Progress().Neighbours; len(n) != 1 || n[0].Pieces != 1 || copied != 0 {
			t.Errorf("%+v, copied %d", n, copied)
		}
		g.says(&wire.Have{Channel: 2, Epoch: 1, Runs: []uint32{0, 3}})
		if g.stays(); copied != 1 {
			t.Errorf("copied %d", copied)
		}
	})
}

// A content may have so many pieces that a few bytes of a have mean much work. Who says the same again and again is stopped.
func TestWhoMakesMuchWorkOfFewBytesIsCutOff(t *testing.T) {
	big := func(b *table) {
		g, err := content.GeometryOf(1 << 40)
		if err != nil {
			t.Fatal(err)
		}
		b.m = &content.Manifest{ID: content.ID{9}, Geo: g}
		b.content(func(c *Content) { c.Manifest, c.Source = b.m, bytes.NewReader(nil) })
	}
	all := func(channel uint64) *wire.Have {
		return &wire.Have{Channel: channel, Epoch: 1, Runs: []uint32{0, content.MaxPieces}}
	}
	open := func(channel uint64) *wire.Open { return &wire.Open{Channel: channel, ID: content.ID{9}} }
	for name, c := range map[string]struct {
		dials bool
		again func(channel uint64) []wire.Message
	}{
		"haves":     {false, func(uint64) []wire.Message { return []wire.Message{all(2)} }},
		"resets":    {false, func(uint64) []wire.Message { return []wire.Message{&wire.Reset{Channel: 2, Epoch: 1}} }},
		"opens":     {false, func(n uint64) []wire.Message { return []wire.Message{&wire.Close{Channel: n - 2}, open(n)} }},
		"refusals":  {false, func(n uint64) []wire.Message { return []wire.Message{&wire.Refuse{Channel: n - 2}, open(n), all(n)} }},
		"two opens": {true, func(n uint64) []wire.Message { return []wire.Message{open(n), all(n)} }},
	} {
		inBubble(t, name, func(t *testing.T) {
			b := newTable(t, 1)
			big(b)
			first := uint64(2)
			if b.dialled = c.dials; c.dials {
				first = 1
			}
			g := b.sit()
			g.asks(b, first)
			g.says(all(first))
			for k := range uint64(40) {
				g.says(c.again(first + 2 + 2*k)...)
			}
			g.isCutOff(OffenceFlood)
		})
	}
}

// Who refuses what we open has said nothing of it: that costs nothing, however large it is.
func TestARefusalIsNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 1)
		g := b.sit()
		for i := range byte(40) {
			b.m = &content.Manifest{ID: content.ID{9, i}}
			var err error
			if b.m.Geo, err = content.GeometryOf(1 << 40); err != nil {
				t.Fatal(err)
			}
			b.content(func(c *Content) { c.Manifest, c.Source = b.m, bytes.NewReader(nil) })
			g.says(&wire.Refuse{Channel: hears[*wire.Open](g).Channel, Reason: wire.ReasonUnknown})
		}
		time.Sleep(time.Second)
		g.stays()
	})
}

func TestAResetTakesBackWhatWasSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		d := b.fetch(nil)
		g := b.sit()
		channel := g.holds(b)
		if !hears[*wire.Want](g).On {
			t.Error("it is not wanted")
		}
		g.says(&wire.Reset{Channel: channel, Epoch: 2})
		time.Sleep(time.Second)
		if hears[*wire.Want](g).On {
			t.Error("it is still wanted")
		}
		g.says(&wire.Have{Channel: channel, Epoch: 1, Runs: []uint32{0, 4}}, &wire.Credit{Channel: channel, Epoch: 1, Number: 1})
		hears[*wire.Pass](g)
		if _, ok := heardA[*wire.Want](g); ok {
			t.Error("a have of the old epoch counts")
		}
		g.says(&wire.Have{Channel: channel, Epoch: 2, Runs: []uint32{1, 2}})
		time.Sleep(time.Second)
		if !hears[*wire.Want](g).On {
			t.Error("it is not wanted again")
		}
		g.says(&wire.Credit{Channel: channel, Epoch: 2, Number: 2})
		if get := hears[*wire.Get](g); get.Epoch != 2 || get.Piece != 1 && get.Piece != 2 {
			t.Errorf("asked for %+v", get)
		}
		if d.Bytes() > 0 {
			t.Error("something has come")
		}
	})
}

// A file that changes, before a piece is read or while it is, is withdrawn, and what was read is not passed off as the piece.
func TestAFileThatChangesIsWithdrawn(t *testing.T) {
	for _, when := range []int32{1, 2} {
		inBubble(t, fmt.Sprint("at look ", when), func(t *testing.T) {
			b := newTable(t, 3)
			var looks atomic.Int32
			b.content(func(c *Content) {
				c.Manifest, c.Source = b.m, bytes.NewReader(b.want)
				c.Check = func(uint32) error {
					if looks.Add(1) >= when {
						return store.ErrChanged
					}
					return nil
				}
			})
			g, other := b.sit(), b.sit()
			g.asks(b, 2)
			other.asks(b, 2)
			g.says(&wire.Get{Channel: 2, Epoch: 1, Credit: hears[*wire.Credit](g).Number, Request: 1})
			if end := hears[*wire.End](g); end.Reason != wire.ReasonRead {
				t.Errorf("it ended with %+v", end)
			}
			for _, n := range []*guest{g, other} {
				if r := hears[*wire.Reset](n); r.Epoch != 2 {
					t.Errorf("%+v", r)
				}
				hears[*wire.Close](n)
				n.stays()
			}
			g.says(&wire.Open{Channel: 4, ID: b.m.ID})
			hears[*wire.Refuse](g)
			b.lock(func() {
				if b.changed != 1 {
					t.Errorf("told %d times", b.changed)
				}
			})
		})
	}
}

// thin is a disk on which there is no space while full is set.
type thin struct {
	store.Disk
	full atomic.Bool
}

type (
	thinFolder struct {
		store.Folder
		d *thin
	}
	thinFile struct {
		store.File
		d *thin
	}
)

func (d *thin) OpenFolder(path string) (store.Folder, error) {
	f, err := d.Disk.OpenFolder(path)
	return &thinFolder{f, d}, err
}

func (f *thinFolder) Open(name string, flag int, perm os.FileMode) (store.File, error) {
	file, err := f.Folder.Open(name, flag, perm)
	if err == nil && filepath.Base(name) == "data" {
		file = &thinFile{file, f.d}
	}
	return file, err
}

func (f *thinFile) WriteAt(b []byte, off int64) (int, error) {
	if f.d.full.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.WriteAt(b, off)
}

func TestAFullDiskPausesAndGoesOnByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &thin{Disk: store.System()}
		b := newTable(t, 3)
		d := b.fetch(disk)
		g := b.sit()
		channel := g.holds(b)
		hears[*wire.Want](g)
		disk.full.Store(true)
		for credit := range uint64(2) {
			g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credit + 1})
		}
		for range 2 {
			get := hears[*wire.Get](g)
			g.gives(get.Request, b.bytesOf(get.Piece), wire.ReasonOK)
		}
		time.Sleep(time.Second)
		if !b.c.Progress().Paused {
			t.Error("it does not say that it pauses")
		}
		g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: 3})
		hears[*wire.Pass](g) // which takes the want back
		disk.full.Store(false)
		time.Sleep(2 * pauseTime)
		if w := hears[*wire.Want](g); !w.On {
			t.Error("it is not wanted again")
		}
		g.serves(b, d, channel)
		b.lock(func() {
			if !b.done || b.failed != nil {
				t.Errorf("complete: %v; %v", b.done, b.failed)
			}
		})
	})
}

// The loop never waits for its own inbox, also not when a session has just ended and the inbox is full.
func TestASessionThatHasJustEndedDoesNotStopTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 8)
		b.fetch(nil)
		g := b.sit()
		channel := g.holds(b)
		g.settle()
		b.x.call(func(l *loop) { // nobody else is heard meanwhile
			n := l.conns[g.s]
			g.s.Fail(errors.New("enough"))
			for g.s.Send(&wire.Pong{}) {
				time.Sleep(time.Millisecond)
			}
			for range cap(b.x.inbox) {
				select {
				case b.x.inbox <- func(*loop) {}:
				default:
				}
			}
			l.hear(n, &wire.Credit{Channel: channel, Epoch: 1, Number: 1})
		})
		<-g.ended
		good := b.sit()
		good.holds(b)
		good.stays()
	})
}

// pair is a connection in memory, with room for whatever is written.
func pair() (a, b net.Conn) {
	ab, ba := newPipe(), newPipe()
	return &memConn{in: ba, out: ab}, &memConn{in: ab, out: ba}
}

type pipe struct {
	mu       sync.Mutex
	cond     *sync.Cond
	b        bytes.Buffer
	closed   bool
	deadline time.Time
}

func newPipe() *pipe {
	p := &pipe{}
	p.cond = sync.NewCond(&p.mu)
	return p
}

type memConn struct{ in, out *pipe }

func (c *memConn) Read(b []byte) (int, error) {
	p := c.in
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case !p.deadline.IsZero() && !time.Now().Before(p.deadline):
			return 0, os.ErrDeadlineExceeded
		case p.b.Len() > 0:
			return p.b.Read(b)
		case p.closed:
			return 0, io.EOF
		}
		p.cond.Wait()
	}
}

func (c *memConn) Write(b []byte) (int, error) {
	p := c.out
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, io.ErrClosedPipe
	}
	p.cond.Broadcast()
	return p.b.Write(b)
}

func (c *memConn) Close() error {
	for _, p := range []*pipe{c.in, c.out} {
		p.mu.Lock()
		p.closed = true
		p.cond.Broadcast()
		p.mu.Unlock()
	}
	return nil
}

func (c *memConn) SetReadDeadline(at time.Time) error {
	p := c.in
	p.mu.Lock()
	p.deadline = at
	p.cond.Broadcast()
	p.mu.Unlock()
	if wait := time.Until(at); !at.IsZero() && wait > 0 {
		time.AfterFunc(wait, p.cond.Broadcast)
	}
	return nil
}

func (c *memConn) SetDeadline(at time.Time) error { return c.SetReadDeadline(at) }

func (*memConn) SetWriteDeadline(time.Time) error { return nil }
func (*memConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*memConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

// Many who say they have everything, and give nothing or a byte a second, do not keep out the one who gives.
func TestManyWhoGiveNothingHoldNobodyUp(t *testing.T) {
	for name, drips := range map[string]bool{"they are quiet": false, "they drip": true} {
		inBubble(t, name, func(t *testing.T) {
			b := newTable(t, 8)
			d := b.fetch(nil)
			type asked struct {
				g       *guest
				request uint64
			}
			var mu sync.Mutex
			var under []asked
			take := func(g *guest) {
				for get, ok := heardA[*wire.Get](g); ok; get, ok = heardA[*wire.Get](g) {
					mu.Lock()
					under = append(under, asked{g, get.Request})
					mu.Unlock()
				}
			}
			var liars []*guest
			for range 45 {
				g := b.sit()
				channel := g.holds(b)
				g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: 1}, &wire.Credit{Channel: channel, Epoch: 1, Number: 2})
				take(g)
				liars = append(liars, g)
			}
			ended := make(chan struct{})
			var dripping sync.WaitGroup
			dripping.Go(func() {
				for drips {
					mu.Lock()
					for _, a := range under {
						_, _ = a.g.conn.Write(append(wire.AppendData(nil, a.request, 1), 1))
					}
					mu.Unlock()
					select {
					case <-ended:
						return
					case <-time.After(time.Second):
					}
				}
			})
			defer dripping.Wait()
			defer close(ended)
			time.Sleep(10 * time.Second)
			for i, g := range liars { // those that have a chance again use it
				g.says(&wire.Credit{Channel: 1, Epoch: 1, Number: uint64(100 + i)})
				take(g)
			}
			mu.Lock()
			n := len(under)
			mu.Unlock()
			if n < 8 {
				t.Fatalf("they were asked for %d pieces: this tests nothing", n)
			}
			began := time.Now()
			good := b.sit()
			good.serves(b, d, good.holds(b))
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
