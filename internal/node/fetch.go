package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shoal/internal/bundle"
	"shoal/internal/content"
	"shoal/internal/exchange"
	"shoal/internal/identity"
	"shoal/internal/store"
	"shoal/internal/wire"

	"golang.org/x/sync/errgroup"
)

const (
	// syncEvery and syncBytes bound what a crash can lose.
	syncEvery = 3 * time.Second
	syncBytes = 64 << 20
	// fullAge is how old a server must be before its names count as complete.
	fullAge = 10 * time.Second
	// corruptTime is how long a download without any source left waits, when one was cut off for wrong data.
	corruptTime = 3 * time.Second
	// giveTime is how long a download that is complete gives on while somebody wants it.
	giveTime = 60 * time.Second
	// idleTime is how long nobody must want it before that ends.
	idleTime = time.Second
)

// CorruptError is a download whose only sources sent wrong data.
type CorruptError struct {
	Name string
	Who  []string // that were cut off
	Left uint32   // pieces that are missing
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: every source that is left sent wrong data: %v; %d pieces are missing", e.Name, e.Who, e.Left)
}

// AmbiguousError is a name or the beginning of an id that several contents have.
type AmbiguousError struct {
	What    string
	Entries []wire.Entry
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%q means %d different contents", e.What, len(e.Entries))
}

// HiddenNameError is a name that somebody else has chosen and that begins with a dot: such a file would not be seen, and may steer a program.
type HiddenNameError struct{ Name string }

func (e *HiddenNameError) Error() string { return fmt.Sprintf("the file is called %q", e.Name) }

// NoContentError is a name or id that nobody in the swarm has; where no server answered, nobody of those on the local network.
type NoContentError struct {
	What  string
	Asked int // neighbours; 0: the server was
}

func (e *NoContentError) Error() string { return fmt.Sprintf("nobody in the swarm has %q", e.What) }

// ErrHere is a content that this member fetches or gives already.
var ErrHere = errors.New("this peer fetches or shares it already")

// claim makes sure that a content is fetched once at a time: the exchange has it once.
func (m *Member) claim(id content.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shares[id] != nil || m.fetches[id] {
		return ErrHere
	}
	m.fetches[id] = true
	return nil
}

func (m *Member) unclaim(id content.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.fetches, id)
}

// FetchRequest says what to fetch, and where to.
type FetchRequest struct {
	Name       string         // what is asked for, and how the file is called unless Target says otherwise
	ID         content.Prefix // decides, if it has bits
	Dir        string
	Target     string
	Overwrite  bool
	Restart    bool
	Wait       bool          // wait for somebody to offer it
	Patience   time.Duration // end when nothing came for so long; 0: never
	Sequential bool
	Reserve    int64 // bytes of the disk that are left free; below 0: [store.Spare]
	Note       func(text string)
	// Found is told what will be fetched, before it is; an error ends the fetch. Nil: nobody is.
	Found func(id content.ID, name string, size int64, directory bool) error

	FromLink  bool             // a link says what it is: a directory or not, whatever others say
	Directory bool             // it does
	Either    bool             // of a directory: Dir may be itself the one that an earlier run has made
	Selection bundle.Selection // of a directory: what of it is wanted
	Out       io.Writer        // gets the bytes in order instead of a file in Dir, of a directory a tar archive; nil: none
}

// FetchStatus is a fetch at one moment.
type FetchStatus struct {
	Phase   Phase
	Name    string
	ID      content.ID
	Size    int64
	Resumed int64 // bytes that were there before
	Checked int64 // bytes that were hashed of what is there

	Directory bool
	Exchange  exchange.Progress
	Already   bool // a directory was complete before
}

// Fetched is a content that is complete.
type Fetched struct {
	Name, Path string
	ID         content.ID
	Size       int64
	Resumed    int64
	Received   int64
	Wasted     int64
	Sources    int
	Optimal    float64 // how many times as long it took as at the best rate that it saw; 0: nothing can be said
	Already    bool
	Manifest   *content.Manifest
	Directory  bool
	Partly     bool // of a directory: not all was wanted
}

// Fetch is one content on its way to this machine.
type Fetch struct {
	m       *Member
	req     FetchRequest
	entry   wire.Entry
	records []wire.Record
	content *exchange.Content
	d       *store.Download
	dir     bool    // it is a directory
	out     *outlet // nil: to a file
	spool   string  // folder of what is written to a stream; empty: none
	status  atomic.Pointer[FetchStatus]
	checked atomic.Int64

	fetched  chan *content.Manifest
	complete chan struct{}
	failed   chan error

	mu    sync.Mutex // guards liars
	liars []string
}

// NewFetch makes a fetch that does nothing until it is run.
func (m *Member) NewFetch(req FetchRequest) *Fetch {
	if req.Note == nil {
		req.Note = func(string) {}
	}
	f := &Fetch{
		m: m, req: req, fetched: make(chan *content.Manifest, 1), complete: make(chan struct{}, 1), failed: make(chan error, 1),
	}
	f.status.Store(&FetchStatus{Phase: Searching, Name: req.Name})
	return f
}

// Status returns how far it is.
func (f *Fetch) Status() FetchStatus {
	st := *f.status.Load()
	st.Checked = f.checked.Load()
	if st.Phase != Searching && f.content != nil { // it is set before the phase is another
		st.Exchange = f.content.Progress()
	}
	return st
}

func (f *Fetch) set(change func(*FetchStatus)) {
	st := *f.status.Load()
	change(&st)
	f.status.Store(&st)
}

// Run finds the content, fetches, verifies and publishes it. What is verified stays for the next run when it fails. The
// member goes on giving it until [Fetch.Close].
func (f *Fetch) Run(ctx context.Context) (*Fetched, error) {
	if err := f.resolve(ctx); err != nil {
		return nil, err
	}
	if err := f.decideKind(); err != nil {
		return nil, err
	}
	if f.req.Out != nil {
		if err := f.openSpool(); err != nil {
			return nil, err
		}
	}
	if f.req.Target == "" {
		if f.req.Target = f.entry.Name; f.req.ID.Bits > 0 && strings.HasPrefix(f.entry.Name, ".") {
			return nil, &HiddenNameError{f.entry.Name}
		}
	}
	if err := checkTarget(f.req.Dir, f.req.Target, f.dir); err != nil {
		return nil, err
	}
	if f.req.Found != nil {
		if err := f.req.Found(f.entry.ID, f.entry.Name, f.entry.Size, f.dir); err != nil {
			return nil, err
		}
	}
	if err := f.m.claim(f.entry.ID); err != nil {
		return nil, fmt.Errorf("%q: %w", f.entry.Name, err)
	}
	known, err := store.LoadManifest(f.req.Dir, f.key(), f.entry.ID)
	if err != nil {
		f.m.cfg.Log.Debug("no manifest of an earlier run", "err", err)
		known = nil
	}
	f.content = &exchange.Content{
		ID: f.entry.ID, Manifest: known, Sequential: f.req.Sequential,
		Fetched: func(m *content.Manifest) { f.fetched <- m },
		Complete: func() {
			select {
			case f.complete <- struct{}{}:
			default:
			}
		},
		Failed: func(err error) {
			select {
			case f.failed <- err:
			default:
			}
		},
		Note: f.blamed,
	}
	f.set(func(st *FetchStatus) { // it is fetching once it is known what of it is there
		st.ID, st.Size, st.Name, st.Phase, st.Directory = f.entry.ID, f.entry.Size, f.entry.Name, Meeting, f.dir
	})
	f.m.x.Add(f.content)
	// Whoever comes later dials those that are there, so we are there from now on, though we have nothing yet.
	f.m.client.Hold(f.entry.ID, f.entry.Size, false)
	f.m.client.Follow(f.entry.ID, true)
	if known == nil {
		if known, err = f.await(ctx); err != nil {
			f.release()
			return nil, err
		}
	}
	return f.take(ctx, known)
}

// take fetches the pieces.
func (f *Fetch) take(ctx context.Context, m *content.Manifest) (*Fetched, error) {
	f.set(func(st *FetchStatus) { st.Phase, st.Size = Checking, m.Geo.Size })
	d, err := f.open(ctx, m)
	path := filepath.Join(f.req.Dir, f.req.Target)
	if errors.Is(err, store.ErrComplete) {
		f.release()
		f.set(func(st *FetchStatus) { st.Phase, st.Resumed = Complete, m.Geo.Size })
		return &Fetched{Name: f.entry.Name, Path: path, ID: m.ID, Size: m.Geo.Size, Resumed: m.Geo.Size, Already: true, Manifest: m}, nil
	}
	if err != nil {
		f.release()
		return nil, err
	}
	f.d = d
	if err := f.unfold(ctx); err != nil {
		return nil, err
	}
	d, path = f.d, filepath.Join(f.req.Dir, f.req.Target)
	came := f.content.Progress()
	resumed := max(0, d.Bytes()-came.Received+came.Wasted) // the listing has just come
	f.set(func(st *FetchStatus) {
		st.Phase, st.Resumed, st.Size, st.Already = Fetching, resumed, d.WantedBytes(), d.Already()
	})
	f.m.client.Hold(m.ID, m.Geo.Size, d.HaveAll())
	for _, r := range f.records {
		f.m.client.Offer(r)
	}
	if f.req.Out != nil {
		defer f.startOut(ctx)()
	}
	f.m.x.Begin(m.ID, d)
	if err := f.fetch(ctx); err != nil {
		return nil, err
	}
	if f.req.Out == nil {
		if err := d.Complete(ctx); err != nil {
			return nil, err
		}
	}
	f.m.client.Hold(m.ID, m.Geo.Size, d.HaveAll())
	f.set(func(st *FetchStatus) { st.Phase = Complete })
	p := f.content.Progress()
	r := &Fetched{
		Name: f.entry.Name, Path: path, ID: m.ID, Size: d.WantedBytes(), Resumed: resumed, Received: p.Received, Wasted: p.Wasted,
		Optimal:   p.Optimal,
		Manifest:  m,
		Directory: f.dir, Partly: !f.req.Selection.All(), Already: d.Already(),
	}
	for _, n := range p.Neighbours {
		if n.Received > 0 {
			r.Sources++
		}
	}
	return r, nil
}

func (f *Fetch) open(ctx context.Context, m *content.Manifest) (*store.Download, error) {
	reserve := f.req.Reserve
	if reserve < 0 {
		reserve = store.Spare(f.req.Dir)
	}
	return store.OpenDownload(ctx, store.DownloadConfig{
		Dir: f.req.Dir, Target: f.req.Target, Manifest: m, Key: f.key(), Overwrite: f.req.Overwrite, Restart: f.req.Restart, Reserve: reserve,
		Directory: f.dir, Scratch: f.req.Out != nil, Checked: func(n int64) { f.checked.Add(n) },
		Unsure: func() { f.m.cfg.Warn(unsureNote(f.req.Dir)) },
	})
}

// unsureNote tells of a disk that knows no sync.
func unsureNote(dir string) string {
	return fmt.Sprintf("the file system of %s cannot make files last: if the power goes, what is complete now may be damaged, and \"shoal verify\" tells", dir)
}

// fetch waits until all pieces are there, and keeps the journal meanwhile.
func (f *Fetch) fetch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	g.Go(func() error { return f.keepJournal(ctx) })
	err := f.watch(ctx, f.complete)
	if err == nil && f.out != nil {
		err = f.out.wait(ctx)
	}
	cancel()
	return errors.Join(err, g.Wait())
}

// keepJournal syncs what is verified, every few seconds or 64 MiB.
func (f *Fetch) keepJournal(ctx context.Context) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	synced, at := f.d.Bytes(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := f.d.Bytes()
		if now == synced || (now-synced < syncBytes && time.Since(at) < syncEvery) {
			continue
		}
		if err := f.d.Sync(); err != nil {
			select {
			case f.failed <- err:
			default:
			}
			return nil
		}
		synced, at = now, time.Now()
	}
}

// await waits for the manifest.
func (f *Fetch) await(ctx context.Context) (m *content.Manifest, err error) {
	got := make(chan struct{})
	stop := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error {
		select {
		case m = <-f.fetched:
			close(got)
		case <-stop:
		}
		return nil
	})
	err = f.watch(ctx, got)
	close(stop)
	_ = g.Wait()
	return m, err
}

// watch waits for done, a failure, the end of the user's patience, or of the last source that may be of use.
func (f *Fetch) watch(ctx context.Context, done <-chan struct{}) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	received, moved, sourced := int64(-1), time.Now(), time.Now()
	user := patience{limit: f.req.Patience, at: time.Now()}
	for {
		select {
		case <-done:
			return nil
		case err := <-f.failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
		p := f.content.Progress()
		if p.Received-p.Wasted != received || p.Paused {
			received, moved = p.Received-p.Wasted, time.Now()
		}
		if user.ends(time.Now(), p.Received-p.Wasted, p.Paused) {
			return fmt.Errorf("%w for %v", ErrNoProgress, f.req.Patience)
		}
		if n, known := f.m.ss.sources(f.entry.ID); n > 0 || !known {
			sourced = time.Now()
		}
		f.mu.Lock()
		liars := slices.Clone(f.liars)
		f.mu.Unlock()
		if len(liars) > 0 && time.Since(sourced) > corruptTime && time.Since(moved) > corruptTime {
			return &CorruptError{Name: f.entry.Name, Who: liars, Left: f.missing()}
		}
	}
}

// leastProgress is how many bytes must come for a download to have moved, for its user: what drips would never end.
const leastProgress = 16 << 10

// patience is how long a user waits for a download that does not move.
type patience struct {
	limit time.Duration // 0: for ever
	came  int64         // bytes, when it moved last
	at    time.Time
}

// ends says whether a download has not moved for too long. One that waits for space moves.
func (p *patience) ends(now time.Time, came int64, paused bool) bool {
	if came < p.came || came-p.came >= leastProgress || paused {
		p.came, p.at = came, now
	}
	return p.limit > 0 && now.Sub(p.at) > p.limit
}

func (f *Fetch) missing() (n uint32) {
	if f.d == nil {
		return 0
	}
	for _, have := range f.d.Snapshot() {
		if !have {
			n++
		}
	}
	return n
}

// blamed notes a neighbour that was cut off.
func (f *Fetch) blamed(who string, o *exchange.Offence) {
	f.mu.Lock()
	fresh := !slices.Contains(f.liars, who) && len(f.liars) < 100
	if fresh {
		f.liars = append(f.liars, who)
	}
	f.mu.Unlock()
	if fresh {
		f.req.Note(fmt.Sprintf("%s sent wrong data (%s), which was thrown away: it is set aside for %d minutes", who, o.What, banTime/time.Minute))
	}
}

// Give goes on giving for as long as somebody wants it, at most a minute, or with stay until ctx ends.
func (f *Fetch) Give(ctx context.Context, stay bool) {
	if stay {
		<-ctx.Done()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, giveTime)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	last := time.Now()
	for time.Since(last) < idleTime {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if f.m.x.Wanted(f.entry.ID) {
			last = time.Now()
		} else if f.m.x.Neighbours(f.entry.ID) == 0 {
			return
		}
	}
}

// release ends the exchange.
func (f *Fetch) release() {
	defer f.m.unclaim(f.entry.ID)
	f.m.x.Remove(f.entry.ID)
	f.m.client.Retract(f.entry.ID)
	f.m.client.Follow(f.entry.ID, false)
	f.m.ss.forget(f.entry.ID)
}

// Close ends the exchange, and journals what is there.
func (f *Fetch) Close() error {
	defer f.removeSpool()
	if f.content == nil {
		return nil
	}
	if f.d == nil {
		return nil
	}
	f.release()
	return f.d.Close()
}

// checkTarget refuses a target that no download may replace, before the swarm is asked.
func checkTarget(dir, target string, directory bool) error {
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, target)
	fi, err := os.Lstat(path)
	if err == nil && directory && fi.IsDir() {
		return nil
	}
	if err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("%s: %w, and is no ordinary file", path, store.ErrExists)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// resolve finds out which content is meant: an id decides, otherwise a name, otherwise the beginning of an id.
func (f *Fetch) resolve(ctx context.Context) error {
	what := f.req.Name
	if what == "" {
		what = f.req.ID.String()
	}
	began := time.Now()
	for {
		entries, err := f.lookUp(ctx)
		if server := new(ServerError); err != nil && !(f.req.Wait && errors.As(err, &server)) {
			return err
		}
		byID := make(map[content.ID]wire.Entry)
		var each []wire.Entry
		for _, e := range entries {
			if _, known := byID[e.ID]; !known {
				byID[e.ID] = e
				each = append(each, e)
			}
		}
		switch {
		case len(each) == 1:
			f.entry = each[0]
			for _, e := range entries {
				if e.Name == f.req.Name && (f.entry.Name != e.Name || f.entry.Kind == wire.KindFile) { // a directory, if one says so
					f.entry = e
				}
				if e.Record != nil {
					f.records = append(f.records, *e.Record)
				}
			}
			return nil
		case len(each) > 1:
			return &AmbiguousError{what, each}
		case !f.req.Wait && f.m.knowsAll():
			return f.m.notThere(what)
		case f.req.Patience > 0 && time.Since(began) > f.req.Patience:
			return fmt.Errorf("%w: nobody offered %q in %v", ErrNoProgress, what, f.req.Patience)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func (f *Fetch) lookUp(ctx context.Context) ([]wire.Entry, error) {
	if f.req.ID.Bits > 0 {
		return f.m.Find(ctx, "", f.req.ID)
	}
	entries, err := f.m.Find(ctx, f.req.Name, content.Prefix{})
	if err != nil || len(entries) > 0 {
		return entries, err
	}
	prefix, err := content.ParsePrefix(f.req.Name)
	if err != nil {
		return nil, nil
	}
	return f.m.Find(ctx, "", prefix)
}

// PeerName is how people see a peer.
func PeerName(id wire.PeerID) string { return identity.PeerShort(id) }
