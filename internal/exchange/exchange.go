package exchange

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shoal/internal/content"
	"shoal/internal/peer"
	"shoal/internal/schedule"
	"shoal/internal/store"
	"shoal/internal/wire"
)

const (
	// tick is how often progress is read, and deadlines are looked at.
	tick = 50 * time.Millisecond
	// costlyTicks is how often, in ticks, that is done which costs a system call for each neighbour, or shows something to the world.
	costlyTicks = 2
	// countEvery is how often it is counted at most, before messages are heard, what has come and gone.
	countEvery = 4 * time.Millisecond
	// quietTick is how often that is while nothing moves, stillTick while nothing happens at all.
	quietTick = time.Second
	stillTick = 10 * time.Second
	// rateMean is over about how long the rate that is shown is a mean.
	rateMean = 2 * time.Second
	// ackTime is how long what was sent may take to arrive, as far as it is looked for.
	ackTime = time.Second
	// pauseTime is how long a download whose disk is full waits before it tries again.
	pauseTime = 2 * time.Second
	// maxChannels bounds the contents that one session exchanges.
	maxChannels = 4096
	// maxInFlight bounds what one download has asked for and not received, in bytes: what is requested is bounded, and so is
	// what second copies take in memory.
	maxInFlight = 256 << 20
)

// Neighbours is how many neighbours are enough for a content.
const Neighbours = schedule.Neighbours

// Reasons for which a session is ended, as the book of offences has them.
const (
	OffenceManifest = "wrong manifest"
	OffenceSize     = "wrong size"
	OffencePiece    = "wrong piece"
	OffenceRequest  = "request without credit"
	OffenceChannel  = "wrong channel"
	OffenceFlood    = "too much work"
)

// Offence is what ends a session because its peer broke a rule.
type Offence struct {
	Reason string
	What   string
}

func (o *Offence) Error() string { return o.Reason + ": " + o.What }

// Config says how an [Exchange] works.
type Config struct {
	Seed uint64
	Log  *slog.Logger
	// Site is where this peer is; empty: nowhere in particular. Between sites each piece crosses about once. Self and Instance are by
	// which those of a site know each other.
	Site     string
	Self     wire.PeerID
	Instance uint64
	// Whole returns the content of an id of which all is here, always the same until it rests; nil if there is none. Such contents are not
	// added: they are brought in when somebody asks for them, and rest when nobody has exchanged them for a while. The loop calls it: it does
	// not wait. Nil: there are none.
	Whole func(id content.ID) *Content
}

// Exchange exchanges contents with sessions. Its methods may be called from any goroutine while it runs.
type Exchange struct {
	cfg    Config
	inbox  chan event
	done   chan struct{} // closed when Run has ended
	sent   atomic.Int64  // bytes of pieces that went through sessions
	gave   atomic.Int64  // bytes that were given beside those
	beside atomic.Int64  // transfers under way beside those of pieces

	neighbours sync.Map       // int by content, as the loop counts them
	running    sync.WaitGroup // what the loop has done beside it
}

// New makes an exchange that does nothing until it is run.
func New(cfg Config) *Exchange {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Exchange{cfg: cfg, inbox: make(chan event, 256), done: make(chan struct{})}
}

// Sent returns how many bytes of pieces were given.
func (x *Exchange) Sent() int64 { return x.sent.Load() + x.gave.Load() }

// Gave counts bytes that were given otherwise, so that they weigh on the uplink as those of pieces do.
func (x *Exchange) Gave(bytes int64) { x.gave.Add(bytes) }

// Beside says that one more transfer is under way beside those of pieces, until the returned function is called. It counts as a
// promise: others are promised less meanwhile.
func (x *Exchange) Beside() (ended func()) {
	x.beside.Add(1)
	return sync.OnceFunc(func() { x.beside.Add(-1) })
}

// SetLimits limits the bytes per second that are given and fetched, over all contents and neighbours; 0: no limit. What is given is only
// promised by it: the sessions have a limit of their own for how evenly it goes.
func (x *Exchange) SetLimits(up, down int64) {
	x.post(func(l *loop) {
		now, under := l.now(), int64(0)
		for _, c := range l.order {
			if c != nil && c.taker != nil {
				under += c.taker.InFlight()
			}
		}
		l.giver.SetLimit(now, up)
		l.down.Set(now, down, under)
	})
}

// SetPeerLimits is SetLimits for what any one neighbour is given, and gives.
func (x *Exchange) SetPeerLimits(up, down int64) {
	x.post(func(l *loop) {
		now := l.now()
		l.giver.SetPeerLimit(now, up)
		l.perDown = down
		for _, n := range l.conns {
			under := int64(0)
			for c := range n.of {
				if c.taker != nil {
					under += c.taker.Asked(n.id)
				}
			}
			n.down.Set(now, down, under)
		}
	})
}

// event is what the loop is told. It applies itself to the loop's state, and never blocks.
type event func(*loop)

// post hands an event to the loop; false when the loop has ended.
func (x *Exchange) post(e event) bool {
	select {
	case x.inbox <- e:
		return true
	case <-x.done:
		return false
	}
}

// call has the loop do something, and waits until it is done.
func (x *Exchange) call(e event) {
	did := make(chan struct{})
	if x.post(func(l *loop) { e(l); close(did) }) {
		select {
		case <-did:
		case <-x.done:
		}
	}
}

// Content is what is exchanged. Its owner fills it in, adds it, and does not change it any more.
type Content struct {
	ID       content.ID
	Manifest *content.Manifest                                // nil: to be fetched
	Load     func(context.Context) (*content.Manifest, error) // of a bare manifest: makes it whole, as long as that takes
	Rest     func() (then func())                             // called by the loop when a content of Config.Whole rests; what it returns may take a while
	Source   peer.Source                                      // where pieces are read; of a download: its verified bytes
	Check    func(piece uint32) error                         // whether a piece is still what it was; nil: it is
	Changed  func(error)                                      // Check has failed: the content is withdrawn already
	Fetched  func(*content.Manifest)                          // the manifest has come and proved itself
	Copied   func(who string)                                 // a neighbour that lacked something has everything now
	Complete func()                                           // the last piece is verified
	Failed   func(error)                                      // the store failed; the download has stopped
	Note     func(who string, reason *Offence)                // a neighbour was cut off for this content's sake

	Sequential bool

	progress atomic.Pointer[Progress]
}

// Progress is the exchange of a content at one moment.
type Progress struct {
	Done     int64   // verified bytes
	Arriving int64   // bytes of pieces under way
	Received int64   // bytes that came in this run, useless ones among them
	Wasted   int64   // of those: bytes that were thrown away
	Sent     int64   // bytes given
	Rate     float64 // of receiving, bytes per second
	Paused   bool    // the disk is full
	// Optimal is how many times as long the download has taken as at the best rate that it saw; 0: nothing can be said.
	Optimal float64
	// Copies is how many others have become complete since it began to be given, after a pause, and CopiesOptimal how many times as long
	// that has taken as one copy takes at the best rate at which it was given; 0: nothing can be said.
	Copies        int
	CopiesOptimal float64
	Neighbours    []Neighbour
	Under         []uint32 // pieces under way, in no order
}

// Neighbour is one who exchanges a content with us.
type Neighbour struct {
	Name     string
	Peer     wire.PeerID
	Pieces   uint32 // that it has
	Received int64  // useful and useless bytes from it
	Sent     int64
	Active   int // requests to it under way
	RTT      time.Duration
}

// Progress returns the exchange of this content as it was a moment ago.
func (c *Content) Progress() Progress {
	if p := c.progress.Load(); p != nil {
		return *p
	}
	return Progress{}
}

// Add begins to exchange a content with all sessions. One without a manifest asks for it.
func (x *Exchange) Add(c *Content) { x.call(func(l *loop) { l.add(c) }) }

// Wake tells neighbours of a content that Config.Whole has since now: they may have asked for it before, and were refused.
func (x *Exchange) Wake(id content.ID) {
	x.call(func(l *loop) {
		if len(l.conns) == 0 || l.contents[id] != nil {
			return
		}
		if c := l.wake(id); c != nil {
			l.openAll(c)
		}
	})
}

// Remove ends the exchange of a content.
func (x *Exchange) Remove(id content.ID) { x.call(func(l *loop) { l.remove(id) }) }

// Begin starts to fetch the pieces of a content whose manifest has come into a download.
func (x *Exchange) Begin(id content.ID, d *store.Download) { x.call(func(l *loop) { l.begin(id, d) }) }

// Wanted says whether a neighbour wants something that we have of a content.
func (x *Exchange) Wanted(id content.ID) (wanted bool) {
	x.call(func(l *loop) {
		if c := l.contents[id]; c != nil {
			for _, ch := range c.channels {
				wanted = wanted || ch.theirWant != schedule.WantNot
			}
		}
	})
	return wanted
}

// Neighbours returns how many sessions exchange a content. It does not wait for the loop.
func (x *Exchange) Neighbours(id content.ID) int {
	n, _ := x.neighbours.Load(id)
	count, _ := n.(int)
	return count
}

// Join lets a session take part, once it is in use, until it ends. Stop ends it with a reason.
func (x *Exchange) Join(s *peer.Session, stop func(error)) {
	x.call(func(l *loop) { l.join(s, stop) })
}

// Leave is called when a session has ended.
func (x *Exchange) Leave(s *peer.Session) { x.call(func(l *loop) { l.leave(s) }) }

// Handle takes a control message of a session, in the order in which they came.
func (x *Exchange) Handle(s *peer.Session, m wire.Message) error {
	if !x.post(func(l *loop) {
		if n := l.conns[s]; n != nil {
			l.hear(n, m)
		}
	}) {
		return context.Canceled
	}
	return nil
}

// Run exchanges until ctx ends.
func (x *Exchange) Run(ctx context.Context) error {
	defer x.running.Wait()
	defer close(x.done)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	l := &loop{
		x: x, ctx: ctx, start: time.Now(), contents: make(map[content.ID]*exchanged), conns: make(map[*peer.Session]*conn),
		giver: schedule.NewGiver(schedule.GiverConfig{Rand: rand.New(rand.NewPCG(x.cfg.Seed, 1))}),
		rand:  rand.New(rand.NewPCG(x.cfg.Seed, 2)), identities: make(map[wire.PeerID]int),
		down: schedule.NewLimit(1),
	}
	ticker := time.NewTimer(0)
	defer ticker.Stop()
	quiet, still := false, false // nothing moves: there is nothing to measure; nor has anything happened since that was shown
	news := time.NewTimer(time.Hour)
	defer news.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-x.inbox:
			if l.now()-l.countedAt >= countEvery {
				l.count()
			}
			e(l)
			for range len(x.inbox) { // all that has come: decisions are made of the newest state
				(<-x.inbox)(l)
			}
			if still {
				still = false
				ticker.Reset(quietTick)
			}
		case <-ticker.C:
			l.measure()
			was := quiet
			quiet = l.quiet()
			still = was && quiet && l.still()
			ticker.Reset(pause(quiet, still))
		case <-news.C:
			l.tellNews()
		}
		l.act()
		if l.newsPending && l.newsAt <= l.now() {
			l.tellNews()
		}
		if l.newsPending {
			news.Reset(l.newsAt - l.now())
		}
		if quiet && !l.quiet() {
			quiet = false
			ticker.Reset(tick)
		}
	}
}

// pause is how long the next look may wait.
func pause(quiet, still bool) time.Duration {
	switch {
	case still:
		return stillTick
	case quiet:
		return quietTick
	}
	return tick
}

// buffered is what a piece under way has of bytes; its reader counts, the loop reads.
type buffered struct{ n atomic.Int64 }

// place is where the bytes of one request go. Its methods run in the goroutine of the session's reader.
type place struct {
	x     *Exchange
	ch    *channel
	piece uint32
	w     *store.PieceWriter
	got   buffered
	once  sync.Once
	err   error       // of the store, while it was written
	good  int         // parts that were right, as far as the loop was told
	deaf  atomic.Bool // the loop is not to be told of parts
	told  bool        // neighbours know that the piece comes; the loop's
}

func (p *place) Prove(parts []byte) error {
	cvs := valuesOf(parts)
	if err := p.w.Prove(cvs); err != nil {
		p.err = err
		return err
	}
	p.ch.c.proofs.put(p.piece, cvs)
	return nil
}

func (p *place) Write(b []byte) error {
	p.got.n.Add(int64(len(b)))
	if err := p.w.Write(b); err != nil {
		p.err = err
		return err
	}
	if good := p.w.Good(); good > p.good {
		if p.good = good; !p.deaf.Load() {
			p.x.post(func(l *loop) { l.grown(p) })
		}
	}
	return nil
}

func (p *place) End(reason wire.Reason) {
	p.once.Do(func() {
		var first bool
		err := p.err
		if err == nil && reason == wire.ReasonOK {
			parts := slices.Clone(p.w.Parts())
			if first, err = p.w.Commit(); first {
				p.ch.c.proofs.put(p.piece, parts)
			}
		} else {
			p.w.Abort()
		}
		p.x.post(func(l *loop) { l.ended(p, reason, first, err) })
	})
}

func offence(reason, format string, args ...any) *Offence {
	return &Offence{reason, fmt.Sprintf(format, args...)}
}
