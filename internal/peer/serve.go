package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"shoal/internal/classic"
	"shoal/internal/offence"
	"shoal/internal/throttle"
)

// Reasons for which [Serve] ends a conversation: keys of its book.
const (
	RefusedMessage = "message"      // not a well-formed request
	RefusedOrder   = "order"        // an answer where a question belongs
	RefusedUnknown = "unknown name" // a chunk request for what is not shared
	RefusedSilent  = "silent"       // in the middle of a header
	RefusedSlow    = "slow reader"  // takes a chunk too slowly
)

// File is a shared file, as far as serving it goes.
type File struct {
	Size   int64
	Reader io.ReaderAt
	// Unchanged returns an error when the content is no longer what was shared. It is asked after each read, and what was
	// read is sent only if the answer is nil.
	Unchanged func() error
	// InPlace is asked once before a file is spoken of: is the file that was shared still there?
	InPlace func() error
}

// ServeConfig is what [Serve] serves, and how.
type ServeConfig struct {
	Open    func(name string) (File, bool) // what is shared under a name
	Buffers *Buffers
	Book    *offence.Book
	Log     *slog.Logger
	// Sent is told of each piece of a file that was given to the network.
	Sent func(name string, bytes int)
	// Limit is what is sent at most, by all conversations together; nil: any amount.
	Limit *throttle.Rate
	// Changed is told of a shared file that has changed, and is not served for that reason.
	Changed func(name string, err error)
}

// errEnd ends a conversation that was not against any rule.
var errEnd = errors.New("end of the conversation")

// errFile ends a conversation because of our own file.
var errFile = errors.New("shared file")

// Serve answers a peer's questions until it has no more, breaks a rule, or ctx ends. It closes conn.
func Serve(ctx context.Context, conn net.Conn, cfg ServeConfig) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	from := conn.RemoteAddr().String()
	header := make([]byte, classic.HeaderSize)
	for {
		request, err := readRequest(conn, header)
		if err == nil {
			err = answer(ctx, conn, request, cfg)
		}
		if err == nil {
			continue
		}
		reason := ""
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errFile), errors.Is(err, errEnd):
		case errors.Is(err, errSilent):
			reason = RefusedSilent
		case errors.Is(err, ErrStalled):
			reason = RefusedSlow
		case errors.Is(err, errOrder):
			reason = RefusedOrder
		case errors.Is(err, errUnknown):
			reason = RefusedUnknown
		case errors.Is(err, errMessage):
			reason = RefusedMessage
		}
		if reason != "" {
			cfg.Book.Note(reason, from, err)
		} else {
			cfg.Log.Debug("conversation ended", "peer", from, "err", err)
		}
		return
	}
}

var (
	errSilent  = errors.New("silent in the middle of a header")
	errOrder   = errors.New("an answer without a question")
	errUnknown = errors.New("a chunk of a file that is not shared")
	errMessage = errors.New("not a request")
)

// readRequest waits for the next question.
func readRequest(conn net.Conn, header []byte) (classic.Header, error) {
	conn.SetReadDeadline(time.Now().Add(IdleTimeout))
	n, err := io.ReadAtLeast(conn, header, 1)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errEnd, err)
	}
	conn.SetReadDeadline(time.Now().Add(HeaderTimeout))
	if _, err := io.ReadFull(conn, header[n:]); errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, errSilent
	} else if err != nil {
		return nil, fmt.Errorf("%w: ended after %d bytes of a header", errMessage, n)
	}
	request, err := classic.ParseHeader(header)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMessage, err)
	}
	return request, nil
}

// answer answers one question.
func answer(ctx context.Context, conn net.Conn, request classic.Header, cfg ServeConfig) error {
	out := &steady{Conn: conn, ctx: ctx, limit: cfg.Limit}
	switch q := request.(type) {
	case classic.FileRequest:
		_, chunks, _ := lookup(q.Name, cfg)
		_, err := out.write(classic.FileResponse{Chunks: chunks}.Append(nil))
		return err
	case classic.ChunkRequest:
		file, chunks, found := lookup(q.Name, cfg)
		if !found {
			return fmt.Errorf("%w: %q", errUnknown, q.Name)
		}
		buf, giveBack := cfg.Buffers.get()
		defer giveBack()
		for i := q.First; i <= q.Last && i < chunks; i++ {
			if err := sendChunk(out, q.Name, file, i, buf, cfg); err != nil {
				return err
			}
		}
		if q.Last >= chunks {
			return fmt.Errorf("%w: %q has %d chunks, asked for %d to %d", errEnd, q.Name, chunks, q.First, q.Last)
		}
		return nil
	}
	return fmt.Errorf("%w: %T", errOrder, request)
}

// lookup returns what is shared under a name, unless that has changed, or has no bytes: then it is not shared.
func lookup(name string, cfg ServeConfig) (f File, chunks uint32, found bool) {
	f, found = cfg.Open(name)
	if !found {
		return f, 0, false
	}
	chunks, _, err := classic.Chunks(f.Size)
	if err != nil || chunks == 0 {
		return f, 0, false
	}
	if err := f.InPlace(); err != nil {
		cfg.Changed(name, err)
		return f, 0, false
	}
	return f, chunks, true
}

// sendChunk sends one chunk. When the file turns out to have changed, the connection ends before the chunk does: nobody
// takes for whole what is partly of another file.
func sendChunk(out *steady, name string, file File, index uint32, buf []byte, cfg ServeConfig) error {
	start := int64(index) * classic.ChunkSize
	end := min(start+classic.ChunkSize, file.Size)
	header := classic.ChunkResponse{Index: index, Size: uint32(end - start)}
	if _, err := out.write(header.Append(nil)); err != nil {
		return err
	}
	for at := start; at < end; {
		b := buf[:min(int64(len(buf)), end-at)]
		_, err := file.Reader.ReadAt(b, at)
		if changed := file.Unchanged(); changed != nil {
			err = changed
		}
		if err != nil {
			cfg.Changed(name, err)
			return fmt.Errorf("%w %q: %w", errFile, name, err)
		}
		n, err := out.Write(b)
		cfg.Sent(name, n)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}
