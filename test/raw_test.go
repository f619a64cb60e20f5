//go:build linux

package e2e_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// This file knows the protocol from its description alone, and uses nothing of ours: what is wrong in both our codec and
// its tests is not wrong here.

// dial connects to a part of the product, with a deadline that turns a hang into a failure.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// isClosed fails the test unless the other end closes the connection; what it says before is returned.
func isClosed(t *testing.T, c net.Conn) []byte {
	t.Helper()
	said, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is still open after %v", patience)
	}
	return said
}

// The four messages between peers.
const (
	fileRequest   = 0
	fileResponse  = 1
	chunkRequest  = 2
	chunkResponse = 3
)

// pair is a message between peer and server: mode, address, port.
func pair(mode byte, addr string) []byte {
	a := netip.MustParseAddrPort(addr)
	return binary.BigEndian.AppendUint16(append([]byte{mode}, a.Addr().AsSlice()...), a.Port())
}

// told fails the test unless the server says this next.
func told(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, 7)
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%v was told %x, %v; want %x", c.LocalAddr(), got, err, want)
	}
}

// addrOf returns the address in a message between peer and server.
func addrOf(b []byte) string {
	ip, _ := netip.AddrFromSlice(b[1:5])
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[5:])).String()
}

// header is a message between peers. The numbers are, in their order: chunks of the file, first and last chunk asked for,
// index and size of the chunk sent.
func header(typ byte, name string, numbers ...uint32) []byte {
	b := append([]byte{typ}, name...)
	b = append(b, make([]byte, 256-len(b))...)
	for i := range 5 {
		n := uint32(0)
		if i < len(numbers) {
			n = numbers[i]
		}
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

// number returns one of a header's five numbers, and nameIn its name.
func number(b []byte, i int) uint32 { return binary.BigEndian.Uint32(b[256+4*i:]) }
func nameIn(b []byte) string        { return string(bytes.TrimRight(b[1:256], "\x00")) }

// rawServer is the original's server: it forgets only who says goodbye.
func rawServer(t *testing.T) (addr string) {
	t.Helper()
	ln := listen(t)
	var mu sync.Mutex
	members := make(map[string]net.Conn)
	tellAll := func(msg []byte) {
		for _, c := range members {
			_, _ = c.Write(msg)
		}
	}
	serve := func(c net.Conn) {
		defer c.Close()
		msg := make([]byte, 7)
		if _, err := io.ReadFull(c, msg); err != nil || msg[0] != 1 || !sameHost(addrOf(msg), c.RemoteAddr().String()) {
			return
		}
		self := addrOf(msg)
		mu.Lock()
		for other := range members {
			_, _ = c.Write(pair(1, other))
		}
		tellAll(msg)
		members[self] = c
		mu.Unlock()
		if _, err := io.ReadFull(c, msg); err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		delete(members, self)
		tellAll(pair(0, self))
	}
	go acceptAll(ln, serve)
	return ln.Addr().String()
}

func sameHost(a, b string) bool {
	return netip.MustParseAddrPort(a).Addr() == netip.MustParseAddrPort(b).Addr()
}

// acceptAll serves each connection, and closes those that are left when the listener is closed.
func acceptAll(ln net.Listener, serve func(net.Conn)) {
	var conns []net.Conn
	for {
		c, err := ln.Accept()
		if err != nil {
			for _, c := range conns {
				c.Close()
			}
			return
		}
		conns = append(conns, c)
		go serve(c)
	}
}

// rawPeer enters a swarm with a listener's address.
func rawPeer(t *testing.T, server string, self string) net.Conn {
	t.Helper()
	c := dial(t, server)
	if _, err := c.Write(pair(1, self)); err != nil {
		t.Fatal(err)
	}
	return c
}

// seeder is the original's peer that shares one file. It ends when the server closes its connection.
type seeder struct {
	path string
	// lie answers a request in the honest answer's place, and returns whether it did; it may be nil.
	lie func(c net.Conn, request []byte) bool
}

func rawSeeder(t *testing.T, server, path string, lie func(net.Conn, []byte) bool) {
	t.Helper()
	ln := listen(t)
	s := &seeder{path: path, lie: lie}
	toServer := rawPeer(t, server, ln.Addr().String())
	toServer.SetDeadline(time.Time{})
	go func() {
		_, _ = io.Copy(io.Discard, toServer)
		ln.Close()
	}()
	go acceptAll(ln, s.serve)
}

func (s *seeder) serve(c net.Conn) {
	defer c.Close()
	f, err := os.Open(s.path)
	if err != nil {
		return
	}
	defer f.Close()
	fi, _ := f.Stat()
	chunks := uint32((fi.Size() + chunk - 1) / chunk)
	for {
		request := make([]byte, 276)
		if _, err := io.ReadFull(c, request); err != nil {
			return
		}
		switch known := nameIn(request) == filepath.Base(s.path); {
		case s.lie != nil && s.lie(c, request):
		case request[0] == fileRequest && known:
			_, err = c.Write(header(fileResponse, "", chunks))
		case request[0] == fileRequest:
			_, err = c.Write(header(fileResponse, "", 0))
		case request[0] == chunkRequest && known:
			for i := number(request, 1); i <= number(request, 2) && err == nil; i++ {
				if i >= chunks {
					return
				}
				err = sendChunk(c, f, fi.Size(), i)
			}
		}
		if err != nil {
			return
		}
	}
}

func sendChunk(c net.Conn, f *os.File, size int64, i uint32) error {
	start := int64(i) * chunk
	n := min(chunk, size-start)
	if _, err := c.Write(header(chunkResponse, "", 0, 0, 0, i, uint32(n))); err != nil {
		return err
	}
	_, err := io.Copy(c, io.NewSectionReader(f, start, n))
	return err
}

// rawLeech is the original's download. It takes each of the server's messages with one read of seven bytes, and uses a new
// connection for each question and each range. It waits until so many peers are there, asks them all, and writes the file.
func rawLeech(t *testing.T, server, name, to string, peers int) {
	t.Helper()
	self := unusedAddress(t)
	self = "127.0.0.1:" + fmt.Sprint(netip.MustParseAddrPort(self).Port()) // it shares nothing, so it does not listen
	toServer := rawPeer(t, server, self)
	var known []string
	for len(known) < peers {
		msg := make([]byte, 7)
		if n, err := toServer.Read(msg); n != 7 || err != nil || msg[0] != 1 {
			t.Fatalf("from the server: %d bytes %x, %v", n, msg, err)
		}
		known = append(known, addrOf(msg))
	}
	var holders []string
	var chunks uint32
	for _, addr := range known {
		if n := rawAsk(addr, name); n > 0 {
			holders, chunks = append(holders, addr), n
		}
	}
	if len(holders) == 0 {
		t.Fatalf("none of %v has %q", known, name)
	}
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	step := (chunks + uint32(len(holders)) - 1) / uint32(len(holders))
	var ranges sync.WaitGroup
	for i, addr := range holders {
		first := uint32(i) * step
		if last := min(first+step, chunks) - 1; first < chunks {
			ranges.Go(func() {
				if err := rawFetch(addr, name, first, last, f); err != nil {
					t.Errorf("chunks %d to %d from %s: %v", first, last, addr, err)
				}
			})
		}
	}
	ranges.Wait()
	_, _ = toServer.Write(pair(0, self))
	if _, err := io.Copy(io.Discard, toServer); err != nil {
		t.Errorf("the server did not close after a remove: %v", err)
	}
}

// rawAsk returns in how many chunks a peer has a file: none if it cannot be reached.
func rawAsk(addr, name string) (chunks uint32) {
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		return 0
	}
	defer c.Close()
	_, _ = c.Write(header(fileRequest, name))
	reply := make([]byte, 276)
	if _, err := io.ReadFull(c, reply); err != nil || reply[0] != fileResponse {
		return 0
	}
	return number(reply, 0)
}

func rawFetch(addr, name string, first, last uint32, to io.WriterAt) error {
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(header(chunkRequest, name, 0, first, last)); err != nil {
		return err
	}
	for i := first; i <= last; i++ {
		reply := make([]byte, 276)
		if _, err := io.ReadFull(c, reply); err != nil {
			return err
		}
		if reply[0] != chunkResponse || nameIn(reply) != "" || number(reply, 3) != i || number(reply, 4) > chunk {
			return fmt.Errorf("answer %x", bytes.TrimRight(reply, "\x00"))
		}
		n := int64(number(reply, 4))
		if _, err := io.CopyN(io.NewOffsetWriter(to, int64(i)*chunk), c, n); err != nil {
			return err
		}
	}
	return nil
}

func TestTheOriginalAndOursWorkTogetherInEveryRole(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"our server", "original server"} {
		for _, seeders := range []string{"our seeders", "original seeders"} {
			for _, leecher := range []string{"our leecher", "original leecher"} {
				t.Run(server+", "+seeders+", "+leecher, func(t *testing.T) {
					t.Parallel()
					path := file(t, 2*chunk+1)
					name := filepath.Base(path)
					s := &swarm{t: t}
					if server == "our server" {
						s = newSwarm(t)
					} else {
						s.addr = rawServer(t)
					}
					for range 2 {
						if seeders == "our seeders" {
							s.share(path)
						} else {
							rawSeeder(t, s.addr, path, nil)
						}
					}
					dir := t.TempDir()
					if leecher == "our leecher" {
						s.get(name, dir).succeeds()
					} else {
						rawLeech(t, s.addr, name, filepath.Join(dir, name), 2)
					}
					sameContent(t, filepath.Join(dir, name), path)
					holdsOnly(t, dir, name)
				})
			}
		}
	}
}

// A ghost is a member that went without a word: the original's server names it for ever.
func TestGhostsOfTheOriginalServerDoNotKeepADownloadFromItsEnd(t *testing.T) {
	t.Parallel()
	path := file(t, chunk+1)
	s := &swarm{t: t, addr: rawServer(t)}
	s.share(path).kill()
	s.share(path)
	dir := t.TempDir()
	s.get(filepath.Base(path), dir).succeeds()
	sameContent(t, filepath.Join(dir, filepath.Base(path)), path)
}

func TestTheServerSpeaksTheGoldenBytes(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	portOfA, portOfB := listen(t).Addr().(*net.TCPAddr).Port, listen(t).Addr().(*net.TCPAddr).Port
	msg := func(mode byte, port int) []byte { return []byte{mode, 127, 0, 0, 1, byte(port >> 8), byte(port)} }
	a, b := dial(t, s.addr), dial(t, s.addr)
	_, _ = a.Write(msg(1, portOfA))
	_, _ = b.Write(msg(1, portOfB))
	told(t, b, msg(1, portOfA))
	told(t, a, msg(1, portOfB))
	_, _ = a.Write(msg(0, portOfA))
	told(t, b, msg(0, portOfA))
	if said := isClosed(t, a); len(said) > 0 {
		t.Errorf("after its remove A was told %x", said)
	}
}
