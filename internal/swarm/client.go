package swarm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"shoal/internal/classic"
)

const (
	// dialTimeout bounds one attempt to reach the server.
	dialTimeout = 5 * time.Second
	// settle is how long after a reconnect the server's snapshot counts as not yet complete: who was known before
	// and is not in it by then has gone in the meantime.
	settle = 2 * time.Second
	// A client that lost its server comes back after a random part of a wait, which doubles from minRetry to maxRetry.
	minRetry = 250 * time.Millisecond
	maxRetry = 5 * time.Second
	// refusals is how often in a row a server may close at once before a client believes that it is not wanted: one that
	// ends, or is killed, does so too, and may be back by the next time.
	refusals = 5
	// MaxKnown is the most members a client keeps: a server's claims do not fill its memory.
	MaxKnown = 1 << 16
	// goodbye is how long a client that leaves waits for the server to take its remove.
	goodbye = time.Second
)

// ErrClosed is the end of a connection that the server ended.
var ErrClosed = errors.New("the server closed the connection")

// EventKind says what an [Event] tells.
type EventKind int

// The kinds of events.
const (
	Entered EventKind = iota // the server has our add; Addr is what we announced
	Came                     // a member at Addr is in the swarm
	Gone                     // the member at Addr has left
	Lost                     // the connection to the server ended with Err; the client comes back by itself
)

// Event is one thing that a [Client] reports. Who came is reported once until it has gone.
type Event struct {
	Kind EventKind
	Addr netip.AddrPort
	Err  error
}

// ClientConfig says how a [Client] works.
type ClientConfig struct {
	Server string     // host:port of the swarm server
	Local  netip.Addr // IPv4 address to announce, one of this machine's; the zero Addr lets the system choose
	Port   uint16     // port to announce: where this peer listens
	Log    *slog.Logger
}

// Client is a member's connection to a swarm server.
type Client struct {
	cfg   ClientConfig
	known map[netip.AddrPort]bool // who is in the swarm; false: not heard of again since the last reconnect
}

// NewClient makes a client that is not connected.
func NewClient(cfg ClientConfig) *Client {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: cfg, known: make(map[netip.AddrPort]bool)}
}

// Run enters the swarm and reports what the server tells, until ctx ends; then it leaves, and returns nil. When the
// server cannot be reached at the first attempt, or ends each of the first connections before it told anything, that error is returned. Later
// losses are reported as events, and the client comes back by itself. Events come one at a time; report must not block.
func (c *Client) Run(ctx context.Context, report func(Event)) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	wait := minRetry
	for refused, entered := 0, false; ; {
		since := time.Now()
		err := c.session(ctx, conn, report)
		if ctx.Err() != nil {
			return nil
		}
		if entered = entered || len(c.known) > 0 || time.Since(since) >= settle; !entered {
			// A server that refuses us closes; if it had not read our add by then, that looks like a reset.
			if refused++; refused == refusals {
				return fmt.Errorf("%w: %w", ErrClosed, err)
			}
		}
		if time.Since(since) > maxRetry {
			wait = minRetry
		}
		report(Event{Kind: Lost, Err: err})
		c.cfg.Log.Warn("lost the swarm server, coming back", "server", c.cfg.Server, "err", err)
		for conn = nil; conn == nil; {
			if !pause(ctx, wait/2+rand.N(wait)/2) {
				return nil
			}
			wait = min(wait*2, maxRetry)
			if conn, err = c.dial(ctx); err != nil {
				c.cfg.Log.Debug("swarm server not back yet", "server", c.cfg.Server, "err", err)
			}
		}
	}
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	if c.cfg.Local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.cfg.Local, 0))
	}
	return d.DialContext(ctx, "tcp4", c.cfg.Server)
}

// session is one connection, from the add to its end. It closes conn.
func (c *Client) session(ctx context.Context, conn net.Conn, report func(Event)) error {
	defer conn.Close()
	tune(conn, net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3})
	self := netip.AddrPortFrom(conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(), c.cfg.Port)
	conn.SetWriteDeadline(time.Now().Add(WriteTimeout))
	if _, err := conn.Write((classic.Member{Mode: classic.Add, Addr: self}).Append(nil)); err != nil {
		return fmt.Errorf("announce %v: %w", self, err)
	}
	for a := range c.known {
		c.known[a] = false
	}
	report(Event{Kind: Entered, Addr: self})

	// The end of ctx wakes the reader by a deadline in the past; nothing else is closed, so that we can still leave.
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	err := c.listen(ctx, conn, self, report)
	if ctx.Err() != nil {
		c.leave(conn, self)
	}
	return err
}

// listen reads the server's messages until the connection or ctx ends.
func (c *Client) listen(ctx context.Context, conn net.Conn, self netip.AddrPort, report func(Event)) error {
	in := bufio.NewReaderSize(conn, 64*classic.MemberSize)
	settled := time.Now().Add(settle)
	for {
		if err := c.await(ctx, conn, in, settled); errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			c.forgetTheGone(report)
			settled = time.Time{}
			continue
		} else if err != nil {
			return err
		}
		b, err := in.Peek(classic.MemberSize)
		if err != nil {
			return fmt.Errorf("in the middle of a message: %w", err)
		}
		m, err := classic.ParseMember(b)
		_, _ = in.Discard(classic.MemberSize)
		switch {
		case errors.Is(err, classic.ErrAddress):
			c.cfg.Log.Warn("the server named an address that cannot be a peer's", "err", err)
		case err != nil:
			return fmt.Errorf("from the server: %w", err)
		case m.Addr != self:
			c.hear(m, report)
		}
	}
}

// await waits for a message's first byte, at most until the given instant unless that is zero, and sets the deadline
// for the message's rest.
func (c *Client) await(ctx context.Context, conn net.Conn, in *bufio.Reader, until time.Time) error {
	if in.Buffered() < classic.MemberSize {
		conn.SetReadDeadline(until)
		if ctx.Err() != nil { // it ended before the deadline was set: that one must win
			return ctx.Err()
		}
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			return ErrClosed
		} else if err != nil {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(MessageTimeout))
	}
	return ctx.Err()
}

// hear takes in one message.
func (c *Client) hear(m classic.Member, report func(Event)) {
	_, known := c.known[m.Addr]
	switch {
	case m.Mode == classic.Remove && known:
		delete(c.known, m.Addr)
		report(Event{Kind: Gone, Addr: m.Addr})
	case m.Mode == classic.Add && known:
		c.known[m.Addr] = true
	case m.Mode == classic.Add && len(c.known) < MaxKnown:
		c.known[m.Addr] = true
		report(Event{Kind: Came, Addr: m.Addr})
	}
}

// forgetTheGone reports as gone who was known before a reconnect and did not appear again.
func (c *Client) forgetTheGone(report func(Event)) {
	for a, again := range c.known {
		if !again {
			delete(c.known, a)
			report(Event{Kind: Gone, Addr: a})
		}
	}
}

// leave tells the server that we go, and waits a moment until it has taken that in: a connection that is closed with
// unread bytes in it may lose what was sent last.
func (c *Client) leave(conn net.Conn, self netip.AddrPort) {
	deadline := time.Now().Add(goodbye)
	conn.SetDeadline(deadline)
	if _, err := conn.Write((classic.Member{Mode: classic.Remove, Addr: self}).Append(nil)); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, MaxKnown*classic.MemberSize))
}
