package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/classic"
	"shoal/internal/offence"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shared is a file of one chunk and a bit, whose last chunk is short enough to read whole in a test.
func shared(size int64) (File, []byte) {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*13 + i>>8)
	}
	ok := func() error { return nil }
	return File{Size: size, Reader: bytes.NewReader(b), Unchanged: ok, InPlace: ok}, b
}

// desk is one conversation with Serve, over an in-memory connection in fake time.
type desk struct {
	t    *testing.T
	conn net.Conn
	book *offence.Book
	done chan struct{}
}

func serve(t *testing.T, files map[string]File) *desk {
	ours, theirs := net.Pipe()
	d := &desk{t, theirs, offence.NewBook(slog.New(slog.DiscardHandler)), make(chan struct{})}
	go func() {
		defer close(d.done)
		Serve(t.Context(), ours, ServeConfig{
			Open:    func(name string) (File, bool) { f, ok := files[name]; return f, ok },
			Buffers: NewBuffers(), Book: d.book, Log: slog.New(slog.DiscardHandler),
			Sent: func(string, int) {}, Changed: func(string, error) {},
		})
	}()
	t.Cleanup(func() { theirs.Close(); <-d.done })
	return d
}

func (d *desk) says(m classic.Header) {
	d.t.Helper()
	if _, err := d.conn.Write(m.Append(nil)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) hears(want classic.Header) {
	d.t.Helper()
	b := make([]byte, classic.HeaderSize)
	if _, err := io.ReadFull(d.conn, b); err != nil {
		d.t.Fatalf("instead of %#v: %v", want, err)
	}
	if got, err := classic.ParseHeader(b); err != nil || got != want {
		d.t.Fatalf("heard %#v, %v; want %#v", got, err, want)
	}
}

func (d *desk) hearsBytes(want []byte) {
	d.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(d.conn, got); err != nil || !bytes.Equal(got, want) {
		d.t.Fatalf("%d bytes of a chunk are not right (%v)", len(want), err)
	}
}

func (d *desk) isClosed(reason string) {
	d.t.Helper()
	if n, err := d.conn.Read(make([]byte, 1)); n > 0 || err == nil {
		d.t.Fatal("not closed")
	}
	<-d.done
	if reason != "" && d.book.Counts()[reason] != 1 {
		d.t.Errorf("counted %v, want one %q", d.book.Counts(), reason)
	}
	if reason == "" && len(d.book.Counts()) > 0 {
		d.t.Errorf("counted %v, want nothing", d.book.Counts())
	}
}

func TestOneConnectionCarriesAnyNumberOfQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := shared(classic.ChunkSize + 5)
		d := serve(t, map[string]File{"a": f})
		d.says(classic.FileRequest{Name: "none"})
		d.hears(classic.FileResponse{})
		d.says(classic.FileRequest{Name: "a"})
		d.hears(classic.FileResponse{Chunks: 2})
		d.says(classic.ChunkRequest{Name: "a", First: 0, Last: 1})
		d.hears(classic.ChunkResponse{Index: 0, Size: classic.ChunkSize})
		d.hearsBytes(b[:classic.ChunkSize])
		d.hears(classic.ChunkResponse{Index: 1, Size: 5})
		d.hearsBytes(b[classic.ChunkSize:])
		d.says(classic.FileRequest{Name: "a"})
		d.hears(classic.FileResponse{Chunks: 2})
	})
}

func TestBeyondTheEndTheChunksThatExistAreSentAndThenTheConnectionCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := shared(7)
		d := serve(t, map[string]File{"a": f})
		d.says(classic.ChunkRequest{Name: "a", First: 0, Last: 1<<32 - 1})
		d.hears(classic.ChunkResponse{Index: 0, Size: 7})
		d.hearsBytes(b)
		start := time.Now()
		d.isClosed("")
		if took := time.Since(start); took > 0 {
			t.Errorf("closed after %v", took)
		}
	})
}

func TestQuestionsThatMakeNoSenseEndTheConversation(t *testing.T) {
	bad := classic.FileRequest{Name: "a"}.Append(nil)
	for name, c := range map[string]struct {
		says   []byte
		reason string
	}{
		"an answer":             {classic.FileResponse{Chunks: 3}.Append(nil), RefusedOrder},
		"a chunk":               {classic.ChunkResponse{Size: 3}.Append(nil), RefusedOrder},
		"chunks of nothing":     {classic.ChunkRequest{Name: "none"}.Append(nil), RefusedUnknown},
		"an unknown type":       {append([]byte{4}, bad[1:]...), RefusedMessage},
		"a TLS hello":           {append([]byte{0x16}, bad[1:]...), RefusedMessage},
		"a name with a slash":   {bytes.Replace(bad, []byte("a\x00\x00"), []byte("a/b"), 1), RefusedMessage},
		"a request cut in half": {bad[:100], RefusedMessage},
		"chunks in wrong order": {func() []byte {
			b := classic.ChunkRequest{Name: "a", First: 1, Last: 1}.Append(nil)
			b[267] = 0
			return b
		}(), RefusedMessage},
		"chunks of an empty one": {classic.ChunkRequest{Name: "empty"}.Append(nil), RefusedUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, _ := shared(7)
				empty, _ := shared(0)
				d := serve(t, map[string]File{"a": f, "empty": empty})
				if _, err := d.conn.Write(c.says); err != nil {
					t.Fatal(err)
				}
				if len(c.says) < classic.HeaderSize {
					d.conn.Close()
					<-d.done
				}
				d.isClosed(c.reason)
			})
		})
	}
}

func TestSilenceInAHeaderAndBetweenQuestionsHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		half := serve(t, nil)
		start := time.Now()
		half.conn.Write(make([]byte, 100))
		half.isClosed(RefusedSilent)
		if took := time.Since(start); took > HeaderTimeout {
			t.Errorf("half a header: closed after %v", took)
		}
		idle := serve(t, nil)
		start = time.Now()
		idle.isClosed("")
		if took := time.Since(start); took != IdleTimeout {
			t.Errorf("no question: closed after %v", took)
		}
		drip := serve(t, nil)
		start = time.Now()
		for range classic.HeaderSize {
			if _, err := drip.conn.Write([]byte{0}); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		drip.isClosed(RefusedSilent)
		if took := time.Since(start); took > HeaderTimeout+time.Second {
			t.Errorf("a byte a second: closed after %v", took)
		}
	})
}

func TestAReaderMayBeSlowButNotForEver(t *testing.T) {
	for name, c := range map[string]struct {
		every  time.Duration // for each kilobyte
		served bool
	}{
		"two kilobytes a second": {500 * time.Millisecond, true},
		"a kilobyte in a minute": {time.Minute, false},
		"a kilobyte in five":     {5 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, _ := shared(200 << 10)
				d := serve(t, map[string]File{"a": f})
				d.says(classic.ChunkRequest{Name: "a"})
				d.hears(classic.ChunkResponse{Size: 200 << 10})
				got := 0
				buf := make([]byte, 1<<10)
				for got < 200<<10 {
					time.Sleep(c.every)
					n, err := d.conn.Read(buf)
					if got += n; err != nil {
						break
					}
				}
				if served := got == 200<<10; served != c.served {
					t.Errorf("it got %d bytes of %d", got, 200<<10)
				}
				if !c.served {
					d.isClosed(RefusedSlow)
				}
			})
		})
	}
}

// A file that changes while it is served ends the connection before the chunk is complete, whatever was read by then.
func TestAFileThatChangesIsNeverServedToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := shared(3 << 20)
		var mu sync.Mutex
		reads := 0
		f.Unchanged = func() error {
			mu.Lock()
			defer mu.Unlock()
			if reads++; reads == 3 { // with the last piece in hand
				return errors.New("changed")
			}
			return nil
		}
		d := serve(t, map[string]File{"a": f})
		d.says(classic.ChunkRequest{Name: "a"})
		d.hears(classic.ChunkResponse{Size: 3 << 20})
		got, _ := io.ReadAll(d.conn)
		if len(got) >= len(b) {
			t.Errorf("got %d bytes of %d", len(got), len(b))
		}
		d.isClosed("")
	})
}

func TestAFileThatIsNotInPlaceIsNotHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := shared(7)
		f.InPlace = func() error { return errors.New("replaced") }
		d := serve(t, map[string]File{"a": f})
		d.says(classic.FileRequest{Name: "a"})
		d.hears(classic.FileResponse{})
		d.says(classic.ChunkRequest{Name: "a"})
		d.isClosed(RefusedUnknown)
	})
}

func TestManyBuffersAreSmall(t *testing.T) {
	b := NewBuffers()
	var back []func()
	total := 0
	for range 1024 {
		buf, giveBack := b.get()
		total += len(buf)
		back = append(back, giveBack)
	}
	if most := maxLarge*largeBuffer + 1024*smallBuffer; total > most {
		t.Errorf("%d bytes in buffers, the bound is %d", total, most)
	}
	for _, giveBack := range back {
		giveBack()
	}
	if buf, _ := b.get(); len(buf) != largeBuffer {
		t.Errorf("%d bytes, when nobody else has any", len(buf))
	}
}

// liar is a peer that answers a question with these bytes, whatever it is, and then keeps silent or hangs up.
func liar(t *testing.T, answer []byte, hangUp bool) *Holder {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { ln.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				io.ReadFull(conn, make([]byte, classic.HeaderSize))
				conn.Write(answer)
				if !hangUp {
					io.Copy(io.Discard, conn)
				}
			})
		}
	})
	return &Holder{Addr: netip.MustParseAddrPort(ln.Addr().String()), Name: "a"}
}

func TestALiarIsKnownByItsAnswers(t *testing.T) {
	chunk := func(index, size uint32) []byte { return classic.ChunkResponse{Index: index, Size: size}.Append(nil) }
	huge := chunk(4, 1)
	copy(huge[272:], []byte{0xff, 0xff, 0xff, 0xff})
	for name, answer := range map[string][]byte{
		"a chunk that nobody asked for": chunk(5, 10),
		"a chunk of four gigabytes":     huge,
		"a file response":               classic.FileResponse{Chunks: 9}.Append(nil),
		"a question":                    classic.FileRequest{Name: "a"}.Append(nil),
		"another file's chunk":          classic.ChunkResponse{Name: "b", Index: 4, Size: 10}.Append(nil),
		"noise":                         []byte(strings.Repeat("HTTP/1.1 400 Bad Request\r\n", 11)),
	} {
		h := liar(t, answer, false)
		err := h.Fetch(t.Context(), 4, 6, func(uint32, int64, io.Reader) error {
			t.Errorf("%s: delivered", name)
			return nil
		})
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: got %v, want ErrProtocol", name, err)
		}
	}
	// One that hangs up in the middle is no liar, and delivers nothing whole.
	h := liar(t, append(chunk(4, 10), "12345"...), true)
	err := h.Fetch(t.Context(), 4, 6, func(_ uint32, size int64, body io.Reader) error {
		_, err := io.ReadFull(body, make([]byte, size))
		return err
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrProtocol) {
		t.Errorf("half a chunk: %v", err)
	}
}

// over returns a holder at the other end of an in-memory connection, and that end.
func over(t *testing.T, behave func(conn net.Conn)) *Holder {
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	return &Holder{Name: "a", Dial: func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		all.Go(func() { defer theirs.Close(); behave(theirs) })
		return ours, nil
	}}
}

func hearRequest(conn net.Conn) { io.ReadFull(conn, make([]byte, classic.HeaderSize)) }

func take(_ uint32, size int64, body io.Reader) error {
	_, err := io.CopyN(io.Discard, body, size)
	return err
}

// What a holder leaves undone has an end, and what it did is told from what it does slowly. Fake time.
func TestAHolderThatDoesNotMoveIsStalled(t *testing.T) {
	const size = 100 << 10
	chunk := classic.ChunkResponse{Index: 0, Size: size}.Append(nil)
	drip := func(conn net.Conn, every time.Duration) {
		for range size >> 10 {
			time.Sleep(every)
			if _, err := conn.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		behave func(net.Conn)
		within time.Duration // 0: it delivers
	}{
		"never reads":            {func(conn net.Conn) { time.Sleep(time.Hour) }, HeaderTimeout},
		"never answers":          {func(conn net.Conn) { hearRequest(conn); time.Sleep(time.Hour) }, HeaderTimeout},
		"half a header":          {func(conn net.Conn) { hearRequest(conn); conn.Write(chunk[:9]); time.Sleep(time.Hour) }, HeaderTimeout},
		"a header and no chunk":  {func(conn net.Conn) { hearRequest(conn); conn.Write(chunk); time.Sleep(time.Hour) }, StallTimeout},
		"a kilobyte in five":     {func(conn net.Conn) { hearRequest(conn); conn.Write(chunk); drip(conn, 5*time.Second) }, minTime + 5*time.Second},
		"two kilobytes a second": {func(conn net.Conn) { hearRequest(conn); conn.Write(chunk); drip(conn, time.Second/2) }, 0},
		"late, and then at once": {func(conn net.Conn) { hearRequest(conn); time.Sleep(9 * time.Second); conn.Write(chunk); drip(conn, 0) }, 0},
		"slow header, slow chunk": {func(conn net.Conn) {
			hearRequest(conn)
			time.Sleep(5 * time.Second)
			conn.Write(chunk)
			time.Sleep(9 * time.Second)
			drip(conn, 0)
		}, 0},
		"a byte of a header a sec": {func(conn net.Conn) {
			hearRequest(conn)
			for _, b := range chunk {
				conn.Write([]byte{b})
				time.Sleep(time.Second)
			}
		}, HeaderTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				err := over(t, c.behave).Fetch(t.Context(), 0, 0, take)
				took := time.Since(start)
				if c.within == 0 && err != nil {
					t.Errorf("after %v: %v", took, err)
				}
				if c.within > 0 && (err == nil || took > c.within) {
					t.Errorf("after %v: %v; want an end within %v", took, err, c.within)
				}
			})
		})
	}
}

func TestAFetchEndsWhenItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		err := over(t, func(conn net.Conn) { hearRequest(conn); time.Sleep(5 * time.Second) }).Fetch(ctx, 0, 0, take)
		if took := time.Since(start); err == nil || took > time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func TestServingEndsWhenItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		Serve(ctx, ours, ServeConfig{Book: offence.NewBook(slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler)})
		if took := time.Since(start); took > time.Second {
			t.Errorf("ended after %v", took)
		}
	})
}

func TestAChunkThatIsTakenInPartEndsTheFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := over(t, func(conn net.Conn) {
			hearRequest(conn)
			conn.Write(classic.ChunkResponse{Index: 0, Size: 10}.Append(nil))
			conn.Write(make([]byte, 10))
		})
		err := h.Fetch(t.Context(), 0, 0, func(uint32, int64, io.Reader) error { return nil })
		if err == nil {
			t.Error("nobody took the chunk, and that is no error")
		}
	})
}

func TestAnAnswerForAnotherFileIsALie(t *testing.T) {
	for name, reply := range map[string]classic.Header{
		"file response":  classic.FileResponse{Name: "b", Chunks: 3},
		"chunk response": classic.ChunkResponse{Size: 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := over(t, func(conn net.Conn) { hearRequest(conn); conn.Write(reply.Append(nil)) })
			if a, err := h.Ask(t.Context()); !errors.Is(err, ErrProtocol) {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
		})
	}
}

func TestAskLearnsChunksAndTheLastOnesSize(t *testing.T) {
	f, _ := shared(classic.ChunkSize + 5)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	defer ln.Close()
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				Serve(ctx, conn, ServeConfig{
					Open: func(name string) (File, bool) { return f, name == "a" }, Buffers: NewBuffers(),
					Book: offence.NewBook(slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler),
					Sent: func(string, int) {}, Changed: func(string, error) {},
				})
			})
		}
	})
	addr := netip.MustParseAddrPort(ln.Addr().String())
	got, err := (&Holder{Addr: addr, Name: "a"}).Ask(ctx)
	if err != nil || got != (Answer{Chunks: 2, Last: 5}) || got.Size() != f.Size {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := (&Holder{Addr: addr, Name: "b"}).Ask(ctx); err != nil || got.Chunks != 0 {
		t.Errorf("what is not there: %+v, %v", got, err)
	}
	ln.Close()
	if _, err := (&Holder{Addr: addr, Name: "a"}).Ask(ctx); err == nil {
		t.Error("an answer from nobody")
	}
}
