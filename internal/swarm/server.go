package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"shoal/internal/classic"
	"shoal/internal/offence"
	"shoal/internal/throttle"
)

// Bounds of a server. docs/CLASSIC.md section 7.
const (
	// MessageTimeout is how long a peer has for its first message after it connected, and for the rest of a message of
	// which the first byte has come.
	MessageTimeout = 5 * time.Second
	// WriteTimeout is how long a peer may take to accept one write.
	WriteTimeout = 10 * time.Second
	// MaxBatch is the most messages in one write: the original reads them one by one, each with a single read, so a
	// write must fit into one segment of any network.
	MaxBatch = 70
	// MaxBehind is the most changes that may wait for a peer which does not take them.
	MaxBehind = 1 << 16
)

// Reasons for which a server refuses a peer: keys of [Server.Refused].
const (
	RefusedMode     = "mode"          // a mode that is neither add nor remove
	RefusedAddress  = "address"       // an add with an address that is not the connection's own, or is where this server listens
	RefusedOrder    = "order"         // a remove first, a second add, a remove of somebody else
	RefusedSilent   = "silent"        // no whole message within MessageTimeout
	RefusedSlow     = "slow reader"   // took no write within WriteTimeout, or fell MaxBehind behind
	RefusedFull     = "full"          // more connections than MaxMembers
	RefusedTooMany  = "too many"      // more connections from one address than MaxPerAddress, or from its network than half of MaxMembers
	RefusedOften    = "too often"     // more connections came from one address than JoinBurst and JoinRate allow
	RefusedNotIPv4  = "not IPv4"      // the classic protocol cannot name it
	RefusedTrailing = "trailing data" // bytes behind a remove
	RefusedCut      = "cut message"   // the connection ended in the middle of a message
)

// ServerConfig says how a [Server] works. The zero value of each field means the default.
type ServerConfig struct {
	MaxMembers    int                 // connections at once; default 65,536
	MaxPerAddress int                 // connections at once from one address; default 4,096
	JoinBurst     int                 // connections from one address at once, whether they end or not; default MaxPerAddress, at least 256
	JoinRate      int                 // and then per second; default 10
	KeepAlive     net.KeepAliveConfig // how soon a peer is missed whose cable was pulled; default 15 s + 3 x 5 s
	Log           *slog.Logger        // default: none
}

// Server is the swarm server. It tells every member of every other, as they come and go.
//
// A connection costs one goroutine, which waits for the peer's next message, and no buffer. One more goroutine, the
// teller, writes the news to all, without ever waiting for a peer: one whose socket is full gets a goroutine of its own
// until it has caught up, or is dropped.
type Server struct {
	cfg     ServerConfig
	log     *slog.Logger
	refused *offence.Book
	wake    chan struct{} // holds one token when the teller has work

	mu         sync.Mutex // guards what follows, and each member's state
	registry   *Registry
	conns      map[*serverConn]struct{} // all that are open
	perAddress map[netip.Addr]int
	perNetwork map[netip.Addr]int

	visits *throttle.Visits[netip.Addr]
}

// serverConn is one peer's connection. Its fields from member on are guarded by Server.mu.
type serverConn struct {
	net.Conn
	remote  netip.AddrPort
	member  *Member // nil until it has said add
	busy    bool    // a goroutine of its own is writing to it: the teller leaves it alone
	removed bool    // it said remove, or is closed, or is being dropped: it is told nothing more
}

// NewServer makes a server that serves nothing yet.
func NewServer(cfg ServerConfig) *Server {
	if cfg.MaxMembers == 0 {
		cfg.MaxMembers = 65_536
	}
	if cfg.MaxPerAddress == 0 {
		cfg.MaxPerAddress = 4096
	}
	if cfg.JoinBurst == 0 {
		cfg.JoinBurst = max(cfg.MaxPerAddress, 256)
	}
	if cfg.JoinRate == 0 {
		cfg.JoinRate = 10
	}
	if !cfg.KeepAlive.Enable {
		cfg.KeepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		cfg: cfg, log: cfg.Log, refused: offence.NewBook(cfg.Log),
		wake:     make(chan struct{}, 1),
		registry: NewRegistry(), conns: make(map[*serverConn]struct{}), perAddress: make(map[netip.Addr]int),
		perNetwork: make(map[netip.Addr]int), visits: throttle.NewVisits[netip.Addr](cfg.JoinBurst, cfg.JoinRate),
	}
}

// ServerStats are figures of a server at one moment.
type ServerStats struct {
	Connections, Members, Entries int
	Refused                       map[string]uint64
}

// Stats returns the server's figures.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ServerStats{
		Connections: len(s.conns), Members: s.registry.Members(), Entries: s.registry.Entries(), Refused: s.refused.Counts(),
	}
}

// Members returns who is in the swarm, in order.
func (s *Server) Members() (out []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.member != nil && !c.removed {
			out = append(out, c.member.own.addrPort())
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// Serve accepts peers on ln until ctx ends, then closes ln and all connections. It returns when all that it started
// has ended: nil after ctx ended, else what made ln fail.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer s.closeAll()
	defer cancel()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	defer ln.Close()
	running.Go(func() { s.tell(ctx, &running) })
	for {
		conn, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case isShortage(err):
			s.log.Error("cannot accept, waiting", "err", err)
			if !pause(ctx, 100*time.Millisecond) {
				return nil
			}
		case err != nil:
			return fmt.Errorf("accept: %w", err)
		default:
			if c := s.admit(conn); c != nil {
				running.Go(func() { s.serve(c, &running) })
			}
		}
	}
}

// admit takes a new connection into the books, or closes it when there are too many.
func (s *Server) admit(conn net.Conn) *serverConn {
	remote := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	c := &serverConn{Conn: conn, remote: netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())}
	from := c.remote.Addr()
	s.mu.Lock()
	reason := ""
	switch {
	case !from.Is4():
		reason = RefusedNotIPv4
	case len(s.conns) >= s.cfg.MaxMembers:
		reason = RefusedFull
	case s.perAddress[from] >= s.cfg.MaxPerAddress, !from.IsLoopback() && s.perNetwork[throttle.Network(from)] >= s.cfg.MaxMembers/2:
		reason = RefusedTooMany
	case !s.visits.May(from, time.Now()): // whoever comes and goes is told to all, each time
		reason = RefusedOften
	default:
		s.conns[c] = struct{}{}
		s.perAddress[from]++
		s.perNetwork[throttle.Network(from)]++
	}
	s.mu.Unlock()
	if reason != "" {
		s.refused.Note(reason, c.remote.String(), nil)
		conn.Close()
		return nil
	}
	return c
}

// serve takes a peer's add. One that is in the swarm then waits in a goroutine of its own: the stack of this one has
// grown in the meantime, and would stay so for as long as the peer takes part.
func (s *Server) serve(c *serverConn, running *sync.WaitGroup) {
	tune(c.Conn, s.cfg.KeepAlive)
	if reason, err := s.enter(c); err != nil {
		s.end(c, reason, err)
		return
	}
	running.Go(func() { s.stay(c) })
}

// enter reads a peer's add, and brings it into the swarm.
func (s *Server) enter(c *serverConn) (reason string, err error) {
	c.SetReadDeadline(time.Now().Add(MessageTimeout))
	m, reason, err := readMember(c, make([]byte, classic.MemberSize), 0, nil)
	switch {
	case err != nil:
		return reason, err
	case m.Mode != classic.Add:
		return RefusedOrder, errors.New("remove before add")
	case m.Addr.Addr() != c.remote.Addr():
		return RefusedAddress, fmt.Errorf("add of %v", m.Addr)
	case m.Addr.String() == c.LocalAddr().String(): // all others would call us
		return RefusedAddress, errors.New("add of the server's own address")
	}
	c.SetReadDeadline(time.Time{})
	s.mu.Lock()
	c.member = s.registry.Join(m.Addr)
	s.mu.Unlock()
	s.wakeTeller()
	s.log.Info("peer joined", "peer", m.Addr)
	return "", nil
}

// stay waits for as long as a member takes part. It does nothing else, to keep its stack small.
func (s *Server) stay(c *serverConn) {
	b := make([]byte, classic.MemberSize)
	n, err := c.Read(b)
	s.leave(c, b, n, err)
}

// leave reads the rest of a member's last message, of which n bytes have come or which err has ended.
func (s *Server) leave(c *serverConn, b []byte, n int, err error) {
	c.SetReadDeadline(time.Now().Add(MessageTimeout))
	own := c.member.own.addrPort()
	gone, reason, err := readMember(c, b, n, err)
	switch {
	case err != nil:
	case gone.Mode != classic.Remove:
		reason, err = RefusedOrder, fmt.Errorf("second add, of %v", gone.Addr)
	case gone.Addr != own:
		reason, err = RefusedOrder, fmt.Errorf("remove of %v by %v", gone.Addr, own)
	default:
		reason, err = trailing(c)
	}
	s.end(c, reason, err)
}

// end closes a connection, and takes its peer out of the swarm. The reason, if there is one, is noted.
func (s *Server) end(c *serverConn, reason string, err error) {
	c.Close()
	s.mu.Lock()
	c.removed = true
	if c.member != nil {
		s.registry.Leave(c.member)
	}
	delete(s.conns, c)
	less(s.perAddress, c.remote.Addr())
	less(s.perNetwork, throttle.Network(c.remote.Addr()))
	s.mu.Unlock()
	s.wakeTeller()
	if reason != "" {
		s.refused.Note(reason, c.remote.String(), err)
	}
	if c.member != nil {
		how := "said remove"
		if err != nil {
			how = err.Error()
		}
		s.log.Info("peer left", "peer", c.member.own, "how", how)
	}
}

func less(count map[netip.Addr]int, a netip.Addr) {
	if count[a]--; count[a] == 0 {
		delete(count, a)
	}
}

// readMember reads one message into b, of which n bytes have come already, or whose first read ended in err. The reason is
// that for which the peer is to be refused: an end between messages is an error, and no offence.
func readMember(c net.Conn, b []byte, n int, err error) (m classic.Member, reason string, _ error) {
	if err == nil && n == 0 {
		n, err = io.ReadAtLeast(c, b, 1)
	}
	if n > 0 && b[0] > byte(classic.Add) { // nothing that follows is waited for
		return m, RefusedMode, fmt.Errorf("%w: %d", classic.ErrMode, b[0])
	}
	if err == nil && n < len(b) {
		var more int
		more, err = io.ReadFull(c, b[n:])
		n += more
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return m, RefusedSilent, errors.New("no whole message in time")
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		if n > 0 {
			return m, RefusedCut, io.ErrUnexpectedEOF
		}
		return m, "", err
	case err != nil:
		return m, "", err
	}
	m, err = classic.ParseMember(b)
	switch {
	case errors.Is(err, classic.ErrMode):
		return m, RefusedMode, err
	case err != nil:
		return m, RefusedAddress, err
	}
	return m, "", nil
}

// trailing looks, without waiting, whether a peer sent more behind its last message.
func trailing(c net.Conn) (reason string, err error) {
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, _ := c.Read(make([]byte, 1)); n > 0 {
		return RefusedTrailing, errors.New("data behind the remove")
	}
	return "", nil
}

func (s *Server) wakeTeller() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tell is the teller: it writes the news to all members, each time that there is some.
func (s *Server) tell(ctx context.Context, running *sync.WaitGroup) {
	var members, tooSlow []*serverConn
	buf := make([]byte, 0, MaxBatch*classic.MemberSize)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		members, tooSlow = s.withNews(members[:0], tooSlow[:0])
		for _, c := range tooSlow {
			s.drop(c)
		}
		for _, c := range members {
			if rest := s.tellNow(c, buf); rest != nil {
				running.Go(func() { s.tellSlowly(c, rest) })
			}
		}
		clear(members)
		clear(tooSlow)
	}
}

// withNews adds to members who has news and a socket that the teller may write to, and to tooSlow who is too far behind.
func (s *Server) withNews(members, tooSlow []*serverConn) (_, _ []*serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		switch {
		case c.member == nil || c.removed:
		case s.registry.Behind(c.member) > MaxBehind:
			c.removed = true // so that it is dropped once
			tooSlow = append(tooSlow, c)
		case !c.busy && s.registry.News(c.member):
			members = append(members, c)
		}
	}
	return members, tooSlow
}

// next takes the next batch for a member: none when it has been told everything, or is gone.
func (s *Server) next(c *serverConn, buf []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var batch []byte
	if !c.removed {
		batch = s.registry.Next(c.member, buf[:0], MaxBatch)
	}
	if len(batch) == 0 {
		c.busy = false
	}
	return batch
}

// tellNow writes news to a member for as long as its socket takes it. What the socket did not take is returned, and the
// member is then busy.
func (s *Server) tellNow(c *serverConn, buf []byte) (rest []byte) {
	for {
		batch := s.next(c, buf)
		if len(batch) == 0 {
			return nil
		}
		n, err := tryWrite(c.Conn, batch)
		if err != nil {
			c.Close() // its reader sees that, and does the rest
			return nil
		}
		if n < len(batch) {
			s.mu.Lock()
			c.busy = true
			s.mu.Unlock()
			return append([]byte(nil), batch[n:]...)
		}
	}
}

// tellSlowly writes the rest of a batch and then all news to a member whose socket was full, until it has caught up.
func (s *Server) tellSlowly(c *serverConn, rest []byte) {
	buf := make([]byte, 0, MaxBatch*classic.MemberSize)
	for batch := rest; len(batch) > 0; {
		c.SetWriteDeadline(time.Now().Add(WriteTimeout))
		if _, err := c.Write(batch); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.drop(c)
			}
			c.Close()
			return
		}
		c.SetWriteDeadline(time.Time{}) // before the member is handed back to the teller
		batch = s.next(c, buf)
	}
}

// drop closes a member's connection because it does not read.
func (s *Server) drop(c *serverConn) {
	s.refused.Note(RefusedSlow, c.remote.String(), nil)
	c.Close()
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

func pause(ctx context.Context, d time.Duration) (goOn bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
