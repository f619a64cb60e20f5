package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"shoal/internal/classic"
	"shoal/internal/throttle"
)

// dialTimeout bounds one attempt to reach a peer.
const dialTimeout = 5 * time.Second

// ErrProtocol is an answer that the protocol forbids: whoever gave it is not asked again.
var ErrProtocol = errors.New("against the protocol")

// Holder is another peer that may have the file Name.
type Holder struct {
	Addr netip.AddrPort
	Name string
	// Dial connects to Addr; nil: over TCP.
	Dial func(ctx context.Context) (net.Conn, error)
	// Limit is what is fetched at most, from all holders together; nil: any amount.
	Limit *throttle.Rate
}

func (h *Holder) String() string { return h.Addr.String() }

// Answer is what a holder says of its file: Chunks is 0 if it has none of that name. Last is the size of the last chunk.
type Answer struct {
	Chunks uint32
	Last   uint32
}

// Size returns the size of the file in bytes.
func (a Answer) Size() int64 { return classic.FileSize(a.Chunks, a.Last) }

// Ask asks the holder what it has. The protocol does not tell a file's size, so that the last chunk is asked for as
// well, and not taken beyond its header.
func (h *Holder) Ask(ctx context.Context) (Answer, error) {
	reply, err := h.question(ctx, classic.FileRequest{Name: h.Name})
	if err != nil {
		return Answer{}, err
	}
	file, ok := reply.(classic.FileResponse)
	if !ok || (file.Name != "" && file.Name != h.Name) {
		return Answer{}, fmt.Errorf("%w: %T in answer to a file request", ErrProtocol, reply)
	}
	if file.Chunks == 0 {
		return Answer{}, nil
	}
	last := file.Chunks - 1
	reply, err = h.question(ctx, classic.ChunkRequest{Name: h.Name, First: last, Last: last})
	if err != nil {
		return Answer{}, err
	}
	chunk, err := h.checkChunk(reply, last)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Chunks: file.Chunks, Last: chunk.Size}, nil
}

// checkChunk makes sure that a header announces the chunk that comes next.
func (h *Holder) checkChunk(reply classic.Header, want uint32) (classic.ChunkResponse, error) {
	chunk, ok := reply.(classic.ChunkResponse)
	switch {
	case !ok:
		return chunk, fmt.Errorf("%w: %T in answer to a chunk request", ErrProtocol, reply)
	case chunk.Name != "" && chunk.Name != h.Name:
		return chunk, fmt.Errorf("%w: a chunk of %q, want %q", ErrProtocol, chunk.Name, h.Name)
	case chunk.Index != want:
		return chunk, fmt.Errorf("%w: chunk %d, which nobody asked for; want %d", ErrProtocol, chunk.Index, want)
	}
	return chunk, nil
}

// dial connects; the connection is closed when ctx ends, or by the returned function.
func (h *Holder) dial(ctx context.Context) (conn net.Conn, hangUp func(), err error) {
	if h.Dial != nil {
		conn, err = h.Dial(ctx)
	} else {
		d := net.Dialer{Timeout: dialTimeout}
		conn, err = d.DialContext(ctx, "tcp4", h.Addr.String())
	}
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return conn, func() { stop(); conn.Close() }, nil
}

// question sends one request over a connection of its own, and reads one header.
func (h *Holder) question(ctx context.Context, q classic.Header) (classic.Header, error) {
	conn, hangUp, err := h.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4096) // what follows the header is not wanted
	}
	if err := send(conn, q); err != nil {
		return nil, err
	}
	return readReply(conn)
}

func send(conn net.Conn, q classic.Header) error {
	conn.SetWriteDeadline(time.Now().Add(HeaderTimeout))
	_, err := conn.Write(q.Append(nil))
	return err
}

// readReply reads one header, all of it within [HeaderTimeout].
func readReply(conn net.Conn) (classic.Header, error) {
	conn.SetReadDeadline(time.Now().Add(HeaderTimeout))
	b := make([]byte, classic.HeaderSize)
	if _, err := io.ReadFull(conn, b); errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("%w: no answer in %v", ErrStalled, HeaderTimeout)
	} else if err != nil {
		return nil, fmt.Errorf("connection ended: %w", err)
	}
	reply, err := classic.ParseHeader(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return reply, nil
}

// Fetch asks for the chunks first to last over a connection of its own, and hands each to recv as it comes: its index,
// its size in bytes, and a reader of just those. It ends with the last chunk, with an error of recv, or when the connection
// does; an answer that is against the protocol is [ErrProtocol], one that does not move [ErrStalled].
func (h *Holder) Fetch(ctx context.Context, first, last uint32, recv func(index uint32, size int64, body io.Reader) error) error {
	conn, hangUp, err := h.dial(ctx)
	if err != nil {
		return err
	}
	defer hangUp()
	if err := send(conn, classic.ChunkRequest{Name: h.Name, First: first, Last: last}); err != nil {
		return err
	}
	in := &steady{Conn: conn, ctx: ctx, limit: h.Limit}
	for next := first; ; next++ {
		reply, err := readReply(conn)
		if err != nil {
			return err
		}
		in.deadline = time.Time{} // readReply has set another
		chunk, err := h.checkChunk(reply, next)
		if err != nil {
			return err
		}
		body := &io.LimitedReader{R: in, N: int64(chunk.Size)}
		if err := recv(chunk.Index, int64(chunk.Size), body); err != nil {
			return err
		}
		if body.N > 0 {
			return fmt.Errorf("chunk %d was taken only in part", chunk.Index)
		}
		if next == last {
			return nil
		}
	}
}
