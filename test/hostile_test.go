//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// zeros is as many of them as are wanted.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// untilItHangsUp waits until the other end closes the connection.
func untilItHangsUp(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// announce sends the header of a chunk and as many bytes as it announces.
func announce(c net.Conn, h []byte) {
	_, _ = c.Write(h)
	_, _ = io.CopyN(c, zeros{}, int64(number(h, 4)))
	untilItHangsUp(c)
}

// lies are wrong answers to a request for chunks, of which first is the first and has that size.
var lies = map[string]func(c net.Conn, first, size uint32){
	"a wrong index": func(c net.Conn, first, size uint32) {
		announce(c, header(chunkResponse, "", 0, 0, 0, first+1, size))
	},
	"an index near 2^32": func(c net.Conn, _, size uint32) {
		announce(c, header(chunkResponse, "", 0, 0, 0, 0xffffffff, size))
	},
	"a chunk that is too large": func(c net.Conn, first, _ uint32) {
		announce(c, header(chunkResponse, "", 0, 0, 0, first, chunk+1))
	},
	"a size near 2^32": func(c net.Conn, first, _ uint32) {
		announce(c, header(chunkResponse, "", 0, 0, 0, first, 0xffffffff))
	},
	"an empty chunk": func(c net.Conn, first, _ uint32) {
		announce(c, header(chunkResponse, "", 0, 0, 0, first, 0))
	},
	"a short chunk in the middle": func(c net.Conn, first, size uint32) {
		announce(c, header(chunkResponse, "", 0, 0, 0, first, size-size/chunk)) // one byte less, unless it is the last
	},
	"a chunk of another file": func(c net.Conn, first, size uint32) {
		announce(c, header(chunkResponse, "other.img", 0, 0, 0, first, size))
	},
	"a file response": func(c net.Conn, _, _ uint32) {
		_, _ = c.Write(header(fileResponse, "", 4))
		untilItHangsUp(c)
	},
	"a request": func(c net.Conn, _, _ uint32) {
		_, _ = c.Write(header(chunkRequest, "a.img", 0, 0, 1))
		untilItHangsUp(c)
	},
	"a type that does not exist": func(c net.Conn, first, size uint32) {
		announce(c, header(200, "", 0, 0, 0, first, size))
	},
	"text": func(c net.Conn, _, _ uint32) {
		_, _ = c.Write([]byte(strings.Repeat("HTTP/1.1 400 Bad Request\r\n", 100)))
		untilItHangsUp(c)
	},
	"nothing, and closes": func(net.Conn, uint32, uint32) {},
	"half a header, and closes": func(c net.Conn, first, size uint32) {
		_, _ = c.Write(header(chunkResponse, "", 0, 0, 0, first, size)[:138])
	},
	"half a chunk, and closes": func(c net.Conn, first, size uint32) {
		_, _ = c.Write(header(chunkResponse, "", 0, 0, 0, first, size))
		_, _ = io.CopyN(c, zeros{}, int64(size/2))
	},
	"nothing, and stays": func(c net.Conn, _, _ uint32) { untilItHangsUp(c) },
	"a header, and stalls": func(c net.Conn, first, size uint32) {
		_, _ = c.Write(header(chunkResponse, "", 0, 0, 0, first, size))
		untilItHangsUp(c)
	},
	"half a chunk, and stalls": func(c net.Conn, first, size uint32) {
		_, _ = c.Write(header(chunkResponse, "", 0, 0, 0, first, size))
		_, _ = io.CopyN(c, zeros{}, int64(size/2))
		untilItHangsUp(c)
	},
	"one byte a second": func(c net.Conn, first, size uint32) {
		_, _ = c.Write(header(chunkResponse, "", 0, 0, 0, first, size))
		drip(c, make([]byte, 1000), 1)
	},
	"two kilobytes a second": func(c net.Conn, first, size uint32) { // quick enough to be no stall
		_, _ = c.Write(header(chunkResponse, "", 0, 0, 0, first, size))
		drip(c, make([]byte, size), 2000)
	},
}

// drip writes a few bytes a second until the other end hangs up.
func drip(c net.Conn, b []byte, aSecond int) {
	hungUp := make(chan struct{})
	go func() { untilItHangsUp(c); close(hungUp) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for some := range slices.Chunk(b, aSecond) {
		if _, err := c.Write(some); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-hungUp:
			return
		}
	}
}

// besideALiar downloads a file that an honest holder has and a liar has, who answers requests for chunks with a lie:
// each, or all but the first. With the first it is asked how large the file is, so who lies only later becomes a holder like
// any other, while the other does not even that.
func besideALiar(t *testing.T, lie func(c net.Conn, first, size uint32), onlyLater bool) {
	t.Helper()
	const size = 3*chunk + 3
	path := file(t, size)
	name := filepath.Base(path)
	s := newSwarm(t)
	var asked, lied atomic.Int64
	rawSeeder(t, s.addr, path, func(c net.Conn, request []byte) bool {
		if request[0] != chunkRequest || (asked.Add(1) == 1 && onlyLater) {
			return false
		}
		lied.Add(1)
		first := number(request, 1)
		lie(c, first, uint32(min(chunk, size-int64(first)*chunk)))
		c.Close()
		return true
	})
	_, px := s.shareThrough(path)
	px.Allow(aMoment)
	dir := t.TempDir()
	get := s.get(name, dir)
	// The honest holder waits until the liar has had its turn.
	eventually(t, "the liar lies", func() bool { return lied.Load() > 0 })
	px.Allow(-1)
	get.succeeds()
	sameContent(t, filepath.Join(dir, name), path)
	holdsOnly(t, dir, name)
}

func TestADownloadSurvivesALiarBesideAnHonestHolder(t *testing.T) {
	t.Parallel()
	for what, lie := range lies {
		for when, onlyLater := range map[string]bool{"from the start": false, "as a holder": true} {
			t.Run(what+" "+when, func(t *testing.T) {
				t.Parallel()
				besideALiar(t, lie, onlyLater)
			})
		}
	}
}

// Alone on the machine the honest holder has delivered its share, and all else, before anybody can say how quick it is.
func TestAVeryQuickHolderTakesOverFromAVerySlowOne(t *testing.T) {
	besideALiar(t, lies["two kilobytes a second"], true)
}

func TestADownloadSurvivesWhoAnswersTheQuestionForTheFileWrongly(t *testing.T) {
	t.Parallel()
	for what, lie := range map[string]func(c net.Conn){
		"nothing, and closes":          func(net.Conn) {},
		"nothing, and stays":           untilItHangsUp,
		"half a header, and stays":     func(c net.Conn) { _, _ = c.Write(header(fileResponse, "", 4)[:100]); untilItHangsUp(c) },
		"one byte a second":            func(c net.Conn) { drip(c, header(fileResponse, "", 4), 1) },
		"a file request":               func(c net.Conn) { _, _ = c.Write(header(fileRequest, "a.img")); untilItHangsUp(c) },
		"a chunk":                      func(c net.Conn) { announce(c, header(chunkResponse, "", 0, 0, 0, 0, chunk)) },
		"a type that does not exist":   func(c net.Conn) { _, _ = c.Write(header(77, "", 4)); untilItHangsUp(c) },
		"a name without end":           func(c net.Conn) { _, _ = c.Write(header(fileResponse, strings.Repeat("a", 255), 4)); untilItHangsUp(c) },
		"an answer for another file":   func(c net.Conn) { _, _ = c.Write(header(fileResponse, "b.img", 4)); untilItHangsUp(c) },
		"an answer with a folder name": func(c net.Conn) { _, _ = c.Write(header(fileResponse, "../b.img", 4)); untilItHangsUp(c) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			path := file(t, chunk+1)
			s := newSwarm(t)
			rawSeeder(t, s.addr, path, func(c net.Conn, _ []byte) bool { lie(c); c.Close(); return true })
			s.share(path)
			dir := t.TempDir()
			s.get(filepath.Base(path), dir).succeeds()
			sameContent(t, filepath.Join(dir, filepath.Base(path)), path)
		})
	}
}

// claims answers the question for a file with a number of chunks, and for any of them announces a whole one.
func claims(chunks uint32) func(net.Conn, []byte) bool {
	return func(c net.Conn, request []byte) bool {
		if request[0] == fileRequest {
			_, _ = c.Write(header(fileResponse, "", chunks))
			return true
		}
		announce(c, header(chunkResponse, "", 0, 0, 0, number(request, 1), chunk))
		return true
	}
}

func TestAClaimOfFourThousandMillionChunksAllocatesNothing(t *testing.T) {
	t.Parallel()
	for _, layout := range []string{"", "--chunk-files"} {
		t.Run("get "+layout, func(t *testing.T) {
			t.Parallel()
			s := newSwarm(t)
			rawSeeder(t, s.addr, file(t, chunk+1), claims(0xffffffff))
			dir := t.TempDir()
			get := s.get("huge.img", dir, strings.Fields(layout)...)
			memory := get.mostMemory()
			get.fails(7, "E-NO-SPACE")
			holdsOnly(t, dir)
			most := int64(64 << 20)
			if raceEnabled {
				most *= 8 // the detector's own
			}
			if memory() > most {
				t.Errorf("the process used %d bytes of memory, want at most %d", memory(), most)
			}
		})
	}
}

func TestALiarWithAnotherNumberOfChunksIsAnotherFile(t *testing.T) {
	t.Parallel()
	for _, chunks := range []uint32{1, 3, 0xffffffff} {
		t.Run(fmt.Sprintf("%d chunks", chunks), func(t *testing.T) {
			t.Parallel()
			s := newSwarm(t)
			path := file(t, chunk+1)
			rawSeeder(t, s.addr, path, claims(chunks))
			honest := s.share(path).await("sharing", is("sharing"))
			dir := t.TempDir()
			s.get(filepath.Base(path), dir).fails(4, "E-TWO-CONTENTS")
			holdsOnly(t, dir)
			s.get(filepath.Base(path), dir, "--from", honest.Addr).succeeds()
			sameContent(t, filepath.Join(dir, filepath.Base(path)), path)
		})
	}
}

func TestAHolderThatOnlyStallsEndsADownloadWithATimeoutAndItResumesLater(t *testing.T) {
	t.Parallel()
	path := file(t, 2*chunk+2)
	name := filepath.Base(path)
	s := newSwarm(t)
	_, px := s.shareThrough(path)
	px.Allow(chunk + chunk/2)
	dir := t.TempDir()
	s.get(name, dir, "--timeout", "2s").fails(10, "E-STALLED")
	px.Allow(-1)
	if done := s.get(name, dir).succeeds(); done.Resumed != chunk {
		t.Errorf("resumed with %d bytes, want %d", done.Resumed, chunk)
	}
	sameContent(t, filepath.Join(dir, name), path)
	holdsOnly(t, dir, name)
}

// badRequests are what no sharing peer may answer.
func badRequests(name string) map[string][]byte {
	bad := map[string][]byte{
		"a file response":            header(fileResponse, name, 1),
		"a chunk response":           header(chunkResponse, name, 0, 0, 0, 0, 100),
		"type 4":                     header(4, name),
		"type 255":                   header(255, name),
		"first chunk after the last": header(chunkRequest, name, 0, 1, 0),
		"far behind the end":         header(chunkRequest, name, 0, 0xfffffffe, 0xffffffff),
		"an unknown name":            header(chunkRequest, "unknown.img", 0, 0, 0),
		"half a header":              header(fileRequest, name)[:138],
	}
	for what, name := range map[string]string{
		"without NUL":        strings.Repeat("a", 255),
		"empty":              "",
		"with a slash":       "folder/" + name,
		"absolute":           "/etc/passwd",
		"with a backslash":   `folder\` + name,
		"with a control":     "a\x1b[31m.img",
		"with DEL":           "a\x7f.img",
		"of the folder":      ".",
		"of the upper one":   "..",
		"through upper ones": "../" + name,
	} {
		bad["file request, a name "+what] = header(fileRequest, name)
		bad["chunk request, a name "+what] = header(chunkRequest, name, 0, 0, 0)
	}
	return bad
}

func TestASharerClosesOnBadRequestsAndGoesOn(t *testing.T) {
	t.Parallel()
	path := file(t, chunk+1)
	name := filepath.Base(path)
	s := newSwarm(t)
	addr := s.share(path).await("sharing", is("sharing")).Addr
	// The slow ones take as long as the product lets them; they do it together.
	t.Run("requests", func(t *testing.T) {
		for what, request := range badRequests(name) {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				c := dial(t, addr)
				_, _ = c.Write(request)
				if said := isClosed(t, c); len(said) > 0 {
					t.Errorf("%d bytes were answered", len(said))
				}
			})
		}
		t.Run("one byte a second", func(t *testing.T) {
			t.Parallel()
			drip(dial(t, addr), header(fileRequest, name), 1)
			// A whole header takes longer than any deadline: drip came back because it was hung up on.
		})
		t.Run("a last chunk of 2^32-1", func(t *testing.T) {
			t.Parallel()
			c := dial(t, addr)
			_, _ = c.Write(header(chunkRequest, name, 0, 0, 0xffffffff))
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := append(header(chunkResponse, "", 0, 0, 0, 0, chunk), content[:chunk]...)
			want = append(append(want, header(chunkResponse, "", 0, 0, 0, 1, 1)...), content[chunk:]...)
			if said := isClosed(t, c); !bytes.Equal(said, want) {
				t.Errorf("%d bytes were answered, want the %d of the chunks that exist", len(said), len(want))
			}
		})
	})
	dir := t.TempDir()
	s.get(name, dir).succeeds()
	sameContent(t, filepath.Join(dir, name), path)
}

func TestAConnectionCarriesAnyNumberOfRequests(t *testing.T) {
	t.Parallel()
	path := file(t, chunk+1)
	name := filepath.Base(path)
	c := dial(t, newSwarm(t).share(path).await("sharing", is("sharing")).Addr)
	answer := make([]byte, 276)
	for range 3 {
		for ask, want := range map[string]uint32{name: 2, "unknown.img": 0} {
			_, _ = c.Write(header(fileRequest, ask))
			if _, err := io.ReadFull(c, answer); err != nil || !bytes.Equal(answer, header(fileResponse, "", want)) {
				t.Fatalf("file request for %q: %x, %v; want %d chunks", ask, answer, err, want)
			}
		}
		_, _ = c.Write(header(chunkRequest, name, 0, 1, 1))
		last := make([]byte, 276+1)
		if _, err := io.ReadFull(c, last); err != nil || !bytes.Equal(last[:276], header(chunkResponse, "", 0, 0, 0, 1, 1)) {
			t.Fatalf("chunk request: %x, %v", last, err)
		}
	}
}

func TestAFileThatChangesWhileItIsServedEndsTheConnectionInMidChunk(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(f *os.File) error{
		"truncated":   func(f *os.File) error { return f.Truncate(chunk / 4) },
		"emptied":     func(f *os.File) error { return f.Truncate(0) },
		"grown":       func(f *os.File) error { return f.Truncate(3 * chunk) },
		"overwritten": func(f *os.File) error { _, err := f.WriteAt([]byte("new"), chunk/2); return err },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "served.img")
			write(t, path, chunk+1, 0)
			addr := newSwarm(t).share(path).await("sharing", is("sharing")).Addr
			c := dial(t, addr)
			_ = c.(*net.TCPConn).SetReadBuffer(1 << 16) // most of the chunk cannot be on its way yet
			_, _ = c.Write(header(chunkRequest, "served.img", 0, 0, 0))
			if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := change(f); err != nil {
				t.Fatal(err)
			}
			if n := 1000 + len(isClosed(t, c)); n >= 276+chunk {
				t.Errorf("%d bytes were sent, which is a whole chunk", n)
			}
			if chunks := rawAsk(addr, "served.img"); chunks != 0 {
				t.Errorf("it is still announced, with %d chunks", chunks)
			}
		})
	}
}

func TestAFileThatIsReplacedIsNeverServedUnderTheOldName(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "served.img")
	write(t, path, chunk+1, 0)
	addr := newSwarm(t).share(path).await("sharing", is("sharing")).Addr
	write(t, path+".new", chunk+1, 1)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if chunks := rawAsk(addr, "served.img"); chunks != 0 {
		t.Errorf("it is announced, with %d chunks", chunks)
	}
	c := dial(t, addr)
	_, _ = c.Write(header(chunkRequest, "served.img", 0, 1, 1))
	if said := isClosed(t, c); len(said) > 0 {
		t.Errorf("%d bytes were answered", len(said))
	}
}

func TestTheServerClosesOnBadMessagesAndTellsNobody(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	self, other := listen(t).Addr().String(), listen(t).Addr().String()
	witness := rawPeer(t, s.addr, other)
	t.Run("messages", func(t *testing.T) {
		for what, message := range map[string][]byte{
			"remove first":       pair(0, self),
			"mode 2":             pair(2, self),
			"mode 255":           pair(255, self),
			"a foreign address":  pair(1, "192.0.2.1:6101"),
			"another loopback":   pair(1, "127.0.0.2:6101"),
			"port 0":             pair(1, "127.0.0.1:0"),
			"address 0":          pair(1, "0.0.0.0:6101"),
			"multicast":          pair(1, "224.0.0.1:6101"),
			"half a message":     pair(1, self)[:4],
			"nothing":            nil,
			"a request for HTTP": []byte("GET / HTTP/1.1\r\n\r\n"),
		} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				c := dial(t, s.addr)
				_, _ = c.Write(message)
				if said := isClosed(t, c); len(said) > 0 {
					t.Errorf("the server said %x", said)
				}
			})
		}
		t.Run("one byte a second", func(t *testing.T) {
			t.Parallel()
			c := dial(t, s.addr)
			drip(c, pair(1, self), 1)
		})
	})
	// Whatever the witness was told of the above would have come before this.
	last := listen(t).Addr().String()
	rawPeer(t, s.addr, last)
	told(t, witness, pair(1, last))
}

func TestAMemberThatBreaksARuleHasLeftTheSwarm(t *testing.T) {
	t.Parallel()
	for what, message := range map[string]func(self, other string) []byte{
		"a second add":         func(self, _ string) []byte { return pair(1, self) },
		"an add of another":    func(_, other string) []byte { return pair(1, other) },
		"a remove of another":  func(_, other string) []byte { return pair(0, other) },
		"mode 9":               func(self, _ string) []byte { return pair(9, self) },
		"half a message":       func(self, _ string) []byte { return pair(0, self)[:3] },
		"more behind a remove": func(self, _ string) []byte { return append(pair(0, self), 1) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSwarm(t)
			self, other := listen(t).Addr().String(), listen(t).Addr().String()
			witness, member := rawPeer(t, s.addr, other), rawPeer(t, s.addr, self)
			told(t, witness, pair(1, self))
			told(t, member, pair(1, other))
			_, _ = member.Write(message(self, other))
			told(t, witness, pair(0, self))
			if said := isClosed(t, member); len(said) > 0 {
				t.Errorf("the member was told %x", said)
			}
		})
	}
}

func TestAKilledMemberIsForgotten(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	witness := rawPeer(t, s.addr, listen(t).Addr().String())
	sharer := s.share(file(t, 1))
	addr := sharer.await("sharing", is("sharing")).Addr
	told(t, witness, pair(1, addr)) // before it is killed: of one that came and went meanwhile nobody is told
	sharer.kill()
	told(t, witness, pair(0, addr))
}
