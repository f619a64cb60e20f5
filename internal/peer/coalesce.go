package peer

import (
	"bufio"
	"net"
	"sync"
	"time"
)

const (
	// gatherSize is what a connection gathers under TLS before it writes, and reads at a time.
	gatherSize = 256 << 10
	// closeFlush bounds the last flush of a connection that is closed.
	closeFlush = 500 * time.Millisecond
)

// Coalesced is a connection to put under TLS, which writes and reads records of 16 KiB, one system call each. After
// [Coalesced.Gather] its writes gather until [Coalesced.Flush]. Only one goroutine may write.
type Coalesced struct {
	net.Conn
	r *bufio.Reader
	w *bufio.Writer // nil: writes pass through, as a handshake needs it

	records records
	lowest  int // for how many bytes the kernel wakes the reader; 0: it was not told

	writing sync.Mutex // guards w against Close
}

// Coalesce makes a connection whose writes pass through.
func Coalesce(c net.Conn) *Coalesced {
	return &Coalesced{Conn: c, r: bufio.NewReaderSize(c, 4<<10)}
}

// Gather begins to gather writes. No read may be under way.
func (c *Coalesced) Gather() { c.w = bufio.NewWriterSize(c.Conn, gatherSize) }

// LimitUnsent bounds the bytes that the kernel takes before it can send them.
func (c *Coalesced) LimitUnsent(bytes int) { limitUnsent(c.Conn, bytes) }

// Unsent returns how many bytes the kernel has taken and not sent, where that is known.
func (c *Coalesced) Unsent() int { return unsent(c.Conn) }

// Acked returns how many bytes the other side has acknowledged in all, where that is known.
func (c *Coalesced) Acked() int64 { return acked(c.Conn) }

// Widen lets reads take as much at a time as writes do: for connections that move pieces. Only the reader may call it.
func (c *Coalesced) Widen() {
	if c.r.Size() < gatherSize {
		c.r = bufio.NewReaderSize(c.r, gatherSize)
	}
}

// Expect says how many bytes of content the reader needs before it can go on: it is woken once for all of them, not for each
// packet. Only the reader may call it, after the handshake, and reads until it has them.
func (c *Coalesced) Expect(bytes int) { c.records.expect = bytes }

func (c *Coalesced) Read(b []byte) (int, error) {
	if c.r.Buffered() == 0 {
		if n := c.records.await(); n != c.lowest && (n > 1 || c.lowest != 0) {
			c.lowest = n
			wakeFor(c.Conn, n)
		}
	}
	n, err := c.r.Read(b)
	c.records.pass(b[:n])
	return n, err
}

func (c *Coalesced) Write(b []byte) (int, error) {
	if c.w == nil {
		return c.Conn.Write(b)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.w.Write(b)
}

// Flush sends what has gathered.
func (c *Coalesced) Flush() error {
	if c.w == nil {
		return nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.w.Flush()
}

// Close sends what has gathered, if that is quickly done, and closes.
func (c *Coalesced) Close() error {
	if c.w != nil && c.writing.TryLock() {
		c.SetWriteDeadline(time.Now().Add(closeFlush))
		_ = c.w.Flush()
		c.writing.Unlock()
	}
	return c.Conn.Close()
}

// Sniff reads the first byte of a connection, and returns a connection that still has it.
func Sniff(conn net.Conn, timeout time.Duration) (first byte, _ net.Conn, err error) {
	var b [1]byte
	conn.SetReadDeadline(time.Now().Add(timeout))
	if _, err := conn.Read(b[:]); err != nil {
		return 0, conn, err
	}
	conn.SetReadDeadline(time.Time{})
	return b[0], &sniffed{Conn: conn, first: b[:]}, nil
}

// sniffed is a connection whose first byte has been read already.
type sniffed struct {
	net.Conn
	first []byte
}

// NetConn returns the connection below, whose writes are the same.
func (c *sniffed) NetConn() net.Conn { return c.Conn }

func (c *sniffed) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}
