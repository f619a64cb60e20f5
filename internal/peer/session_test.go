package peer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/offence"
	"shoal/internal/wire"
)

// talk is one session, whose other end the test plays, frame by frame, in fake time.
type talk struct {
	t     *testing.T
	s     *Session
	conn  net.Conn
	book  *offence.Book
	end   context.CancelCauseFunc
	ended chan error
	heard chan any // what the session has sent: messages by pointer, and raw
	took  chan wire.Message
}

// raw is a data frame.
type raw struct {
	request uint64
	b       string
}

// newTalk begins a session, which has the smaller id: it says use.
func newTalk(t *testing.T, change func(*SessionConfig)) *talk {
	ours, theirs := net.Pipe()
	k := &talk{
		t: t, conn: theirs, book: offence.NewBook(slog.New(slog.DiscardHandler)), ended: make(chan error, 1),
		heard: make(chan any, 1<<16), took: make(chan wire.Message, 1<<16),
	}
	cfg := SessionConfig{
		Conn: ours, Flush: func() error { return nil }, Self: wire.PeerID{1}, Other: wire.PeerID{2}, Book: k.book,
		Hello:  wire.Hello{Version: Version, Instance: 5},
		Handle: func(_ *Session, m wire.Message) error { k.took <- m; return nil },
	}
	if change != nil {
		change(&cfg)
	}
	k.s = NewSession(cfg)
	ctx, end := context.WithCancelCause(t.Context())
	k.end = end
	go func() { k.ended <- k.s.Run(ctx) }()
	t.Cleanup(func() { end(nil); theirs.Close(); synctest.Wait() })
	return k
}

// listen collects what the session sends. Who does not call it does not read.
func (k *talk) listen() {
	go func() {
		defer close(k.heard)
		in := bufio.NewReader(k.conn)
		for {
			h, err := readHeader(in)
			if err != nil {
				return
			}
			payload := make([]byte, h.Len)
			if _, err := io.ReadFull(in, payload); err != nil {
				return
			}
			if h.Type == wire.TypeData {
				request, b, _ := wire.ParseData(payload)
				k.heard <- raw{request, string(b)}
				continue
			}
			m, err := wire.Parse(h.Type, payload)
			if err != nil {
				k.t.Error(err)
				return
			}
			k.heard <- m
		}
	}()
}

// inUse brings a session to where both sides use it.
func inUse(t *testing.T, change func(*SessionConfig)) *talk {
	t.Helper()
	k := newTalk(t, change)
	k.listen()
	k.says(&wire.Hello{Version: Version, Instance: 7})
	synctest.Wait()
	if got := k.hears(); len(got) < 2 || !isA[*wire.Use](got[1]) {
		t.Fatalf("it greets with %v", got)
	}
	return k
}

func isA[T any](m any) bool { _, is := m.(T); return is }

// says sends frames to the session.
func (k *talk) says(ms ...wire.Message) {
	k.t.Helper()
	var b []byte
	for _, m := range ms {
		b = wire.Append(b, m)
	}
	k.writes(b)
}

// writes sends bytes to the session, which may end before it has read them all.
func (k *talk) writes(b []byte) { _, _ = k.conn.Write(b) }

// pings returns how many pings have come since the last time, and forgets what else has.
func (k *talk) pings() (n int) {
	synctest.Wait()
	for {
		select {
		case m, ok := <-k.heard:
			if !ok {
				return n
			}
			if isA[*wire.Ping](m) {
				n++
			}
		default:
			return n
		}
	}
}

// hears returns what has come since the last time, but for pings.
func (k *talk) hears() (out []any) {
	synctest.Wait()
	for {
		select {
		case m, ok := <-k.heard:
			if !ok {
				return out
			}
			if !isA[*wire.Ping](m) {
				out = append(out, m)
			}
		default:
			return out
		}
	}
}

// ends waits for the end of the session.
func (k *talk) ends(want error) {
	k.t.Helper()
	select {
	case err := <-k.ended:
		if !errors.Is(err, want) {
			k.t.Errorf("it ended with %v, want %v", err, want)
		}
	case <-time.After(time.Hour):
		k.t.Fatal("it does not end")
	}
}

func (k *talk) goesOn() {
	k.t.Helper()
	synctest.Wait()
	select {
	case err := <-k.ended:
		k.t.Errorf("it has ended: %v", err)
	default:
	}
}

// bucket keeps what came for a request.
type bucket struct {
	b     bytes.Buffer
	proof []byte
	ends  []wire.Reason
	fail  error
}

func (b *bucket) Prove(parts []byte) error { b.proof = parts; return b.fail }
func (b *bucket) Write(p []byte) error     { b.b.Write(p); return b.fail }
func (b *bucket) End(reason wire.Reason)   { b.ends = append(b.ends, reason) }

func data(request uint64, b string) []byte {
	return append(wire.AppendData(nil, request, len(b)), b...)
}

func frame(m wire.Message) []byte { return wire.Append(nil, m) }

func TestARuleThatIsBrokenEndsTheSessionAndIsCounted(t *testing.T) {
	get := &wire.Get{Channel: 1, Credit: 1, Request: 3}
	for name, b := range map[string][]byte{
		"a second hello":                 frame(&wire.Hello{Version: Version, Instance: 7}),
		"a second use":                   frame(&wire.Use{}),
		"data for no request":            data(9, "x"),
		"data for a request that ended":  append(frame(&wire.End{Request: 1}), data(1, "x")...),
		"a proof for no request":         frame(&wire.Proof{Request: 9, Parts: make([]byte, 32)}),
		"an end of no request":           frame(&wire.End{Request: 9}),
		"a second end":                   append(frame(&wire.End{Request: 1}), frame(&wire.End{Request: 1})...),
		"a request number again":         append(frame(get), frame(get)...),
		"a request number that falls":    append(frame(get), frame(&wire.Get{Channel: 1, Credit: 2, Request: 2})...),
		"an empty frame":                 {0, 0, 0, 0, byte(wire.TypePing)},
		"a control frame too long":       {0, 1, 0, 1, byte(wire.TypePing)},
		"a data frame too long":          {0, 2, 0, 12, byte(wire.TypeData)},
		"more raw bytes than may be":     append([]byte{0, 2, 0, 11, byte(wire.TypeData), 1}, make([]byte, 131_081)...),
		"a data frame without a number":  {0, 0, 0, 1, byte(wire.TypeData)},
		"a number that goes on too long": append([]byte{0, 0, 0, 12, byte(wire.TypeData)}, bytes.Repeat([]byte{0xff}, 11)...),
		"a number cut off by its frame":  append([]byte{0, 0, 0, 2, byte(wire.TypeData), 0x81}, frame(&wire.Ping{})...),
		"malformed":                      {0, 0, 0, 2, byte(wire.TypePing), 0xff},
		"out of range":                   frame(&wire.Open{Channel: 1}),
		"an even type that is unknown":   {0, 0, 0, 1, 200},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := inUse(t, nil)
				var got bucket
				k.s.Get(wire.Get{Channel: 1, Credit: 1}, &got)
				k.writes(b)
				k.ends(ErrProtocol)
				if k.book.Counts()[RefusedProtocol] != 1 {
					t.Errorf("counted %v", k.book.Counts())
				}
				if heard := k.hears(); !isA[*wire.Bye](heard[len(heard)-1]) || heard[len(heard)-1].(*wire.Bye).Reason != wire.ReasonProtocol {
					t.Errorf("at last it said %v", heard[len(heard)-1])
				}
				if len(got.ends) != 1 || got.b.Len() > 0 {
					t.Errorf("the request had the ends %v and %d bytes", got.ends, got.b.Len())
				}
			})
		})
	}
}

func TestWhatIsNotToBeMindedGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := inUse(t, nil)
		var got bucket
		k.s.Get(wire.Get{Channel: 1, Credit: 1}, &got)
		k.writes([]byte{0, 0, 0, 2, 201, 1})                            // an odd type that is unknown
		k.says(&wire.Cancel{Request: 99}, &wire.Pong{Number: 9})        // its request has had its end; of no ping
		k.says(&wire.Close{Channel: 99})                                // for the channels' owner to judge
		k.writes([]byte{0, 0, 0, 4, byte(wire.TypeData), 0x81, 0, 'x'}) // request 1, in more bytes than it needs
		k.says(&wire.End{Request: 1})
		k.goesOn()
		if len(k.took) != 1 || got.b.String() != "x" || !slices.Equal(got.ends, []wire.Reason{wire.ReasonOK}) {
			t.Errorf("handed on: %d messages; came %q, %v", len(k.took), got.b.String(), got.ends)
		}
	})
}

func TestAFloodEndsTheSession(t *testing.T) {
	for name, flood := range map[string][]byte{"control frames": {0, 0, 0, 1, 201}, "empty data frames": data(1, "")} {
		synctest.Test(t, func(t *testing.T) {
			k := inUse(t, nil)
			k.s.Get(wire.Get{Channel: 1, Credit: 1}, &bucket{})
			k.writes(bytes.Repeat(flood, floodBurst))
			k.goesOn()
			time.Sleep(time.Second)
			k.writes(bytes.Repeat(flood, floodRate-10))
			k.goesOn()
			k.writes(bytes.Repeat(flood, 20))
			k.ends(ErrFlood)
			if k.book.Counts()[RefusedProtocol] != 1 {
				t.Errorf("%s: counted %v", name, k.book.Counts())
			}
		})
	}
}

func TestSessionsThatDoNotBegin(t *testing.T) {
	hello := &wire.Hello{Version: Version, Instance: 7}
	greater := func(c *SessionConfig) { c.Self = wire.PeerID{3} }
	for name, c := range map[string]struct {
		change func(*SessionConfig)
		b      []byte
		want   error
		bye    wire.Reason
	}{
		"no hello":              {nil, frame(&wire.Ping{}), ErrProtocol, 0},
		"data first":            {nil, data(1, "x"), ErrProtocol, 0},
		"another version":       {nil, frame(&wire.Hello{Version: 2, Instance: 7}), ErrVersion, wire.ReasonVersion},
		"silence":               {nil, nil, os.ErrDeadlineExceeded, 0},
		"half a hello":          {nil, frame(hello)[:9], os.ErrDeadlineExceeded, 0},
		"a message before use":  {greater, append(frame(hello), frame(&wire.Open{Channel: 1, ID: [32]byte{1}})...), ErrProtocol, 0},
		"no use":                {greater, frame(hello), os.ErrDeadlineExceeded, 0},
		"they have another":     {greater, append(frame(hello), frame(&wire.Bye{Reason: wire.ReasonDuplicate})...), ErrDuplicate, 0},
		"we have another":       {func(c *SessionConfig) { c.Choose = func(*Session) bool { return false } }, frame(hello), ErrDuplicate, wire.ReasonDuplicate},
		"with ourselves":        {func(c *SessionConfig) { c.Other, c.Hello.Instance = c.Self, 7 }, frame(hello), ErrDuplicate, wire.ReasonDuplicate},
		"a bye instead of use":  {greater, append(frame(hello), frame(&wire.Bye{Reason: wire.ReasonLimit})...), &ByeError{}, 0},
		"it was stopped before": {func(c *SessionConfig) { c.Conn.Close() }, nil, io.ErrClosedPipe, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			k := newTalk(t, c.change)
			k.listen()
			k.writes(c.b)
			err := <-k.ended
			if bye := new(ByeError); !errors.Is(err, c.want) && (!errors.As(err, &bye) || !isA[*ByeError](c.want)) {
				t.Errorf("%s: ended with %v, want %v", name, err, c.want)
			}
			if time.Since(began) > helloTimeout {
				t.Errorf("%s: it took %v", name, time.Since(began))
			}
			heard := k.hears()
			if c.bye != 0 && (len(heard) != 2 || !isA[*wire.Bye](heard[1]) || heard[1].(*wire.Bye).Reason != c.bye) {
				t.Errorf("%s: it said %v", name, heard)
			}
			select {
			case <-k.s.Ready():
				t.Errorf("%s: it counts as in use", name)
			default:
			}
		})
	}
}

// Two processes with one key are told apart by their instances: the smaller says use.
func TestTwoProcessesWithOneKeyTalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		sessions := make([]*Session, 2)
		ended := make(chan error, 2)
		for i, conn := range []net.Conn{a, b} {
			sessions[i] = NewSession(SessionConfig{
				Conn: conn, Flush: func() error { return nil }, Self: wire.PeerID{1}, Other: wire.PeerID{1}, Dialled: i == 0,
				Hello: wire.Hello{Version: Version, Instance: uint64(i)}, Handle: func(*Session, wire.Message) error { return nil },
			})
		}
		// A pipe has no buffer: of two that greet at once each would wait for the other to read.
		buffered := &gathered{Conn: a}
		sessions[0].cfg.Conn = buffered
		for _, s := range sessions {
			go func() { ended <- s.Run(t.Context()) }()
		}
		for i, s := range sessions {
			<-s.Ready()
			if s.Instance() != uint64(1-i) {
				t.Errorf("%d sees instance %d", i, s.Instance())
			}
		}
		sessions[0].Fail(errors.New("enough"))
		<-ended
		<-ended
		buffered.wait()
	})
}

// gathered is a connection whose writes do not wait for a reader.
type gathered struct {
	net.Conn
	last chan struct{}
}

func (g *gathered) Write(b []byte) (int, error) {
	before, done := g.last, make(chan struct{})
	g.last = done
	b = bytes.Clone(b)
	go func() {
		defer close(done)
		if before != nil {
			<-before
		}
		_, _ = g.Conn.Write(b)
	}()
	return len(b), nil
}

func (g *gathered) wait() {
	g.Conn.Close()
	<-g.last
}

// Who is silent is asked with a ping, and is dead if nothing comes for 15 seconds then: sooner while a piece is waited for.
func TestWhoDoesNotAnswerAPingIsDead(t *testing.T) {
	for name, c := range map[string]struct {
		waits bool
		after time.Duration
	}{
		"nothing moves":         {false, idlePing + deadAfter},
		"a piece is waited for": {true, busyPing + deadAfter},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := inUse(t, nil)
				for range 12 {
					k.says(&wire.Ping{Number: 1})
					time.Sleep(idlePing - time.Second)
				}
				k.says(&wire.Ping{Number: 1})
				k.goesOn()
				quiet := time.Now()
				if c.waits {
					k.s.Get(wire.Get{Channel: 1, Credit: 1}, &bucket{})
				}
				k.ends(ErrDead)
				if d := time.Since(quiet); d > c.after || d < deadAfter {
					t.Errorf("it ended after %v", d)
				}
			})
		})
	}
}

// While nothing moves there is a ping before nothing has come for 25 seconds.
func TestAnIdleSessionPingsWhenNothingElseComes(t *testing.T) {
	for _, dialled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := inUse(t, func(cfg *SessionConfig) { cfg.Dialled = dialled })
			k.says(&wire.Pong{Number: 1})
			k.pings()
			for range 30 {
				time.Sleep(idleSlot - time.Second)
				k.says(&wire.Pong{Number: 99})
			}
			if n := k.pings(); n > 0 {
				t.Errorf("dialled %v: %d pings, though the other side was heard all the time", dialled, n)
			}
			heard, pings := time.Now(), uint64(0)
			for began := heard; time.Since(began) < 5*time.Minute; time.Sleep(time.Second) {
				if k.pings() == 0 {
					continue
				}
				if quiet := time.Since(heard); quiet <= idlePing-idleSlot || quiet > idlePing {
					t.Errorf("dialled %v: it pings after %v of silence", dialled, quiet)
				}
				heard = time.Now()
				pings++
				k.says(&wire.Pong{Number: 1 + pings})
			}
			if pings < 11 || pings > 13 {
				t.Errorf("dialled %v: %d pings in 5 minutes", dialled, pings)
			}
		})
	}
}

// Of two that are idle the one that has dialled pings, for all of its sessions at the same time.
func TestOfTwoThatAreIdleOnePingsAndForAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		var dialled, accepted []*pinging
		for i := range byte(8) {
			a, b := net.Pipe()
			ends := []*pinging{{Conn: &gathered{Conn: a}}, {Conn: &gathered{Conn: b}}}
			for k, conn := range ends {
				s := NewSession(SessionConfig{
					Conn: conn, Flush: func() error { return nil }, Self: wire.PeerID{byte(k), i}, Other: wire.PeerID{byte(1 - k), i}, Dialled: k == 0,
					Hello: wire.Hello{Version: Version}, Handle: func(*Session, wire.Message) error { return nil },
				})
				running.Go(func() { _ = s.Run(ctx) })
			}
			dialled, accepted = append(dialled, ends[0]), append(accepted, ends[1])
			time.Sleep(3 * time.Second) // they come at different times
		}
		pings := func(ends []*pinging) (n int) {
			for _, e := range ends {
				n += int(e.n.Swap(0))
			}
			return n
		}
		time.Sleep(2*idlePing + time.Second/2) // so that it is not looked while they ping
		pings(dialled)
		pings(accepted)
		const span = 10 * time.Minute
		sum, moments := 0, 0
		for began := time.Now(); time.Since(began) < span; time.Sleep(time.Second) {
			if n := pings(dialled); n > 0 {
				sum, moments = sum+n, moments+1
			}
		}
		if n := pings(accepted); n > 0 {
			t.Errorf("those that were dialled ping too: %d times", n)
		}
		if most := int(span / idleSlot); moments > most || sum < len(dialled)*(most/2-1) || sum > len(dialled)*(most/2+1) {
			t.Errorf("%d pings in %d sessions, at %d moments", sum, len(dialled), moments)
		}
		stop()
		running.Wait()
		for i := range dialled {
			dialled[i].Conn.(*gathered).wait()
			accepted[i].Conn.(*gathered).wait()
		}
	})
}

// pinging is a connection that counts the pings that are written.
type pinging struct {
	net.Conn
	n atomic.Int32
}

func (p *pinging) Write(b []byte) (int, error) {
	for rest := b; len(rest) >= wire.HeaderSize; {
		h, err := wire.ParseHeader(rest[:wire.HeaderSize])
		if err != nil {
			return 0, err
		}
		if h.Type == wire.TypePing {
			p.n.Add(1)
		}
		rest = rest[wire.HeaderSize+int(h.Len):]
	}
	return p.Conn.Write(b)
}

// One that sends and does not read is given up, whether its connection takes nothing more or what waits for it has grown too much.
func TestWhoDoesNotReadIsDropped(t *testing.T) {
	t.Run("slowly", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newTalk(t, nil)
			var b [64]byte
			_, _ = io.ReadAtLeast(k.conn, b[:], 1) // its hello
			k.says(&wire.Hello{Version: Version, Instance: 7})
			_, _ = io.ReadAtLeast(k.conn, b[:], 6) // its use
			began := time.Now()
			go func() {
				for range 10 {
					k.says(&wire.Ping{Number: 1})
					time.Sleep(2 * time.Second)
				}
			}()
			k.ends(ErrOutbox)
			if d := time.Since(began); d != deadAfter {
				t.Errorf("it ended after %v", d)
			}
			time.Sleep(time.Minute)
		})
	})
	t.Run("at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := newTalk(t, nil)
			var b [64]byte
			_, _ = io.ReadAtLeast(k.conn, b[:], 1)
			k.says(&wire.Hello{Version: Version, Instance: 7})
			_, _ = io.ReadAtLeast(k.conn, b[:], 6)
			<-k.s.Ready()
			text := &wire.Part{Channel: 1, Total: wire.MaxPart, Bytes: make([]byte, wire.MaxPart)}
			began, sent := time.Now(), 0
			for k.s.Send(text) {
				if sent += wire.MaxPart; sent > 2*maxOutbox {
					t.Fatal("all that is sent is kept")
				}
			}
			k.ends(ErrOutbox)
			if d := time.Since(began); d > byeTime {
				t.Errorf("it ended after %v", d)
			}
		})
	})
}

func TestACancelledRequestTakesNothingMoreAndHasOneEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := inUse(t, nil)
		var ours, broken bucket
		broken.fail = errors.New("the disk is full")
		a, _ := k.s.Get(wire.Get{Channel: 1, Credit: 1}, &ours)
		b, _ := k.s.Get(wire.Get{Channel: 1, Credit: 2}, &broken)
		k.writes(slices.Concat(data(a, "one"), data(b, "two")))
		synctest.Wait()
		k.s.Cancel(a)
		k.s.Cancel(a)
		k.writes(slices.Concat(data(a, "more"), data(b, "more"), frame(&wire.End{Request: a}), frame(&wire.End{Request: b})))
		k.goesOn()
		cancels := 0
		for _, m := range k.hears() {
			if isA[*wire.Cancel](m) {
				cancels++
			}
		}
		if cancels != 2 || ours.b.String() != "one" || broken.b.String() != "two" {
			t.Errorf("%d cancels; came %q and %q", cancels, ours.b.String(), broken.b.String())
		}
		if want := []wire.Reason{wire.ReasonCancelled}; !slices.Equal(ours.ends, want) || !slices.Equal(broken.ends, want) {
			t.Errorf("ends %v and %v", ours.ends, broken.ends)
		}
	})
}

func TestACancelledRequestThatNeverEndsEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := inUse(t, nil)
		var ours bucket
		a, _ := k.s.Get(wire.Get{Channel: 1, Credit: 1}, &ours)
		k.s.Cancel(a)
		for range 20 { // it says that it lives
			time.Sleep(2 * time.Second)
			k.says(&wire.Ping{Number: 1})
		}
		k.ends(ErrProtocol)
		if want := []wire.Reason{wire.ReasonClosing}; !slices.Equal(ours.ends, want) {
			t.Errorf("ends %v", ours.ends)
		}
	})
}

// The other side may give up a request before we have begun to serve it: the loop that decides is another goroutine.
func TestWhatTheOtherCancelsIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := inUse(t, nil)
		k.says(&wire.Get{Channel: 1, Credit: 1, Request: 1}, &wire.Cancel{Request: 1})
		synctest.Wait()
		k.hears()
		var ends []wire.Reason
		k.s.Serve(Serving{Request: 1, From: bytes.NewReader(make([]byte, 9)), Len: 9, Done: func(_ int64, r wire.Reason) { ends = append(ends, r) }})
		got := k.hears()
		if len(got) != 1 || *got[0].(*wire.End) != (wire.End{Request: 1, Reason: wire.ReasonCancelled}) || len(ends) != 1 {
			t.Errorf("it sent %v, and was done with %v", got, ends)
		}
	})
}

func TestWhatIsServedIsTheBytesAndOneEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := inUse(t, nil)
		whole := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
		done := make(map[uint64][]wire.Reason)
		serve := func(v Serving) {
			k.says(&wire.Get{Channel: 1, Credit: v.Request, Request: v.Request})
			v.Done = func(_ int64, r wire.Reason) { done[v.Request] = append(done[v.Request], r) }
			k.s.Serve(v)
			synctest.Wait()
		}
		serve(Serving{Request: 1, From: bytes.NewReader(whole), Off: 5, Len: int64(len(whole)) - 10})
		serve(Serving{Request: 2, From: bytes.NewReader(whole[:100]), Len: 200})
		serve(Serving{Request: 3, From: bytes.NewReader(whole), Len: 9, Check: func() error { return errors.New("changed") }})
		serve(Serving{Request: 4, From: bytes.NewReader(nil)})
		var b bytes.Buffer
		ends := make(map[uint64]wire.Reason)
		for _, m := range k.hears() {
			switch m := m.(type) {
			case raw:
				b.WriteString(m.b)
			case *wire.End:
				ends[m.Request] = m.Reason
			}
		}
		if !bytes.Equal(b.Bytes(), whole[5:len(whole)-5]) {
			t.Errorf("%d bytes came", b.Len())
		}
		for request, want := range map[uint64]wire.Reason{1: wire.ReasonOK, 2: wire.ReasonRead, 3: wire.ReasonRead, 4: wire.ReasonOK} {
			if ends[request] != want || !slices.Equal(done[request], []wire.Reason{want}) {
				t.Errorf("request %d ended with %v and %v, want %v", request, ends[request], done[request], want)
			}
		}
	})
}

// What has not come yet holds nobody up, and goes as it comes.
func TestWhatIsServedMayHaveToComeItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := inUse(t, nil)
		b := bytes.NewReader([]byte("0123456789"))
		var ready atomic.Int64
		var lost atomic.Bool
		proof := bytes.Repeat([]byte{7}, 64)
		comes := func() (int64, bool) { return ready.Load(), lost.Load() }
		says := func(want ...any) {
			t.Helper()
			if got := k.hears(); !reflect.DeepEqual(got, want) {
				t.Errorf("it sent %v, want %v", got, want)
			}
		}
		for i := range uint64(3) {
			k.says(&wire.Get{Channel: 1, Credit: i + 1, Request: i + 1})
		}
		ready.Store(3)
		k.s.Serve(Serving{Request: 1, From: b, Len: 10, Ready: comes, Proof: func() []byte { return proof }})
		says(&wire.Proof{Request: 1, Parts: proof}, raw{1, "012"})
		k.s.Serve(Serving{Request: 2, From: b, Len: 9, Proof: func() []byte { return nil }})
		says(raw{2, "012345678"}, &wire.End{Request: 2})
		k.s.More()
		says(nil...)
		ready.Store(10)
		k.s.More()
		says(raw{1, "3456789"}, &wire.End{Request: 1})

		ready.Store(0)
		k.s.Serve(Serving{Request: 3, From: b, Len: 10, Ready: comes})
		says(nil...)
		ready.Store(4)
		lost.Store(true)
		k.s.More()
		says(raw{3, "0123"}, &wire.End{Request: 3, Reason: wire.ReasonMissing}) // what there is goes first

		ready.Store(0)
		lost.Store(false)
		k.says(&wire.Get{Channel: 1, Credit: 4, Request: 4})
		k.s.Serve(Serving{Request: 4, From: b, Len: 10, Ready: comes})
		k.says(&wire.Cancel{Request: 4})
		says(&wire.End{Request: 4, Reason: wire.ReasonCancelled})
		k.goesOn()
	})
}

// With a proof the other judges each part when it has come: what has changed meanwhile must not look like a lie.
func TestWhatIsProvenIsCheckedBeforeEachFrame(t *testing.T) {
	for good := range 3 {
		synctest.Test(t, func(t *testing.T) {
			k := inUse(t, nil)
			checks := 0
			check := func() error {
				if checks++; checks > good+1 {
					return errors.New("it has changed")
				}
				return nil
			}
			k.says(&wire.Get{Channel: 1, Credit: 1, Request: 1})
			k.s.Serve(Serving{
				Request: 1, From: bytes.NewReader(make([]byte, 3*firstFrame)), Len: 3 * firstFrame, Check: check, Proof: func() []byte { return make([]byte, 32) },
			})
			data, proofs := 0, 0
			for _, m := range k.hears() {
				switch m := m.(type) {
				case raw:
					data++
				case *wire.Proof:
					proofs++
				case *wire.End:
					if m.Reason != wire.ReasonRead {
						t.Errorf("it ended with %v", m)
					}
				}
			}
			if proofs != min(good, 1) || data != max(good-1, 0) {
				t.Errorf("when %d checks were right, %d proofs and %d frames went", good+1, proofs, data)
			}
		})
	}
}

func TestAProofComesToItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := inUse(t, nil)
		good, bad := &bucket{}, &bucket{fail: errors.New("it proves nothing")}
		k.s.Get(wire.Get{Channel: 1, Credit: 1, Proof: true}, good)
		k.s.Get(wire.Get{Channel: 1, Credit: 2, Proof: true}, bad)
		k.hears()
		proof := bytes.Repeat([]byte{7}, 64)
		k.says(&wire.Proof{Request: 1, Parts: proof}, &wire.Proof{Request: 2, Parts: proof}, &wire.Proof{Request: 2, Parts: proof[:32]})
		k.goesOn()
		if got := k.hears(); len(got) != 1 || *got[0].(*wire.Cancel) != (wire.Cancel{Request: 2}) {
			t.Errorf("it sent %v", got)
		}
		if !bytes.Equal(good.proof, proof) || !bytes.Equal(bad.proof, proof) {
			t.Errorf("the proofs %x and %x came", good.proof, bad.proof)
		}
	})
}

// Each flush is a packet, and wakes somebody.
func TestTheEndOfARequestGoesWithItsLastBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flushes := 0
		k := inUse(t, func(cfg *SessionConfig) { cfg.Flush = func() error { flushes++; return nil } })
		synctest.Wait()
		before := flushes
		k.says(&wire.Get{Channel: 1, Credit: 1, Request: 1})
		k.s.Serve(Serving{Request: 1, From: bytes.NewReader(make([]byte, firstFrame)), Len: firstFrame, Done: func(int64, wire.Reason) {}})
		synctest.Wait()
		if n := flushes - before; n != 1 {
			t.Errorf("%d flushes for a frame and its end", n)
		}
	})
}

func TestTooMuchIsNotServedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTalk(t, nil)
		k.listen()
		k.says(&wire.Hello{Version: Version, Instance: 7})
		synctest.Wait()
		hold := make(chan struct{})
		v := Serving{From: bytes.NewReader(nil), Check: func() error { <-hold; return nil }}
		for v.Request = 1; v.Request <= maxServings; v.Request++ {
			if !k.s.Serve(v) {
				t.Fatalf("request %d is refused", v.Request)
			}
		}
		v.Done = func(int64, wire.Reason) { t.Error("it is told twice") }
		if k.s.Serve(v) {
			t.Error("one more is served")
		}
		close(hold)
		var last *wire.End
		for _, m := range k.hears() {
			if e, is := m.(*wire.End); is && e.Request == v.Request {
				last = e
			}
		}
		if last == nil || last.Reason != wire.ReasonLimit {
			t.Errorf("it is told %v", last)
		}
	})
}

func TestAllHasItsEndWhenTheSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := inUse(t, nil)
		var got [3]bucket
		for i := range got {
			k.s.Get(wire.Get{Channel: 1, Credit: uint64(i + 1)}, &got[i])
		}
		k.writes(slices.Concat(data(1, "x"), frame(&wire.End{Request: 2, Reason: wire.ReasonMissing})))
		hold := make(chan struct{})
		var ends []wire.Reason
		done := func(_ int64, r wire.Reason) { ends = append(ends, r) }
		k.s.Serve(Serving{Request: 1, From: bytes.NewReader(nil), Check: func() error { <-hold; return nil }, Done: done})
		k.s.Serve(Serving{Request: 2, From: bytes.NewReader(make([]byte, 1<<20)), Len: 1 << 20, Done: done})
		synctest.Wait()
		why := errors.New("enough")
		k.end(why)
		close(hold)
		k.ends(why)
		heard := k.hears()
		if bye, is := heard[len(heard)-1].(*wire.Bye); !is || bye.Reason != wire.ReasonClosing {
			t.Errorf("at last it said %v", heard[len(heard)-1])
		}
		for i, want := range []wire.Reason{wire.ReasonClosing, wire.ReasonMissing, wire.ReasonClosing} {
			if !slices.Equal(got[i].ends, []wire.Reason{want}) {
				t.Errorf("request %d ended with %v, want %v", i+1, got[i].ends, want)
			}
		}
		if len(ends) != 2 {
			t.Errorf("what was served ended with %v", ends)
		}
		late := &bucket{}
		if _, ok := k.s.Get(wire.Get{Channel: 1, Credit: 9}, late); ok || k.s.Send(&wire.Ping{}) || k.s.Serve(Serving{Request: 3}) || len(late.ends) > 0 {
			t.Error("something can still be said")
		}
	})
}

func TestAByeEndsTheSessionWithItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := inUse(t, nil)
		k.says(&wire.Bye{Reason: wire.ReasonRemoved, Text: "no member"})
		var bye *ByeError
		if err := <-k.ended; !errors.As(err, &bye) || bye.Reason != wire.ReasonRemoved {
			t.Errorf("it ended with %v", err)
		}
		if len(k.book.Counts()) > 0 {
			t.Errorf("counted %v", k.book.Counts())
		}
	})
}

func TestASessionThatIsStoppedBeforeItRunsEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		why := errors.New("enough")
		ctx, end := context.WithCancelCause(t.Context())
		end(why)
		began := time.Now()
		s := NewSession(SessionConfig{Conn: ours, Flush: func() error { return nil }, Hello: wire.Hello{Version: Version}})
		if err := s.Run(ctx); !errors.Is(err, why) || time.Since(began) > byeTime {
			t.Errorf("after %v it ended with %v", time.Since(began), err)
		}
		if n, err := theirs.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("its connection is open")
		}
	})
}
