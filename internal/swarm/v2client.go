package swarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"shoal/internal/content"
	"shoal/internal/wire"

	"golang.org/x/time/rate"
)

const (
	// maxQueries bounds the queries that wait for an answer.
	maxQueries = 64
	// maxPages bounds the pages of one answer, whatever a server claims.
	maxPages = 4096
	// What the member holds is told at this rate, and so much at once: somewhat less than a server takes of one connection.
	tellRate  = v2Rate * 4 / 5
	tellBurst = v2Burst - 2000
)

// ErrQuery is a query that the server would not answer.
var ErrQuery = errors.New("the server refused")

// V2Link is a connection to a server, whose TLS is done.
type V2Link struct {
	Conn  net.Conn
	Flush func() error
	Addrs []string // host:port, where this peer can be dialled
}

// V2ClientConfig says how a [V2Client] works.
type V2ClientConfig struct {
	Dial     func(ctx context.Context) (*V2Link, error)
	Hello    wire.Hello
	Addrs    []string
	Removals func() [][]byte
	// Absent is told why the first attempt has failed, and says whether it is tried again; nil: it is not.
	Absent  func(error) bool
	Patient bool // the first attempt may fail as later ones may: the client goes on until ctx ends
	Log     *slog.Logger
}

// V2Event is one thing that a [V2Client] reports: one of its fields is set.
type V2Event struct {
	Entered *V2Entered
	Lost    error // the client comes back by itself
	Peers   *wire.Peers
	Removed [][]byte
}

// V2Entered says that a server has let us in.
type V2Entered struct {
	Age time.Duration // of the server
}

// V2Client is a member's connection to its swarm server. Its methods may be called from any goroutine, at any time: what the
// member holds, offers and follows is told again after each reconnect.
type V2Client struct {
	cfg V2ClientConfig

	mu      sync.Mutex  // guards what follows
	conn    *v2conn     // nil while there is none
	server  *wire.Hello // of the last server
	mine    map[content.ID]*mine
	began   uint64
	due     []content.ID  // of which the server is to be told something, in this order
	wake    chan struct{} // holds one: something is due
	queries map[uint64]chan wire.Message
	next    uint64
	back    chan struct{} // closed when there is a connection
	lost    chan struct{} // closed when there is none any more
}

// mine is what there is to say of us and one content. A peer may have very many.
type mine struct {
	size    int64
	all     bool
	held    bool
	follows bool
	due     bool   // it is among those of which the server is to be told something
	redraw  bool   // other peers are asked for
	began   uint64 // the number of the hold: in which order they began
	offers  []wire.Record
	told    said // what this connection was told
}

// said is what a server knows of that.
type said struct {
	size    int64
	began   uint64 // 0: of no hold
	offers  int32
	all     bool
	follows bool
}

// NewV2Client makes a client that is not connected.
func NewV2Client(cfg V2ClientConfig) *V2Client {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &V2Client{
		cfg: cfg, mine: make(map[content.ID]*mine), wake: make(chan struct{}, 1),
		queries: make(map[uint64]chan wire.Message), next: 1, back: make(chan struct{}),
	}
}

// Run enters the swarm and reports what the server tells, until ctx ends. When no server can be reached at the first attempt,
// or it does not let us in, that error is returned. Events come one at a time; report must not block.
func (c *V2Client) Run(ctx context.Context, report func(V2Event)) error {
	wait := minRetry
	for first := true; ; first = false {
		link, err := c.cfg.Dial(ctx)
		if err == nil {
			began, in := time.Now(), false
			err = c.session(ctx, link, func(e V2Event) { in = in || e.Entered != nil; report(e) })
			if ctx.Err() != nil {
				return nil
			}
			if first && !in && !c.goesOn(err) && !c.cfg.Patient {
				return err
			}
			if removed := new(byeError); errors.As(err, &removed) && removed.reason == wire.ReasonRemoved {
				return err
			}
			if in {
				report(V2Event{Lost: err})
			}
			if time.Since(began) > maxRetry {
				wait = minRetry
			}
		} else if ctx.Err() != nil {
			return nil
		} else if first && !c.goesOn(err) && !c.cfg.Patient {
			return err
		}
		c.cfg.Log.Debug("no swarm server", "err", err)
		if !pause(ctx, wait/2+rand.N(wait)/2) {
			return nil
		}
		wait = min(wait*2, maxRetry)
	}
}

// goesOn says whether the server is tried again after the first attempt.
func (c *V2Client) goesOn(err error) bool { return c.cfg.Absent != nil && c.cfg.Absent(err) }

// session is one connection, from its hello to its end.
func (c *V2Client) session(ctx context.Context, link *V2Link, report func(V2Event)) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	conn := newV2conn(link.Conn, link.Flush)
	conn.fail = fail
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() {
		conn.SetReadDeadline(time.Unix(1, 0))
		conn.SetWriteDeadline(time.Now().Add(v2Bye))
		conn.kick()
	})
	defer stop()
	hello, err := c.enter(ctx, conn, link.Addrs)
	if err != nil {
		return err
	}
	c.resume(conn, hello)
	report(V2Event{Entered: &V2Entered{Age: time.Duration(hello.Age) * time.Millisecond}})
	var writer sync.WaitGroup
	writer.Go(func() {
		if err := conn.write(ctx); err != nil {
			fail(err)
		}
	})
	writer.Go(func() { c.tell(ctx, conn) })
	err = c.listen(ctx, conn, report)
	fail(err)
	writer.Wait()
	c.lose()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return err
}

func (c *V2Client) enter(ctx context.Context, conn *v2conn, addrs []string) (*wire.Hello, error) {
	conn.SetDeadline(time.Now().Add(v2HelloTime))
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := conn.now(&c.cfg.Hello); err != nil {
		return nil, err
	}
	msg, err := conn.receive()
	if err != nil {
		return nil, err
	}
	hello, ok := msg.(*wire.Hello)
	if !ok || hello.Version != v2Version {
		return nil, fmt.Errorf("the server speaks another version of the protocol (%T)", msg)
	}
	if msg, err = conn.receive(); err != nil {
		return nil, err
	}
	switch m := msg.(type) {
	case *wire.Use:
	case *wire.Bye:
		return nil, &byeError{m.Reason, m.Text}
	default:
		return nil, fmt.Errorf("%w: a %T before use", errV2Order, msg)
	}
	enter := &wire.Enter{Addrs: addrs}
	all := c.cfg.Removals()
	enter.Removals = all[:min(len(all), wireStatements)]
	if err := conn.now(enter); err != nil {
		return nil, err
	}
	for part := range slices.Chunk(all[len(enter.Removals):], wireStatements) {
		if err := conn.now(&wire.Removed{Statements: part}); err != nil {
			return nil, err
		}
	}
	conn.SetDeadline(time.Time{})
	return hello, nil
}

// resume makes everything due that we told the server before.
func (c *V2Client) resume(conn *v2conn, hello *wire.Hello) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.server, c.lost = conn, hello, make(chan struct{})
	close(c.back)
	c.due = nil
	for id, x := range c.mine {
		x.told, x.redraw = said{}, false
		if x.due = x.held || x.follows; x.due {
			c.due = append(c.due, id)
		} else {
			c.clean(id, x)
		}
	}
	slices.SortFunc(c.due, func(a, b content.ID) int { // what is only followed comes last
		return cmp.Compare(c.mine[a].began-1, c.mine[b].began-1)
	})
	c.kick()
}

func (c *V2Client) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// tell tells the server what is due, no faster than it takes it, until ctx ends.
func (c *V2Client) tell(ctx context.Context, conn *v2conn) {
	pace := rate.NewLimiter(tellRate, tellBurst)
	for {
		for _, m := range c.nextDue() {
			if pace.Wait(ctx) != nil || !conn.sendPatiently(ctx, m) {
				return
			}
		}
		c.mu.Lock()
		more := len(c.due) > 0
		c.mu.Unlock()
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
	}
}

// nextDue takes the first content of which something is due, and returns what is to be said of it.
func (c *V2Client) nextDue() (out []wire.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.due) == 0 {
		return nil
	}
	id := c.due[0]
	if c.due = c.due[1:]; len(c.due) == 0 {
		c.due = nil
	}
	x := c.mine[id]
	was, now := x.told, said{follows: x.follows}
	if x.held {
		now.size, now.all, now.began, now.offers = x.size, x.all, x.began, int32(len(x.offers))
		if was.began != 0 && was.began != now.began { // it was retracted in between
			out, was = append(out, &wire.Retract{ID: id}), said{follows: was.follows}
		}
		if was.size != now.size || was.all != now.all || was.began != now.began {
			out = append(out, &wire.Hold{ID: id, Size: x.size, All: x.all})
		}
		for _, r := range x.offers[was.offers:] {
			out = append(out, &wire.Offer{Record: r})
		}
	} else if was.began != 0 {
		out = append(out, &wire.Retract{ID: id})
	}
	if now.follows != was.follows || x.redraw {
		out = append(out, &wire.Follow{ID: id, On: now.follows})
	}
	x.told, x.due, x.redraw = now, false, false
	c.clean(id, x)
	return out
}

// of returns what there is to say of a content. c.mu is held.
func (c *V2Client) of(id content.ID) *mine {
	x := c.mine[id]
	if x == nil {
		x = new(mine)
		c.mine[id] = x
	}
	return x
}

// clean forgets a content of which there is nothing to say. c.mu is held.
func (c *V2Client) clean(id content.ID, x *mine) {
	if !x.held && !x.follows && !x.due && x.offers == nil && x.told == (said{}) {
		delete(c.mine, id)
	}
}

// say makes a content due, if there is a connection; if not, the next one is told. c.mu is held.
func (c *V2Client) say(id content.ID) {
	x := c.of(id)
	if c.conn == nil || x.due {
		c.clean(id, x)
		return
	}
	x.due = true
	c.due = append(c.due, id)
	c.kick()
}

// lose ends the queries that wait.
func (c *V2Client) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.back = nil, make(chan struct{})
	close(c.lost)
	for n, ch := range c.queries {
		close(ch)
		delete(c.queries, n)
	}
}

func (c *V2Client) listen(ctx context.Context, conn *v2conn, report func(V2Event)) error {
	for {
		conn.SetReadDeadline(time.Now().Add(v2Dead))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		msg, err := conn.receive()
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case *wire.Ping:
			conn.send(&wire.Pong{Number: m.Number})
		case *wire.Pong:
		case *wire.Bye:
			return &byeError{m.Reason, m.Text}
		case *wire.Peers:
			c.mu.Lock()
			x := c.mine[m.ID]
			followed := x != nil && x.follows
			c.mu.Unlock()
			if followed {
				report(V2Event{Peers: m})
			}
		case *wire.Removed:
			report(V2Event{Removed: m.Statements})
		case *wire.Found:
			c.answer(m.Query, m)
		case *wire.There:
			c.answer(m.Query, m)
		case *wire.Reached:
			c.answer(m.Query, m)
		case *wire.Failed:
			if m.Query == 0 {
				c.cfg.Log.Warn("the swarm server refused something", "text", m.Text)
			}
			c.answer(m.Query, m)
		default:
			return fmt.Errorf("%w: a %T from the server", errV2Order, msg)
		}
	}
}

func (c *V2Client) answer(query uint64, m wire.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch := c.queries[query]; ch != nil {
		delete(c.queries, query)
		ch <- m
	}
}

// Hold says that we exchange a content.
func (c *V2Client) Hold(id content.ID, size int64, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.of(id)
	if !x.held {
		c.began++
		x.held, x.began = true, c.began
	}
	x.size, x.all = size, all
	c.say(id)
}

// Offer makes or repeats a record of a content that we hold.
func (c *V2Client) Offer(r wire.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.of(r.ID)
	for _, known := range x.offers {
		if known.Name == r.Name && string(known.Sig) == string(r.Sig) {
			return
		}
	}
	x.offers = append(x.offers, r)
	c.say(r.ID)
}

// Retract ends a hold and its offers.
func (c *V2Client) Retract(id content.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.mine[id]
	if x == nil || !x.held {
		return
	}
	x.held, x.began, x.size, x.all, x.offers = false, 0, 0, false, nil
	c.say(id)
}

// Follow says whether we want to be told who holds a content.
func (c *V2Client) Follow(id content.ID, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.of(id)
	x.redraw = on && x.follows
	x.follows = on
	c.say(id)
}

// query asks the server, and waits for its answer; after a reconnect it asks again.
func (c *V2Client) query(ctx context.Context, make_ func(number uint64) wire.Message) (wire.Message, error) {
	for {
		c.mu.Lock()
		back, conn := c.back, c.conn
		var ch chan wire.Message
		if conn != nil {
			if len(c.queries) >= maxQueries {
				c.mu.Unlock()
				return nil, errors.New("too many queries at once")
			}
			n := c.next
			c.next++
			ch = make(chan wire.Message, 1)
			c.queries[n] = ch
			conn.send(make_(n))
		}
		c.mu.Unlock()
		if conn == nil {
			select {
			case <-back:
				continue
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		select {
		case m, ok := <-ch:
			if failed, is := m.(*wire.Failed); is {
				return nil, fmt.Errorf("%w: %s", ErrQuery, failed.Text)
			}
			if ok {
				return m, nil
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Find returns what the swarm has under a name, or with a prefix of bits of an id.
func (c *V2Client) Find(ctx context.Context, name string, prefix content.Prefix) ([]wire.Entry, error) {
	return c.pages(ctx, func(n uint64, after []byte) wire.Message {
		return &wire.Find{Query: n, Name: name, Prefix: prefix.ID, Bits: uint16(prefix.Bits), After: after}
	})
}

// List returns all that the swarm has.
func (c *V2Client) List(ctx context.Context) ([]wire.Entry, error) {
	return c.pages(ctx, func(n uint64, after []byte) wire.Message { return &wire.List{Query: n, After: after} })
}

func (c *V2Client) pages(ctx context.Context, ask func(uint64, []byte) wire.Message) (out []wire.Entry, err error) {
	var after []byte
	for range maxPages {
		m, err := c.query(ctx, func(n uint64) wire.Message { return ask(n, after) })
		if err != nil {
			return nil, err
		}
		found, ok := m.(*wire.Found)
		if !ok {
			return nil, fmt.Errorf("%w: it answered with a %T", ErrQuery, m)
		}
		out = append(out, found.Entries...)
		if after = found.More; len(after) == 0 {
			break
		}
	}
	return out, nil
}

// Who returns who is in the swarm; with all, who ever joined.
func (c *V2Client) Who(ctx context.Context, all bool) (out []wire.Member, err error) {
	var after []byte
	for range maxPages {
		m, err := c.query(ctx, func(n uint64) wire.Message { return &wire.Who{Query: n, All: all, After: after} })
		if err != nil {
			return nil, err
		}
		there, ok := m.(*wire.There)
		if !ok {
			return nil, fmt.Errorf("%w: it answered with a %T", ErrQuery, m)
		}
		out = append(out, there.Members...)
		if after = there.More; len(after) == 0 {
			break
		}
	}
	return out, nil
}
