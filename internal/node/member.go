package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"shoal/internal/content"
	"shoal/internal/exchange"
	"shoal/internal/identity"
	"shoal/internal/offence"
	"shoal/internal/peer"
	"shoal/internal/store"
	"shoal/internal/swarm"
	"shoal/internal/throttle"
	"shoal/internal/wire"

	"golang.org/x/sync/errgroup"
)

// MemberConfig says how a [Member] works.
type MemberConfig struct {
	Swarm   *identity.Swarm
	Servers []string     // host:port of the swarm's servers; empty: those that the swarm's folder names
	Listen  string       // host:port on which to serve; empty: every interface, DefaultPort, or any port if that is taken
	Name    string       // of this machine, for people
	Agent   string       // program and version, for people
	Site    string       // where it is: between sites each piece crosses about once; empty: nowhere in particular
	Cache   *store.Cache // of hashes; nil: none
	// LimitUp and LimitDown are the bytes per second that are given and fetched at most, over all contents, neighbours and protocols; 0: no limit.
	LimitUp, LimitDown int64
	// LimitPeerUp and LimitPeerDown are those that any one neighbour is given, and is asked for; not with the classic protocol.
	LimitPeerUp, LimitPeerDown int64
	Classic                    *Config // to be a peer of the classic swarm on the same port too; nil: not
	LAN                        LANMode // what it does on the local network; not with Classic
	Patient                    bool    // no server need be there at the beginning: body begins at once
	Log                        *slog.Logger
	Offences                   *slog.Logger // of what others do wrong; nil: Log
	// Warn is told what the user should know and can do nothing about here.
	Warn func(text string)
	// Closed is told once if nobody has connected for a while and the server cannot connect either; nil: that is not looked for.
	Closed func(port int)
	// Announce is the port of another process of the same peer, to be announced instead of the member's own: of one that only asks. 0: its own.
	Announce uint16
}

// Member is a running peer of a swarm: it shares, fetches, and passes on.
type Member struct {
	cfg      MemberConfig
	self     wire.PeerID
	instance uint64
	began    time.Time
	book     *offence.Book
	x        *exchange.Exchange
	up, down *throttle.Rate // shared by all that gives and fetches
	client   *swarm.V2Client
	ss       *sessions
	near     *near
	classic  *Node
	gate     *gate
	port     atomic.Uint32
	bodies   atomic.Int64  // served over HTTP at this moment
	local    atomic.Bool   // the server is reached over loopback
	entered  chan struct{} // closed when the server has let us in, or the work may begin without
	enterOne sync.Once
	away     atomic.Bool               // the server has not let us in, or was lost
	serverAt atomic.Pointer[time.Time] // when the server began; nil: none has let us in

	reachAfter time.Duration

	mu      sync.Mutex // guards what follows
	shares  map[content.ID]*Sharing
	spare   []*Sharing // of contents that are given already
	fetches map[content.ID]bool
}

// Sharing is a content that a member has whole, and gives. A member may have very many.
type Sharing struct {
	Name     string
	Path     string
	Manifest *content.Manifest // a bare one, unless it is not kept on disk
	Hit      bool              // its hash was known
	Kind     wire.Kind
	Copies   atomic.Int64
	Changed  func(error)  // told that the file is another now, and is not given any more; set between Prepare and Give, nil: Warn is
	record   *wire.Record // that is to be offered; nil: it was, or this peer may not offer
	source   source
	content  atomic.Pointer[exchange.Content] // nil: it rests
	sent     atomic.Int64                     // bytes, before it rested last
	copied   chan struct{}                    // holds one: a copy was given; nil: nobody wants to know
}

// source is a file or a directory that is given.
type source interface {
	peer.Source
	CheckPiece(piece uint32) error
	Whole(ctx context.Context) (*content.Manifest, error)
	Same() bool
	Rest()
	Close() error
}

// Copied is told each time that another has got all of it, of what [Member.Share] or [Member.ShareDir] has made.
func (s *Sharing) Copied() <-chan struct{} { return s.copied }

// Own returns why the file is not to be shared unasked, if others can write to its folder.
func (s *Sharing) Own() error {
	if f, is := s.source.(*store.SharedFile); is {
		return f.Own()
	}
	return nil
}

// Progress returns the exchange as it was a moment ago.
func (s *Sharing) Progress() (p exchange.Progress) {
	if c := s.content.Load(); c != nil {
		p = c.Progress()
	}
	p.Sent += s.sent.Load()
	return p
}

// NewMember makes a member that does nothing until it is run. Whoever makes one closes it.
func NewMember(cfg MemberConfig) *Member {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Offences == nil {
		cfg.Offences = cfg.Log
	}
	if cfg.Warn == nil {
		cfg.Warn = func(string) {}
	}
	m := &Member{
		cfg: cfg, self: cfg.Swarm.Self(), instance: rand.Uint64(), began: time.Now(), book: offence.NewBook(cfg.Offences),
		entered: make(chan struct{}), shares: make(map[content.ID]*Sharing), fetches: make(map[content.ID]bool), reachAfter: reachAfter,
		gate: newGate(affordable(maxConns), affordable(maxConnsPerAddress)),
	}
	m.away.Store(true)
	m.up, m.down = throttle.New(0), throttle.New(0)
	m.x = exchange.New(exchange.Config{Seed: m.instance, Log: cfg.Log, Site: cfg.Site, Self: m.self, Instance: m.instance, Whole: m.whole})
	m.SetLimits(cfg.LimitUp, cfg.LimitDown)
	m.ss, m.near = newSessions(m), newNear(m)
	m.SetPeerLimits(cfg.LimitPeerUp, cfg.LimitPeerDown)
	if cfg.Classic != nil {
		old := *cfg.Classic
		old.Up, old.Down = m.up, m.down
		m.classic = New(old)
	}
	return m
}

// Classic returns the classic peer that this member is as well; nil if it is none.
func (m *Member) Classic() *Node { return m.classic }

// SetLimits changes the bytes per second that are given and fetched at most; 0: no limit. It may be called at any time.
func (m *Member) SetLimits(up, down int64) {
	m.up.Set(up)
	m.down.Set(down)
	m.x.SetLimits(up, down)
}

// SetPeerLimits changes the bytes per second that any one neighbour is given, and is asked for, at most; 0: no limit. It may be called at any time.
func (m *Member) SetPeerLimits(up, down int64) {
	m.ss.setLimit(up)
	m.x.SetPeerLimits(up, down)
}

// Close lets go of the shared files. A member must not be closed while it runs.
func (m *Member) Close() error {
	m.mu.Lock()
	all := append(slices.Collect(maps.Values(m.shares)), m.spare...)
	m.shares, m.spare = make(map[content.ID]*Sharing), nil
	m.mu.Unlock()
	var errs []error
	for _, s := range all {
		errs = append(errs, s.source.Close())
	}
	if m.classic != nil {
		errs = append(errs, m.classic.Close())
	}
	return errors.Join(errs...)
}

func (m *Member) hello() wire.Hello {
	return wire.Hello{
		Version: 1, Features: wire.FeatureSeek, Agent: m.cfg.Agent, Name: m.cfg.Name, Instance: m.instance, Port: uint16(m.port.Load()), Site: m.cfg.Site,
	}
}

// Self returns the member's id.
func (m *Member) Self() wire.PeerID { return m.self }

// Addr returns one host:port at which others can dial this member.
func (m *Member) Addr() string {
	if a := m.addrs(m.local.Load()); len(a) > 0 {
		return a[0]
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.Port()))
}

// Port returns the port that the member listens on.
func (m *Member) Port() int { return int(m.port.Load()) }

// Run takes part in the swarm for as long as body runs, which begins once the server has let us in, and returns what body
// returns; or sooner, with an error, when the member cannot listen or enter. On the local network it also begins when no server answers.
func (m *Member) Run(ctx context.Context, body func(ctx context.Context) error) error {
	ln, err := m.listen()
	if err != nil {
		return err
	}
	defer ln.Close()
	m.port.Store(uint32(ln.Addr().(*net.TCPAddr).Port))
	if m.cfg.Announce != 0 {
		m.port.Store(uint32(m.cfg.Announce))
	}
	m.near.prepare(ln.Addr().(*net.TCPAddr))
	m.client = swarm.NewV2Client(swarm.V2ClientConfig{
		Dial: m.dial, Hello: m.hello(), Log: m.cfg.Log, Removals: m.cfg.Swarm.Removals, Absent: m.near.absent, Patient: m.cfg.Patient,
	})
	parent := ctx
	g, ctx := errgroup.WithContext(ctx)
	errDone := errors.New("done")
	g.Go(func() error { return m.x.Run(ctx) })
	g.Go(func() error { m.ss.run(ctx); return nil })
	g.Go(func() error { m.near.run(ctx); return nil })
	if m.cfg.Closed != nil {
		g.Go(func() error { m.watchReach(ctx); return nil })
	}
	g.Go(func() error {
		if err := m.client.Run(ctx, m.hear); err != nil {
			return &ServerError{Server: strings.Join(m.servers(), ","), Err: err}
		}
		return nil
	})
	mux := &port{
		tls: m.cfg.Swarm.ServerConfig(), book: m.book, log: m.cfg.Log, frames: m.ss.accept, http: m.contents(),
		gate: m.gate,
	}
	inClassic := make(chan struct{})
	if m.classic == nil {
		close(inClassic)
	} else {
		q := newQueue(ln.Addr())
		mux.classic = q.serveClassic
		m.classic.cfg.Listener, m.classic.cfg.Port = q, uint16(m.port.Load())
		g.Go(func() error {
			return m.classic.Run(ctx, func(ctx context.Context) error {
				close(inClassic)
				<-ctx.Done()
				return nil
			})
		})
	}
	g.Go(func() error { return mux.serve(ctx, ln) })
	g.Go(func() error {
		in := m.entered
		if m.cfg.Patient {
			in = inClassic
		}
		for _, in := range []chan struct{}{in, inClassic} {
			select {
			case <-in:
			case <-ctx.Done():
				return nil
			}
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
		return context.Cause(parent)
	default:
		return err
	}
}

func (m *Member) listen() (net.Listener, error) {
	if m.cfg.Listen != "" {
		ln, err := net.Listen("tcp", m.cfg.Listen)
		if err != nil {
			return nil, &ListenError{m.cfg.Listen, err}
		}
		return ln, nil
	}
	ln, err := net.Listen("tcp", ":"+strconv.Itoa(DefaultPort)) // #nosec G102 -- others are to reach it; --listen says otherwise
	if errors.Is(err, syscall.EADDRINUSE) {
		ln, err = net.Listen("tcp", ":0") // #nosec G102 -- so is it here
	}
	if err != nil {
		return nil, &ListenError{":" + strconv.Itoa(DefaultPort), err}
	}
	return ln, nil
}

// dial connects to a server of the swarm.
func (m *Member) dial(ctx context.Context) (*swarm.V2Link, error) {
	link, err := m.near.dialServers(ctx)
	if err == nil {
		m.local.Store(isLocal(link.Conn))
	}
	return link, err
}

func isLocal(c net.Conn) bool {
	return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().IsLoopback()
}

// servers returns where the swarm's servers are. The folder is read anew each time: a server that begins beside us writes it.
func (m *Member) servers() []string {
	if len(m.cfg.Servers) > 0 {
		return m.cfg.Servers
	}
	return m.cfg.Swarm.Servers()
}

// dialServers connects to the first server that answers where one is known to be.
func (m *Member) dialServers(ctx context.Context) (*swarm.V2Link, error) {
	known := m.servers()
	if len(known) == 0 {
		return nil, errors.New("no server of this swarm is known")
	}
	return first(ctx, known, m.dialServer, func(link *swarm.V2Link) { link.Conn.Close() })
}

// dialServer connects to a server.
func (m *Member) dialServer(ctx context.Context, addr string) (*swarm.V2Link, error) {
	tc, under, err := dialTLS(ctx, addr, m.cfg.Swarm.ClientConfig(identity.Peer{Server: true}))
	if err != nil {
		return nil, err
	}
	return &swarm.V2Link{Conn: tc, Flush: under.Flush, Addrs: m.addrs(isLocal(tc))}, nil
}

// addrs returns where this member can be dialled: at the addresses of its interfaces, at loopback exactly when the server
// is reached over it.
func (m *Member) addrs(local bool) (out []string) {
	port := uint16(m.port.Load())
	if host, _, err := net.SplitHostPort(m.cfg.Listen); err == nil && host != "" {
		if a, err := netip.ParseAddr(host); err == nil && !a.IsUnspecified() {
			return []string{netip.AddrPortFrom(a, port).String()}
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil // the server knows from where we come
	}
	for _, a := range own {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := prefix.Addr().Unmap()
		if ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsLoopback() != local || len(out) == 8 {
			continue
		}
		out = append(out, netip.AddrPortFrom(ip, port).String())
	}
	return out
}

// mayDial says whether an address that a server named may be dialled: loopback only when the server itself is there.
func (m *Member) mayDial(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	if err != nil || a.Port() == 0 || !swarm.IsPlace(a.Addr()) {
		return false
	}
	return !a.Addr().Unmap().IsLoopback() || m.local.Load()
}

// hear takes in what the server tells.
func (m *Member) hear(e swarm.V2Event) {
	switch {
	case e.Entered != nil:
		m.away.Store(false)
		began := time.Now().Add(-e.Entered.Age)
		m.serverAt.Store(&began)
		m.near.rest()
		m.enterOne.Do(func() { close(m.entered) })
	case e.Lost != nil:
		m.away.Store(true)
		m.near.look(e.Lost)
		m.cfg.Log.Warn("lost the swarm server, coming back", "err", e.Lost)
	case e.Peers != nil:
		m.ss.heard(e.Peers)
	case e.Removed != nil:
		if n, err := m.cfg.Swarm.Merge(e.Removed); err != nil {
			m.cfg.Log.Error("cannot keep removals", "err", err)
		} else if n > 0 {
			m.ss.cutRemoved()
		}
	}
}

// Share hashes a file, unless its hash is known, and gives it to whoever asks. Name is the file's own if it is empty; progress
// is told how many bytes were hashed.
func (m *Member) Share(ctx context.Context, path, name string, progress func(bytes int64)) (*Sharing, error) {
	s, err := m.Prepare(ctx, path, name, progress)
	if err != nil {
		return nil, err
	}
	s.copied = make(chan struct{}, 1)
	m.Give(s)
	return s, nil
}

// Prepare is the first half of [Member.Share]: the file is hashed, and nobody is told.
func (m *Member) Prepare(ctx context.Context, path, name string, progress func(bytes int64)) (*Sharing, error) {
	if name == "" {
		name = filepath.Base(path)
	}
	if err := wire.CheckName(name); err != nil {
		return nil, fmt.Errorf("share %s: %w", path, err)
	}
	shared, hit, err := store.ShareFile(ctx, path, m.cfg.Cache, progress)
	if err != nil {
		return nil, err
	}
	s := &Sharing{Name: name, Path: path, Manifest: shared.Manifest, Hit: hit, source: shared}
	return s, m.sign(s)
}

// sign makes the offer of what is given.
func (m *Member) sign(s *Sharing) error {
	if m.cfg.Swarm.Role() == identity.Reader {
		return nil
	}
	r, err := m.cfg.Swarm.Sign(wire.Record{Name: s.Name, ID: s.Manifest.ID, Size: s.Manifest.Geo.Size, Kind: s.Kind})
	s.record = &r
	return err
}

// whole returns what is exchanged of a content that is given; nil if it is not. The exchange asks.
func (m *Member) whole(id content.ID) *exchange.Content {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shares[id]
	if s == nil {
		return nil
	}
	c := s.content.Load()
	if c == nil {
		c = m.newContent(s)
		s.content.Store(c)
	}
	return c
}

// gives says whether a content is given.
func (m *Member) gives(id content.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.shares[id] != nil
}

// neighboursOf returns how many exchange a content with us, also such as the server has not named.
func (m *Member) neighboursOf(id content.ID) int {
	if m.x == nil {
		return 0
	}
	return m.x.Neighbours(id)
}

// newContent makes what is exchanged of a content, until it rests.
func (m *Member) newContent(s *Sharing) *exchange.Content {
	id := s.Manifest.ID
	c := &exchange.Content{
		ID: id, Manifest: s.Manifest, Source: s.source, Check: s.source.CheckPiece, Load: s.source.Whole,
		Changed: func(err error) {
			m.mu.Lock()
			if m.shares[id] == s { // it can be shared again
				delete(m.shares, id)
			}
			m.mu.Unlock()
			if s.Changed != nil {
				s.Changed(err)
			} else {
				m.cfg.Warn(fmt.Sprintf("%s is not shared any more: %v", s.Name, err))
			}
			m.client.Retract(id)
		},
		Copied: func(string) {
			s.Copies.Add(1)
			select {
			case s.copied <- struct{}{}:
			default:
			}
		},
		Complete: func() {}, Fetched: func(*content.Manifest) {}, Failed: func(error) {},
	}
	c.Rest = func() (then func()) {
		s.sent.Add(c.Progress().Sent)
		s.content.Store(nil)
		return s.source.Rest
	}
	return c
}

// Give is the second half of [Member.Share]: whoever asks gets it from now on.
func (m *Member) Give(s *Sharing) {
	id := s.Manifest.ID
	m.mu.Lock()
	twice := m.shares[id] != nil
	if twice {
		m.spare = append(m.spare, s)
	} else {
		m.shares[id] = s
	}
	m.mu.Unlock()
	if !twice {
		m.x.Wake(id)
		m.client.Hold(id, s.Manifest.Geo.Size, true)
		m.client.Follow(id, true)
	}
	m.OfferName(s)
}

// ServerAge returns how long the server has been running; 0 if none has let us in.
func (m *Member) ServerAge() time.Duration {
	if began := m.serverAt.Load(); began != nil {
		return time.Since(*began)
	}
	return 0
}

// Sent returns the bytes of pieces that were given.
func (m *Member) Sent() int64 { return m.x.Sent() }

// Sessions returns how many connections to other peers are open.
func (m *Member) Sessions() int { return m.ss.count() }
