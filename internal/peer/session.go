package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shoal/internal/offence"
	"shoal/internal/throttle"
	"shoal/internal/wire"
)

const (
	// Version is the version of the protocol that we speak.
	Version = 1
	// helloTimeout bounds the time until a session is in use.
	helloTimeout = 10 * time.Second
	// idlePing is how long nothing comes at most before a ping goes out. Who has dialled sends it, at a multiple of idleSlot by the clock on the wall: a
	// machine wakes once for all its sessions, and for those of which the others ping. The other side hears it, and sends none of its own.
	idlePing = 25 * time.Second
	idleSlot = 12 * time.Second
	// busyPing is how often a ping goes out while pieces move: how long an answer takes changes with what waits before it. The next one
	// goes out before the last was answered only after pingEvery.
	busyPing  = time.Second
	pingEvery = 5 * time.Second
	// deadAfter is how long nothing may come after a ping, while we are reading, and nothing may leave, while we are writing.
	deadAfter = 15 * time.Second
	// maxOutbox bounds the control messages that wait to be written, in bytes. Who reads too slowly is dropped.
	maxOutbox = 4 << 20
	// maxServings bounds the requests of the other side that are served at once: as many as the schedule promises.
	maxServings = 512
	// floodRate and floodBurst bound the control frames that are taken per second, and at once.
	floodRate  = 20000
	floodBurst = 60000
	// smallData is the length below which a data frame counts as a control frame does: it is mostly work.
	smallData = 1 << 10
	// frameTime is how much time of a connection one data frame may take, and as much again what the kernel holds unsent: a control
	// message waits for both.
	frameTime  = 20 * time.Millisecond
	firstFrame = 16 << 10
	// A frame of less than minFrame costs more than it brings, and may take slowFrames times as long; but none is less than leastFrame.
	minFrame   = 16 << 10
	slowFrames = 3
	leastFrame = 4 << 10
	maxUnsent  = 256 << 10
	// maxHold is how long a writer whose kernel holds enough waits at most before it looks again.
	maxHold = 2 * frameTime
	// stuckLook is how long nothing may leave before it is looked whether anything arrives.
	stuckLook = time.Second
	// paceTime and paceBytes say over how much that rate is measured.
	paceTime  = 50 * time.Millisecond
	paceBytes = 64 << 10
	// endTime is how long the end of a request may take that we have cancelled. It comes before all data: who never sends it keeps what we have for
	// the request.
	endTime = 30 * time.Second
	// byeTime is how long a session that ends tries to say so.
	byeTime = 500 * time.Millisecond
)

// Ends of a session.
var (
	ErrDuplicate = errors.New("there is another connection between the two")
	ErrDead      = errors.New("nothing came for too long")
	ErrFlood     = fmt.Errorf("%w: too many messages", ErrProtocol)
	ErrOutbox    = errors.New("the other side does not read")
	ErrVersion   = fmt.Errorf("%w: no common version", ErrProtocol)
)

// ByeError is an end that the other side announced.
type ByeError struct {
	Reason wire.Reason
	Text   string
}

func (e *ByeError) Error() string {
	return fmt.Sprintf("the other side said bye (%d) %s", e.Reason, e.Text)
}

// Source is where pieces are read from.
type Source interface {
	ReadAt(p []byte, off int64) (int, error)
}

// Sink takes the bytes of one request, in the goroutine of the session's reader. End is called exactly once, also when the
// session ends; nothing is written after it.
type Sink interface {
	Prove(parts []byte) error // what comes before the first byte, if it was asked for; an error cancels the request
	Write(p []byte) error     // an error cancels the request
	End(reason wire.Reason)
}

// Serving is the answer to one request of the other side. The functions may be nil; they are called in the goroutine of
// the session's writer, and must be quick, but for those that may read the disk. Ready is called with the session locked.
type Serving struct {
	Request  uint64
	From     Source
	Off, Len int64
	Check    func() error                         // before the first byte and after the last, and before each frame where there is a proof: an error refuses the request
	Proof    func() []byte                        // asked once, before the first byte: the values of the piece's parts; nil: there are none. It may read the disk
	Ready    func() (bytes int64, lost bool)      // how much of it can be read by now; lost: there will be no more, unless that is all. It is asked again after More. Nil: all
	Failed   func(err error)                      // told why it cannot be read
	Progress func(bytes int64)                    // bytes that were handed to the network since the last time
	Done     func(sent int64, reason wire.Reason) // called exactly once
	at       int64
	ready    int64
	checked  bool
	proven   bool
}

// Below is the network below a session, as far as it can be asked and told.
type Below interface {
	LimitUnsent(bytes int) // bounds what it takes before it can send it
	Unsent() int           // bytes that it has taken and not sent
	Acked() int64          // bytes that have arrived, in all; 0: it is not known
	Expect(bytes int)      // how many bytes the reader needs before it can go on
}

// SessionConfig says what a [Session] works with.
type SessionConfig struct {
	Conn        net.Conn       // its peer is known already
	Flush       func() error   // sends what was written to Conn
	Widen       func()         // called once, by the reader, when the first piece comes; nil: nothing
	Below       Below          // what is below Conn; nil: nothing is known of it
	Limit       *throttle.Rate // of what is served, shared with others; nil: none
	Own         *throttle.Rate // of what is served on this session; nil: none
	Self, Other wire.PeerID
	Dialled     bool
	Hello       wire.Hello
	// Choose is asked, on the side with the smaller peer id and instance, whether this session is to be used.
	Choose func(s *Session) bool
	// Handle takes control messages, in their order, in the goroutine of the reader. An error ends the session.
	Handle func(s *Session, m wire.Message) error
	Book   *offence.Book
	Log    *slog.Logger
}

// Session is one connection between two peers, which both use in the same way. Its methods may be called from any goroutine.
type Session struct {
	cfg   SessionConfig
	other wire.Hello
	ready chan struct{}
	rtt   atomic.Int64
	began time.Time
	addr  func() string
	heard atomic.Int64 // when something came last, as time since began

	mu       sync.Mutex // guards what follows
	outbox   []byte     // encoded control messages
	served   []*Serving
	gets     map[uint64]bool // requests of the other side that have had no end; true: it has cancelled
	asked    map[uint64]*asking
	next     uint64 // number of our next request
	theirs   uint64 // number of the other side's newest request
	ended    error
	pinged   uint64
	pingedAt time.Time

	wake chan struct{} // holds one: there is something to write
	fail context.CancelCauseFunc
}

// asking is a request of ours under way.
type asking struct {
	sink      Sink
	cancelled bool
	since     time.Time // when it was
}

// NewSession makes a session that does nothing until it is run.
func NewSession(cfg SessionConfig) *Session {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Session{
		cfg: cfg, ready: make(chan struct{}), began: time.Now(), addr: sync.OnceValue(func() string { return cfg.Conn.RemoteAddr().String() }), wake: make(chan struct{}, 1),
		gets: make(map[uint64]bool), asked: make(map[uint64]*asking), fail: func(error) {},
	}
}

// Peer returns the other side's id.
func (s *Session) Peer() wire.PeerID { return s.cfg.Other }

// Instance returns the other side's instance, once its hello has come.
func (s *Session) Instance() uint64 { return s.other.Instance }

// OtherHello returns what the other side said of itself. It may be called once [Session.Ready] is closed, or in Choose.
func (s *Session) OtherHello() wire.Hello { return s.other }

// Ready is closed when both sides use the session.
func (s *Session) Ready() <-chan struct{} { return s.ready }

// Dialled says whether this side made the connection.
func (s *Session) Dialled() bool { return s.cfg.Dialled }

// RTT returns the time between a ping and its pong, the mean of the last few.
func (s *Session) RTT() time.Duration { return time.Duration(s.rtt.Load()) }

// Acked returns how many bytes have arrived at the other side, 0 where that is not known.
func (s *Session) Acked() int64 {
	if s.cfg.Below == nil {
		return 0
	}
	return s.cfg.Below.Acked()
}

// Addr returns where the other side is.
func (s *Session) Addr() string { return s.addr() }

// Run converses until the session or ctx ends, and returns why. It closes the connection. All requests have their end then.
func (s *Session) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s.mu.Lock()
	s.fail = fail
	s.mu.Unlock()
	in := bufio.NewReaderSize(s.cfg.Conn, 4<<10)
	// The end of ctx wakes both goroutines; the writer still says bye.
	stop := context.AfterFunc(ctx, func() {
		s.cfg.Conn.SetReadDeadline(time.Unix(1, 0))
		s.cfg.Conn.SetWriteDeadline(time.Now().Add(byeTime))
		s.kick()
	})
	defer stop()
	err := s.greet(ctx, in)
	if err == nil {
		close(s.ready)
		var writer sync.WaitGroup
		writer.Go(func() {
			if err := s.write(ctx); err != nil {
				fail(err)
			}
		})
		err = s.read(ctx, in)
		fail(err)
		writer.Wait()
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	s.cfg.Conn.Close()
	s.endAll(err)
	if errors.Is(err, ErrProtocol) && s.cfg.Book != nil {
		s.cfg.Book.Note(RefusedProtocol, s.Addr(), err)
	}
	return err
}

// RefusedProtocol is the reason in the book for a session that broke a rule.
const RefusedProtocol = "protocol"

// Fail ends the session with a reason.
func (s *Session) Fail(err error) {
	s.mu.Lock()
	fail := s.fail
	s.mu.Unlock()
	fail(err)
}

func (s *Session) endAll(err error) {
	s.mu.Lock()
	s.ended = err
	asked, served := s.asked, s.served
	s.asked, s.served = nil, nil
	s.mu.Unlock()
	for _, a := range asked {
		a.sink.End(wire.ReasonClosing)
	}
	for _, v := range served {
		v.done(wire.ReasonClosing)
	}
}

func (v *Serving) done(reason wire.Reason) {
	if v.Done != nil {
		v.Done(v.at, reason)
	}
}

// greet exchanges hellos, and agrees that this session is to be used.
func (s *Session) greet(ctx context.Context, in *bufio.Reader) error {
	s.cfg.Conn.SetDeadline(time.Now().Add(helloTimeout))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.writeNow(&s.cfg.Hello); err != nil {
		return err
	}
	m, err := readMessage(in)
	if err != nil {
		return err
	}
	hello, ok := m.(*wire.Hello)
	if !ok {
		return fmt.Errorf("%w: a %T before hello", ErrProtocol, m)
	}
	s.other = *hello
	if hello.Version != Version {
		_ = s.writeNow(&wire.Bye{Reason: wire.ReasonVersion})
		return ErrVersion
	}
	order := bytes.Compare(s.cfg.Self[:], s.cfg.Other[:])
	if order == 0 && s.cfg.Hello.Instance == hello.Instance {
		_ = s.writeNow(&wire.Bye{Reason: wire.ReasonDuplicate})
		return fmt.Errorf("%w: that is ourselves", ErrDuplicate)
	}
	if order < 0 || order == 0 && s.cfg.Hello.Instance < hello.Instance {
		if s.cfg.Choose != nil && !s.cfg.Choose(s) {
			_ = s.writeNow(&wire.Bye{Reason: wire.ReasonDuplicate})
			return ErrDuplicate
		}
		err = s.writeNow(&wire.Use{})
	} else if m, err = readMessage(in); err == nil {
		switch m := m.(type) {
		case *wire.Use:
		case *wire.Bye:
			if m.Reason == wire.ReasonDuplicate {
				return ErrDuplicate
			}
			return &ByeError{m.Reason, m.Text}
		default:
			return fmt.Errorf("%w: a %T before use", ErrProtocol, m)
		}
	}
	if err != nil {
		return err
	}
	s.cfg.Conn.SetDeadline(time.Time{})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (s *Session) writeNow(m wire.Message) error {
	if _, err := s.cfg.Conn.Write(wire.Append(nil, m)); err != nil {
		return err
	}
	return s.cfg.Flush()
}

// readMessage reads one control message. Those that are to be ignored are.
func readMessage(in *bufio.Reader) (wire.Message, error) {
	for {
		h, err := readHeader(in)
		if err != nil {
			return nil, err
		}
		if h.Type == wire.TypeData {
			return nil, fmt.Errorf("%w: data out of order", ErrProtocol)
		}
		if m, err := readPayload(in, h); m != nil || err != nil {
			return m, err
		}
	}
}

func readHeader(in *bufio.Reader) (h wire.Header, err error) {
	b, err := in.Peek(wire.HeaderSize)
	if err != nil {
		if len(b) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return h, err
	}
	if h, err = wire.ParseHeader(b); err != nil {
		return h, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	_, _ = in.Discard(wire.HeaderSize)
	return h, nil
}

func readPayload(in *bufio.Reader, h wire.Header) (wire.Message, error) {
	payload := make([]byte, h.Len)
	if _, err := io.ReadFull(in, payload); err != nil {
		return nil, err
	}
	m, err := wire.Parse(h.Type, payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return m, nil
}

// read takes what comes until the session ends.
func (s *Session) read(ctx context.Context, in *bufio.Reader) error {
	var data []byte
	tokens, last := float64(floodBurst), time.Now()
	for {
		now := time.Now()
		s.heard.Store(int64(now.Sub(s.began)))
		s.cfg.Conn.SetReadDeadline(now.Add(idlePing + deadAfter)) // a ping shortens it
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := readHeader(in)
		if err != nil {
			return dead(err)
		}
		if h.Type != wire.TypeData || h.Len < smallData {
			now := time.Now()
			tokens = min(floodBurst, tokens+now.Sub(last).Seconds()*floodRate) - 1
			last = now
			if tokens < 0 {
				return ErrFlood
			}
		}
		if h.Type == wire.TypeData {
			if data == nil {
				data = make([]byte, wire.MaxDataBytes)
				if s.cfg.Widen != nil {
					s.cfg.Widen()
				}
			}
			if err = s.readData(in, h, data); err != nil {
				return dead(err)
			}
			continue
		}
		m, err := readPayload(in, h)
		if err != nil {
			return dead(err)
		}
		if m == nil {
			continue
		}
		if err := s.take(m); err != nil {
			return err
		}
	}
}

func dead(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrDead
	}
	return err
}

// readData takes a data frame into the place of its request.
func (s *Session) readData(in *bufio.Reader, h wire.Header, buf []byte) error {
	head, err := in.Peek(min(h.Len, binary.MaxVarintLen64))
	if err != nil {
		return err
	}
	request, k := binary.Uvarint(head)
	n := h.Len - k
	if k <= 0 || n > wire.MaxDataBytes {
		return fmt.Errorf("%w: a data frame of %d bytes", ErrProtocol, h.Len)
	}
	_, _ = in.Discard(k)
	if err := s.fill(in, buf[:n]); err != nil {
		return err
	}
	a, err := s.under(request, "data")
	if a == nil {
		return err
	}
	if err := a.sink.Write(buf[:n]); err != nil {
		s.Cancel(request)
	}
	return nil
}

// under returns the request of ours for which something has come; nil if it is cancelled.
func (s *Session) under(request uint64, what string) (*asking, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.asked[request]
	switch {
	case a == nil && request >= s.next:
		return nil, fmt.Errorf("%w: %s for request %d, which was never made", ErrProtocol, what, request)
	case a == nil:
		return nil, fmt.Errorf("%w: %s for request %d, which has ended", ErrProtocol, what, request)
	case a.cancelled:
		return nil, nil
	}
	return a, nil
}

// fill reads until buf is full.
func (s *Session) fill(in *bufio.Reader, buf []byte) error {
	if s.cfg.Below == nil {
		_, err := io.ReadFull(in, buf)
		return err
	}
	defer s.cfg.Below.Expect(0)
	for len(buf) > 0 {
		s.cfg.Below.Expect(len(buf) - in.Buffered())
		n, err := in.Read(buf)
		if err != nil {
			return err
		}
		buf = buf[n:]
	}
	return nil
}

// take handles one control message.
func (s *Session) take(m wire.Message) error {
	switch m := m.(type) {
	case *wire.Hello, *wire.Use:
		return fmt.Errorf("%w: a second %T", ErrProtocol, m)
	case *wire.Bye:
		return &ByeError{m.Reason, m.Text}
	case *wire.Ping:
		s.Send(&wire.Pong{Number: m.Number})
	case *wire.Pong:
		s.mu.Lock()
		if m.Number == s.pinged && !s.pingedAt.IsZero() {
			took := int64(time.Since(s.pingedAt))
			if mean := s.rtt.Load(); took > mean && mean > 0 { // queues fill faster than one may notice
				took = mean + (took-mean)/2
			} else if mean > 0 {
				took = mean + (took-mean)/4
			}
			s.rtt.Store(took)
			s.pingedAt = time.Time{}
		}
		s.mu.Unlock()
	case *wire.Proof:
		a, err := s.under(m.Request, "a proof")
		if err != nil {
			return err
		}
		if a != nil {
			if err := a.sink.Prove(m.Parts); err != nil {
				s.Cancel(m.Request)
			}
		}
	case *wire.End:
		s.mu.Lock()
		a := s.asked[m.Request]
		delete(s.asked, m.Request)
		known := m.Request < s.next
		s.mu.Unlock()
		switch {
		case a == nil && !known:
			return fmt.Errorf("%w: end of request %d, which was never made", ErrProtocol, m.Request)
		case a == nil:
			return fmt.Errorf("%w: second end of request %d", ErrProtocol, m.Request)
		case a.cancelled:
			a.sink.End(wire.ReasonCancelled)
		default:
			a.sink.End(m.Reason)
		}
	case *wire.Cancel:
		s.mu.Lock()
		if _, open := s.gets[m.Request]; open { // it may be that its serving has not begun
			s.gets[m.Request] = true
			if i := slices.IndexFunc(s.served, func(v *Serving) bool { return v.Request == m.Request }); i > 0 { // it has its end now
				v := s.served[i]
				copy(s.served[1:], s.served[:i])
				s.served[0] = v
			}
		}
		s.mu.Unlock()
		s.kick()
	case *wire.Get:
		s.mu.Lock()
		fresh := m.Request > s.theirs
		s.theirs = max(s.theirs, m.Request)
		if fresh {
			s.gets[m.Request] = false
		}
		s.mu.Unlock()
		if !fresh {
			return fmt.Errorf("%w: request number %d again", ErrProtocol, m.Request)
		}
		return s.cfg.Handle(s, m)
	default:
		return s.cfg.Handle(s, m)
	}
	return nil
}

// Send puts a control message into the outbox; false when the session has ended.
func (s *Session) Send(m wire.Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(m)
}

func (s *Session) send(m wire.Message) bool {
	if s.ended != nil {
		return false
	}
	if len(s.outbox) > maxOutbox {
		s.fail(ErrOutbox)
		return false
	}
	s.outbox = wire.Append(s.outbox, m)
	s.kick()
	return true
}

func (s *Session) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Get makes a request, whose bytes go to sink, and returns its number. When the session has ended it makes none: ok is false,
// and sink is not touched, since it may be the caller's to lock.
func (s *Session) Get(m wire.Get, sink Sink) (request uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		return 0, false
	}
	if s.next == 0 {
		s.next = 1
	}
	m.Request = s.next
	s.next++
	s.asked[m.Request] = &asking{sink: sink}
	s.send(&m)
	return m.Request, true
}

// Cancel gives up a request. What still comes of it is dropped; its end comes as always.
func (s *Session) Cancel(request uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.asked[request]; a != nil && !a.cancelled {
		a.cancelled, a.since = true, time.Now()
		s.send(&wire.Cancel{Request: request})
	}
}

// Serve answers a request with bytes. It returns false, and calls none of v's functions, when the session has ended or serves
// too much already: then the request has had its end.
func (s *Session) Serve(v Serving) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return false
	}
	if len(s.served) >= maxServings {
		s.end(v.Request, wire.ReasonLimit)
		return false
	}
	if s.gets[v.Request] { // it is cancelled already
		s.served = slices.Insert(s.served, 0, &v)
	} else {
		s.served = append(s.served, &v)
	}
	s.kick()
	return true
}

// More says that more can be read by now of what is served, or that no more will.
func (s *Session) More() { s.kick() }

// Refuse answers a request without bytes.
func (s *Session) Refuse(request uint64, reason wire.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(request, reason)
}

// end tells the end of a request of the other side. s.mu is held.
func (s *Session) end(request uint64, reason wire.Reason) {
	delete(s.gets, request)
	s.send(&wire.End{Request: request, Reason: reason})
}
