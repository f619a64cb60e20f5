// Package faulty is a TCP relay for tests, which spoils what it carries: it delays, slows, cuts into slices, loses, flips bits, holds,
// hangs up. What is behind it believes to have a bad line.
//
//   - [Proxy] relays every connection to one target.
//   - [Fault] is what it does to the bytes of one direction.
package faulty

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// Direction is a way through the relay.
type Direction int

// The directions.
const (
	Down Direction = iota // from the target to who has dialled
	Up                    // to the target
)

// Fault is what happens to the bytes of one direction of each connection; its zero is nothing. Bytes stay in order, as TCP keeps them.
type Fault struct {
	Delay, Jitter time.Duration // each part comes later by Delay and a random part of Jitter
	Rate          int64         // bytes per second; 0: any
	Slice         int           // most bytes of one part; 0: as they come
	// Lost is the chance that a part is lost and sent again: it and all behind it come later by Again.
	Lost  float64
	Again time.Duration
	Flip  []int64 // offsets of bytes of which the lowest bit is flipped
	// After so many bytes the connection ends as End says; 0: it does not.
	After int64
	End   End
}

// End is how a relay ends a connection.
type End int

// The ends.
const (
	Reset End = iota // both sides are reset
	Half             // the receiver is told that no more comes; the other direction stays open
	Dead             // nothing more is carried in this direction, and nobody is told
)

// partSize is the most bytes that are read at once, inAir how many parts of them are under way.
const (
	partSize = 1 << 16
	inAir    = 64
)

// Proxy relays the connections that come to its address. Its methods may be called from any goroutine.
type Proxy struct {
	ln      net.Listener
	target  string
	running sync.WaitGroup
	done    chan struct{}
	closing sync.Once

	mu        sync.Mutex // guards what follows
	faults    [2]Fault
	allowance int64 // bytes that each connection may carry down; negative: all
	total     int64 // bytes carried down by all
	most      int64 // by the one that carried most
	changed   chan struct{}
	relays    map[*relay]bool
	made      uint64
}

// New makes a relay on a port of its own of the loopback. Whoever makes one closes it.
func New(target string) (*Proxy, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		ln: ln, target: target, done: make(chan struct{}), allowance: -1, changed: make(chan struct{}), relays: make(map[*relay]bool),
	}
	p.running.Go(p.accept)
	return p, nil
}

// Addr returns where to dial the relay.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Port returns the port of that.
func (p *Proxy) Port() uint16 { return uint16(p.ln.Addr().(*net.TCPAddr).Port) }

// Aim changes the target of the connections that come from now on.
func (p *Proxy) Aim(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Set changes what is done to a direction, of the connections that are there as well.
func (p *Proxy) Set(d Direction, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults[d] = f
}

// Allow lets each connection carry so many bytes down in all, until it is told to let more pass; negative: all.
func (p *Proxy) Allow(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowance = bytes
	close(p.changed)
	p.changed = make(chan struct{})
}

// Held says whether a connection has carried all that it may.
func (p *Proxy) Held() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.allowance >= 0 && p.most >= p.allowance
}

// Carried returns how many bytes were carried down by all connections, and by the busiest of them.
func (p *Proxy) Carried() (total, most int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total, p.most
}

// Forget begins to count anew.
func (p *Proxy) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total, p.most = 0, 0
}

// Connections returns how many connections were relayed so far.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(p.made)
}

// Cut resets all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for r := range p.relays {
		r.reset()
	}
}

// Close ends all, and waits until it has ended.
func (p *Proxy) Close() (err error) {
	p.closing.Do(func() {
		err = p.ln.Close()
		close(p.done)
	})
	p.Cut()
	p.running.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		conn, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		p.running.Go(func() { p.relay(conn.(*net.TCPConn), target) })
	}
}

// relay is one connection.
type relay struct {
	p        *Proxy
	down, up *net.TCPConn
	ended    chan struct{} // closed when it is reset
	hungUp   chan struct{} // closed when who has dialled sends no more
	once     sync.Once
}

func (r *relay) reset() {
	r.end(func(c *net.TCPConn) { _ = c.SetLinger(0) })
}

// end closes both sides.
func (r *relay) end(before func(*net.TCPConn)) {
	r.once.Do(func() {
		close(r.ended)
		for _, c := range []*net.TCPConn{r.down, r.up} {
			before(c)
			c.Close()
		}
	})
}

// relay carries one connection until both directions have ended.
func (p *Proxy) relay(down *net.TCPConn, target string) {
	conn, err := net.Dial("tcp4", target)
	if err != nil {
		down.Close()
		return
	}
	r := &relay{p: p, down: down, up: conn.(*net.TCPConn), ended: make(chan struct{}), hungUp: make(chan struct{})}
	// Small buffers, so that what is held here is not already with the receiver, or on its way to us.
	_ = r.up.SetReadBuffer(1 << 18)
	_ = down.SetWriteBuffer(1 << 18)
	p.mu.Lock()
	p.relays[r] = true
	p.made++
	made := p.made
	p.mu.Unlock()
	defer func() {
		r.end(func(*net.TCPConn) {})
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.relays, r)
	}()
	select {
	case <-p.done:
		return
	default:
	}
	var both sync.WaitGroup
	both.Go(func() {
		defer close(r.hungUp)
		r.carry(Up, r.down, r.up, rand.New(rand.NewPCG(made, 1)))
	})
	r.carry(Down, r.up, r.down, rand.New(rand.NewPCG(made, 0)))
	both.Wait()
}

// part is bytes on their way.
type part struct {
	b   []byte
	due time.Time
	end bool // with it the direction ends
	how End
}

// carry carries one direction: it reads, and another goroutine writes when the time has come.
func (r *relay) carry(d Direction, from, to *net.TCPConn, chance *rand.Rand) {
	air := make(chan part, inAir)
	var writing sync.WaitGroup
	writing.Go(func() { r.land(d, to, air) })
	defer writing.Wait()
	defer close(air)
	var last time.Time // when the part before comes
	for carried := int64(0); ; {
		f, room, changed := r.p.room(d, carried)
		if room <= 0 {
			select {
			case <-changed:
				continue
			case <-r.hungUp:
				r.reset()
			case <-r.ended:
			}
			return
		}
		b := make([]byte, room)
		n, err := from.Read(b)
		if n == 0 && err != nil {
			air <- part{due: last, end: true, how: Half} // as the sender has it
			return
		}
		b = b[:n]
		f.flip(b, carried)
		carried += int64(n)
		last = f.due(last, n, chance)
		over := f.After > 0 && carried >= f.After
		select {
		case air <- part{b: b, due: last, end: over, how: f.End}:
		case <-r.ended:
			return
		}
		if over {
			return
		}
	}
}

// room returns how many bytes may be read next; changed is closed when that may be more.
func (p *Proxy) room(d Direction, carried int64) (f Fault, room int64, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, room = p.faults[d], partSize
	if f.Slice > 0 {
		room = int64(f.Slice)
	}
	if f.After > 0 {
		room = min(room, max(f.After-carried, 1))
	}
	if d == Down && p.allowance >= 0 {
		room = min(room, p.allowance-carried)
	}
	return f, room, p.changed
}

// flip flips the bits that are among bytes from an offset on.
func (f *Fault) flip(b []byte, from int64) {
	for i := range b {
		if slices.Contains(f.Flip, from+int64(i)) {
			b[i] ^= 1
		}
	}
}

// due returns when n bytes come that are behind others.
func (f *Fault) due(last time.Time, n int, chance *rand.Rand) time.Time {
	at := time.Now().Add(f.Delay)
	if f.Jitter > 0 {
		at = at.Add(time.Duration(chance.Int64N(int64(f.Jitter))))
	}
	if f.Lost > 0 && chance.Float64() < f.Lost {
		at = at.Add(f.Again)
	}
	if at.Before(last) {
		at = last
	}
	if f.Rate > 0 {
		at = at.Add(time.Duration(int64(n) * int64(time.Second) / f.Rate))
	}
	return at
}

// land writes what is on its way when it is due.
func (r *relay) land(d Direction, to *net.TCPConn, air <-chan part) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	carried := int64(0)
	for p := range air {
		wait.Reset(time.Until(p.due))
		select {
		case <-wait.C:
		case <-r.ended:
			continue // what is left is dropped
		}
		n, err := to.Write(p.b)
		carried += int64(n)
		if d == Down {
			r.p.count(int64(n), carried)
		}
		switch {
		case err != nil && !errors.Is(err, net.ErrClosed):
			r.reset()
		case !p.end:
		case p.how == Reset:
			r.reset()
		case p.how == Half:
			_ = to.CloseWrite()
		}
	}
}

func (p *Proxy) count(n, carried int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total += n
	p.most = max(p.most, carried)
}
