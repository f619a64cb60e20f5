package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"shoal/internal/classic"
	"shoal/internal/peer"
	"shoal/internal/store"
	"shoal/internal/transfer"

	"golang.org/x/sync/errgroup"
)

// ErrNoProgress is a download to which nothing came for as long as its user wanted to wait. It can be resumed.
var ErrNoProgress = errors.New("no progress")

// DigestError is a complete download that is not the file whose digest was given.
type DigestError struct {
	Path, Algorithm string
	Want, Got       []byte
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("%s has %s %x, want %x", e.Path, e.Algorithm, e.Got, e.Want)
}

// Digest is a hash that a file must have.
type Digest struct {
	Algorithm string
	New       func() hash.Hash
	Want      []byte
}

// Request says what to download, and where to.
type Request struct {
	Name      string
	Dir       string // folder for the file; it must exist
	Target    string // name in Dir; empty: Name
	Layout    store.Layout
	From      []netip.AddrPort // only from these; port 0: any at that address
	Digests   []Digest         // checked before the file gets its name
	Overwrite bool             // replace an existing file
	Restart   bool             // throw away what an earlier run left
	Wait      bool             // wait for somebody to share the name
	Patience  time.Duration    // end when nothing came for so long; 0: never
	Note      func(text string, err error)
}

// Phase says how far a download is.
type Phase string

// The phases of a download, in order.
const (
	Searching Phase = "searching"
	Meeting   Phase = "meeting" // of a verified download: its manifest is asked for
	Fetching  Phase = "fetching"
	Merging   Phase = "merging" // only with unit files
	Checking  Phase = "checking"
	Complete  Phase = "complete"
)

// Status is a download at one moment.
type Status struct {
	Phase    Phase
	Size     int64 // bytes, 0 before a holder was found
	Resumed  int64 // bytes that an earlier run had fetched
	Checked  int64 // bytes hashed
	Transfer transfer.Progress
}

// Result is a download that is complete.
type Result struct {
	Path     string
	Size     int64
	Resumed  int64 // bytes that an earlier run had fetched
	Fetched  int64 // bytes that were fetched now
	Sources  int   // that delivered something
	Verified bool  // against a digest
	Already  bool  // it was there before, and nothing was fetched
}

// Download is one file on its way to this machine.
type Download struct {
	n      *Node
	req    Request
	status atomic.Pointer[Status]
	tr     atomic.Pointer[transfer.Transfer]
	hashed atomic.Int64

	checked bool // the target has been looked at, before Run
}

// NewDownload makes a download that does nothing until it is run.
func (n *Node) NewDownload(req Request) *Download {
	if req.Target == "" {
		req.Target = req.Name
	}
	if req.Layout == 0 {
		req.Layout = store.OneFile
	}
	if req.Note == nil {
		req.Note = func(string, error) {}
	}
	d := &Download{n: n, req: req}
	d.status.Store(&Status{Phase: Searching})
	return d
}

// Status returns how far the download is.
func (d *Download) Status() Status {
	st := *d.status.Load()
	st.Checked = d.hashed.Load()
	if tr := d.tr.Load(); tr != nil {
		st.Transfer = tr.Progress()
	}
	return st
}

func (d *Download) phase(p Phase) {
	st := *d.status.Load()
	st.Phase = p
	d.status.Store(&st)
}

// CheckTarget looks at what is there before the swarm is asked: a file that has the wanted digests is already complete
// (a result), any other is [store.ErrExists], unless it is to be overwritten.
func (d *Download) CheckTarget(ctx context.Context) (*Result, error) {
	if err := classic.CheckName(d.req.Name); err != nil {
		return nil, err
	}
	d.checked = true
	path := filepath.Join(d.req.Dir, d.req.Target)
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, err := os.Stat(d.req.Dir)
		return nil, err
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s: %w, and is no ordinary file", path, store.ErrExists)
	}
	if len(d.req.Digests) > 0 {
		d.phase(Checking)
		err := d.check(path, func(h hash.Hash) error { return store.HashFile(ctx, path, h, d.count) })
		d.phase(Searching)
		d.hashed.Store(0)
		if err == nil {
			return &Result{Path: path, Size: fi.Size(), Verified: true, Already: true}, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
	}
	if d.req.Overwrite {
		return nil, nil
	}
	// What it cannot remove stays, and harms nobody.
	_ = store.SweepPartial(d.req.Dir, d.req.Target, d.key())
	return nil, fmt.Errorf("%s: %w", path, store.ErrExists)
}

// key is what a rerun finds its partial download by.
func (d *Download) key() string { return "classic:" + d.req.Name + "/" + d.req.Target }

func (d *Download) count(n int64) { d.hashed.Add(n) }

// Run finds the holders, fetches, checks and publishes. What it has fetched stays for the next run when it fails.
func (d *Download) Run(ctx context.Context) (*Result, error) {
	if !d.checked {
		if done, err := d.CheckTarget(ctx); done != nil || err != nil {
			return done, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	s := newSearch(d.n, d.req.Name, d.req.From)
	defer s.wait()
	defer cancel()
	content, err := d.find(ctx, s)
	if err != nil {
		return nil, err
	}
	partial, err := store.OpenPartial(store.PartialConfig{
		Dir: d.req.Dir, Target: d.req.Target, Key: d.key(),
		Layout: d.req.Layout, UnitSize: classic.ChunkSize, Size: content.Size(), Restart: d.req.Restart,
		Unsure: func() { d.req.Note(unsureNote(d.req.Dir), nil) },
	})
	if err != nil {
		return nil, err
	}
	defer partial.Close()
	resumed := partial.Bytes()
	d.status.Store(&Status{Phase: Fetching, Size: content.Size(), Resumed: resumed})
	if err := d.fetch(ctx, s, content, partial); err != nil {
		return nil, err
	}
	if err := d.finish(ctx, partial); err != nil {
		return nil, err
	}
	r := &Result{
		Path: filepath.Join(d.req.Dir, d.req.Target), Size: content.Size(), Resumed: resumed,
		Fetched: d.tr.Load().Progress().Fetched, Verified: len(d.req.Digests) > 0,
	}
	for _, src := range d.tr.Load().Progress().Sources {
		if src.Bytes > 0 {
			r.Sources++
		}
	}
	d.phase(Complete)
	return r, nil
}

// find waits for holders that agree.
func (d *Download) find(ctx context.Context, s *search) (*Content, error) {
	began := time.Now()
	for {
		s.step(ctx, 50*time.Millisecond)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if content, err := s.decide(d.req.Wait); content != nil || err != nil {
			return content, err
		}
		if d.req.Patience > 0 && time.Since(began) > d.req.Patience {
			return nil, fmt.Errorf("%w: nobody who shares %q answered in %v", ErrNoProgress, d.req.Name, d.req.Patience)
		}
	}
}

// fetch runs the transfer, and brings it the holders that agree with the content as they answer.
func (d *Download) fetch(ctx context.Context, s *search, content *Content, partial *store.Partial) error {
	tr := transfer.New(transfer.Config{
		Units: content.Chunks, UnitSize: classic.ChunkSize, Size: content.Size(), Store: partial, Log: d.n.log,
		Sources: d.newHolders(s, content),
		Blame: func(src transfer.Source, err error) bool {
			if !errors.Is(err, peer.ErrProtocol) && !errors.Is(err, errOtherContent) && !errors.Is(err, transfer.ErrUnitSize) {
				return false
			}
			d.n.book.Note(RefusedAnswer, src.String(), err)
			return true
		},
	})
	d.tr.Store(tr)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	g.Go(func() error {
		defer cancel()
		return tr.Run(ctx)
	})
	err := d.supply(ctx, s, content, tr)
	cancel()
	if runErr := g.Wait(); err == nil {
		err = runErr
	}
	return err
}

// supply brings a running transfer its sources until ctx ends, or nothing has come for too long.
func (d *Download) supply(ctx context.Context, s *search, content *Content, tr *transfer.Transfer) error {
	fetched, moved := int64(0), time.Now()
	for ctx.Err() == nil {
		for _, src := range d.newHolders(s, content) {
			tr.Add(ctx, src)
		}
		if now := tr.Progress().Fetched; now != fetched {
			fetched, moved = now, time.Now()
		}
		if d.req.Patience > 0 && time.Since(moved) > d.req.Patience {
			return fmt.Errorf("%w for %v", ErrNoProgress, d.req.Patience)
		}
		s.step(ctx, 500*time.Millisecond)
	}
	return nil
}

// newHolders returns those who have answered since the last time that they have the content, and tells of those who have
// another.
func (d *Download) newHolders(s *search, content *Content) (out []transfer.Source) {
	for a, known := range s.asked {
		switch {
		case known.answer.Chunks == 0 || known.used:
		case known.answer == content.Answer:
			known.used = true
			out = append(out, &holder{Holder: peer.Holder{Addr: a, Name: d.req.Name, Limit: d.n.cfg.Down}, content: content.Answer, asked: known.at})
		default:
			known.used = true
			d.req.Note(fmt.Sprintf("%v shares another file of this name (%d bytes): not used", a, known.answer.Size()), nil)
		}
	}
	slices.SortFunc(out, func(a, b transfer.Source) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// errOtherContent is a holder that has another file now than when it was asked first.
var errOtherContent = errors.New("it shares another file of this name now")

// freshTime is how long what a holder answered is believed: it may be restarted with another file at any time.
const freshTime = 2 * time.Second

// holder is a source that makes sure, before each range, that it still has the content.
type holder struct {
	peer.Holder
	content peer.Answer
	asked   time.Time // when it last said so; zero after a failure
}

func (h *holder) Fetch(ctx context.Context, first, last uint32, recv func(uint32, int64, io.Reader) error) error {
	if time.Since(h.asked) > freshTime {
		answer, err := h.Ask(ctx)
		if err != nil {
			return err
		}
		if answer != h.content {
			return fmt.Errorf("%w: %d bytes, it had %d", errOtherContent, answer.Size(), h.content.Size())
		}
	}
	h.asked = time.Now()
	err := h.Holder.Fetch(ctx, first, last, recv)
	if err != nil {
		h.asked = time.Time{}
	}
	return err
}

// finish makes the file of what was fetched, checks it, and gives it its name.
func (d *Download) finish(ctx context.Context, partial *store.Partial) error {
	if d.req.Layout == store.UnitFiles {
		d.phase(Merging)
	}
	if err := partial.Assemble(ctx); err != nil {
		return err
	}
	if len(d.req.Digests) > 0 {
		d.phase(Checking)
		hashed := func(h hash.Hash) error { return partial.Hash(ctx, h, d.count) }
		if err := d.check(partial.TargetPath(), hashed); err != nil {
			return err
		}
	}
	return partial.Publish(d.req.Overwrite)
}

// check hashes a file with each wanted digest.
func (d *Download) check(path string, hashInto func(hash.Hash) error) error {
	for _, want := range d.req.Digests {
		h := want.New()
		if err := hashInto(h); err != nil {
			return err
		}
		if got := h.Sum(nil); !bytes.Equal(got, want.Want) {
			return &DigestError{Path: path, Algorithm: want.Algorithm, Want: want.Want, Got: got}
		}
	}
	return nil
}
