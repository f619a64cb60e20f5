package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"shoal/internal/content"
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
	accept  bool              // the file may be another than it was
	restart bool              // what an earlier run has fetched is thrown away
	full    *store.SpaceError // for want of which it waits, with a failure that says so; nil: it does not

	member  *node.Member  // that gives, or fetches it
	sharing *node.Sharing // nil: it is not shared
	twin    bool          // another transfer shares the same content: this one is only one more name
	fetch   *node.Fetch   // nil: it is not being fetched

	checked                atomic.Int64 // bytes hashed
	already                bool
	resumed                int64
	received, wasted, sent int64 // of runs that are over
	given                  int
	down, up               float64
	lookReceived, lookSent int64
	seen                   map[string]pace
	history                history
	log                    []Line
}

func newTransfer(r Record) *transfer {
	t := &transfer{Record: r, state: Waiting}
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
		t.checked.Store(0)
		e.hashing++
		m, path, name := s.m, t.Path, t.Name
		e.running.Go(func() {
			sh, err := m.Prepare(ctx, path, name, func(n int64) { t.checked.Add(n) })
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

// prepared shares a file that was hashed.
func (e *Engine) prepared(t *transfer, m *node.Member, sh *node.Sharing, err error, stopped bool) {
	defer e.settle(t)
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
	id := sh.Manifest.ID.String()
	if t.Content != "" && t.Content != id {
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
	if t.Content != id || t.Size != sh.Manifest.Geo.Size {
		t.Content, t.Size = id, sh.Manifest.Geo.Size
		e.saver.dirty = true
		e.note(t, "sharing %q, %d bytes, id %s", t.Name, t.Size, id)
	}
}

// give lets others have a file: as a content of its own, or as one more name of one that is given already.
func (e *Engine) give(t *transfer, m *node.Member, sh *node.Sharing) error {
	key := claim{t.Swarm, sh.Manifest.ID.String()}
	t.twin = false
	for _, o := range e.claims[key] {
		switch {
		case o == t:
		case o.Kind == Download && !o.Complete, o.fetch != nil:
			return &HeldError{o.Name, o.Path}
		case o.sharing != nil:
			t.twin = true
		}
	}
	if !slices.Contains(e.claims[key], t) {
		e.claims[key] = append(e.claims[key], t)
	}
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
	rest := e.claims[claim{t.Swarm, t.Content}]
	e.release(t)
	for _, o := range append([]*transfer{t}, rest...) {
		sh := o.sharing
		if sh == nil {
			continue
		}
		o.sharing = nil
		o.given += int(sh.Copies.Load())
		if !o.twin {
			e.tally(o, sh.Progress().Received, sh.Progress().Wasted, sh.Progress().Sent)
			o.member.Withdraw(sh)
		}
		o.twin = false
		o.lookReceived, o.lookSent, o.down, o.up, o.seen = 0, 0, 0, 0, nil
	}
	for _, o := range rest {
		if o != t {
			e.settle(o)
		}
	}
}

// tally adds a run that is over to the figures.
func (e *Engine) tally(t *transfer, received, wasted, sent int64) {
	t.received, t.wasted, t.sent = t.received+received, t.wasted+wasted, t.sent+sent
	e.total.received, e.total.wasted, e.total.sent = e.total.received+received, e.total.wasted+wasted, e.total.sent+sent
}

// release gives up a transfer's claim to its content.
func (e *Engine) release(t *transfer) {
	key := claim{t.Swarm, t.Content}
	rest := slices.DeleteFunc(slices.Clone(e.claims[key]), func(o *transfer) bool { return o == t })
	if len(rest) == 0 {
		delete(e.claims, key)
		return
	}
	e.claims[key] = rest
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
		Patience: t.Patience, FilesOnly: true, Reserve: e.settings.Reserve,
		Note: func(text string) {
			e.post(func() { e.total.banned++; e.note(t, "%s", text) })
		},
		Found: func(id content.ID, name string, size int64) error {
			return e.call(ctx, func() error { return e.found(t, id, name, size) })
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
func (e *Engine) found(t *transfer, id content.ID, name string, size int64) error {
	key := claim{t.Swarm, id.String()}
	for _, o := range e.claims[key] {
		if o != t {
			return &HeldError{o.Name, o.Path}
		}
	}
	e.claims[key] = []*transfer{t}
	target := t.Target
	if target == "" {
		target = name
	}
	// From now on it is that content, whatever else gets its name.
	if name != "" {
		t.Name = name
	}
	t.Content, t.Want, t.Size, t.Path, t.Target = id.String(), id.String(), size, filepath.Join(t.Dir, target), target
	e.saver.dirty = true
	return nil
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
	if !got.Already {
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
	t.already, t.resumed = got.Already, got.Resumed
	e.total.completed++
	e.note(t, "complete: %s", got.Path)
	e.show(t)
	e.write(nil)
}

// fetched is the end of a run of a download.
func (e *Engine) fetched(t *transfer, f *node.Fetch, err error, stopped bool) {
	st := f.Status()
	t.fetch, t.resumed = nil, st.Resumed
	e.fetching--
	if !t.Complete && st.Exchange.Received > 0 {
		e.note(t, "%d of %d bytes are here", st.Exchange.Done, st.Size)
	}
	e.tally(t, st.Exchange.Received, st.Exchange.Wasted, st.Exchange.Sent)
	t.lookReceived, t.lookSent, t.down, t.up, t.seen = 0, 0, 0, 0, nil
	halted := e.ended(t)
	if err != nil && !halted && !stopped && !t.removed {
		if errors.As(err, &t.full) {
			e.awaitSpace(t, err)
		} else {
			e.fail(t, err)
		}
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
