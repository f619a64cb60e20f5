//go:build linux

// Command tebi measures the memory of a leecher that has forty neighbours and fetches a content of 1 TiB, which has as many pieces as a
// content of that size can have: 262,144 of 4 MiB.
//
// The schedule, the exchange, the sessions and the store are the program's own, over TCP on loopback. The neighbours are simulated in the same
// process, without TLS; the whole memory of the process is reported: a quarter of them says to have everything, the others every second piece, in turn from the even and the odd ones. What they
// really have are the first -pieces pieces, zeros, which they name in their credits. The chaining values of all others are random,
// so that nothing has to hash 1 TiB. The file is sparse: no space is taken for what does not come.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"shoal/bench/internal/lab"
	"shoal/internal/content"
	"shoal/internal/exchange"
	"shoal/internal/peer"
	"shoal/internal/store"
	"shoal/internal/wire"
)

const size = 1 << 40

func main() {
	dir := flag.String("dir", os.TempDir(), "folder for the sparse file")
	pieces := flag.Uint("pieces", 256, "pieces of 4 MiB that really come")
	neighbours := flag.Int("neighbours", 40, "neighbours")
	flag.Parse()
	if err := run(*dir, uint32(*pieces), *neighbours); err != nil {
		fmt.Fprintln(os.Stderr, "tebi:", err)
		os.Exit(1)
	}
}

// manifest is that of a content whose first pieces, and last, are zeros.
func manifest(real uint32) (*content.Manifest, error) {
	g, err := content.GeometryOf(size)
	if err != nil {
		return nil, err
	}
	cvs := make([]content.CV, g.Pieces)
	zeros := make([]byte, g.Piece)
	var h content.PieceHash
	for p := range cvs {
		if uint32(p) >= real && p < len(cvs)-1 {
			_, _ = rand.Read(cvs[p][:])
			continue
		}
		h.Reset(g, uint32(p))
		if _, err := h.Write(zeros[:g.Len(uint32(p))]); err != nil {
			return nil, err
		}
		cvs[p], _ = h.Sum()
	}
	return content.NewManifest(g, cvs, zeros[:g.Len(g.Pieces-1)]), nil
}

func run(dir string, real uint32, neighbours int) error {
	m, err := manifest(real)
	if err != nil {
		return err
	}
	if dir, err = os.MkdirTemp(dir, "shoal-tebi-"); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	runtime.GC()
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	x := exchange.New(exchange.Config{Seed: 1})
	all.Go(func() { _ = x.Run(ctx) })

	d, err := store.OpenDownload(ctx, store.DownloadConfig{Dir: dir, Target: "tebi", Key: "tebi", Manifest: m, Workers: 1, Disk: sparse{store.System()}})
	if err != nil {
		return err
	}
	defer d.Close()
	c := &exchange.Content{
		ID: m.ID, Manifest: m,
		Failed: func(err error) { fmt.Fprintln(os.Stderr, "tebi: the store:", err) },
		Note:   func(who string, o *exchange.Offence) { fmt.Fprintln(os.Stderr, "tebi: cut off:", who, o) },
	}
	x.Add(c)
	for i := range neighbours {
		g := &giver{m: m, number: i, real: real, out: make(map[uint64]uint32)}
		for p := uint32(i); p < real; p += uint32(neighbours) {
			g.left = append(g.left, p) // each by one neighbour
		}
		if err := sit(ctx, &all, x, g); err != nil {
			return err
		}
	}
	began := time.Now()
	x.Begin(m.ID, d)
	for d.Bytes() < int64(real)*m.Geo.Piece {
		if time.Since(began) > 5*time.Minute {
			return fmt.Errorf("only %d of %d pieces have come", d.Bytes()/m.Geo.Piece, real)
		}
		time.Sleep(50 * time.Millisecond)
	}
	took := time.Since(began)
	use, err := lab.Memory(os.Getpid())
	if err != nil {
		return err
	}
	p := c.Progress()
	fmt.Printf("%s\n\n", lab.Machine())
	fmt.Printf("| neighbours | pieces of the content | that came | in s | peak MiB of the process, neighbours included | wasted |\n| --- | --- | --- | --- | --- | --- |\n")
	fmt.Printf("| %d | %d | %d | %.1f | %.0f | %.1f %% |\n", len(p.Neighbours), m.Geo.Pieces, real, took.Seconds(), float64(use.Peak)/(1<<20), 100*float64(p.Wasted)/float64(max(1, p.Received)))
	return nil
}

// sit connects a neighbour to the exchange.
func sit(ctx context.Context, all *sync.WaitGroup, x *exchange.Exchange, g *giver) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	theirs, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return err
	}
	ours, err := ln.Accept()
	if err != nil {
		return err
	}
	session := func(conn net.Conn, self, other byte, handle func(*peer.Session, wire.Message) error) *peer.Session {
		return peer.NewSession(peer.SessionConfig{
			Conn: conn, Flush: func() error { return nil }, Self: wire.PeerID{self}, Other: wire.PeerID{other}, Dialled: self != 0,
			Hello: wire.Hello{Version: 1, Instance: uint64(self) + 1}, Handle: handle,
		})
	}
	joined := make(chan struct{})
	own := session(ours, 0, byte(g.number+1), func(s *peer.Session, m wire.Message) error { <-joined; return x.Handle(s, m) })
	g.s = session(theirs, byte(g.number+1), 0, g.hear)
	all.Go(func() { _ = own.Run(ctx); x.Leave(own) })
	all.Go(func() { _ = g.s.Run(ctx) })
	for _, s := range []*peer.Session{own, g.s} {
		select {
		case <-s.Ready():
		case <-time.After(10 * time.Second):
			return errors.New("no session")
		}
	}
	x.Join(own, func(error) {})
	close(joined)
	return nil
}

// giver is a simulated neighbour.
type giver struct {
	m       *content.Manifest
	s       *peer.Session
	number  int
	real    uint32
	channel uint64
	left    []uint32          // pieces to be named
	out     map[uint64]uint32 // credits that are out, and what they name
	credit  uint64
}

// hear answers as a peer would that always has something to give. It runs in the goroutine of the session's reader.
func (g *giver) hear(s *peer.Session, m wire.Message) error {
	switch m := m.(type) {
	case *wire.Open:
		g.channel = m.Channel
		all := g.number%4 == 0
		s.Send(&wire.Info{Channel: g.channel, Known: true, Size: size, Epoch: 1, All: all})
		if !all {
			g.tell()
		}
	case *wire.Want:
		g.promise()
	case *wire.Pass:
		g.left = append(g.left, g.out[m.Credit])
		delete(g.out, m.Credit)
	case *wire.Get:
		if named := g.out[m.Credit]; named != m.Piece {
			g.left = append(g.left, named)
		}
		delete(g.out, m.Credit)
		if m.Piece >= g.real {
			s.Refuse(m.Request, wire.ReasonMissing)
		} else {
			s.Serve(peer.Serving{Request: m.Request, From: zeros{}, Len: g.m.Geo.Len(m.Piece)})
		}
		g.promise()
	}
	return nil
}

// tell says that it has every second piece, and those that it really has.
func (g *giver) tell() {
	const bytes = 1 << 12
	for first := uint32(0); first < g.m.Geo.Pieces; first += 8 * bytes {
		have := &wire.Have{Channel: g.channel, Epoch: 1, First: first, Bitmap: make([]byte, bytes), More: first+8*bytes < g.m.Geo.Pieces}
		for i := range have.Bitmap {
			have.Bitmap[i] = []byte{0x55, 0xaa}[g.number%2]
			if first+uint32(i)*8 < g.real {
				have.Bitmap[i] = 0xff
			}
		}
		g.s.Send(have)
	}
}

// promise keeps two credits out, which name what it really has.
func (g *giver) promise() {
	for len(g.out) < 2 && len(g.left) > 0 {
		piece := g.left[0]
		g.left = g.left[1:]
		g.credit++
		g.out[g.credit] = piece
		g.s.Send(&wire.Credit{Channel: g.channel, Epoch: 1, Number: g.credit, Piece: &piece, Insist: true})
	}
}

type zeros struct{}

func (zeros) ReadAt(b []byte, _ int64) (int, error) {
	clear(b)
	return len(b), nil
}

// sparse is a disk that has room for everything, and takes space only for what is written.
type sparse struct{ store.Disk }

func (s sparse) OpenFolder(path string) (store.Folder, error) {
	f, err := s.Disk.OpenFolder(path)
	return sparseFolder{f}, err
}

type sparseFolder struct{ store.Folder }

func (sparseFolder) Free() (int64, error) { return 2 * size, nil }

func (s sparseFolder) Open(name string, flag int, perm os.FileMode) (store.File, error) {
	f, err := s.Folder.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return sparseFile{f}, nil
}

type sparseFile struct{ store.File }

func (f sparseFile) Allocate(n int64) error { return f.Truncate(n) }
