// Package transfer is one content on its way to this machine. A [Transfer] owns a schedule and obeys it: it asks sources for
// what the schedule says, writes what they deliver to a store, and tells the schedule what came of it.
//
// One goroutine, the loop of [Transfer.Run], owns all state; the world speaks to it by events through one inbox. The
// bytes never pass through it: each source under way has a goroutine of its own, which reads, writes and reports. The
// package knows neither the protocol that a source speaks nor what the store does with the bytes.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shoal/internal/schedule"
)

// Source is one who has the whole content and delivers it in ranges of units.
type Source interface {
	// Fetch delivers the units first to last to recv, in order: each with its size and a reader of just its bytes.
	// It returns when they are all delivered, with the first error of recv, or with its own.
	Fetch(ctx context.Context, first, last uint32, recv func(unit uint32, size int64, body io.Reader) error) error
	// String names the source to people. No two sources of a transfer have the same name.
	String() string
}

// Store takes the bytes.
type Store interface {
	Have(unit uint32) bool
	WriteAt(unit uint32, b []byte, off int64) error
	Mark(unit uint32) error // the unit is written whole
	Sync() error            // make what is marked last
}

// Config says what a [Transfer] is of.
type Config struct {
	Units    uint32 // how many the content has
	UnitSize int64  // bytes in each but the last
	Size     int64  // bytes in all
	Store    Store
	Sources  []Source // those that are known from the start, among whom the units are divided equally
	// Blame says whether an error of a source means that it must not be asked again.
	Blame func(Source, error) bool
	Log   *slog.Logger
}

const (
	// maxSources is how many sources are asked at once. More wait until one of them fails.
	maxSources = 32
	// bufferSize is what each source under way has to read into: the cheapest size measured.
	bufferSize = 1 << 20
	// tick is how often rates are measured and shown.
	tick = 200 * time.Millisecond
	// A source that failed is asked again after a wait that doubles from minRetry to maxRetry; a unit that it delivers resets that.
	minRetry = 500 * time.Millisecond
	maxRetry = 30 * time.Second
	// maxKnown bounds the sources of a transfer, whatever a server claims.
	maxKnown = 4096
	// rateTime is over about how long the rates that are shown are means.
	rateTime = 3 * time.Second
)

// Transfer is a content on its way. Its methods may be called from any goroutine.
type Transfer struct {
	cfg      Config
	inbox    chan event
	progress atomic.Pointer[Progress]
}

// New makes a transfer that does nothing until it is run.
func New(cfg Config) *Transfer {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := &Transfer{cfg: cfg, inbox: make(chan event, 64)}
	t.progress.Store(&Progress{Size: cfg.Size})
	return t
}

// Progress is a transfer at one moment.
type Progress struct {
	Size    int64   // bytes of the content
	Done    int64   // bytes that are there, those of units under way among them
	Fetched int64   // bytes that were delivered in this run, those of units that came to nothing among them
	Rate    float64 // bytes per second
	Active  int     // sources that are delivering
	Sources []SourceProgress
}

// SourceProgress is one source at one moment.
type SourceProgress struct {
	Name  string
	State State
	Bytes int64   // what it has delivered in this run
	Rate  float64 // bytes per second
	Err   error   // why it failed last, nil if it never did
}

// State says what a source is doing.
type State string

// The states of a source.
const (
	Idle       State = "idle"
	Delivering State = "delivering"
	Waiting    State = "waiting" // it failed, and is asked again later
	Banned     State = "banned"  // it broke a rule
)

// Progress returns the transfer as it was a moment ago.
func (t *Transfer) Progress() Progress { return *t.progress.Load() }

// Add brings in a source. One that is known already is tried again now, unless it broke a rule.
func (t *Transfer) Add(ctx context.Context, src Source) { t.post(ctx, eventAdd{src}) }

func (t *Transfer) post(ctx context.Context, e event) bool {
	select {
	case t.inbox <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

// Run fetches until every unit is in the store and synced, an error of the store, or the end of ctx. While there is no
// source it waits for one. When it returns, all that it started has ended, and what was complete is synced.
func (t *Transfer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	l := &loop{
		t: t, ctx: ctx, start: time.Now(),
		shares: schedule.NewShares(schedule.SharesConfig{
			Units: t.cfg.Units, UnitSize: t.cfg.UnitSize,
			LastSize: t.cfg.Size - int64(t.cfg.Units-1)*t.cfg.UnitSize, Have: t.cfg.Store.Have,
		}),
		byName: make(map[string]*source),
		dirty:  make(chan struct{}, 1),
	}
	for _, src := range t.cfg.Sources {
		_ = eventAdd{src}.apply(l)
	}
	var keeper sync.WaitGroup
	keeper.Go(l.keepJournal)
	err := l.run()
	cancel()
	l.fetching.Wait()
	close(l.dirty)
	keeper.Wait()
	if syncErr := t.cfg.Store.Sync(); err == nil || errors.Is(err, context.Canceled) {
		err = errors.Join(err, syncErr)
	}
	return err
}

// loop is the state of a running transfer. Only its own goroutine touches it, but for the last three fields.
type loop struct {
	t       *Transfer
	start   time.Time
	shares  *schedule.Shares
	sources []*source // a source's index is its id in the schedule
	byName  map[string]*source
	done    int64 // bytes of units that are there
	active  int   // sources that take part in the schedule

	ctx      context.Context
	fetching sync.WaitGroup // a goroutine for each source that is delivering
	dirty    chan struct{}  // holds one token when there is something to sync
}

// source is what the loop knows of a Source.
type source struct {
	Source
	id      int
	state   State
	stop    context.CancelFunc
	strikes int
	retry   time.Time
	err     error
	size    int64 // bytes of the unit that it is at, 0 when it is at none
	before  int64 // counted, when that unit began

	got     atomic.Int64 // bytes delivered, counted by its goroutine
	counted int64        // of those: told to the schedule
	shown   int64        // of those: in rate
	rate    float64
}

// event is what the loop is told. It applies itself to the loop's state, and never blocks.
type event interface{ apply(l *loop) error }

type (
	eventAdd   struct{ src Source }
	eventBegin struct {
		s     *source
		unit  uint32
		size  int64
		reply chan error // holds one
	}
	eventEnd struct {
		s    *source
		unit uint32
	}
	eventStopped struct {
		s   *source
		err error
	}
	eventFatal struct{ err error }
)

// run is the loop: obey the schedule, wait for one event or the next tick, apply it.
func (l *loop) run() error {
	for u := range l.t.cfg.Units {
		if l.t.cfg.Store.Have(u) {
			l.done += l.unitSize(u)
		}
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	l.publish()
	for l.shares.Missing() > 0 {
		l.obey(l.shares.Plan(time.Since(l.start)))
		select {
		case <-l.ctx.Done():
			return l.ctx.Err()
		case e := <-l.t.inbox:
			if err := e.apply(l); err != nil {
				return err
			}
		case now := <-ticker.C:
			l.measure()
			l.readmit(now)
			l.publish()
		}
	}
	l.publish()
	return nil
}

// obey carries out what the schedule wants.
func (l *loop) obey(commands []schedule.Command) {
	for _, c := range commands {
		s := l.sources[c.Holder]
		if c.Stop {
			s.stop()
			continue
		}
		s.shown = s.counted
		var ctx context.Context
		ctx, s.stop = context.WithCancel(l.ctx)
		s.state = Delivering
		l.t.cfg.Log.Debug("asking", "source", s, "first", c.First, "last", c.Last)
		l.fetching.Go(func() { l.fetch(ctx, s, c.First, c.Last) })
	}
}

// fetch is the goroutine of a source that is delivering.
func (l *loop) fetch(ctx context.Context, s *source, first, last uint32) {
	var buf []byte
	err := s.Fetch(ctx, first, last, func(unit uint32, size int64, body io.Reader) error {
		if buf == nil {
			buf = make([]byte, bufferSize)
		}
		return l.receive(ctx, s, buf, unit, size, body)
	})
	if ctx.Err() != nil {
		err = ctx.Err() // it was told to stop: how it did that says nothing of it
	}
	// The loop may have ended already, and nobody reads the inbox then: l.ctx has ended too.
	l.t.post(l.ctx, eventStopped{s, err})
}

// counter counts what is read through it, as it comes: a slow source is seen to deliver before a buffer is full.
type counter struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// errNotWanted ends a source's range at a unit that has been given to another.
var errNotWanted = errors.New("unit no longer wanted of this source")

// storeError is an error of the store, which is not the source's.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// receive takes one unit from a source, and writes it to its place.
func (l *loop) receive(ctx context.Context, s *source, buf []byte, unit uint32, size int64, body io.Reader) error {
	begin := eventBegin{s, unit, size, make(chan error, 1)}
	if !l.t.post(ctx, begin) {
		return ctx.Err()
	}
	select {
	case err := <-begin.reply:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	in := &counter{body, &s.got}
	for off := int64(0); off < size; {
		n, err := io.ReadFull(in, buf[:min(int64(len(buf)), size-off)])
		if err != nil {
			return err
		}
		if err := l.t.cfg.Store.WriteAt(unit, buf[:n], off); err != nil {
			return &storeError{err}
		}
		off += int64(n)
	}
	if err := l.t.cfg.Store.Mark(unit); err != nil {
		return &storeError{err}
	}
	l.t.post(l.ctx, eventEnd{s, unit})
	return nil
}

// keepJournal syncs what is complete, as soon and as often as the disk allows.
func (l *loop) keepJournal() {
	for range l.dirty {
		if err := l.t.cfg.Store.Sync(); err != nil {
			l.t.post(l.ctx, eventFatal{err})
			for range l.dirty { // nothing more: what failed once must not be trusted when it succeeds later
			}
			return
		}
	}
}

func (e eventAdd) apply(l *loop) error {
	s := l.byName[e.src.String()]
	if s != nil {
		if s.state == Waiting {
			s.strikes, s.retry = 0, time.Time{}
		}
		l.readmit(time.Now())
		return nil
	}
	if len(l.sources) == maxKnown {
		return nil
	}
	s = &source{Source: e.src, id: len(l.sources), state: Waiting}
	l.sources = append(l.sources, s)
	l.byName[e.src.String()] = s
	l.readmit(time.Now())
	return nil
}

func (e eventBegin) apply(l *loop) error {
	switch {
	case e.unit >= l.t.cfg.Units || e.size != l.unitSize(e.unit):
		e.reply <- fmt.Errorf("%w: unit %d has %d bytes there", ErrUnitSize, e.unit, e.size)
	case !l.shares.Begin(e.s.id, e.unit):
		e.reply <- errNotWanted
	default:
		l.count(e.s)
		e.s.size, e.s.before = e.size, e.s.counted
		e.reply <- nil
	}
	return nil
}

// ErrUnitSize is a unit whose size is not that of its place: its source is banned.
var ErrUnitSize = errors.New("wrong size of a unit")

func (e eventEnd) apply(l *loop) error {
	l.count(e.s)
	l.shares.End(e.s.id)
	l.done += e.s.size
	e.s.size, e.s.strikes = 0, 0
	select {
	case l.dirty <- struct{}{}:
	default:
	}
	return nil
}

func (e eventStopped) apply(l *loop) error {
	s := e.s
	s.stop()
	l.count(s)
	l.shares.Stopped(s.id)
	s.state, s.size, s.rate = Idle, 0, 0
	var fromStore *storeError
	switch {
	case e.err == nil, errors.Is(e.err, errNotWanted), errors.Is(e.err, context.Canceled):
		return nil // it delivered, or was told to stop
	case errors.As(e.err, &fromStore):
		return fromStore.err
	}
	s.err = e.err
	s.strikes++
	l.shares.Remove(s.id)
	l.active--
	switch {
	case l.t.cfg.Blame != nil && l.t.cfg.Blame(s.Source, e.err), errors.Is(e.err, ErrUnitSize):
		s.state = Banned
		l.t.cfg.Log.Warn("source banned", "source", s, "err", e.err)
	default:
		s.state = Waiting
		s.retry = time.Now().Add(min(minRetry<<min(s.strikes-1, 10), maxRetry))
		l.t.cfg.Log.Info("source failed", "source", s, "err", e.err, "again", time.Until(s.retry))
	}
	return nil
}

func (e eventFatal) apply(*loop) error { return e.err }

// readmit lets sources take part that are new, or have waited long enough.
func (l *loop) readmit(now time.Time) {
	for _, s := range l.sources {
		if l.active < maxSources && s.state == Waiting && !now.Before(s.retry) {
			s.state = Idle
			l.active++
			l.shares.Add(s.id)
		}
	}
}

// count tells the schedule what a source has delivered since the last time.
func (l *loop) count(s *source) {
	got := s.got.Load()
	l.shares.Received(s.id, got-s.counted, time.Since(l.start))
	s.counted = got
}

// measure updates the rates that are shown: means in which what is older than rateTime weighs little.
func (l *loop) measure() {
	for _, s := range l.sources {
		if s.state == Delivering {
			l.count(s)
			now := float64(s.counted-s.shown) / tick.Seconds()
			s.shown = s.counted
			if s.rate == 0 {
				s.rate = now
			}
			s.rate += (now - s.rate) * tick.Seconds() / rateTime.Seconds()
		}
	}
}

// publish makes the state visible to the world.
func (l *loop) publish() {
	p := &Progress{Size: l.t.cfg.Size, Done: l.done}
	for _, s := range l.sources {
		if s.size > 0 {
			p.Done += s.counted - s.before
		}
		if s.state == Delivering {
			p.Active++
		}
		p.Rate += s.rate
		p.Fetched += s.counted
		p.Sources = append(p.Sources, SourceProgress{s.String(), s.state, s.counted, s.rate, s.err})
	}
	slices.SortFunc(p.Sources, func(a, b SourceProgress) int { return strings.Compare(a.Name, b.Name) })
	l.t.progress.Store(p)
}

func (l *loop) unitSize(unit uint32) int64 {
	return min(l.t.cfg.UnitSize, l.t.cfg.Size-int64(unit)*l.t.cfg.UnitSize)
}
