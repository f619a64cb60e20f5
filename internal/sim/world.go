package sim

import (
	"container/heap"
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"shoal/internal/content"
)

// Behaviour says how a peer treats others.
type Behaviour int

// The behaviours.
const (
	Honest  Behaviour = iota
	Liar              // its pieces are wrong
	Staller           // it never sends what it was asked for
)

// Peer says what a peer is.
type Peer struct {
	Up, Down float64 // bytes per second
	// LimitUp and LimitDown are what the schedule is told to keep to, on links that would carry more; 0: nothing.
	LimitUp, LimitDown float64
	Join               time.Duration
	Seeds              []int // contents that it has from the start
	Wants              []int // contents that it fetches
	Behaviour          Behaviour
	// Crash is when it vanishes, Restart when it is back with what it had verified; 0: never.
	Crash, Restart time.Duration
	// CrashCopies is how many copies it sends before it vanishes; 0: any number.
	CrashCopies float64
	// Leaves says that it goes as soon as it is complete.
	Leaves bool
	// Late is how much longer than others' its messages are on their way, behind a queue of its own that is always full.
	Late time.Duration
	// Site is where it is; 0: nowhere.
	Site int
}

// Config is a swarm to be simulated.
type Config struct {
	Seed       uint64
	Pieces     uint32
	PieceSize  int64
	Parts      int64 // of each piece, which are verified, and passed on, one by one; 0: as many as in the program
	Contents   int   // 0: one
	Peers      []Peer
	Neighbours int           // that a peer connects to; 0: all
	Delay      time.Duration // of every message and byte, one way
	Limit      time.Duration // the simulation ends then; 0: an hour
	Sequential bool
	// Between is the rate of the link from each site to all others; 0: any.
	Between float64
	// Stop is asked now and then whether the simulation is to end at once, with a result that says nothing; nil: never.
	Stop func() bool
}

// Result is what a run gave.
type Result struct {
	Done       []time.Duration // of each peer: when it was complete; 0: never
	Makespan   time.Duration   // when the last honest peer that lives was
	Unfinished int             // honest peers that live and are not complete
	Sent       []int64         // payload bytes of each peer
	Wasted     int64           // bytes that came in vain
	Crossed    int64           // payload bytes from one site to another
	Events     uint64
	Hash       uint64 // of all events
}

type kind uint8

const (
	evSent kind = iota
	evPart
	evArrived
	evWant
	evCredit
	evGet
	evPass
	evCancel
	evEnd
	evHave
	evBegun
	evOffer
	evLost
	evAll
	evClosed
	evTick
	evNews
	evDo
	evClaims
)

// event is something that happens to a peer, at the connection to another.
type event struct {
	when    time.Duration
	seq     uint64
	kind    kind
	on      bool
	content int32
	version uint32
	piece   int64
	credit  uint64
	conn    *conn // the receiver's end
	peer    *peer
	flow    *flow
	req     *request
	list    []uint32
	do      func()
}

type agenda []*event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	if a[i].when != a[j].when {
		return a[i].when < a[j].when
	}
	return a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(*event)) }
func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	*a = (*a)[:last]
	return e
}

// world is a simulation under way.
type world struct {
	cfg    Config
	now    time.Duration
	agenda agenda
	free   []*event
	seq    uint64
	rand   *rand.Rand
	net    network
	peers  []*peer
	leave  map[int]*link // from each site to all others
	open   int           // honest peers that live, or will come back, and are not complete
	result Result
	trace  uint64
}

func (w *world) at(when time.Duration, e event) {
	var p *event
	if last := len(w.free) - 1; last >= 0 {
		p, w.free = w.free[last], w.free[:last]
	} else {
		p = new(event)
	}
	*p = e
	p.when, p.seq = when, w.seq
	w.seq++
	heap.Push(&w.agenda, p)
}

// note takes an event into the hash.
func (w *world) note(e *event) {
	h := fnv.New64a()
	var b [40]byte
	binary.LittleEndian.PutUint64(b[:], w.trace)
	binary.LittleEndian.PutUint64(b[8:], uint64(e.when))
	binary.LittleEndian.PutUint64(b[16:], uint64(e.piece))
	binary.LittleEndian.PutUint64(b[24:], e.credit)
	b[32], b[33] = byte(e.kind), byte(e.content)
	if e.conn != nil {
		binary.LittleEndian.PutUint16(b[34:], uint16(e.conn.own.id))
		binary.LittleEndian.PutUint16(b[36:], uint16(e.conn.other.own.id))
	}
	_, _ = h.Write(b[:])
	w.trace = h.Sum64()
}

// Run simulates a swarm until all that can be complete are.
func Run(cfg Config) Result {
	if cfg.Contents == 0 {
		cfg.Contents = 1
	}
	if cfg.Limit == 0 {
		cfg.Limit = time.Hour
	}
	if cfg.Parts == 0 {
		cfg.Parts = content.MaxParts
	}
	w := &world{cfg: cfg, rand: rand.New(rand.NewPCG(cfg.Seed, 0)), leave: make(map[int]*link)}
	w.net.w = w
	w.result.Done = make([]time.Duration, len(cfg.Peers))
	w.result.Sent = make([]int64, len(cfg.Peers))
	for _, p := range cfg.Peers {
		if cfg.Between > 0 && w.leave[p.Site] == nil {
			w.leave[p.Site] = &link{rate: cfg.Between, level: math.Inf(1)}
		}
	}
	for i, p := range cfg.Peers {
		w.peers = append(w.peers, newPeer(w, i, p))
		if p.Behaviour == Honest && len(p.Wants) > 0 && (p.Crash == 0 || p.Restart > 0) {
			w.open++
		}
		w.at(p.Join, event{kind: evDo, do: w.peers[i].start})
		if p.Crash > 0 {
			w.at(p.Crash, event{kind: evDo, do: w.peers[i].crash})
		}
		if p.Restart > 0 {
			w.at(p.Restart, event{kind: evDo, do: w.peers[i].start})
		}
	}
	for len(w.agenda) > 0 && w.open > 0 {
		e := heap.Pop(&w.agenda).(*event)
		if w.now = e.when; w.now > cfg.Limit {
			break
		}
		if w.result.Events++; w.result.Events%4096 == 0 && cfg.Stop != nil && cfg.Stop() {
			break
		}
		w.note(e)
		w.happen(e)
		*e = event{}
		w.free = append(w.free, e)
	}
	w.result.Unfinished = w.open
	w.result.Hash = w.trace
	for i, p := range cfg.Peers {
		if p.Behaviour == Honest {
			w.result.Makespan = max(w.result.Makespan, w.result.Done[i])
		}
	}
	for _, p := range w.peers {
		w.result.Sent[p.id] = p.sent
	}
	return w.result
}

func (w *world) happen(e *event) {
	switch e.kind {
	case evDo:
		e.do()
	case evSent:
		if e.flow.version == e.version && len(e.flow.queue) > 0 {
			w.left(e.flow)
		}
	case evTick:
		e.peer.tick(e.version)
	case evNews:
		e.peer.tellNews(e.version)
	default:
		if e.conn.open {
			e.conn.hear(e)
		}
	}
}

// part returns how many bytes a part of a piece has.
func (w *world) part() int64 { return w.cfg.PieceSize / w.cfg.Parts }

// left is the moment at which the last byte of a part has left its sender.
func (w *world) left(f *flow) {
	r, p := f.queue[0], f.from
	w.net.advance(f)
	r.sent = r.size - r.behind(w.part())
	p.giver.Progress(w.now, r.giver.n, r.credit, r.sent)
	if r.sent < r.size {
		w.tell(r.giver, event{kind: evPart, req: r, content: int32(r.content), piece: int64(r.piece)})
		w.net.pick(f)
		p.given(r)
		return
	}
	f.queue = f.queue[1:]
	w.net.pick(f)
	p.gave(f.to, r.size)
	p.giver.Ended(w.now, r.giver.n, r.credit, true)
	r.giver.serving = slices.DeleteFunc(r.giver.serving, func(o *request) bool { return o == r })
	w.tell(r.giver, event{kind: evArrived, req: r, content: int32(r.content), piece: int64(r.piece)})
	if c := p.cfg.CrashCopies; c > 0 && float64(p.sent) >= c*float64(w.cfg.Pieces)*float64(w.cfg.PieceSize) {
		p.crash()
		return
	}
	p.act()
}

// tell sends a message to the other end of a connection.
func (w *world) tell(from *conn, e event) {
	e.conn = from.other
	w.at(w.now+w.cfg.Delay+from.own.cfg.Late, e)
}
