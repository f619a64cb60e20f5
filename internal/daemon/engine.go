package daemon

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"shoal/internal/content"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/store"
)

const (
	// maxTransfers bounds the list.
	maxTransfers = 100_000
	// maxDownloads bounds the downloads that run at once; the others wait for their turn.
	maxDownloads = 256
	// maxHashing bounds the files that are hashed at once; those whose hash is known take no time.
	maxHashing = 4
	// maxLog and maxLogLines bound the lines that are kept of the peer and of one transfer.
	maxLog      = 500
	maxLogLines = 100
	// busyTick is how often somebody who watches is told of changes, quietTick how often the engine looks when nobody does.
	busyTick  = 250 * time.Millisecond
	quietTick = time.Second
	// spaceEvery is how often the disk of a download is looked at that waits for space.
	spaceEvery = 2 * time.Second
	// idleAfter is how long nothing must happen before the peer counts as idle.
	idleAfter = 10 * time.Second
	// A download that has failed for what may pass is tried again after a wait that doubles from minRetry to maxRetry.
	minRetry = 5 * time.Second
	maxRetry = 10 * time.Minute
	// maxMerged bounds the downloads that are remembered as others.
	maxMerged = 1000
	// saveEvery is how soon a change is written that nobody waits for. One that would be missed is written at once, unless the list is long.
	saveEvery = time.Second
	longList  = 1000
)

// Errors that a caller decides by.
var (
	ErrNoSwarm    = errors.New("this machine is in no swarm")
	ErrNoTransfer = errors.New("there is no such transfer")
	ErrFull       = errors.New("the list of transfers is full")
	ErrBusy       = errors.New("too many watch already")
	ErrEnded      = errors.New("the peer is ending")
	ErrWatched    = errors.New("it is shared because it lies in a watched folder")
	ErrNotOurs    = errors.New("a shared file is its owner's: its data are not removed from here")
	ErrMore       = errors.New("there is more or less in it than was fetched: it is not removed from here")
	ErrBadRequest = errors.New("the request makes no sense")
)

// SeveralError is a choice that is left to the user.
type SeveralError struct {
	What   string
	Chosen []string // by what one of them can be chosen
}

func (e *SeveralError) Error() string {
	return fmt.Sprintf("%s: %s", e.What, strings.Join(e.Chosen, ", "))
}

// HeldError is a content that this peer has already.
type HeldError struct{ Name, Path string }

func (e *HeldError) Error() string {
	return fmt.Sprintf("this peer has %q already, or is fetching it: %s", e.Name, e.Path)
}

// Config says how an [Engine] works. The functions are called from any goroutine.
type Config struct {
	Dir     string           // of the state file
	States  *identity.States // the swarms of this machine
	Name    string           // of this machine, for people
	Version string
	Cache   *store.Cache
	Log     *slog.Logger
	// NewMember makes a member of a swarm, which need not reach a server.
	NewMember func(sw *identity.Swarm, warn func(string)) (*node.Member, error)
	// Serve runs the server of a swarm until ctx ends, if this machine is to be that, and calls up when others can reach it. Nil:
	// never. ErrNotServing: it is not.
	Serve func(ctx context.Context, sw *identity.Swarm, up func()) error
	// SetLimits makes rates hold for a member.
	SetLimits func(m *node.Member, r Rates)
	// Explain turns an error into what people are told.
	Explain func(err error) *Failure
	// Idle is called when nothing has happened for a while, and when something does again. Nil: nobody is.
	Idle func(idle bool)
	// Beat is called by the loop at least once in two seconds while it lives. It does not block.
	Beat func(status string)
	Settings
}

// ErrNotServing is what Config.Serve returns where this machine is no server.
var ErrNotServing = errors.New("this machine is not the swarm's server")

// Settings are what a reload can change.
type Settings struct {
	Folders []string // that are watched
	Swarm   string   // in which what lies there is shared: the beginning of its id; empty: the only one
	Limits  Limits
	Reserve int64 // bytes of each disk that downloads leave free; below 0: [store.Spare]
}

// Engine is the long-running peer. Its methods may be called from any goroutine while it runs.
type Engine struct {
	cfg     Config
	inbox   chan func()
	done    chan struct{} // closed when the loop has ended
	loaded  chan struct{} // closed when the list was read
	running sync.WaitGroup
	started time.Time
	ctx     context.Context // of all that runs; set by Run

	// What follows is the loop's alone.
	settings  Settings
	byHand    *Limits
	applied   Rates
	transfers map[string]*transfer
	swarms    map[identity.SwarmID]*swarmRun
	claims    map[uint64]*transfer // of a content in a swarm: one transfer at a time fetches it, or several share it
	merged    map[string]string    // downloads that turned out to be another, by their ids
	queue     []*transfer          // shares that wait to be hashed
	hashing   int
	fetching  int
	hub       hub
	shown     map[string]Row // as subscribers know them
	log       []Line
	total     totals
	history   history
	looked    time.Time
	worked    time.Time // when something happened last; zero: the peer is idle
	spaced    time.Time // when disks were looked at
	saver     saver
	minRetry  time.Duration
	watching  map[string]context.CancelFunc // watched folders
	byPath    map[string]*transfer          // shares of watched folders; nil: not made yet
	unshared  string                        // why what lies in a folder is not shared, as it was said last
}

// totals are figures of transfers that have ended, and of events.
type totals struct {
	received, wasted, sent    int64 // of runs that are over
	completed, failed, banned int64
	down, up                  float64
}

// New makes an engine that does nothing until it is run.
func New(cfg Config) *Engine {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Beat == nil {
		cfg.Beat = func(string) {}
	}
	if cfg.Idle == nil {
		cfg.Idle = func(bool) {}
	}
	if cfg.SetLimits == nil {
		cfg.SetLimits = func(*node.Member, Rates) {}
	}
	return &Engine{
		cfg: cfg, inbox: make(chan func(), 256), done: make(chan struct{}), loaded: make(chan struct{}), settings: cfg.Settings,
		transfers: make(map[string]*transfer), swarms: make(map[identity.SwarmID]*swarmRun), claims: make(map[uint64]*transfer), merged: make(map[string]string), minRetry: minRetry,
		hub: hub{subs: make(map[*Subscription]bool)}, shown: make(map[string]Row), watching: make(map[string]context.CancelFunc),
		saver: saver{wake: make(chan struct{}, 1)},
	}
}

// post hands something to the loop; false when the loop has ended.
func (e *Engine) post(do func()) bool {
	select {
	case e.inbox <- do:
		return true
	case <-e.done:
		return false
	}
}

// call has the loop do something, and waits until it is done.
func (e *Engine) call(ctx context.Context, do func() error) error {
	result := make(chan error, 1)
	select {
	case e.inbox <- func() { result <- do() }:
	case <-e.done:
		return ErrEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-result:
		return err
	case <-e.done:
		return ErrEnded
	}
}

// Ready says whether the list was read.
func (e *Engine) Ready() <-chan struct{} { return e.loaded }

// Run shares and fetches until ctx ends, and returns when all has ended: the servers were told, what was fetched is synced, and
// the list is kept.
func (e *Engine) Run(ctx context.Context) error {
	l, err := load(e.cfg.Dir)
	if err != nil {
		return err
	}
	sweep(e.cfg.Dir)
	swarms, err := e.cfg.States.List()
	if err != nil {
		return err
	}
	e.started, e.looked, e.worked = time.Now(), time.Now(), time.Now()
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	e.ctx = inner
	e.byHand = l.Limits
	for _, r := range l.Transfers {
		t := newTransfer(r)
		t.loaded = true
		e.transfers[r.ID] = t
	}
	sweepSpool(e.cfg.Dir, l.Transfers, time.Now())
	e.applied = e.limits().At(time.Now())
	for _, sw := range swarms {
		e.enter(sw)
	}
	for _, f := range e.settings.Folders {
		e.watch(f)
	}
	var saving sync.WaitGroup
	saving.Go(e.save)
	close(e.loaded)
	e.loop(ctx)
	stop()
	e.drain()
	close(e.saver.wake)
	saving.Wait()
	for s := range e.hub.subs {
		e.hub.drop(s)
	}
	close(e.done)
	return nil
}

// loop does what is posted until ctx ends.
func (e *Engine) loop(ctx context.Context) {
	ticker := time.NewTimer(0)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case do := <-e.inbox:
			do()
		case <-ticker.C:
			e.tick()
			if len(e.hub.subs) > 0 {
				ticker.Reset(busyTick)
			} else {
				ticker.Reset(quietTick)
			}
		}
	}
}

// drain goes on with the inbox until all that runs has ended.
func (e *Engine) drain() {
	ended := make(chan struct{})
	go func() { e.running.Wait(); close(ended) }() // ends with what drain waits for
	for {
		select {
		case do := <-e.inbox:
			do()
		case <-ended:
			for len(e.inbox) > 0 {
				(<-e.inbox)()
			}
			e.write(nil)
			return
		}
	}
}

// tick looks at all, and tells those who watch.
func (e *Engine) tick() {
	now := time.Now()
	if dt := now.Sub(e.looked).Seconds(); dt >= 0.99 {
		e.looked = now
		e.look(dt)
		e.holdLimits(now)
		e.lookForSpace(now)
		e.cfg.Beat(e.status())
	}
	if e.saver.dirty && now.Sub(e.saver.at) >= saveEvery {
		e.write(nil)
	}
	if len(e.hub.subs) == 0 {
		clear(e.shown)
		return
	}
	for _, t := range e.transfers {
		e.show(t)
	}
}

// look measures all speeds.
func (e *Engine) look(dt float64) {
	var down, up float64
	for _, t := range e.transfers {
		d, u := t.look(dt)
		down, up = down+d, up+u
	}
	e.total.down, e.total.up = mean(e.total.down, down, dt), mean(e.total.up, up, dt)
	e.history.add(down, up)
	e.idle(e.looked)
	e.retry(e.looked)
	if len(e.hub.subs) > 0 {
		e.hub.publish("stats", e.stats())
	}
}

// idle tells when the peer begins and ends to be idle: it may be that for days.
func (e *Engine) idle(now time.Time) {
	switch {
	case e.hashing+e.fetching > 0 || e.total.down+e.total.up > 0:
		if e.worked.IsZero() {
			e.running.Go(func() { e.cfg.Idle(false) })
		}
		e.worked = now
	case !e.worked.IsZero() && now.Sub(e.worked) > idleAfter:
		e.worked = time.Time{}
		e.running.Go(func() { e.cfg.Idle(true) })
	}
}

// show tells those who watch of a transfer, if it looks different from what they know.
func (e *Engine) show(t *transfer) {
	if len(e.hub.subs) == 0 || t.removed {
		return
	}
	row := t.row()
	if was, ok := e.shown[t.ID]; ok && was == row {
		return
	}
	e.shown[t.ID] = row
	e.hub.publish("transfer", row)
}

// status is the peer in one line.
func (e *Engine) status() string {
	states := e.count()
	sessions := 0
	for _, s := range e.swarms {
		if s.m != nil {
			sessions += s.m.Sessions()
		}
	}
	return fmt.Sprintf("%d shares, %d downloads, %d peers", states[Seeding]+states[Complete], states[Downloading]+states[Waiting], sessions)
}

func (e *Engine) count() map[State]int {
	out := make(map[State]int, len(States))
	for _, s := range States {
		out[s] = 0
	}
	for _, t := range e.transfers {
		if t.fetch != nil { // its state is the fetch's
			out[t.row().State]++
		} else {
			out[t.state]++
		}
	}
	return out
}

// note adds a line to the log. T may be nil.
func (e *Engine) note(t *transfer, format string, args ...any) {
	l := Line{Time: time.Now(), Text: fmt.Sprintf(format, args...)}
	if len(l.Text) > 500 {
		l.Text = l.Text[:500]
	}
	if t != nil {
		l.Transfer = t.ID
		h := t.has()
		h.log = append(h.log[max(0, len(h.log)+1-maxLogLines):], l)
	}
	e.log = append(e.log[max(0, len(e.log)+1-maxLog):], l)
	if len(e.hub.subs) > 0 {
		e.hub.publish("log", l)
	}
	e.cfg.Log.Info(l.Text, "transfer", l.Transfer)
}

// sorted returns the transfers in the order in which they were added.
func (e *Engine) sorted() []*transfer {
	out := make([]*transfer, 0, len(e.transfers))
	for _, t := range e.transfers {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *transfer) int {
		if c := a.Added.Compare(b.Added); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

func newID() string {
	var b [10]byte
	_, _ = io.ReadFull(rand.Reader, b[:])
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// stats describes the whole peer.
func (e *Engine) stats() Stats {
	s := Stats{
		Name: e.cfg.Name, Version: e.cfg.Version, Started: e.started, Down: int64(e.total.down), Up: int64(e.total.up),
		Received: e.total.received, Wasted: e.total.wasted, Sent: e.total.sent, Completed: e.total.completed, Failed: e.total.failed,
		Banned: e.total.banned, States: e.count(), Limits: e.limits(), Now: e.applied, Swarms: []SwarmRow{},
	}
	for _, t := range e.transfers {
		if p, ok := t.progress(); ok {
			s.Received, s.Wasted, s.Sent = s.Received+p.Received, s.Wasted+p.Wasted, s.Sent+p.Sent
			if t.Kind == Download && !t.Complete && t.was().down == 0 {
				s.Stalled++
			}
		}
	}
	for _, sw := range e.swarms {
		s.Swarms = append(s.Swarms, sw.row())
	}
	slices.SortFunc(s.Swarms, func(a, b SwarmRow) int { return strings.Compare(a.ID, b.ID) })
	return s
}

// limits are those that were set by hand, or else those of the configuration.
func (e *Engine) limits() Limits {
	if e.byHand != nil {
		return *e.byHand
	}
	return e.settings.Limits
}

// holdLimits makes the rates of this moment hold.
func (e *Engine) holdLimits(now time.Time) {
	r := e.limits().At(now)
	if r == e.applied {
		return
	}
	e.applied = r
	for _, s := range e.swarms {
		if s.m != nil {
			e.cfg.SetLimits(s.m, r)
		}
	}
}

// contentOf parses the id of a record; the zero id if it has none.
func contentOf(s string) content.ID {
	id, _ := content.ParseID(s)
	return id
}
