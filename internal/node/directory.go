package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"shoal/internal/bundle"
	"shoal/internal/content"
	"shoal/internal/store"
	"shoal/internal/wire"

	"lukechampine.com/blake3"
)

// KindError is a content of a kind that does not go with what was asked for, or is not known.
type KindError struct {
	Name string
	Kind wire.Kind
}

func (e *KindError) Error() string {
	if e.Kind == wire.KindFile {
		return fmt.Sprintf("%q is a file: there is nothing in it to choose from", e.Name)
	}
	return fmt.Sprintf("%q is of kind %d, which this version does not know", e.Name, e.Kind)
}

// ShareDir gives a directory that was looked at to whoever asks, under a name, and takes it over. Progress is told how many bytes were hashed.
func (m *Member) ShareDir(ctx context.Context, scanned *store.Scanned, name string, progress func(bytes int64)) (*Sharing, error) {
	s, err := m.PrepareDir(ctx, scanned, name, progress)
	if err != nil {
		return nil, err
	}
	s.copied = make(chan struct{}, 1)
	m.Give(s)
	return s, nil
}

// PrepareDir is the first half of [Member.ShareDir], as [Member.Prepare] is of [Member.Share].
func (m *Member) PrepareDir(ctx context.Context, scanned *store.Scanned, name string, progress func(bytes int64)) (*Sharing, error) {
	if err := wire.CheckName(name); err != nil {
		scanned.Close()
		return nil, fmt.Errorf("share %s: %w", scanned.Path, err)
	}
	d, hit, err := store.ShareDir(ctx, scanned, name, m.cfg.Cache, progress)
	if err != nil {
		return nil, err
	}
	s := &Sharing{Name: name, Path: d.Path, Manifest: d.Manifest, Hit: hit, Kind: wire.KindDirectory, source: d}
	if err := m.sign(s); err != nil {
		d.Close()
		return nil, err
	}
	return s, nil
}

// decideKind finds out whether it is a directory: as the link says, else as who offers it does.
func (f *Fetch) decideKind() error {
	kind := f.entry.Kind
	if f.req.FromLink {
		if kind = wire.KindFile; f.req.Directory {
			kind = wire.KindDirectory
		}
		if kind != f.entry.Kind && f.entry.Kind <= wire.KindDirectory {
			f.req.Note(fmt.Sprintf("%q is taken for what the link says, and not for what others do: a %s", f.entry.Name, kind))
		}
	}
	if kind > wire.KindDirectory || kind == wire.KindFile && !f.req.Selection.All() {
		return &KindError{f.entry.Name, kind}
	}
	f.dir = kind == wire.KindDirectory
	return nil
}

// key is what a rerun finds the download by. Each choice from a directory is a download of its own.
func (f *Fetch) key() string {
	return fetchKey(f.entry.ID, f.req.Target, f.dir, f.req.Selection)
}

func fetchKey(id content.ID, target string, dir bool, of bundle.Selection) string {
	if !dir {
		return "v2:" + id.String() + "/" + target
	}
	key := "v2d:" + id.String() + "/" + target
	if !of.All() {
		sum := blake3.Sum256([]byte(of.String()))
		key += "/" + hex.EncodeToString(sum[:16])
	}
	return key
}

// Place returns the folder and the name in it of what is fetched. It is called when Run has ended.
func (f *Fetch) Place() (dir, target string) { return f.req.Dir, f.req.Target }

// unfold fetches the listing of a directory, and makes the store ready for what was chosen of it.
func (f *Fetch) unfold(ctx context.Context) error {
	if !f.dir {
		return nil
	}
	for {
		f.set(func(st *FetchStatus) { st.Phase = Meeting })
		f.m.x.Begin(f.entry.ID, f.d)
		if err := f.watch(ctx, f.complete); err != nil {
			return err
		}
		f.set(func(st *FetchStatus) { st.Phase = Checking })
		ready, err := f.d.Unfold(ctx, f.choose)
		if errors.Is(err, errItself) {
			err = f.moveUp(ctx)
		}
		if err != nil || ready {
			return err
		}
	}
}

// errItself says that the folder for a directory is the directory.
var errItself = errors.New("the folder is the directory itself")

// choose chooses what is wanted of a directory, unless its place is another.
func (f *Fetch) choose(l *bundle.Listing) ([]bool, error) {
	if f.req.Either && isItself(f.req.Dir, f.req.Target, l) {
		return nil, errItself
	}
	return f.req.Selection.Choose(l)
}

// isItself says whether a folder looks like a directory that was fetched into its place: it has no entry of the directory's name, and one that
// is in the directory. So the same command means the same when it is run again.
func isItself(dir, name string, l *bundle.Listing) bool {
	if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
		return false
	}
	for i := range l.Entries {
		if e := &l.Entries[i]; e.Parent < 0 {
			if _, err := os.Lstat(filepath.Join(dir, e.Name)); err == nil {
				return true
			}
		}
	}
	return false
}

// moveUp opens the download anew, with the folder that it was put into as its place.
func (f *Fetch) moveUp(ctx context.Context) error {
	path, old := filepath.Clean(f.req.Dir), f.d
	f.req.Either, f.req.Dir, f.req.Target = false, filepath.Dir(path), filepath.Base(path)
	d, err := f.open(ctx, f.content.Manifest)
	if err != nil {
		return err
	}
	f.d = d
	return old.Close()
}

// openSpool makes the folder in which a stream's pieces are until it has ended: others are given them, as those of any download.
func (f *Fetch) openSpool() (err error) {
	f.spool, err = os.MkdirTemp("", "shoal-")
	f.req.Dir, f.req.Target, f.req.Sequential = f.spool, "stream", true
	return err
}

func (f *Fetch) removeSpool() {
	if f.spool != "" {
		os.RemoveAll(f.spool)
	}
}
