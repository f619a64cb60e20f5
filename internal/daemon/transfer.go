package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"shoal/internal/content"
	"shoal/internal/exchange"
	"shoal/internal/node"
	"shoal/internal/store"
)

// transfer is what is shared, or fetched. Only the loop touches it, but for checked.
type transfer struct {
	Record
	state   State
	failure *Failure
	cancel  context.CancelFunc // of what runs for it; nil: nothing does
	after   []func()           // called when that has ended
	queued  bool               // it waits to be hashed
	removed bool
	loaded  bool // it was on the list when the peer began: nobody waits to be told that it cannot be
	accept  bool // the file may be another than it was
	restart bool // what an earlier run has fetched is thrown away
	twin    bool // another transfer shares the same content: this one is only one more name
	already bool
	kept    bool              // a directory that is complete, and cannot be given: there is more or less in it than in the content
	full    *store.SpaceError // for want of which it waits, with a failure that says so; nil: it does not

	member  *node.Member  // that gives, or fetches it
	sharing *node.Sharing // nil: it is not shared
	fetch   *node.Fetch   // nil: it is not being fetched
	checked *atomic.Int64 // bytes hashed; nil: it is not being hashed
	next    *transfer     // with the same claim
	past    *past         // nil: nothing has happened yet
}

// past is what has happened to a transfer. Most of a peer that shares very many have none.
type past struct {
	resumed                int64
	received, wasted, sent int64 // of runs that are over
	tried                  int64 // of received, when it failed last
	given                  int
	down, up               float64
	lookReceived, lookSent int64
	seen                   map[string]pace
	history                history
	log                    []Line
	retry                  time.Time     // when it is tried again; zero: it is not
	wait                   time.Duration // before that; doubled each time that nothing came
}

// noPast is the past of transfers that have none. It is never changed.
var noPast past

// was returns what has happened to a transfer, to be read.
func (t *transfer) was() *past {
	if t.past == nil {
		return &noPast
	}
	return t.past
}

// has returns what has happened to a transfer, to be changed.
func (t *transfer) has() *past {
	if t.past == nil {
		t.past = new(past)
	}
	return t.past
}

// asked returns a transfer that a user has asked for, and nil for one of a watched folder: there may be very many, and what goes well with them
// is in the peer's log alone.
func (t *transfer) asked() *transfer {
	if t.Folder != "" {
		return nil
	}
	return t
}

func newTransfer(r Record) *transfer {
	t := &transfer{Record: r, state: Waiting, kept: r.Complete && len(r.Only)+len(r.Except) > 0}
	if r.Paused {
		t.state = Paused
	}
	return t
}

// settle makes run what should, and nothing else.
func (e *Engine) settle(t *transfer) {
	defer e.show(t)
	switch {
	case t.removed || t.cancel != nil || t.queued || t.sharing != nil:
	case t.Paused:
		t.state = Paused
	case t.failure != nil:
	case t.kept:
		t.state = Complete
	case e.member(t) == nil:
		t.state = Waiting
	case t.Kind == Share || t.Complete:
		t.queued, t.state = true, Hashing
		e.queue = append(e.queue, t)
		e.feed()
	case e.fetching < maxDownloads:
		e.startFetch(t)
	default:
		t.state = Waiting
	}
}

// halt stops what runs for a transfer, and calls then when nothing does.
func (e *Engine) halt(t *transfer, then func()) {
	if t.queued {
		t.queued = false
		e.queue = slices.DeleteFunc(e.queue, func(o *transfer) bool { return o == t })
	}
	if t.sharing != nil {
		e.unshare(t)
	}
	if t.cancel != nil {
		t.after = append(t.after, then)
		t.cancel()
		return
	}
	then()
}

// ended calls who waits for the end of what ran, and says whether somebody did.
func (e *Engine) ended(t *transfer) (halted bool) {
	t.cancel = nil
	after := t.after
	t.after = nil
	for _, f := range after {
		f()
	}
	return len(after) > 0
}

// feed hashes what waits for it, a few files at once.
func (e *Engine) feed() {
	for e.hashing < maxHashing && len(e.queue) > 0 {
		t := e.queue[0]
		if e.queue = e.queue[1:]; len(e.queue) == 0 {
			e.queue = nil
		}
		t.queued = false
		s := e.member(t)
		if s == nil {
			t.state = Waiting
			continue
		}
		ctx, cancel := context.WithCancel(s.ctx)
		t.cancel, t.member = cancel, s.m
		t.checked = new(atomic.Int64)
		e.hashing++
		m, path, name, checked, dir := s.m, t.Path, t.Name, t.checked, t.Directory
		e.running.Go(func() {
			count := func(n int64) { checked.Add(n) }
			var sh *node.Sharing
			var err error
			if dir {
				sh, err = e.prepareDir(ctx, t, m, path, name, count)
			} else {
				sh, err = m.Prepare(ctx, path, name, count)
			}
			stopped := ctx.Err() != nil
			cancel()
			e.post(func() {
				e.hashing--
				e.prepared(t, m, sh, err, stopped)
				e.feed()
			})
		})
	}
}

// prepareDir looks at a directory, and hashes it.
func (e *Engine) prepareDir(ctx context.Context, t *transfer, m *node.Member, path, name string, count func(int64)) (*node.Sharing, error) {
	scanned, err := store.Scan(ctx, path)
	if err != nil {
		return nil, err
	}
	e.post(func() {
		if t.Kind == Share {
			t.Size = scanned.Listing.Size
		}
		for _, s := range scanned.Skipped {
			e.note(t, "left out: %q: %s", s.Path, s.Why)
		}
		if scanned.Left > 0 {
			e.note(t, "left out: %d more", scanned.Left)
		}
	})
	return m.PrepareDir(ctx, scanned, name, count)
}

// prepared shares a file that was hashed.
func (e *Engine) prepared(t *transfer, m *node.Member, sh *node.Sharing, err error, stopped bool) {
	defer e.settle(t)
	t.checked = nil
	if e.ended(t) || stopped || t.removed || t.Paused {
		if sh != nil {
			m.Drop(sh)
		}
		return
	}
	if err != nil {
		e.fail(t, err)
		return
	}
	if t.Folder != "" {
		if err := sh.Own(); err != nil {
			m.Drop(sh)
			e.fail(t, err)
			return
		}
	}
	id, was := sh.Manifest.ID, t.Content
	if t.Kind == Download && t.Directory && contentOf(was) != id {
		m.Drop(sh)
		t.kept = true
		e.release(t)
		e.note(t, "complete, and not given any more: there is more or less in %s than in what was fetched", t.Path)
		return
	}
	if was != "" && contentOf(was) != id {
		if !t.accept && t.Folder == "" {
			m.Drop(sh)
			e.fail(t, fmt.Errorf("%s: %w", t.Path, store.ErrChanged))
			return
		}
		e.release(t)
	}
	if err := e.give(t, m, sh); err != nil {
		m.Drop(sh)
		e.fail(t, err)
		return
	}
	t.sharing, t.accept, t.state = sh, false, Seeding
	if t.Complete {
		t.state = Complete
	}
	if t.Content != was || t.Size != sh.Manifest.Geo.Size {
		t.Size = sh.Manifest.Geo.Size
		e.saver.dirty = true
		e.note(t.asked(), "sharing %q, %d bytes, id %s", t.Name, t.Size, id)
	}
}

// give lets others have a file: as a content of its own, or as one more name of one that is given already.
func (e *Engine) give(t *transfer, m *node.Member, sh *node.Sharing) error {
	t.twin = false
	for _, o := range e.claimants(t.Swarm, sh.Manifest.ID) {
		switch {
		case o == t:
		case o.Kind == Download && !o.Complete, o.fetch != nil:
			return &HeldError{o.Name, o.Path}
		case o.sharing != nil:
			t.twin = true
		}
	}
	if id := sh.Manifest.ID; contentOf(t.Content) != id {
		t.Content = id.String()
	}
	e.claim(t)
	if t.twin {
		m.Drop(sh)
		m.OfferName(sh)
		return nil
	}
	sh.Changed = func(err error) { // called by the exchange, which must not wait for us
		e.running.Go(func() { e.post(func() { e.changed(t, sh, err) }) })
	}
	m.Give(sh)
	return nil
}

// changed takes note that a file is another than what was shared.
func (e *Engine) changed(t *transfer, sh *node.Sharing, err error) {
	if t.sharing == sh {
		e.unshare(t)
		e.fail(t, err)
	}
}

// unshare ends the sharing of a file. Others of the same content go on.
func (e *Engine) unshare(t *transfer) {
	rest := e.claimants(t.Swarm, contentOf(t.Content))
	e.release(t)
	for _, o := range append([]*transfer{t}, rest...) {
		sh := o.sharing
		if sh == nil {
			continue
		}
		o.sharing = nil
		if n := int(sh.Copies.Load()); n > 0 {
			o.has().given += n
		}
		if !o.twin {
			e.tally(o, sh.Progress())
			o.member.Withdraw(sh)
		}
		o.twin = false
		o.quiet()
	}
	for _, o := range rest {
		if o != t {
			e.settle(o)
		}
	}
}

// tally adds a run that is over to the figures.
func (e *Engine) tally(t *transfer, p exchange.Progress) {
	if p.Received == 0 && p.Sent == 0 {
		return
	}
	h := t.has()
	h.received, h.wasted, h.sent = h.received+p.Received, h.wasted+p.Wasted, h.sent+p.Sent
	e.total.received, e.total.wasted, e.total.sent = e.total.received+p.Received, e.total.wasted+p.Wasted, e.total.sent+p.Sent
}

// quiet forgets how fast a run that is over was.
func (t *transfer) quiet() {
	if h := t.past; h != nil {
		h.lookReceived, h.lookSent, h.down, h.up, h.seen = 0, 0, 0, 0, nil
	}
}

// keyOf is by what the transfers of a content are found. Others may have the same.
func keyOf(id content.ID) uint64 { return binary.BigEndian.Uint64(id[:]) }

// claimants returns the transfers that have a claim to a content in a swarm.
func (e *Engine) claimants(swarm string, id content.ID) (out []*transfer) {
	for o := e.claims[keyOf(id)]; o != nil; o = o.next {
		if o.Swarm == swarm && contentOf(o.Content) == id {
			out = append(out, o)
		}
	}
	return out
}

// claim makes a claim to a transfer's content.
func (e *Engine) claim(t *transfer) {
	key := keyOf(contentOf(t.Content))
	for o := e.claims[key]; o != nil; o = o.next {
		if o == t {
			return
		}
	}
	t.next, e.claims[key] = e.claims[key], t
}

// release gives up a transfer's claim to its content.
func (e *Engine) release(t *transfer) {
	key := keyOf(contentOf(t.Content))
	first := e.claims[key]
	for at := &first; *at != nil; at = &(*at).next {
		if *at == t {
			*at, t.next = t.next, nil
			break
		}
	}
	if first == nil {
		delete(e.claims, key)
	} else {
		e.claims[key] = first
	}
}

// passes says whether what has ended a download may be over without anybody's doing: no server, nobody left who has it. For space a download waits (awaitSpace).
func (t *transfer) passes(err error) bool {
	var server *node.ServerError
	var none *node.NoContentError
	var liars *node.CorruptError
	return t.Kind == Download && (errors.As(err, &server) || errors.As(err, &none) && (t.Content != "" || t.loaded) || errors.As(err, &liars))
}

// retryLater has a download tried again, later each time that nothing came.
func (e *Engine) retryLater(t *transfer) {
	h := t.has()
	if h.wait *= 2; h.wait == 0 || h.received > h.tried {
		h.wait = e.minRetry
	}
	h.wait, h.tried = min(h.wait, maxRetry), h.received
	h.retry = time.Now().Add(h.wait)
	e.note(t, "it is tried again in %v", h.wait)
}

// retry tries again what is due.
func (e *Engine) retry(now time.Time) {
	for _, t := range e.transfers {
		if h := t.past; h != nil && !h.retry.IsZero() && now.After(h.retry) {
			h.retry, t.failure = time.Time{}, nil
			e.settle(t)
		}
	}
}

// fail notes that a transfer cannot go on.
func (e *Engine) fail(t *transfer, err error) {
	t.failure, t.state, t.full = e.cfg.Explain(err), Failed, nil
	if errors.Is(err, store.ErrChanged) {
		t.state = Changed
	}
	e.release(t)
	e.total.failed++
	e.note(t, "%s: %s", t.failure.Code, t.failure.What)
	if t.passes(err) {
		e.retryLater(t)
	}
	e.show(t)
}

// startFetch begins, or goes on with, a download.
func (e *Engine) startFetch(t *transfer) {
	s := e.member(t)
	ctx, cancel := context.WithCancel(s.ctx)
	prefix, _ := content.ParsePrefix(t.Want)
	name := t.What
	if t.Want != "" {
		name = t.Name
	}
	f := s.m.NewFetch(node.FetchRequest{
		Name: name, ID: prefix, Dir: t.Dir, Target: t.Target, Overwrite: t.Overwrite, Restart: t.restart, Wait: t.Wait,
		Patience: t.Patience, Reserve: e.settings.Reserve, FromLink: t.ByLink, Directory: t.Directory, Either: t.Either, Selection: t.selection(),
		Note: func(text string) {
			e.post(func() { e.total.banned++; e.note(t, "%s", text) })
		},
		Found: func(id content.ID, name string, size int64, directory bool) error {
			return e.call(ctx, func() error { return e.found(t, id, name, size, directory) })
		},
	})
	t.fetch, t.member, t.cancel, t.state, t.restart = f, s.m, cancel, Waiting, false
	e.fetching++
	e.running.Go(func() {
		defer cancel()
		e.runFetch(ctx, t, f)
	})
}

// found claims the content of a download, and says no when it is here already.
func (e *Engine) found(t *transfer, id content.ID, name string, size int64, directory bool) error {
	target := t.Target
	if target == "" {
		target = name
	}
	for _, o := range e.claimants(t.Swarm, id) {
		switch {
		case o == t:
		case o.Kind == Download && o.Dir == t.Dir && o.Target == target && slices.Equal(o.Only, t.Only) && slices.Equal(o.Except, t.Except):
			e.merge(t, o)
			return errMerged
		default:
			return &HeldError{o.Name, o.Path}
		}
	}
	e.release(t)
	// From now on it is that content, whatever else gets its name.
	if name != "" {
		t.Name = name
	}
	t.Directory = directory
	t.Content, t.Want, t.Size, t.Path, t.Target = id.String(), id.String(), size, filepath.Join(t.Dir, target), target
	e.claim(t)
	// In its next life it is that content, though nobody may have it for a while then.
	if len(e.transfers) < longList || time.Since(e.saver.at) > saveEvery {
		e.write(nil)
	} else {
		e.saver.dirty = true
	}
	return nil
}

// errMerged ends the fetch of a transfer that turns out to be another one.
var errMerged = errors.New("it is fetched already")

// merge makes a download one with another of the same content and place: who follows it follows that one from now on.
func (e *Engine) merge(t, into *transfer) {
	into.Overwrite, into.Once = into.Overwrite || t.Overwrite, into.Once && t.Once
	if len(e.merged) >= maxMerged {
		clear(e.merged)
	}
	e.merged[t.ID] = into.ID
	t.removed = true
	e.forget(t)
	e.note(into, "asked for again")
	e.refetch(into, false)
	e.again(into)
}

// runFetch fetches, gives what others still want of it, and lets it be shared like any file then.
func (e *Engine) runFetch(ctx context.Context, t *transfer, f *node.Fetch) {
	got, err := f.Run(ctx)
	if err != nil {
		stopped := ctx.Err() != nil
		err = errors.Join(err, f.Close())
		e.post(func() { e.fetched(t, f, err, stopped) })
		return
	}
	e.post(func() { e.completed(t, got) })
	if got.Directory {
		f.Give(ctx, false)
	} else if !got.Already {
		f.Give(ctx, false)
		if fresh := 3 * time.Second; pause(ctx, fresh) { // its stamp is to be trusted
			e.cfg.Cache.Learn(got.Path, got.Manifest)
		}
	} else {
		e.cfg.Cache.Learn(got.Path, got.Manifest)
	}
	if err := f.Close(); err != nil {
		e.post(func() { e.note(t, "close: %v", err) })
	}
	e.post(func() { e.fetched(t, f, nil, false) })
}

// completed notes that a file is there.
func (e *Engine) completed(t *transfer, got *node.Fetched) {
	t.Complete, t.Path, t.Content, t.Size, t.Wait = true, got.Path, got.ID.String(), got.Size, false
	t.already, t.has().resumed = got.Already, got.Resumed
	t.kept = got.Partly
	e.total.completed++
	e.note(t, "complete: %s", got.Path)
	e.show(t)
	e.write(nil)
}

// fetched is the end of a run of a download.
func (e *Engine) fetched(t *transfer, f *node.Fetch, err error, stopped bool) {
	st := f.Status()
	if t.Directory && t.Content != "" { // it may be the folder itself
		dir, target := f.Place()
		t.Either, t.Dir, t.Target, t.Path = t.Either && dir == t.Dir, dir, target, filepath.Join(dir, target)
	}
	t.fetch, t.has().resumed = nil, st.Resumed
	e.fetching--
	if !t.Complete && st.Exchange.Received > 0 {
		e.note(t, "%d of %d bytes are here", st.Exchange.Done, st.Size)
	}
	e.tally(t, st.Exchange)
	t.quiet()
	halted := e.ended(t)
	if err != nil && !halted && !stopped && !t.removed {
		if errors.As(err, &t.full) {
			e.awaitSpace(t, err)
		} else {
			e.fail(t, err)
		}
	}
	if t.kept { // more of it may be wanted
		e.release(t)
	}
	if t.Complete && t.Once && !t.removed {
		t.removed = true
		e.forget(t)
	}
	e.settle(t)
	for _, o := range e.sorted() {
		if e.fetching >= maxDownloads {
			break
		}
		if o.Kind == Download && o.state == Waiting && o.fetch == nil {
			e.settle(o)
		}
	}
}

// awaitSpace lets a download wait until there is space on its disk: it has not failed. Others, which are smaller, may go on.
func (e *Engine) awaitSpace(t *transfer, err error) {
	t.failure, t.state = e.cfg.Explain(err), Waiting
	e.note(t, "%s: %s", t.failure.Code, t.failure.What)
}

// lookForSpace lets downloads go on for which there is space now.
func (e *Engine) lookForSpace(now time.Time) {
	if now.Sub(e.spaced) < spaceEvery {
		return
	}
	e.spaced = now
	for _, t := range e.transfers {
		full, dir, reserve := t.full, t.Dir, e.settings.Reserve
		if full == nil {
			continue
		}
		e.running.Go(func() { // a disk may take its time
			if reserve < 0 {
				reserve = store.Spare(dir)
			}
			if free, err := store.FreeSpace(dir); err == nil && free-reserve >= full.Need {
				e.post(func() {
					if t.full == full {
						t.full, t.failure = nil, nil
						e.settle(t)
					}
				})
			}
		})
	}
}

// forget takes a transfer off the list.
func (e *Engine) forget(t *transfer) {
	e.release(t)
	delete(e.transfers, t.ID)
	delete(e.shown, t.ID)
	if len(e.hub.subs) > 0 {
		e.hub.publish("removed", struct {
			ID string `json:"id"`
		}{t.ID})
	}
	e.saver.dirty = true
}
