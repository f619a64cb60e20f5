// Package node is a running peer: it listens, takes part in a swarm, serves what it shares, and owns its downloads. It
// joins the packages that do the work: swarm knows who is there, peer speaks with them, transfer and store fetch.
//
//   - [Node] is the peer itself.
//   - [Download] is one file on its way to it: search, fetch, check, publish.
//
// The package prints nothing; it hands what people might want to know to its callers.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"shoal/internal/classic"
	"shoal/internal/offence"
	"shoal/internal/peer"
	"shoal/internal/store"
	"shoal/internal/swarm"
	"shoal/internal/throttle"

	"golang.org/x/sync/errgroup"
)

const (
	// DefaultPort is where a peer listens if it can.
	DefaultPort = 50002
	// maxConns and maxConnsPerAddress bound who is served at once.
	maxConns           = 1024
	maxConnsPerAddress = 256
)

// RefusedAnswer is a reason for which a node ends a connection, beside those of its gate and of package peer: what a holder answered is against the
// protocol.
const RefusedAnswer = "answer"

// spareFiles is what a process keeps of the files that it may have open for all but the connections that come, at most half of them.
const spareFiles = 256

// affordable returns how many connections may come at once, of those that are wanted: files and connections of our own must be left.
func affordable(want int) int {
	if n := OpenFiles(); n > 0 && n < 1<<30 {
		return min(want, max(1, int(n)-min(int(n)/2, spareFiles)))
	}
	return want
}

// ErrEmpty is a file that the classic protocol cannot share.
var ErrEmpty = errors.New("it is empty, and the classic protocol cannot share an empty file")

// ServerError is a swarm server that cannot be reached, or does not let us in.
type ServerError struct {
	Server string
	Err    error
	Looked bool // nobody was found on the local network either
}

func (e *ServerError) Error() string { return "swarm server " + e.Server + ": " + e.Err.Error() }
func (e *ServerError) Unwrap() error { return e.Err }

// ListenError is an address on which the node cannot listen.
type ListenError struct {
	Addr string
	Err  error
}

func (e *ListenError) Error() string { return "listen on " + e.Addr + ": " + e.Err.Error() }
func (e *ListenError) Unwrap() error { return e.Err }

// Config says how a [Node] works.
type Config struct {
	Server    string         // host:port of the swarm server
	Listen    string         // host:port on which to serve, IPv4; empty: every interface, DefaultPort, or any port if that is taken
	Advertise netip.Addr     // address to announce, one of this machine's; the zero Addr: the one from which the server is reached
	Port      uint16         // port to announce; 0: the one that the node listens on
	Listener  net.Listener   // where to serve, instead of Listen
	Up, Down  *throttle.Rate // what is given and fetched at most; nil: any amount
	Log       *slog.Logger
	// Changed is told of a shared file that has changed, and is not served for that reason.
	Changed func(name string, err error)
}

// Node is a running peer.
type Node struct {
	cfg     Config
	log     *slog.Logger
	library *store.Library
	book    *offence.Book
	buffers *peer.Buffers
	members members
	self    atomic.Pointer[netip.AddrPort]
	sent    atomic.Int64
	serving atomic.Int64
	changed sync.Map // names of shared files that have changed, and whose owner was told
}

// New makes a node that does nothing until it is run. Whoever makes one closes it.
func New(cfg Config) *Node {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, library: store.NewLibrary(), book: offence.NewBook(cfg.Log), buffers: peer.NewBuffers(),
	}
	n.members.all, n.members.changed = make(map[netip.AddrPort]struct{}), make(chan struct{})
	return n
}

// Close lets go of the shared files. A node must not be closed while it runs.
func (n *Node) Close() error { return n.library.Close() }

// Share puts a file into the node's library under a name, its own if that is empty. A file that the classic protocol
// cannot share is an error.
func (n *Node) Share(path, name string) (*store.Shared, error) {
	s, err := n.library.Share(path, name)
	if err != nil {
		return nil, err
	}
	_, _, err = classic.Chunks(s.Size)
	switch {
	case err != nil:
	case s.Size == 0:
		err = ErrEmpty
	default:
		err = classic.CheckName(s.Name)
	}
	if err != nil {
		n.library.Unshare(s.Name)
		return nil, fmt.Errorf("share %s: %w", path, err)
	}
	return s, nil
}

// Shares returns what the node shares.
func (n *Node) Shares() []*store.Shared { return n.library.List() }

// Self returns the address that the node has announced; ok is false before it has.
func (n *Node) Self() (a netip.AddrPort, ok bool) {
	if p := n.self.Load(); p != nil {
		return *p, true
	}
	return a, false
}

// Stats are figures of a node at one moment.
type Stats struct {
	Members int
	Serving int   // connections that are being served
	Sent    int64 // bytes of files
	Refused map[string]uint64
}

// Stats returns the node's figures.
func (n *Node) Stats() Stats {
	return Stats{
		Members: len(n.Members()), Serving: int(n.serving.Load()), Sent: n.sent.Load(), Refused: n.book.Counts(),
	}
}

// Run takes part in the swarm for as long as body runs, and returns what body returns; or sooner, with an error, when
// the node cannot listen or enter the swarm. Body runs when the node is in the swarm; its ctx ends when the node cannot go on.
func (n *Node) Run(ctx context.Context, body func(ctx context.Context) error) error {
	ln, err := n.listen(ctx)
	if err != nil {
		return err
	}
	defer ln.Close()
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	if n.cfg.Port != 0 {
		port = n.cfg.Port
	}
	client := swarm.NewClient(swarm.ClientConfig{Server: n.cfg.Server, Local: n.cfg.Advertise, Port: port, Log: n.log})
	entered := make(chan struct{})
	parent := ctx
	g, ctx := errgroup.WithContext(ctx)
	errDone := errors.New("done")
	g.Go(func() error { return n.accept(ctx, ln) })
	g.Go(func() error {
		err := client.Run(ctx, func(e swarm.Event) {
			first := n.hear(e)
			if first {
				close(entered)
			}
		})
		if err != nil {
			return &ServerError{Server: n.cfg.Server, Err: err}
		}
		return nil
	})
	g.Go(func() error {
		select {
		case <-entered:
		case <-ctx.Done():
			return nil
		}
		if err := body(ctx); err != nil {
			return err
		}
		return errDone
	})
	switch err := g.Wait(); {
	case errors.Is(err, errDone):
		return nil
	case err == nil: // ctx ended before body began
		return parent.Err()
	default:
		return err
	}
}

func (n *Node) listen(ctx context.Context) (net.Listener, error) {
	if n.cfg.Listener != nil {
		return n.cfg.Listener, nil
	}
	var lc net.ListenConfig
	addr := n.cfg.Listen
	if addr == "" {
		addr = ":" + strconv.Itoa(DefaultPort)
	}
	ln, err := lc.Listen(ctx, "tcp4", addr)
	if err != nil && n.cfg.Listen == "" {
		ln, err = lc.Listen(ctx, "tcp4", ":0")
	}
	if err != nil {
		return nil, &ListenError{addr, err}
	}
	return ln, nil
}

// hear takes in what the swarm server tells, and says whether this was the first time that we entered.
func (n *Node) hear(e swarm.Event) (first bool) {
	switch e.Kind {
	case swarm.Entered:
		first = n.self.Swap(&e.Addr) == nil
		n.log.Info("in the swarm", "server", n.cfg.Server, "as", e.Addr)
	case swarm.Came:
		if self, _ := n.Self(); e.Addr.Addr().IsLoopback() && !self.Addr().IsLoopback() {
			n.log.Warn("the server names a loopback address, which is not its peer's", "addr", e.Addr)
			break
		}
		n.members.add(e.Addr)
	case swarm.Gone:
		n.members.remove(e.Addr)
	case swarm.Lost:
	}
	return first
}

// accept serves peers until ctx ends.
func (n *Node) accept(ctx context.Context, ln net.Listener) error {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var serving sync.WaitGroup
	defer serving.Wait()
	gate := newGate(affordable(maxConns), affordable(maxConnsPerAddress))
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept: %w", err)
		}
		if err != nil { // a shortage of descriptors or memory, or a peer that was gone at once
			n.log.Error("cannot accept, waiting", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		from := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		pass, reason := gate.enter(from, conn)
		if reason != "" {
			n.book.Note(reason, conn.RemoteAddr().String(), nil)
			conn.Close()
			continue
		}
		pass.known() // there is nothing more to learn of a classic peer
		serving.Go(func() {
			n.serving.Add(1)
			peer.Serve(ctx, conn, n.serveConfig())
			n.serving.Add(-1)
			pass.leave()
		})
	}
}

func (n *Node) serveConfig() peer.ServeConfig {
	return peer.ServeConfig{
		Open: func(name string) (peer.File, bool) {
			s, ok := n.library.Open(name)
			if !ok {
				return peer.File{}, false
			}
			return peer.File{Size: s.Size, Reader: s, Unchanged: s.Unchanged, InPlace: s.InPlace}, true
		},
		Buffers: n.buffers, Book: n.book, Log: n.log, Limit: n.cfg.Up,
		Sent: func(_ string, bytes int) { n.sent.Add(int64(bytes)) },
		Changed: func(name string, err error) {
			if _, told := n.changed.LoadOrStore(name, true); told {
				return // others may ask for it as often as they like
			}
			n.log.Error("shared file has changed, no longer served", "name", name, "err", err)
			if n.cfg.Changed != nil {
				n.cfg.Changed(name, err)
			}
		},
	}
}

// Members returns who else is in the swarm, in order.
func (n *Node) Members() []netip.AddrPort {
	all, _, _ := n.members.watch()
	return all
}

// Settled waits until the server has told nothing new for a while, at most until ctx ends. The protocol does not say when a
// newcomer has been told everything.
// A swarm whose members come and go all the time is not waited for longer than ten times that.
func (n *Node) Settled(ctx context.Context, quiet time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, 10*quiet)
	defer cancel()
	for {
		_, since, changed := n.members.watch()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(time.Until(since.Add(quiet))):
			return
		}
	}
}

// members is who else is in the swarm.
type members struct {
	mu      sync.Mutex // guards what follows
	all     map[netip.AddrPort]struct{}
	since   time.Time        // when all changed last
	changed chan struct{}    // closed when all changes
	sorted  []netip.AddrPort // all in order, nil after a change; never written to once it is handed out
}

func (m *members) add(a netip.AddrPort) { m.change(func() { m.all[a] = struct{}{} }) }

func (m *members) remove(a netip.AddrPort) { m.change(func() { delete(m.all, a) }) }

func (m *members) change(how func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	how()
	m.since, m.sorted = time.Now(), nil
	close(m.changed)
	m.changed = make(chan struct{})
}

// watch returns who is there, since when, and a channel that is closed when that changes.
func (m *members) watch() (all []netip.AddrPort, since time.Time, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sorted == nil {
		m.sorted = slices.SortedFunc(maps.Keys(m.all), netip.AddrPort.Compare)
	}
	if m.since.IsZero() {
		m.since = time.Now()
	}
	return m.sorted, m.since, m.changed
}

// CheckAdvertise says whether an address can be announced: a server refuses one that is not the connection's own.
func CheckAdvertise(a netip.Addr) error {
	if !a.Is4() {
		return fmt.Errorf("%v is not an IPv4 address, the only kind that the classic protocol can name", a)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil // then the dial will tell
	}
	var names []string
	for _, addr := range own {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil && prefix.Addr().Is4() {
			if prefix.Addr() == a || (a.IsLoopback() && prefix.Addr().IsLoopback()) {
				return nil
			}
			names = append(names, prefix.Addr().String())
		}
	}
	return fmt.Errorf("%v is not an address of this machine, which has %v", a, names)
}
