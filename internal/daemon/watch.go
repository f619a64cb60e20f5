package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quietTime is how long nothing must happen to a file before it is shared: it is being written until then.
	quietTime = 3 * time.Second
	// rescanEvery is how often a folder is looked through, whatever was told of it: some file systems tell nothing.
	rescanEvery = time.Minute
	// scanPart is how many names are read of a folder at once.
	scanPart = 512
	// maxWatched bounds the files of one watched folder, beside which others are not shared.
	maxWatched = 20_000
)

// folder is a watched folder: the ordinary files that lie in it, not those of folders in it, are shared while they lie there.
type folder struct {
	path   string
	appear func(path string) // a file is there, and quiet; or it was changed, and is quiet again
	vanish func(path string)
	warn   func(text string)

	began  time.Time
	files  map[string]*watched
	round  uint32 // scans
	warned bool
}

// now is the folder's clock.
func (f *folder) now() time.Duration { return time.Since(f.began) }

// watched is a file of a watched folder.
type watched struct {
	size   int64
	mtime  int64         // in nanoseconds
	since  time.Duration // when it was seen to be different from before, by the folder's clock
	shared bool
	round  uint32 // of the scan that has found it last
}

func (w *watched) same(fi os.FileInfo) bool {
	return w.size == fi.Size() && w.mtime == fi.ModTime().UnixNano()
}

// hidden says whether a name is of a file that nobody means to share: hidden ones, and those that programs write to before they
// give them their name.
func hidden(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") {
		return true
	}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".part", ".partial", ".tmp", ".temp", ".swp", ".crdownload", ".download", ".p2p", ".aria2":
		return true
	}
	return false
}

// run watches until ctx ends. Told gets the paths of files to which something has happened; one that is empty: look at all.
func (f *folder) run(ctx context.Context, told <-chan string) {
	f.files, f.began = make(map[string]*watched), time.Now()
	f.scan(true)
	rescan := time.NewTicker(rescanEvery)
	defer rescan.Stop()
	due := time.NewTimer(quietTime)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case path := <-told:
			if path == "" {
				f.scan(false)
			} else if filepath.Dir(path) == f.path {
				f.look(path)
			}
		case <-rescan.C:
			f.scan(false)
		case <-due.C:
		}
		if wait := f.share(); wait > 0 {
			due.Reset(wait)
		}
	}
}

// scan looks at all files. The first time those are quiet that nobody has written to for a while.
func (f *folder) scan(first bool) {
	dir, err := os.Open(f.path)
	if err != nil {
		f.warn("cannot watch " + f.path + ": " + err.Error())
		return
	}
	defer dir.Close()
	f.round++
	for {
		names, err := dir.Readdirnames(scanPart) // a folder may have very many
		for _, name := range names {
			f.scanFile(filepath.Join(f.path, name), first)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			f.warn("cannot watch " + f.path + ": " + err.Error())
			return
		}
	}
	for path, w := range f.files {
		if w.round != f.round {
			f.look(path)
		}
	}
}

func (f *folder) scanFile(path string, first bool) {
	f.look(path)
	w := f.files[path]
	if w == nil {
		return
	}
	if w.round = f.round; first && time.Since(time.Unix(0, w.mtime)) > quietTime {
		w.since = f.now() - quietTime
	}
}

// look finds out what has happened to a file.
func (f *folder) look(path string) {
	fi, err := os.Lstat(path)
	w := f.files[path]
	switch {
	case err != nil || !fi.Mode().IsRegular() || hidden(filepath.Base(path)):
		if w != nil {
			delete(f.files, path)
			if w.shared {
				f.vanish(path)
			}
		}
	case w == nil:
		if len(f.files) >= maxWatched {
			if !f.warned {
				f.warned = true
				f.warn("there are more files in " + f.path + " than are watched: the others are not shared")
			}
			return
		}
		f.files[path] = &watched{size: fi.Size(), mtime: fi.ModTime().UnixNano(), since: f.now()}
	case !w.same(fi):
		w.size, w.mtime, w.since, w.shared = fi.Size(), fi.ModTime().UnixNano(), f.now(), false
	}
}

// share shares the files that are quiet, and returns when to look again; 0: when something happens.
func (f *folder) share() (wait time.Duration) {
	for path, w := range f.files {
		if w.shared {
			continue
		}
		if left := quietTime - (f.now() - w.since); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		if fi, err := os.Lstat(path); err != nil || !w.same(fi) {
			f.look(path) // nobody has told us
			if wait == 0 {
				wait = quietTime
			}
			continue
		}
		w.shared = true
		f.appear(path)
	}
	return wait
}

// watch begins to watch a folder, unless it is watched.
func (e *Engine) watch(path string) {
	if e.watching[path] != nil {
		return
	}
	ctx, cancel := context.WithCancel(e.ctx)
	e.watching[path] = cancel
	e.running.Go(func() {
		defer cancel()
		f := &folder{
			path:   path,
			appear: func(file string) { e.post(func() { e.appeared(ctx, path, file) }) },
			vanish: func(file string) { e.post(func() { e.vanished(path, file) }) },
			warn:   func(text string) { e.post(func() { e.note(nil, "%s", text) }) },
		}
		e.post(func() { e.missing(path) })
		told := make(chan string, 64)
		e.running.Go(func() { tell(ctx, path, told, f.warn) })
		f.run(ctx, told)
	})
}

// unwatch ends watching a folder, and the sharing of what lies in it.
func (e *Engine) unwatch(path string) {
	if cancel := e.watching[path]; cancel != nil {
		cancel()
		delete(e.watching, path)
	}
	for _, t := range e.sorted() {
		if t.Folder == path {
			e.vanished(path, t.Path)
		}
	}
}

// rewatch looks at all watched folders anew: there is a swarm in which their files can be shared.
func (e *Engine) rewatch() {
	for path, cancel := range e.watching {
		cancel()
		delete(e.watching, path)
	}
	for _, path := range e.settings.Folders {
		e.watch(path)
	}
}

// missing withdraws what has vanished from a folder while nobody watched.
func (e *Engine) missing(path string) {
	for _, t := range e.sorted() {
		if t.Folder != path {
			continue
		}
		if _, err := os.Lstat(t.Path); os.IsNotExist(err) {
			e.vanished(path, t.Path)
		}
	}
}

// tell passes on what the system tells of a folder.
func tell(ctx context.Context, path string, told chan<- string, warn func(string)) {
	w, err := fsnotify.NewWatcher()
	if err == nil {
		defer w.Close()
		err = w.Add(path)
	}
	if err != nil {
		warn("the system does not tell of changes in " + path + ", it is looked through every minute: " + err.Error())
		return
	}
	send := func(s string) bool {
		select {
		case told <- s:
			return true
		case <-ctx.Done():
			return false
		}
	}
	send("") // what happened since the first look
	for {
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-w.Events:
			if !ok || !send(ev.Name) {
				return
			}
		case _, ok := <-w.Errors: // some were lost
			if !ok || !send("") {
				return
			}
		}
	}
}

// watchedShare returns the share of a file in a watched folder.
func (e *Engine) watchedShare(folder, path string) *transfer {
	if e.byPath == nil {
		e.byPath = make(map[string]*transfer)
		for _, t := range e.transfers {
			if t.Folder != "" {
				e.byPath[t.Path] = t
			}
		}
	}
	if t := e.byPath[path]; t != nil && t.Folder == folder && !t.removed {
		return t
	}
	return nil
}

// appeared shares a file of a watched folder that is quiet.
func (e *Engine) appeared(ctx context.Context, folder, path string) {
	if ctx.Err() != nil {
		return
	}
	if t := e.watchedShare(folder, path); t != nil {
		delete(e.byPath, path)
		t.Path, e.byPath[path] = path, t // it is in memory once
		if strings.HasSuffix(path, t.Name) {
			t.Name = path[len(path)-len(t.Name):]
		}
		if fi, err := os.Lstat(path); err == nil && t.sharing != nil && t.sharing.Manifest.Geo.Size == fi.Size() && t.sharing.Same() {
			return
		}
		if t.failure != nil || t.sharing != nil {
			t.failure = nil
			e.halt(t, func() { e.settle(t) })
		}
		return
	}
	swarm, err := e.pick(e.settings.Swarm)
	if err != nil {
		if text := fmt.Sprintf("%s is not shared: %v", folder, err); e.unshared != text { // once, not for each file
			e.unshared = text
			e.note(nil, "%s", text)
		}
		return
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return
	}
	t, err := e.add(Record{Kind: Share, Swarm: swarm, Name: filepath.Base(path), Path: path, Folder: folder, Size: fi.Size()})
	if err != nil {
		e.note(nil, "%s is not shared: %v", path, err)
		return
	}
	e.byPath[path] = t
	e.saver.dirty = true
}

// vanished withdraws a file of a watched folder.
func (e *Engine) vanished(folder, path string) {
	t := e.watchedShare(folder, path)
	if t == nil {
		return
	}
	delete(e.byPath, path)
	t.removed = true
	e.note(t, "%s is not in its folder any more", path)
	e.forget(t)
	e.halt(t, func() { e.release(t) })
}
