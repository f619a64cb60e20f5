package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"shoal/internal/content"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/store"
	"shoal/internal/wire"
)

// lasting has the loop do something, and returns when that is kept.
func (e *Engine) lasting(ctx context.Context, do func() error) error {
	wait := make(chan error, 1)
	err := e.call(ctx, func() error {
		err := do()
		if err == nil {
			e.write(wait)
		}
		return err
	})
	if err != nil {
		return err
	}
	select {
	case err := <-wait:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-e.done:
		return ErrEnded
	}
}

// ShareRequest says what to share.
type ShareRequest struct {
	Path  string `json:"path"`
	Name  string `json:"name,omitempty"`  // empty: the file's own
	Swarm string `json:"swarm,omitempty"` // the beginning of its id; empty: the only one
	// Spooled: the file lies in the peer's own folder for what came from a pipe ([Engine.Spool]), and is removed with the share.
	Spooled bool `json:"spooled,omitempty"`
}

// DownloadRequest says what to fetch, and where to.
type DownloadRequest struct {
	What      string        `json:"what"` // a name, an id or its beginning, or a link
	Dir       string        `json:"dir"`
	Target    string        `json:"target,omitempty"`  // empty: the name that the swarm has
	Content   string        `json:"content,omitempty"` // the id that it must have
	Swarm     string        `json:"swarm,omitempty"`
	Overwrite bool          `json:"overwrite,omitempty"`
	Restart   bool          `json:"restart,omitempty"`
	Wait      bool          `json:"wait,omitempty"` // until somebody has it
	Once      bool          `json:"once,omitempty"` // it is taken off the list when it is complete
	Patience  time.Duration `json:"patience,omitempty"`
	Either    bool          `json:"either,omitempty"` // of a directory: dir may be itself the one that an earlier run has made
	Only      []string      `json:"only,omitempty"`   // of a directory: patterns of what is wanted
	Except    []string      `json:"except,omitempty"`
}

// AddShare adds a share. Hashing goes on when it returns. What is on the list already is returned as it is, and goes on.
func (e *Engine) AddShare(ctx context.Context, r ShareRequest) (Row, error) {
	path, err := filepath.Abs(r.Path)
	if err != nil {
		return Row{}, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return Row{}, err
	}
	if r.Spooled && (filepath.Dir(path) != Spool(e.cfg.Dir) || !fi.Mode().IsRegular()) {
		return Row{}, fmt.Errorf("%w: %s is not in the folder for what comes from pipes", ErrBadRequest, path)
	}
	name := r.Name
	if name == "" {
		name = filepath.Base(path)
	}
	size := fi.Size()
	if fi.IsDir() {
		size = 0
	}
	if err := wire.CheckName(name); err != nil {
		return Row{}, err
	}
	if err := e.someSwarm(ctx); err != nil {
		return Row{}, err
	}
	intact := e.intact(ctx, func(t *transfer) bool { return t.Kind == Share && t.Path == path && t.Name == name })
	var row Row
	err = e.lasting(ctx, func() error {
		swarm, err := e.pick(r.Swarm)
		if err != nil {
			return err
		}
		for _, t := range e.transfers {
			if t.Kind == Share && t.Path == path && t.Name == name && t.Swarm == swarm && !t.removed {
				if t.Directory && t.sharing != nil && !intact {
					e.halt(t, func() { e.again(t) })
				} else {
					e.again(t)
				}
				row = t.row()
				return nil
			}
		}
		t, err := e.add(Record{Kind: Share, Swarm: swarm, Name: name, Path: path, Size: size, Directory: fi.IsDir(), Spooled: r.Spooled})
		if err == nil {
			row = t.row()
		}
		return err
	})
	return row, err
}

// intact says whether a directory that is shared is what it was. That takes a while: the loop does not wait for it.
func (e *Engine) intact(ctx context.Context, which func(*transfer) bool) bool {
	var sh *node.Sharing
	_ = e.call(ctx, func() error {
		for _, t := range e.transfers {
			if t.Directory && t.sharing != nil && !t.removed && which(t) {
				sh = t.sharing
			}
		}
		return nil
	})
	return sh != nil && sh.Same()
}

// again makes a transfer go on that the user wants to.
func (e *Engine) again(t *transfer) {
	if t.past != nil {
		t.past.retry, t.past.wait = time.Time{}, 0
	}
	t.Paused, t.failure, t.full, t.accept, t.kept = false, nil, nil, true, t.kept && t.Complete && len(t.Only)+len(t.Except) > 0
	e.settle(t)
}

// someSwarm starts a swarm if this machine is in none.
func (e *Engine) someSwarm(ctx context.Context) error {
	return e.call(ctx, func() error {
		if len(e.swarms) > 0 {
			return nil
		}
		sw, err := e.cfg.States.Create()
		if err == nil {
			e.enter(sw)
			e.rewatch()
		}
		return err
	})
}

// pick returns the id of the swarm that is meant.
func (e *Engine) pick(prefix string) (string, error) {
	var found []string
	for id := range e.swarms {
		if strings.HasPrefix(id.String(), prefix) {
			found = append(found, id.String())
		}
	}
	slices.Sort(found)
	switch {
	case len(e.swarms) == 0:
		return "", ErrNoSwarm
	case len(found) == 0:
		return "", fmt.Errorf("%w: this machine is in no swarm whose id begins with %q", ErrBadRequest, prefix)
	case len(found) > 1:
		return "", &SeveralError{fmt.Sprintf("this machine is in %d swarms", len(found)), found}
	}
	return found[0], nil
}

func (e *Engine) add(r Record) (*transfer, error) {
	if len(e.transfers) >= maxTransfers {
		return nil, ErrFull
	}
	r.ID, r.Added = newID(), time.Now().UTC()
	t := newTransfer(r)
	e.transfers[t.ID] = t
	e.note(t.asked(), "%s of %q added", t.Kind, t.Name)
	e.settle(t)
	return t, nil
}

// AddDownload adds a download. A link joins its swarm, if need be.
func (e *Engine) AddDownload(ctx context.Context, r DownloadRequest) (Row, error) {
	rec, swarm, err := e.wanted(ctx, r)
	if err != nil {
		return Row{}, err
	}
	if fi, err := os.Stat(rec.Dir); err != nil {
		return Row{}, err
	} else if !fi.IsDir() {
		return Row{}, fmt.Errorf("%w: %s is no folder", ErrBadRequest, rec.Dir)
	}
	intact := e.intact(ctx, func(t *transfer) bool {
		rec := rec
		rec.Swarm = t.Swarm
		return t.is(rec)
	})
	var row Row
	err = e.lasting(ctx, func() error {
		if rec.Swarm, err = e.pick(swarm); err != nil {
			return err
		}
		for _, t := range e.transfers {
			if !t.removed && t.is(rec) {
				e.refetch(t, intact)
				t.Overwrite, t.Wait, t.Once = t.Overwrite || rec.Overwrite, rec.Wait, rec.Once
				e.again(t)
				row = t.row()
				return nil
			}
		}
		t, err := e.add(rec)
		if err != nil {
			return err
		}
		t.restart = r.Restart
		row = t.row()
		return nil
	})
	return row, err
}

// refetch has a download begin anew whose file is not there any more, or was changed.
func (e *Engine) refetch(t *transfer, intact bool) {
	if !t.Complete || t.fetch != nil {
		return
	}
	if t.Directory {
		if intact && t.sharing != nil {
			return
		}
		t.Complete, t.already, t.kept = false, false, false
		e.halt(t, func() { e.settle(t) })
		return
	}
	if fi, err := os.Lstat(t.Path); err == nil && fi.Size() == t.Size && (t.sharing == nil || t.sharing.Same()) && t.state != Changed {
		return
	}
	t.Complete, t.already = false, false
	e.halt(t, func() { e.settle(t) })
}

// is says whether a request is for what a download is of already.
func (t *transfer) is(r Record) bool {
	if t.Kind == Download && t.Dir == r.Dir && (!slices.Equal(t.Only, r.Only) || !slices.Equal(t.Except, r.Except)) {
		return false
	}
	if t.Kind != Download || t.Dir != r.Dir || t.Swarm != r.Swarm || r.Target != "" && t.Target != "" && r.Target != t.Target {
		return false
	}
	if r.Want != "" && t.Content != "" {
		return strings.HasPrefix(t.Content, r.Want)
	}
	return t.What == r.What || r.Want == "" && t.Name == r.Name
}

// wanted makes a record of a request.
func (e *Engine) wanted(ctx context.Context, r DownloadRequest) (rec Record, swarm string, err error) {
	rec = Record{
		Kind: Download, Name: r.What, What: r.What, Target: r.Target, Overwrite: r.Overwrite, Wait: r.Wait, Once: r.Once, Patience: max(r.Patience, 0),
		Either: r.Either, Only: r.Only, Except: r.Except,
	}
	if err := rec.selection().Check(); err != nil {
		return rec, "", fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	swarm = r.Swarm
	if rec.Dir, err = filepath.Abs(r.Dir); err != nil || r.Dir == "" || r.What == "" {
		return rec, "", fmt.Errorf("%w: what and dir must not be empty", ErrBadRequest)
	}
	if r.Target != "" && (filepath.Base(r.Target) != r.Target || r.Target == "." || r.Target == "..") {
		return rec, "", fmt.Errorf("%w: the target %q is no plain name", ErrBadRequest, r.Target)
	}
	if strings.HasPrefix(r.What, "shoal://") {
		link, err := identity.ParseLink(r.What)
		if err != nil {
			return rec, "", err
		}
		if link.ID.Bits == 0 {
			return rec, "", fmt.Errorf("%w: the link names no file", ErrBadRequest)
		}
		rec.Name, rec.Want, swarm = link.Name, link.ID.String(), link.Swarm.String()
		rec.What, rec.ByLink, rec.Directory = link.Name+"~"+link.ID.ID.Short(), true, link.Dir
		_, err = e.Join(ctx, link)
		return rec, swarm, err
	}
	if id, err := content.ParseID(strings.ToLower(r.What)); err == nil {
		rec.Want = id.String()
	}
	if r.Content != "" {
		id, err := content.ParseID(strings.ToLower(r.Content))
		if err != nil {
			return rec, "", fmt.Errorf("%w: %w", ErrBadRequest, err)
		}
		rec.Want = id.String()
	}
	return rec, swarm, nil
}

// Join joins the swarm of a link. To join twice does no harm.
func (e *Engine) Join(ctx context.Context, link identity.Link) (SwarmRow, error) {
	sw, err := node.Join(ctx, e.cfg.States, link, e.cfg.Name)
	if err != nil {
		return SwarmRow{}, err
	}
	var row SwarmRow
	err = e.call(ctx, func() error {
		if e.swarms[sw.ID()] == nil {
			e.enter(sw)
			e.rewatch()
		}
		row = e.swarms[sw.ID()].row()
		return nil
	})
	return row, err
}

// Link returns a link that lets a machine into a swarm for a day, for what a transfer is of, or for nothing if id is empty. Only
// the machine of the swarm's server can let in.
func (e *Engine) Link(ctx context.Context, prefix, id string) (link string, err error) {
	err = e.call(ctx, func() error {
		name, want, dir := "", content.Prefix{}, false
		if id != "" {
			t, err := e.find(id)
			if err != nil {
				return err
			}
			name, prefix, dir = t.Name, t.Swarm, t.Directory
			if t.Content != "" {
				want = content.PrefixOf(contentOf(t.Content))
			}
		}
		swarm, err := e.pick(prefix)
		if err != nil {
			return err
		}
		parsed, _ := identity.ParseSwarm(swarm)
		sw := e.swarms[parsed].sw
		token, _, err := sw.NewToken(identity.MemberRole, identity.TokenLife, 0, time.Now())
		if err == nil {
			l := sw.Link(token, name, want)
			l.Dir = dir
			link = l.String()
		}
		return err
	})
	return link, err
}

// find returns a transfer by its id. It is called by the loop.
func (e *Engine) find(id string) (*transfer, error) {
	t := e.transfers[id]
	if into, ok := e.merged[id]; ok {
		t = e.transfers[into]
	}
	if t == nil || t.removed {
		return nil, fmt.Errorf("%w: %q", ErrNoTransfer, id)
	}
	return t, nil
}

// Pause stops a transfer until it is resumed.
func (e *Engine) Pause(ctx context.Context, id string) (row Row, err error) {
	err = e.lasting(ctx, func() error {
		t, err := e.find(id)
		if err != nil {
			return err
		}
		if !t.Paused {
			t.Paused = true
			e.note(t, "paused")
		}
		t.failure, t.full = nil, nil
		if t.past != nil {
			t.past.retry = time.Time{}
		}
		e.halt(t, func() { e.settle(t) })
		if row = t.row(); t.cancel != nil {
			row.State = Paused
		}
		return nil
	})
	return row, err
}

// Resume makes a transfer go on that was paused, has failed, or whose file has changed.
func (e *Engine) Resume(ctx context.Context, id string) (row Row, err error) {
	err = e.lasting(ctx, func() error {
		t, err := e.find(id)
		if err != nil {
			return err
		}
		e.note(t, "resumed")
		e.again(t)
		row = t.row()
		return nil
	})
	return row, err
}

// Remove takes a transfer off the list. With data, what a download has written is removed too; a shared file never is.
func (e *Engine) Remove(ctx context.Context, id string, data bool) error {
	if data { // what cannot be removed stays on the list
		d, err := e.Detail(ctx, id)
		if err != nil {
			return err
		}
		if d.Directory && d.State == Complete {
			if _, err := e.isExactly(ctx, Record{Path: d.Path, Name: d.Name, Content: d.Content}); err != nil {
				return err
			}
		}
	}
	halted := make(chan Record, 1)
	err := e.lasting(ctx, func() error {
		t, err := e.find(id)
		switch {
		case err != nil:
			return err
		case t.Folder != "":
			return fmt.Errorf("%w: %s", ErrWatched, t.Folder)
		case t.Kind == Share && data && !t.Spooled:
			return ErrNotOurs
		}
		t.removed = true
		e.forget(t) // the list that is kept is without it, whatever happens
		e.note(nil, "%s of %q removed", t.Kind, t.Name)
		e.halt(t, func() {
			e.release(t)
			halted <- t.Record
		})
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case rec := <-halted:
		if rec.Spooled {
			return removeSpooled(e.cfg.Dir, rec)
		}
		if !data {
			return nil
		}
		return e.removeData(ctx, rec)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-e.done:
		return ErrEnded
	}
}

// removeData removes what a download has written.
func (e *Engine) removeData(ctx context.Context, r Record) error {
	if r.Content == "" || r.Target == "" {
		return nil // nothing was written
	}
	if !r.Complete {
		return node.DiscardFetch(r.Dir, r.Target, contentOf(r.Content), r.Directory, r.selection())
	}
	if r.Directory {
		return e.removeDirectory(ctx, r)
	}
	root, err := os.OpenRoot(r.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(r.Target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// removeDirectory removes a directory that was fetched, if it is exactly that.
func (e *Engine) removeDirectory(ctx context.Context, r Record) error {
	if there, err := e.isExactly(ctx, r); err != nil || !there {
		return err
	}
	return os.RemoveAll(r.Path)
}

// isExactly makes sure that a directory is what was fetched, and says whether it is there at all.
func (e *Engine) isExactly(ctx context.Context, r Record) (there bool, err error) {
	scanned, err := store.Scan(ctx, r.Path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	all := len(scanned.Skipped) == 0
	d, _, err := store.ShareDir(ctx, scanned, r.Name, e.cfg.Cache, nil)
	if err != nil {
		return false, err
	}
	defer d.Close()
	if !all || d.Manifest.ID != contentOf(r.Content) {
		return false, fmt.Errorf("%s: %w", r.Path, ErrMore)
	}
	return true, nil
}

// List returns a part of the list, in the order in which it grew, and how long the list is.
func (e *Engine) List(ctx context.Context, from, most int) (rows []Row, total int, err error) {
	rows = []Row{}
	err = e.call(ctx, func() error {
		all := e.sorted()
		total = len(all)
		from = min(max(from, 0), total)
		for _, t := range all[from:min(from+max(most, 0), total)] {
			rows = append(rows, t.row())
		}
		return nil
	})
	return rows, total, err
}

// Detail returns all of a transfer.
func (e *Engine) Detail(ctx context.Context, id string) (d Detail, err error) {
	var f *node.Fetch
	err = e.call(ctx, func() error {
		t, err := e.find(id)
		if err == nil {
			d, f = t.detail(), t.fetch
		}
		return err
	})
	if f != nil && d.Pieces != nil { // not in the loop: it is the exchange's to say
		d.Pieces.Rarest = runsOf(f.Rarest(d.Pieces.Columns))
	}
	return d, err
}

// Stats describes the whole peer.
func (e *Engine) Stats(ctx context.Context, speed bool) (s Stats, err error) {
	err = e.call(ctx, func() error {
		s = e.stats()
		if speed {
			v := e.history.speed()
			s.Speed = &v
		}
		return nil
	})
	return s, err
}

// Log returns the last lines of the log.
func (e *Engine) Log(ctx context.Context) (out []Line, err error) {
	err = e.call(ctx, func() error { out = append([]Line{}, e.log...); return nil })
	return out, err
}

// SetLimits makes limits hold until they are set again, also after a restart. Nil: those of the configuration.
func (e *Engine) SetLimits(ctx context.Context, l *Limits) error {
	if l != nil {
		if err := l.Check(); err != nil {
			return fmt.Errorf("%w: %w", ErrBadRequest, err)
		}
	}
	return e.lasting(ctx, func() error {
		e.byHand = l
		e.holdLimits(time.Now())
		return nil
	})
}

// Reload makes other settings hold.
func (e *Engine) Reload(ctx context.Context, s Settings) error {
	return e.call(ctx, func() error {
		old := e.settings.Folders
		e.settings = s
		for _, f := range old {
			if !slices.Contains(s.Folders, f) {
				e.unwatch(f)
			}
		}
		for _, f := range s.Folders {
			e.watch(f)
		}
		e.holdLimits(time.Now())
		e.note(nil, "the configuration was read again")
		return nil
	})
}

// InSwarm calls do with the member of a swarm.
func (e *Engine) InSwarm(ctx context.Context, prefix string, do func(ctx context.Context, m *node.Member) error) error {
	var m *node.Member
	var of context.Context
	err := e.call(ctx, func() error {
		id, err := e.pick(prefix)
		if err != nil {
			return err
		}
		swarm, _ := identity.ParseSwarm(id)
		s := e.swarms[swarm]
		if s.m == nil || !s.m.Entered() {
			if s.failure != nil {
				return s.failure
			}
			return &node.ServerError{Server: strings.Join(s.sw.Servers(), ","), Err: errors.New("it does not answer; the peer goes on trying")}
		}
		m, of = s.m, s.ctx
		return nil
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(of, cancel)()
	return do(ctx, m)
}

// Subscribe tells of all events from now on, or since a number if they are still known. Whoever subscribes unsubscribes.
func (e *Engine) Subscribe(ctx context.Context, after uint64, known bool) (s *Subscription, err error) {
	err = e.call(ctx, func() error {
		var ok bool
		s, ok = e.hub.subscribe(after, known, e.snapshot)
		if !ok {
			return ErrBusy
		}
		return nil
	})
	return s, err
}

// snapshot is all that events are changes of.
func (e *Engine) snapshot() *Snapshot {
	s := &Snapshot{Stats: e.stats(), Transfers: []Row{}, Log: append([]Line{}, e.log...)}
	for _, t := range e.sorted() {
		row := t.row()
		s.Transfers = append(s.Transfers, row)
		if len(e.hub.subs) == 0 {
			e.shown[t.ID] = row
		}
	}
	return s
}

// Unsubscribe ends a subscription.
func (e *Engine) Unsubscribe(s *Subscription) { e.post(func() { e.hub.drop(s) }) }
