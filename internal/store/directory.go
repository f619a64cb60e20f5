package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"shoal/internal/bundle"

	"github.com/bits-and-blooms/bitset"
)

// A download of a directory has two parts. At first only the pieces of the listing are wanted; they lie in the file head. When they are
// there, Unfold looks at what has the target's name, makes the files in a hidden directory, and wants the pieces of those that were chosen.

// ErrNames is a name that this file system cannot have, or names of a directory that it takes for one.
var ErrNames = errors.New("this file system cannot have such names")

// openDirectory begins with the listing.
func (d *Download) openDirectory(ctx context.Context) error {
	if d.m.Geo.Size < bundle.HeaderSize {
		return fmt.Errorf("%w: it has %d bytes", bundle.ErrListing, d.m.Geo.Size)
	}
	if fi, err := d.root.Lstat(d.cfg.Target); err == nil && !fi.IsDir() {
		return fmt.Errorf("%s: %w, and is no directory", d.Path(), ErrExists)
	}
	if err := d.enterFolder(); err != nil {
		return err
	}
	if err := d.keepManifest(); err != nil {
		return err
	}
	if d.cfg.Restart {
		for _, name := range []string{"journal", "head", "rest", "tree"} {
			if err := d.root.RemoveAll(d.name(name)); err != nil {
				return err
			}
		}
	}
	head, err := d.root.Open(d.name("head"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	t := newTree(d, d.name("tree"), head)
	d.data, d.tree = t, t
	if err := d.wantHead(ctx, 1); err != nil {
		return err
	}
	return d.abandonIf(d.findHead(ctx))
}

// abandonIf leaves nothing of a directory that cannot be unfolded, unless an earlier run has left what a later one can use.
func (d *Download) abandonIf(err error) error {
	if err != nil {
		if _, gone := d.root.Lstat(d.name("tree")); errors.Is(gone, fs.ErrNotExist) {
			d.abandon()
		}
	}
	return err
}

// wantHead wants the first pieces, and looks for those that an earlier run has fetched.
func (d *Download) wantHead(ctx context.Context, pieces uint32) error {
	g := d.m.Geo
	end := min(int64(pieces)*g.Piece, g.Size)
	d.using.Lock()
	d.tree.extents = extents{{end: end, file: inHead}}
	d.using.Unlock()
	have, err := matching(ctx, d.tree, d.m, d.cfg.Workers, func(p uint32) bool { return p < pieces && !d.Have(p) }, d.cfg.Checked)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.want = bitset.New(uint(g.Pieces))
	for p := range pieces {
		d.want.Set(uint(p))
		if have[p] {
			d.have.Set(uint(p))
		}
	}
	d.count = d.have.Count()
	return nil
}

// findHead wants the whole listing, when its length is known.
func (d *Download) findHead(ctx context.Context) error {
	if !d.Have(0) {
		return nil
	}
	n, err := d.headLen()
	if err != nil {
		return err
	}
	if n > d.m.Geo.Size {
		return fmt.Errorf("%w: it claims %d bytes, the content has %d", bundle.ErrListing, n, d.m.Geo.Size)
	}
	return d.wantHead(ctx, uint32((n+d.m.Geo.Piece-1)/d.m.Geo.Piece))
}

func (d *Download) headLen() (int64, error) {
	b := make([]byte, bundle.HeaderSize)
	if err := read(d, b, 0); err != nil {
		return 0, err
	}
	return bundle.HeadLen(b)
}

// Unfold goes on when all wanted pieces of a directory are there. It says whether the listing is known now and its files are wanted; else more
// of the listing is. Choose says which entries are wanted.
func (d *Download) Unfold(ctx context.Context, choose func(*bundle.Listing) ([]bool, error)) (ready bool, err error) {
	ready, err = d.unfold(ctx, choose)
	return ready, d.abandonIf(err)
}

func (d *Download) unfold(ctx context.Context, choose func(*bundle.Listing) ([]bool, error)) (ready bool, err error) {
	if err := d.findHead(ctx); err != nil {
		return false, err
	}
	if !d.Done() {
		return false, nil
	}
	n, err := d.headLen()
	if err != nil {
		return false, err
	}
	b := make([]byte, n)
	if err := read(d, b, 0); err != nil {
		return false, err
	}
	l, err := bundle.Parse(b, d.m.Geo.Size)
	if err != nil {
		return false, err
	}
	u := &unfolding{d: d, l: l, t: newTree(d, d.name("tree"), d.tree.head), good: make([]bool, len(l.Entries))}
	u.t.listing, u.t.staged = l, make([]bool, len(l.Entries))
	if u.chosen, err = choose(l); err != nil {
		return false, err
	}
	if err := u.run(ctx); err != nil {
		return false, errors.Join(err, d.leave(u))
	}
	return true, nil
}

// leave lets go of what could not be unfolded.
func (d *Download) leave(u *unfolding) error {
	u.t.files.close()
	if d.data != File(u.t) && u.t.rest != nil {
		return u.t.rest.Close()
	}
	return nil
}

// Listing returns the listing of a directory that is unfolded, and which of its entries were chosen.
func (d *Download) Listing() (l *bundle.Listing, chosen []bool) { return d.tree.listing, d.chosen }

// Already says whether a directory that is unfolded was complete before.
func (d *Download) Already() bool { return d.already }

// unfolding is the way from the listing to the files.
type unfolding struct {
	d      *Download
	l      *bundle.Listing
	t      *tree // as it will be
	chosen []bool

	there   bool              // the target is
	good    []bool            // entries that are there as they should be
	missing string            // an entry that is not; empty: none
	old     *tree             // the target's files, as far as they can be right
	equal   []bool            // pieces that are right in it
	want    *bitset.BitSet    // pieces
	head    uint32            // how many pieces have some of the listing
	made    map[int32]bool    // directories in the hidden one
	fresh   bool              // no earlier run has made anything
	found   map[fileKey]int32 // entries by what an earlier run has made for them
	need    int64             // bytes of the disk
}

func (u *unfolding) run(ctx context.Context) error {
	d, g := u.d, u.d.m.Geo
	u.head = uint32((u.l.Head + g.Piece - 1) / g.Piece)
	if err := u.checkNames(); err != nil {
		return err
	}
	if err := u.lookAtTarget(ctx); err != nil {
		return err
	}
	u.plan()
	if u.there && u.missing == "" { // all there is to do is to give
		d.already = true
		u.wantEqual()
		return d.adopt(u, u.haveEqual())
	}
	if err := u.stage(ctx); err != nil {
		return err
	}
	have, clean, err := u.present(ctx)
	if err != nil {
		return err
	}
	if err := d.adopt(u, have); err != nil {
		return err
	}
	if !clean {
		// The names must last, as those that beginJournal makes last, before a sync can promise something.
		if err := d.tree.syncNames(d.name("tree"), u.made); err != nil {
			return err
		}
		if err := d.beginJournal(); err != nil {
			return err
		}
	}
	return u.reuse(ctx)
}

// adopt makes the plan the download's: what others read of it goes on.
func (d *Download) adopt(u *unfolding, have *bitset.BitSet) error {
	d.using.Lock()
	defer d.using.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.data, d.tree, d.want, d.chosen = u.t, u.t, u.want, u.chosen
	d.have, d.count, d.news = have, have.Count(), bitset.New(have.Len())
	clear(d.begun)
	return nil
}

// checkNames refuses names that this system cannot have.
func (u *unfolding) checkNames() error {
	for i := range u.l.Entries {
		if !canHave(runtime.GOOS, u.l.Entries[i].Name) {
			return fmt.Errorf("%w: %q", ErrNames, u.l.Path(i))
		}
	}
	return nil
}

// lookAtTarget finds out what of the directory is there already.
func (u *unfolding) lookAtTarget(ctx context.Context) error {
	d := u.d
	fi, err := d.root.Lstat(d.cfg.Target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !fi.IsDir():
		return fmt.Errorf("%s: %w, and is no directory", d.Path(), ErrExists)
	}
	u.there, u.t.kept = true, true
	u.old = newTree(d, "", u.t.head)
	u.old.listing, u.old.staged = u.l, make([]bool, len(u.l.Entries))
	defer u.old.files.close()
	u.old.extents = extents{{end: u.l.Head, file: inHead}}
	if err := u.l.Each(func(i int, path string) error { return u.lookAtEntry(i, path) }); err != nil {
		return err
	}
	if u.equal, err = matching(ctx, u.old, d.m, d.cfg.Workers, nil, d.cfg.Checked); err != nil {
		return err
	}
	return u.judge()
}

// lookAtEntry looks at what has an entry's name.
func (u *unfolding) lookAtEntry(i int, path string) error {
	d, e := u.d, &u.l.Entries[i]
	if e.Parent >= 0 && !u.good[e.Parent] {
		u.lacks(i, path)
		return nil
	}
	name := filepath.Join(d.cfg.Target, filepath.FromSlash(path))
	fi, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		u.lacks(i, path)
		return nil
	} else if err != nil {
		return err
	}
	switch mode := fi.Mode().Type(); {
	case e.Kind == bundle.Dir:
		u.good[i] = mode == fs.ModeDir
	case e.Kind == bundle.File && mode == 0:
		if u.good[i] = fi.Size() == e.Size; e.Size > 0 { // of one that was cut, what is left may be right
			u.old.extents = append(u.old.extents, extent{off: e.Off, end: e.Off + e.Size, file: int32(i)})
		}
	case e.Kind == bundle.Link && mode == fs.ModeSymlink:
		target, err := d.root.Readlink(name)
		u.good[i] = err == nil && filepath.ToSlash(target) == e.Target
	}
	if !u.good[i] && u.chosen[i] && !mayReplace(e.Kind, fi.Mode()) {
		return fmt.Errorf("%s: %w, and is something else", sibling(d.cfg.Dir, name), ErrExists)
	}
	if !u.good[i] {
		u.lacks(i, path)
	}
	return nil
}

// mayReplace says whether something in an existing directory may be replaced: a file, and a link by a link.
func mayReplace(kind bundle.Kind, mode fs.FileMode) bool {
	return kind != bundle.Dir && (mode.IsRegular() || kind == bundle.Link && mode.Type() == fs.ModeSymlink)
}

func (u *unfolding) lacks(i int, path string) {
	if u.chosen[i] && u.missing == "" {
		u.missing = path
	}
}

// judge says which files are right, by the pieces in which they lie. One whose pieces are partly of files that are not here may be; it is
// fetched, and compared before it is replaced.
func (u *unfolding) judge() error {
	d, g := u.d, u.d.m.Geo
	differs := u.missing != ""
	for i := range u.l.Entries {
		e := &u.l.Entries[i]
		if e.Kind != bundle.File || e.Size == 0 || !u.good[i] {
			continue
		}
		first, last := piecesOf(g, e)
		for p := first; p <= last; p++ {
			if u.equal[p] {
				continue
			}
			u.good[i] = false
			if u.chosen[i] && u.old.extents.covers(g, p) {
				differs = true
			}
			u.lacks(i, u.l.Path(i))
		}
	}
	if differs && !d.cfg.Overwrite {
		return fmt.Errorf("%s: %w, and %q in it is missing or another", d.Path(), ErrExists, u.missing)
	}
	return nil
}

// plan decides where each part of the stream lies, and which pieces are wanted.
func (u *unfolding) plan() {
	g := u.d.m.Geo
	u.want = bitset.New(uint(g.Pieces))
	for p := range u.head {
		u.want.Set(uint(p))
	}
	for i := range u.l.Entries {
		if e := &u.l.Entries[i]; u.chosen[i] && e.Kind == bundle.File && e.Size > 0 {
			first, last := piecesOf(g, e)
			for p := first; p <= last; p++ {
				u.want.Set(uint(p))
			}
		}
	}
	// The last piece of the listing stays whole in its file: what it has of other files is copied to them at the end.
	end := u.headEnd()
	u.t.extents = extents{{end: end, file: inHead}}
	rest := int64(0)
	for i := range u.l.Entries {
		e := &u.l.Entries[i]
		u.t.staged[i] = u.chosen[i] && !u.good[i]
		if e.Kind != bundle.File || e.Size == 0 {
			continue
		}
		if u.t.staged[i] {
			u.need += e.Size
		}
		switch off := max(e.Off, end); {
		case off >= e.Off+e.Size:
		case u.good[i] || u.chosen[i]:
			u.t.extents = append(u.t.extents, extent{off: off, end: e.Off + e.Size, at: off - e.Off, file: int32(i)})
		default:
			first, last := piecesOf(g, e)
			rest = u.keep(first, e, rest)
			if last != first {
				rest = u.keep(last, e, rest)
			}
		}
	}
	u.need += rest
}

// headEnd returns where the pieces end that have some of the listing.
func (u *unfolding) headEnd() int64 { return min(int64(u.head)*u.d.m.Geo.Piece, u.d.m.Geo.Size) }

// keep gives what a piece that is wanted has of a file that is not a place of its own.
func (u *unfolding) keep(p uint32, e *bundle.Entry, rest int64) int64 {
	if p < u.head || !u.want.Test(uint(p)) {
		return rest
	}
	g := u.d.m.Geo
	off, end := max(e.Off, g.Offset(p)), min(e.Off+e.Size, g.Offset(p)+g.Len(p))
	u.t.extents = append(u.t.extents, extent{off: off, end: end, at: rest, file: inRest})
	return rest + end - off
}

// wantEqual wants what is there.
func (u *unfolding) wantEqual() { u.want = u.haveEqual().Clone() }

// haveEqual returns the pieces that are right where they lie now.
func (u *unfolding) haveEqual() *bitset.BitSet {
	g := u.d.m.Geo
	have := bitset.New(uint(g.Pieces))
	for p := range g.Pieces {
		if p < u.head || u.equal != nil && u.equal[p] && u.inPlace(p) {
			have.Set(uint(p))
		}
	}
	return have
}

// inPlace says whether a piece lies in files that stay.
func (u *unfolding) inPlace(p uint32) bool {
	g := u.d.m.Geo
	stays := true
	err := u.t.extents.each(g.Offset(p), g.Len(p), func(file int32, _, _, _ int64) error {
		stays = stays && (file == inHead || file >= 0 && !u.t.staged[file])
		return nil
	})
	return err == nil && stays
}

// stage makes the files that are to be fetched, in the hidden directory, and takes the space for them.
func (u *unfolding) stage(ctx context.Context) error {
	d := u.d
	base := d.name("tree")
	err := d.root.Mkdir(base, 0o700)
	if u.fresh = err == nil; errors.Is(err, fs.ErrExist) {
		var fi fs.FileInfo
		if fi, err = d.root.Lstat(base); err == nil && !fi.IsDir() {
			err = fmt.Errorf("%s: %w, and is no directory", sibling(d.cfg.Dir, base), ErrExists)
		}
	}
	if err != nil {
		return err
	}
	if err := u.checkCase(); err != nil {
		return err
	}
	if free, err := d.root.Free(); err == nil && u.fresh && u.need > free-d.cfg.Reserve {
		defer d.abandon()
		return &SpaceError{Path: d.Path(), Need: u.need, Free: max(free-d.cfg.Reserve, 0)}
	}
	u.made, u.found = make(map[int32]bool), make(map[fileKey]int32)
	err = u.l.Each(func(i int, path string) error {
		if !u.t.staged[i] {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return u.stageEntry(int32(i), filepath.Join(base, filepath.FromSlash(path)))
	})
	if errors.Is(err, ErrNames) && u.fresh {
		d.abandon()
	}
	if err != nil {
		return fullError(d, err, u.need)
	}
	return u.openRest()
}

// alone refuses an entry for which the file system shows what it has shown for another: it takes their names for one.
func (u *unfolding) alone(i int32, fi fs.FileInfo) error {
	key, ok := inodeOf(fi)
	if !ok || u.fresh { // where nothing was, what is made twice is an error
		return nil
	}
	if other, twice := u.found[key]; twice && other != i {
		return fmt.Errorf("%w: it takes %q and %q for one", ErrNames, u.l.Path(int(other)), u.l.Path(int(i)))
	}
	u.found[key] = i
	return nil
}

// fullError says of what there is too little.
func fullError(d *Download, err error, need int64) error {
	if isFull(err) {
		free, _ := d.root.Free()
		return &SpaceError{Path: d.Path(), Need: need, Free: free}
	}
	return err
}

func (u *unfolding) stageEntry(i int32, name string) error {
	e := &u.l.Entries[i]
	if err := u.stageParents(e.Parent); err != nil {
		return err
	}
	switch e.Kind {
	case bundle.Dir:
		return u.stageParents(i)
	case bundle.Link:
		return nil // last of all: nothing is written through it
	}
	flag := os.O_RDWR | os.O_CREATE
	if u.fresh {
		flag |= os.O_EXCL
	}
	f, err := u.d.root.Open(name, flag, 0o600)
	if errors.Is(err, fs.ErrPermission) && !u.fresh { // it was finished, and then the power went
		if err = u.d.root.Chmod(name, 0o600); err == nil {
			f, err = u.d.root.Open(name, flag, 0o600)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: it takes %q for another", ErrNames, u.l.Path(int(i)))
	} else if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%s: %w, and is no ordinary file", sibling(u.d.cfg.Dir, name), ErrExists)
	}
	if err := u.alone(i, fi); err != nil {
		return err
	}
	switch {
	case fi.Size() == e.Size:
		return nil
	case e.Size == 0:
		return f.Truncate(0)
	}
	return f.Allocate(e.Size)
}

// stageParents makes the hidden directories that lead to an entry.
func (u *unfolding) stageParents(i int32) error {
	if i < 0 || u.made[i] {
		return nil
	}
	if err := u.stageParents(u.l.Entries[i].Parent); err != nil {
		return err
	}
	name := filepath.Join(u.d.name("tree"), filepath.FromSlash(u.l.Path(int(i))))
	err := u.d.root.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if u.fresh {
			return fmt.Errorf("%w: it takes %q for another", ErrNames, u.l.Path(int(i)))
		}
		var fi fs.FileInfo
		if fi, err = u.d.root.Lstat(name); err == nil && !fi.IsDir() {
			err = fmt.Errorf("%s: %w, and is no directory", sibling(u.d.cfg.Dir, name), ErrExists)
		}
		if err == nil {
			err = u.alone(i, fi)
		}
	}
	u.made[i] = true
	return err
}

// checkCase refuses names that differ only by case where the file system takes them for one.
func (u *unfolding) checkCase() error {
	if _, err := u.d.root.Lstat(u.d.name("TREE")); err != nil {
		return nil
	}
	type key struct {
		parent int32
		name   string
	}
	seen := make(map[key]int)
	for i := range u.l.Entries {
		k := key{u.l.Entries[i].Parent, strings.ToLower(u.l.Entries[i].Name)}
		if other, twice := seen[k]; twice && u.chosen[i] && u.chosen[other] {
			return fmt.Errorf("%w: it takes %q and %q for one", ErrNames, u.l.Path(other), u.l.Path(i))
		}
		seen[k] = i
	}
	return nil
}

func (u *unfolding) openRest() (err error) {
	for _, e := range u.t.extents {
		if e.file == inRest && u.t.rest == nil {
			if u.t.rest, err = u.d.root.Open(u.d.name("rest"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// present finds out which pieces are here: those of a run that was stopped properly, or else those whose bytes are.
func (u *unfolding) present(ctx context.Context) (have *bitset.BitSet, clean bool, err error) {
	d, g := u.d, u.d.m.Geo
	have = bitset.New(uint(g.Pieces))
	if clean, err = d.readJournal(have, func() (uint64, error) { return u.t.stamp() }); err != nil {
		return nil, false, err
	}
	if clean {
		return have.Union(u.haveEqual()), true, nil
	}
	have = u.haveEqual()
	wanted := func(p uint32) bool { return u.want.Test(uint(p)) && !have.Test(uint(p)) && !u.fresh }
	there, err := matching(ctx, u.t, d.m, d.cfg.Workers, wanted, d.cfg.Checked)
	if err != nil {
		return nil, false, err
	}
	for p, is := range there {
		if is {
			have.Set(uint(p))
		}
	}
	return have, false, nil
}

// reuse copies what is right in files that are replaced all the same.
func (u *unfolding) reuse(ctx context.Context) error {
	if u.equal == nil {
		return nil
	}
	for p := range u.equal { // what is not wanted has no place
		u.equal[p] = u.equal[p] && u.want.Test(uint(p))
	}
	u.old.files = newOpenFiles(u.old.open)
	defer u.old.files.close()
	return u.d.copyEqual(ctx, u.old, u.equal)
}
