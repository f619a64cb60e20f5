package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"shoal/internal/classic"
	"shoal/internal/offence"
)

// line is a connection on which all that the other side says has come already, and that counts what it is answered.
type line struct {
	in     *bytes.Reader
	out    bytes.Buffer
	closed bool
}

func (l *line) Read(b []byte) (int, error)       { return l.in.Read(b) }
func (l *line) Write(b []byte) (int, error)      { return l.out.Write(b) }
func (l *line) Close() error                     { l.closed = true; return nil }
func (l *line) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (l *line) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (l *line) SetDeadline(time.Time) error      { return nil }
func (l *line) SetReadDeadline(time.Time) error  { return nil }
func (l *line) SetWriteDeadline(time.Time) error { return nil }

// answerOf says in numbers of 64 bits, and with a decoder of its own, what a stream of questions is answered with, byte for byte, when "a.img" is shared and has
// one chunk. It ends where the conversation does.
func answerOf(in, file []byte) (out []byte) {
	number := func(b []byte, at int) uint64 { return uint64(binary.BigEndian.Uint32(b[at:])) }
	header := func(kind byte, chunks, index, size uint32) []byte {
		b := make([]byte, 276)
		b[0] = kind
		binary.BigEndian.PutUint32(b[256:], chunks)
		binary.BigEndian.PutUint32(b[268:], index)
		binary.BigEndian.PutUint32(b[272:], size)
		return b
	}
	shared := append([]byte("a.img"), make([]byte, 250)...)
	for ; len(in) >= 276; in = in[276:] {
		name := in[1:256]
		end := bytes.IndexByte(name, 0)
		if end < 1 || len(bytes.Trim(name[end:], "\x00")) > 0 || in[0] > 2 || in[0] == 1 {
			return out
		}
		text := string(name[:end])
		if text == "." || text == ".." || bytes.ContainsAny(name[:end], "/\\") {
			return out
		}
		for i, c := range name[:end] {
			if c < 0x20 || c == 0x7f || i > 0 && name[i-1] == 0xc2 && c >= 0x80 && c <= 0x9f {
				return out
			}
		}
		here := bytes.Equal(name, shared)
		if in[0] == 0 {
			out = append(out, header(1, map[bool]uint32{true: 1}[here], 0, 0)...)
			continue
		}
		first, last := number(in, 260), number(in, 264)
		if first > last || !here {
			return out
		}
		if first == 0 {
			out = append(append(out, header(3, 0, 0, uint32(len(file)))...), file...)
		}
		if last+1 > 1 {
			return out
		}
	}
	return out
}

// FuzzServe: whatever a stranger says, in any order, it is answered with what the oracle says and nothing else, and no name but the shared one opens anything.
func FuzzServe(f *testing.F) {
	file := []byte("the bytes of a file")
	ask := func(kind byte, name string, first, last uint32) []byte {
		b := make([]byte, 276)
		b[0] = kind
		copy(b[1:256], name)
		binary.BigEndian.PutUint32(b[260:], first)
		binary.BigEndian.PutUint32(b[264:], last)
		return b
	}
	for _, name := range []string{
		"a.img", "../a.img", "/a.img", "./a.img", `..\a.img`, `C:a.img`, `\\?\a.img`, ".", "..", "", "a/../a.img", "%2e%2e%2fa.img", "A.IMG", "a.img ", "a.img\x00x",
		"a\xff.img", "a\u202e.img", "a\n.img", "a\x1b[2J", "a\u0085.img", "etc/passwd", "c\xc2\x9b",
	} {
		f.Add(append(ask(0, name, 0, 0), ask(2, name, 0, 0)...))
	}
	for _, r := range [][2]uint32{{0, 0}, {0, 1}, {1, 1}, {1, 0}, {0, 1<<32 - 1}, {1<<32 - 1, 1<<32 - 1}, {1<<32 - 1, 0}, {1<<31 - 1, 1 << 31}} {
		f.Add(append(ask(2, "a.img", r[0], r[1]), ask(0, "a.img", r[0], r[1])...))
	}
	for kind := range byte(6) {
		f.Add(append(ask(0, "a.img", 0, 0), ask(kind, "a.img", 0, 0)...))
	}
	f.Add(bytes.Repeat(ask(2, "a.img", 0, 0), 100))
	f.Add(ask(0, "a.img", 0, 0)[:275])
	f.Add(bytes.Repeat([]byte{0xff}, 276))
	f.Fuzz(func(t *testing.T, says []byte) {
		if len(says) > 1<<16 {
			return
		}
		l := &line{in: bytes.NewReader(says)}
		Serve(t.Context(), l, ServeConfig{
			Open: func(name string) (File, bool) {
				if err := classic.CheckName(name); err != nil {
					t.Fatalf("%q is looked up: %v", name, err)
				}
				if name != "a.img" {
					return File{}, false
				}
				ok := func() error { return nil }
				return File{Size: int64(len(file)), Reader: bytes.NewReader(file), Unchanged: ok, InPlace: ok}, true
			},
			Buffers: NewBuffers(), Book: offence.NewBook(slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler),
			Sent: func(string, int) {}, Changed: func(string, error) { t.Fatal("the file has not changed") },
		})
		if want := answerOf(says, file); !bytes.Equal(l.out.Bytes(), want) {
			t.Fatalf("%d bytes are answered, want %d", l.out.Len(), len(want))
		}
		if !l.closed {
			t.Fatal("the connection is open")
		}
	})
}

// endless is a file of the largest size that the protocol knows, whose bytes nobody has; it counts how much of it was asked for at once.
type endless struct{ most int }

func (e *endless) ReadAt(b []byte, _ int64) (int, error) {
	e.most = max(e.most, len(b))
	return len(b), nil
}

// A question of 276 bytes asks for 137 PB. No more of that is in memory than one lent buffer, and it is sent as fast as it is taken.
func TestAllThatThereIsIsSentThroughOneBuffer(t *testing.T) {
	ours, theirs := net.Pipe()
	big := &endless{}
	ok := func() error { return nil }
	done := make(chan struct{})
	go func() {
		defer close(done)
		Serve(t.Context(), ours, ServeConfig{
			Open: func(string) (File, bool) {
				return File{Size: classic.MaxChunks * classic.ChunkSize, Reader: big, Unchanged: ok, InPlace: ok}, true
			},
			Buffers: NewBuffers(), Book: offence.NewBook(slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler),
			Sent: func(string, int) {}, Changed: func(string, error) {},
		})
	}()
	if _, err := theirs.Write(classic.ChunkRequest{Name: "a", First: 0, Last: classic.MaxChunks - 1}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, theirs, 3*classic.ChunkSize); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	<-done
	if big.most > largeBuffer {
		t.Errorf("%d bytes were read at once", big.most)
	}
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}
