package swarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"shoal/internal/offence"
	"shoal/internal/throttle"
	"shoal/internal/wire"
)

const (
	// Rates of control frames that are taken of one connection, per second and at once: a peer that comes back with ten thousand
	// contents has three for each.
	v2Rate  = 500
	v2Burst = 32768
	// Rates of retracts, of which each is told to all who follow the content: who holds all that one may hold can let go of it at once.
	retractRate  = 20
	retractBurst = MaxHolds
	// turnsAtOnce and turnsRate are how often one peer may let go of something, in all its connections, before nobody is told any more of what it holds next; that
	// ends when it has let go of nothing beyond that for turnsCalm. Each is told to all who follow.
	turnsAtOnce = 256
	turnsRate   = 4
	turnsCalm   = 10 * time.Second
	// maxInstances bounds the connections of one peer, however many processes it says to be: its part of each draw is bounded by that.
	maxInstances = 64
	// enterRate is how often one peer may enter per second, beyond four times maxInstances at once.
	enterRate = 30
	// v2Look is how often the server looks for removals that another process wrote.
	v2Look = time.Second
)

// Reasons for which the server ends a v2 connection.
const (
	RefusedV2Order   = "v2 order"
	RefusedV2Frame   = "v2 frame"
	RefusedV2Flood   = "v2 flood"
	RefusedV2Slow    = "v2 slow"
	RefusedV2Record  = "v2 record"
	RefusedV2Removed = "v2 removed"
	RefusedV2Many    = "v2 too many" // connections of one peer, or it enters too often
)

// V2Config says how a [V2] works. The functions are identity's.
type V2Config struct {
	Self     wire.PeerID
	Hello    wire.Hello
	Verify   func(*wire.Record) (by wire.PeerID, err error)
	Removed  func(wire.PeerID) bool
	Removals func() [][]byte
	Merge    func([][]byte) (added int)
	Members  func() []wire.Member    // all who ever joined
	Classic  func() []netip.AddrPort // classic members; nil: none
	Log      *slog.Logger
	Book     *offence.Book
	// Reach connects to a peer and makes sure that it is that one; nil: the server does not tell members whether they can be reached.
	Reach func(ctx context.Context, addr string, id wire.PeerID) error
}

// V2 is the server's side of our own protocol: it keeps one [Table] and the connections around it.
type V2 struct {
	cfg   V2Config
	began time.Time

	mu      sync.Mutex // guards what follows
	table   *Table
	members map[PeerKey]*v2member
	of      map[wire.PeerID]int       // how many of members are of a peer
	told    int                       // removals that everybody has been told
	flaps   map[wire.PeerID]time.Time // until when nobody is told of what one holds, since it comes and goes too often
	// activity is what people are told of.
	activity activity

	reaching chan struct{} // holds one for each attempt under way to reach a member
	entering *throttle.Visits[wire.PeerID]
	turns    *throttle.Visits[wire.PeerID]

	retractBurst float64 // for tests
}

// v2member is one connection that has entered.
type v2member struct {
	*v2conn
	key   PeerKey
	reach *reach
}

// NewV2 makes a server without connections.
func NewV2(cfg V2Config) *V2 {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Book == nil {
		cfg.Book = offence.NewBook(cfg.Log)
	}
	return &V2{
		cfg: cfg, began: time.Now(), members: make(map[PeerKey]*v2member),
		table: NewTable(rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))), told: len(cfg.Removals()),
		reaching: make(chan struct{}, maxReaching), of: make(map[wire.PeerID]int),
		entering: throttle.NewVisits[wire.PeerID](4*maxInstances, enterRate),
		turns:    throttle.NewVisits[wire.PeerID](turnsAtOnce, turnsRate), flaps: make(map[wire.PeerID]time.Time),
		retractBurst: retractBurst,
	}
}

// Run tells everybody of removals until ctx ends.
func (s *V2) Run(ctx context.Context) {
	ticker := time.NewTicker(v2Look)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.tellRemovals()
			s.calm()
		}
	}
}

// calm tells of what those hold who came and went too often, when they have been quiet for long enough.
func (s *V2) calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for id, until := range s.flaps {
		if now.Before(until) {
			continue
		}
		delete(s.flaps, id)
		for k := range s.members {
			if k.ID == id {
				s.tell(s.table.Quiet(k, false))
			}
		}
	}
}

// lets takes in that one lets go of something. s.mu is held.
func (s *V2) lets(id wire.PeerID) {
	if now := time.Now(); !s.turns.May(id, now) {
		s.flaps[id] = now.Add(turnsCalm)
	}
}

// tellRemovals pushes removals that are new, and ends the connections of those who are removed.
func (s *V2) tellRemovals() {
	all := s.cfg.Removals()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(all) <= s.told {
		return
	}
	news := all[s.told:]
	s.told = len(all)
	for _, m := range s.members {
		if s.cfg.Removed(m.key.ID) {
			m.end(&wire.Bye{Reason: wire.ReasonRemoved, Text: "this machine was removed from the swarm"}, errV2Removed)
			continue
		}
		for part := range slices.Chunk(news, wireStatements) {
			m.send(&wire.Removed{Statements: part})
		}
	}
}

// wireStatements is how many statements go into one message.
const wireStatements = 14

// Serve converses with one member until the connection or ctx ends. Its TLS is done, and it is who it says.
func (s *V2) Serve(ctx context.Context, conn net.Conn, id wire.PeerID, role string) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	c := newV2conn(conn, nil)
	c.fail, c.every = fail, v2Patience
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() {
		conn.SetReadDeadline(time.Unix(1, 0))
		conn.SetWriteDeadline(time.Now().Add(v2Bye))
		c.kick()
	})
	defer stop()
	m, err := s.enter(ctx, c, id, role)
	if err == nil {
		var writer sync.WaitGroup
		writer.Go(func() {
			if err := c.write(ctx); err != nil {
				fail(err)
			}
		})
		s.cfg.Log.Info("member entered", "peer", idText(id), "role", role, "addr", conn.RemoteAddr().String())
		err = s.converse(ctx, m)
		fail(err)
		m.reach.running.Wait()
		writer.Wait()
		s.leave(m)
		s.cfg.Log.Info("member left", "peer", idText(id), "how", context.Cause(ctx))
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if reason := reasonOfEnd(err); reason != "" {
		s.cfg.Book.Note(reason, conn.RemoteAddr().String(), err)
	}
}

func idText(id wire.PeerID) string { return fmt.Sprintf("%x", id[:5]) }

var (
	errV2Flood   = errors.New("too many messages")
	errV2Many    = errors.New("too many connections of one peer")
	errV2Removed = errors.New("removed")
)

func reasonOfEnd(err error) string {
	switch {
	case errors.Is(err, errV2Order):
		return RefusedV2Order
	case errors.Is(err, wire.ErrMessage), errors.Is(err, wire.ErrLong), errors.Is(err, wire.ErrShort), errors.Is(err, wire.ErrType):
		return RefusedV2Frame
	case errors.Is(err, errV2Flood):
		return RefusedV2Flood
	case errors.Is(err, errV2Outbox):
		return RefusedV2Slow
	case errors.Is(err, errV2Many):
		return RefusedV2Many
	}
	return ""
}

// enter exchanges hellos, and brings a member in.
func (s *V2) enter(ctx context.Context, c *v2conn, id wire.PeerID, role string) (*v2member, error) {
	hello, enter, err := s.greet(ctx, c, id)
	if err != nil {
		return nil, err
	}
	m := &v2member{v2conn: c, key: PeerKey{id, hello.Instance}, reach: newReach(c.RemoteAddr(), hello.Port, enter.Addrs)}
	if bye, err := s.admit(m, role, hello, enter); err != nil {
		c.SetWriteDeadline(time.Now().Add(v2Bye))
		_ = c.now(bye)
		return nil, err
	}
	c.SetWriteDeadline(time.Now().Add(v2Dead))
	for part := range slices.Chunk(s.cfg.Removals(), wireStatements) { // all of them may be more than an outbox holds
		if err := c.now(&wire.Removed{Statements: part}); err != nil {
			s.leave(m)
			return nil, err
		}
	}
	return m, nil
}

// greet exchanges the messages that come before a peer is in: hello both ways, use and enter. It may take v2HelloTime in all.
func (s *V2) greet(ctx context.Context, c *v2conn, id wire.PeerID) (*wire.Hello, *wire.Enter, error) {
	c.SetDeadline(time.Now().Add(v2HelloTime))
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	own := s.cfg.Hello
	own.Age = uint64(time.Since(s.began).Milliseconds())
	if s.cfg.Reach != nil {
		own.Features |= wire.FeatureReach
	}
	if err := c.now(&own); err != nil {
		return nil, nil, err
	}
	msg, err := c.receive()
	if err != nil {
		return nil, nil, err
	}
	hello, ok := msg.(*wire.Hello)
	if !ok {
		return nil, nil, fmt.Errorf("%w: a %T before hello", errV2Order, msg)
	}
	if hello.Version != v2Version {
		_ = c.now(&wire.Bye{Reason: wire.ReasonVersion})
		return nil, nil, errors.New("no common version")
	}
	if s.cfg.Removed(id) {
		_ = c.now(&wire.Bye{Reason: wire.ReasonRemoved})
		return nil, nil, errV2Removed
	}
	if err := c.now(&wire.Use{}); err != nil {
		return nil, nil, err
	}
	if msg, err = c.receive(); err != nil {
		return nil, nil, err
	}
	enter, ok := msg.(*wire.Enter)
	if !ok {
		return nil, nil, fmt.Errorf("%w: a %T before enter", errV2Order, msg)
	}
	if len(enter.Removals) > 0 {
		s.cfg.Merge(enter.Removals)
	}
	c.SetDeadline(time.Time{})
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	return hello, enter, nil
}

// admit takes a peer in, and tells the others; or it says why not, and what the peer is told of it.
func (s *V2) admit(m *v2member, role string, hello *wire.Hello, enter *wire.Enter) (*wire.Bye, error) {
	id, addrs := m.key.ID, dialable(m.RemoteAddr(), hello.Port, enter.Addrs)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Removed(id) { // while it took its time; the next one who is removed would be told to those who are in
		return &wire.Bye{Reason: wire.ReasonRemoved}, errV2Removed
	}
	old := s.members[m.key]
	if old == nil && s.of[id] >= maxInstances || !s.entering.May(id, time.Now()) {
		return &wire.Bye{Reason: wire.ReasonLimit, Text: errV2Many.Error()}, errV2Many
	}
	if old != nil { // it has come back before we saw it go
		old.end(&wire.Bye{Reason: wire.ReasonDuplicate}, errors.New("replaced by a newer connection"))
		s.tell(s.table.Leave(m.key))
	} else {
		s.of[id]++
	}
	s.members[m.key] = m
	s.table.Enter(m.key, role, hello.Name, hello.Agent, addrs)
	s.table.SetSite(m.key, hello.Site)
	s.happened(NewsJoined, m.key, "")
	return nil, nil
}

// dialable returns where a peer can be dialled: at the address from which it has come, and at those that it names. Loopback
// is for those who come over loopback.
func dialable(from net.Addr, port uint16, named []string) (out []string) {
	var remote netip.Addr
	if a, ok := from.(*net.TCPAddr); ok {
		remote = a.AddrPort().Addr().Unmap()
	}
	if port == 0 {
		return nil
	}
	if IsPlace(remote) { // a link-local one means nothing elsewhere
		out = append(out, netip.AddrPortFrom(remote, port).String())
	}
	for _, s := range named {
		a, err := netip.ParseAddrPort(s)
		if err != nil || a.Port() != port || !IsPlace(a.Addr()) || a.Addr().Unmap().IsLoopback() && !remote.IsLoopback() {
			continue
		}
		if s = netip.AddrPortFrom(a.Addr().Unmap(), port).String(); !slices.Contains(out, s) && len(out) < 9 {
			out = append(out, s)
		}
	}
	return out
}

// IsPlace says whether an address that somebody names can be one machine's, wherever it is heard. An IPv4 address in the clothes of an IPv6 one is judged as
// what it is: to dial ::ffff:0.0.0.0 is to dial oneself.
func IsPlace(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return false
	}
	return !a.Is4() || a.As4()[0] > 0 && a.As4()[0] < 240
}

func (s *V2) leave(m *v2member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.members[m.key] == m {
		delete(s.members, m.key)
		if s.of[m.key.ID]--; s.of[m.key.ID] == 0 {
			delete(s.of, m.key.ID)
		}
		s.happened(NewsLeft, m.key, "")
		s.lets(m.key.ID)
		s.tell(s.table.Leave(m.key))
	}
}

// tell sends what the table wants to be told. s.mu is held.
func (s *V2) tell(told []Told) {
	for _, t := range told {
		if m := s.members[t.To]; m != nil {
			m.send(t.Msg)
		}
	}
}

// converse takes a member's messages until it goes.
func (s *V2) converse(ctx context.Context, m *v2member) error {
	all, retracts := newBucket(v2Burst, v2Rate), newBucket(s.retractBurst, retractRate)
	for {
		m.SetReadDeadline(time.Now().Add(v2Dead))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		msg, err := m.receive()
		if err != nil {
			return err
		}
		_, retracted := msg.(*wire.Retract)
		if now := time.Now(); !all.take(now) || retracted && !retracts.take(now) {
			m.end(&wire.Bye{Reason: wire.ReasonLimit}, errV2Flood)
			return errV2Flood
		}
		if q, ok := msg.(*wire.Reach); ok {
			s.tryReach(ctx, m, q)
		} else if err := s.take(m, msg); err != nil {
			return err
		}
	}
}

// bucket is how much of something one may do: so much at once, and then per second.
type bucket struct {
	most, perSecond, left float64
	last                  time.Time
}

func newBucket(most, perSecond float64) *bucket {
	return &bucket{most: most, perSecond: perSecond, left: most, last: time.Now()}
}

func (b *bucket) take(now time.Time) bool {
	b.left = min(b.most, b.left+now.Sub(b.last).Seconds()*b.perSecond) - 1
	b.last = now
	return b.left >= 0
}

// take handles one message of a member.
func (s *V2) take(m *v2member, msg wire.Message) error {
	now := int64(time.Since(s.began).Seconds())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.members[m.key] != m {
		return errors.New("replaced by a newer connection")
	}
	switch q := msg.(type) {
	case *wire.Ping:
		m.send(&wire.Pong{Number: q.Number})
	case *wire.Pong:
	case *wire.Bye:
		return &byeError{q.Reason, q.Text}
	case *wire.Leave:
		return &byeError{wire.ReasonClosing, "leave"}
	case *wire.Hold:
		if s.table.completes(m.key, q.ID, q.All) {
			s.happened(NewsCompleted, m.key, s.table.nameOf(q.ID))
		}
		if !s.flaps[m.key.ID].IsZero() {
			s.table.Quiet(m.key, true)
		}
		told, err := s.table.Hold(m.key, q.ID, q.Size, q.All)
		s.tell(told)
		s.refuse(m, 0, err)
	case *wire.Retract:
		s.lets(m.key.ID)
		s.tell(s.table.Retract(m.key, q.ID))
	case *wire.Offer:
		s.mu.Unlock() // signatures take time
		by, err := s.cfg.Verify(&q.Record)
		s.mu.Lock()
		if err != nil { // it may be a repeated record of one who was removed since: that is not the holder's mistake
			s.cfg.Book.Note(RefusedV2Record, m.RemoteAddr().String(), err)
			s.refuse(m, 0, err)
			return nil
		}
		if s.members[m.key] != m {
			return errors.New("replaced by a newer connection")
		}
		s.refuse(m, 0, s.table.Offer(m.key, q.Record, by, now))
	case *wire.Find:
		m.send(s.table.Find(q, now))
	case *wire.List:
		m.send(s.table.List(q, now))
	case *wire.Follow:
		if !q.On {
			s.table.Unfollow(m.key, q.ID)
			return nil
		}
		peers, err := s.table.Follow(m.key, q.ID)
		if peers != nil {
			m.send(peers)
		}
		s.refuse(m, 0, err)
	case *wire.Who:
		m.send(s.who(q))
	case *wire.Removed:
		s.cfg.Merge(q.Statements)
	default:
		return fmt.Errorf("%w: a %T", errV2Order, msg)
	}
	return nil
}

// refuse tells a member that a bound was reached.
func (s *V2) refuse(m *v2member, query uint64, err error) {
	if err != nil {
		m.send(&wire.Failed{Query: query, Reason: wire.ReasonLimit, Text: cutText(err.Error())})
	}
}

func cutText(s string) string { return s[:min(len(s), 200)] }

// who answers who is there. Classic peers and those who are not connected follow on the last pages.
func (s *V2) who(q *wire.Who) *wire.There {
	if len(q.After) == 0 || len(q.After) == 40 {
		there := s.table.Who(q)
		if len(there.More) > 0 {
			return there
		}
		there.More = s.moreWho(q, 0)
		return there
	}
	rest := s.absent(q)
	from := 0
	for _, b := range q.After {
		from = from<<8 | int(b)
	}
	there := &wire.There{Query: q.Query}
	if from < len(rest) {
		there.Members = rest[from:min(from+pageMembers, len(rest))]
	}
	there.More = s.moreWho(q, from+len(there.Members))
	return there
}

// moreWho returns where the next page of those who are no v2 connections begins, nil if there is none.
func (s *V2) moreWho(q *wire.Who, from int) []byte {
	if from >= len(s.absent(q)) {
		return nil
	}
	return []byte{byte(from >> 24), byte(from >> 16), byte(from >> 8), byte(from)}
}

// absent returns the classic members, and with All those who joined and are not connected.
func (s *V2) absent(q *wire.Who) (out []wire.Member) {
	if s.cfg.Classic != nil {
		for _, a := range s.cfg.Classic() {
			out = append(out, wire.Member{Addrs: []string{a.String()}, Online: true})
		}
	}
	if q.All {
		here := make(map[wire.PeerID]bool)
		for k := range s.members {
			here[k.ID] = true
		}
		for _, m := range s.cfg.Members() {
			if !here[m.ID] {
				out = append(out, m)
			}
		}
	}
	return out
}

// Count returns how many are connected.
func (s *V2) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table.Count()
}
