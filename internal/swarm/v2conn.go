package swarm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"shoal/internal/wire"
)

const (
	// v2Version is the version of the protocol.
	v2Version = 1
	// v2HelloTime bounds the time until both sides have said what they are.
	v2HelloTime = 10 * time.Second
	// v2PingEvery is how long nothing comes before a member pings, v2Patience how long before the server does: so one of the two suffices. v2Dead is how
	// long nothing may come, and nothing may leave.
	v2PingEvery = 7 * time.Second
	v2Patience  = 8 * time.Second
	v2Dead      = 15 * time.Second
	// v2Outbox bounds what waits to be written to one connection, in bytes. Who reads too slowly is dropped.
	v2Outbox = 1 << 20
	// v2Bye is how long the end of a connection is tried to be told.
	v2Bye = 500 * time.Millisecond
)

var (
	errV2Order  = errors.New("message out of order")
	errV2Dead   = errors.New("nothing came for too long")
	errV2Outbox = errors.New("the other side does not read")
)

// byeError is an end that the other side announced.
type byeError struct {
	reason wire.Reason
	text   string
}

func (e *byeError) Error() string {
	return fmt.Sprintf("the other side said bye (%d) %s", e.reason, e.text)
}

// v2conn is a connection of frames with its outbox: one goroutine reads, one writes.
type v2conn struct {
	net.Conn
	flush func() error
	in    *bufio.Reader
	fail  context.CancelCauseFunc
	every time.Duration // how long nothing comes before a ping goes out
	began time.Time
	heard atomic.Int64 // when a message came last, as time since began

	mu     sync.Mutex // guards outbox and last
	outbox []byte
	last   *wire.Bye // nothing is sent after it
	wake   chan struct{}
	room   chan struct{} // holds one: the outbox was taken
}

func newV2conn(c net.Conn, flush func() error) *v2conn {
	if flush == nil {
		flush = func() error { return nil }
	}
	return &v2conn{
		Conn: c, flush: flush, in: bufio.NewReaderSize(c, 512), every: v2PingEvery, began: time.Now(), wake: make(chan struct{}, 1), room: make(chan struct{}, 1), fail: func(error) {},
	}
}

// now writes a message at once: before there is a writer.
func (c *v2conn) now(m wire.Message) error {
	if _, err := c.Write(wire.Append(nil, m)); err != nil {
		return err
	}
	return c.flush()
}

// send puts a message into the outbox.
func (c *v2conn) send(m wire.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.outbox) > v2Outbox {
		c.fail(errV2Outbox)
		return
	}
	c.outbox = wire.Append(c.outbox, m)
	c.kick()
}

// sendPatiently is send for much at once: it waits while the outbox is half full; false when ctx has ended.
func (c *v2conn) sendPatiently(ctx context.Context, m wire.Message) bool {
	for {
		c.mu.Lock()
		full := len(c.outbox) > v2Outbox/2
		c.mu.Unlock()
		if !full {
			c.send(m)
			return true
		}
		select {
		case <-c.room:
		case <-ctx.Done():
			return false
		}
	}
}

func (c *v2conn) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// receive reads one message. Those that are to be ignored are.
func (c *v2conn) receive() (wire.Message, error) {
	for {
		b, err := c.in.Peek(wire.HeaderSize)
		if err != nil {
			return nil, deadOr(err)
		}
		h, err := wire.ParseHeader(b)
		if err != nil {
			return nil, err
		}
		if h.Type == wire.TypeData {
			return nil, fmt.Errorf("%w: data for a swarm server", errV2Order)
		}
		c.heard.Store(int64(time.Since(c.began)))
		_, _ = c.in.Discard(wire.HeaderSize)
		payload := make([]byte, h.Len)
		if _, err := io.ReadFull(c.in, payload); err != nil {
			return nil, deadOr(err)
		}
		if m, err := wire.Parse(h.Type, payload); m != nil || err != nil {
			return m, err
		}
	}
}

func deadOr(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errV2Dead
	}
	return err
}

// write empties the outbox until ctx ends, and says bye then.
func (c *v2conn) write(ctx context.Context) error {
	ping := time.NewTimer(c.every)
	defer ping.Stop()
	number := uint64(0)
	for {
		c.mu.Lock()
		batch := c.outbox
		c.outbox = nil
		c.mu.Unlock()
		select {
		case c.room <- struct{}{}:
		default:
		}
		if len(batch) > 0 {
			if ctx.Err() == nil {
				c.SetWriteDeadline(time.Now().Add(v2Dead))
			}
			if _, err := c.Write(batch); err != nil {
				return deadOr(err)
			}
			if err := c.flush(); err != nil {
				return deadOr(err)
			}
			continue
		}
		select {
		case <-ctx.Done():
			c.SetWriteDeadline(time.Now().Add(v2Bye))
			c.mu.Lock()
			last := c.last
			c.mu.Unlock()
			if last == nil {
				last = &wire.Bye{Reason: wire.ReasonClosing}
			}
			return c.now(last)
		case <-c.wake:
		case <-ping.C:
			quiet := time.Since(c.began) - time.Duration(c.heard.Load())
			if quiet > c.every*9/10 { // it was just after the last ping that something came
				quiet = 0
				number++
				c.send(&wire.Ping{Number: number})
			}
			ping.Reset(c.every - quiet)
		}
	}
}

// end makes the connection end with a bye.
func (c *v2conn) end(bye *wire.Bye, err error) {
	c.mu.Lock()
	c.last = bye
	c.mu.Unlock()
	c.fail(err)
}
