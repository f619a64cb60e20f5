package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"shoal/internal/bundle"
)

// publishTree gives a directory its name: as a whole where nothing has it, else file by file.
func (d *Download) publishTree(ctx context.Context) error {
	if d.already {
		return nil
	}
	mask, err := d.umask()
	if err != nil {
		return err
	}
	p := &publishing{d: d, t: d.tree, l: d.tree.listing, mask: mask}
	if err := p.finishFiles(); err != nil {
		return err
	}
	_, err = d.root.Lstat(d.cfg.Target)
	switch {
	case errors.Is(err, fs.ErrNotExist) && d.tree.kept:
		return fmt.Errorf("%s: %w: it is gone since it was looked at", d.Path(), ErrChanged)
	case errors.Is(err, fs.ErrNotExist):
		return p.whole(ctx)
	case err != nil:
		return err
	case !d.tree.kept:
		return fmt.Errorf("%s: %w since it was looked at", d.Path(), ErrExists)
	}
	return p.into(ctx)
}

// finishFiles gives files the bytes that they have in the last piece of the listing, and makes all last.
func (p *publishing) finishFiles() error {
	d := p.d
	end := d.tree.extents[0].end
	for i := range p.l.Entries {
		e := &p.l.Entries[i]
		if e.Kind != bundle.File || e.Size == 0 || e.Off >= end || d.tree.stays(int32(i)) {
			continue
		}
		b := make([]byte, min(end, e.Off+e.Size)-e.Off)
		if err := read(d, b, e.Off); err != nil {
			return err
		}
		if err := d.tree.write(int32(i), b, 0); err != nil {
			return fullError(d, err, int64(len(b)))
		}
	}
	if err := d.data.DataSync(); err != nil {
		return fmt.Errorf("sync %s: %w", d.Path(), err)
	}
	d.tree.files.drop() // not every system renames what is open
	return nil
}

// umask returns the permissions that this user does not give.
func (d *Download) umask() (fs.FileMode, error) {
	name := d.name("umask")
	if err := d.root.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return 0, err
	}
	fi, err := d.root.Lstat(name)
	if err != nil {
		return 0, err
	}
	return 0o777 &^ fi.Mode().Perm(), d.root.Remove(name)
}

type publishing struct {
	d    *Download
	t    *tree
	l    *bundle.Listing
	mask fs.FileMode
}

// perm returns the permissions that an entry gets.
func (p *publishing) perm(perm uint16) fs.FileMode { return fs.FileMode(perm) &^ p.mask & 0o777 }

// whole finishes the hidden directory, and renames it.
func (p *publishing) whole(ctx context.Context) error {
	d := p.d
	base := d.name("tree")
	err := p.l.Each(func(i int, path string) error {
		if !d.chosen[i] {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		name := filepath.Join(base, filepath.FromSlash(path))
		if e := &p.l.Entries[i]; e.Kind == bundle.Link {
			return p.link(e.Target, name)
		}
		return d.root.Chmod(name, p.perm(p.l.Entries[i].Perm))
	})
	if err != nil {
		return err
	}
	if err := d.root.Chmod(base, p.perm(p.l.Perm)); err != nil {
		return err
	}
	if err := p.t.syncNames(base, p.dirs()); err != nil {
		return err
	}
	if err := d.root.Rename(base, d.cfg.Target); err != nil {
		return err
	}
	p.t.published(-1)
	return nil
}

// link makes a symbolic link, in the place of one that an earlier try has made.
func (p *publishing) link(target, name string) error {
	err := p.d.root.Symlink(filepath.FromSlash(target), name)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := p.d.root.Remove(name); err != nil {
		return err
	}
	return p.d.root.Symlink(filepath.FromSlash(target), name)
}

// dirs returns the directories that were chosen.
func (p *publishing) dirs() map[int32]bool {
	dirs := make(map[int32]bool)
	for i := range p.l.Entries {
		if p.l.Entries[i].Kind == bundle.Dir && p.d.chosen[i] {
			dirs[int32(i)] = true
		}
	}
	return dirs
}

// into puts what was fetched into the directory that is there. Each file is replaced in one step.
func (p *publishing) into(ctx context.Context) error {
	err := p.l.Each(func(i int, path string) error {
		if !p.t.staged[i] { // only this goroutine changes it
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return p.entry(int32(i), filepath.FromSlash(path))
	})
	if err != nil {
		return err
	}
	return p.t.syncNames(p.d.cfg.Target, p.dirs())
}

func (p *publishing) entry(i int32, path string) error {
	d, e := p.d, &p.l.Entries[i]
	from, to := filepath.Join(d.name("tree"), path), filepath.Join(d.cfg.Target, path)
	there, err := d.root.Lstat(to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	exists := err == nil
	if exists && !(e.Kind == bundle.Dir && there.IsDir()) && !mayReplace(e.Kind, there.Mode()) {
		return fmt.Errorf("%s: %w, and is something else", sibling(d.cfg.Dir, to), ErrExists)
	}
	switch e.Kind {
	case bundle.Dir:
		if !exists {
			err = errors.Join(d.root.Mkdir(to, 0o700), d.root.Chmod(to, p.perm(e.Perm)))
		} else {
			err = nil
		}
	case bundle.Link:
		if err = p.link(e.Target, from); err == nil {
			err = d.root.Rename(from, to)
		}
	case bundle.File:
		err = p.file(e, from, to, exists)
	}
	if err == nil {
		p.t.published(i)
	}
	return err
}

// file gives a file its place. Without leave to replace, one that is there must have the same bytes.
func (p *publishing) file(e *bundle.Entry, from, to string, exists bool) error {
	d := p.d
	if exists && !d.cfg.Overwrite {
		if same, err := p.same(from, to, e.Size); err != nil {
			return err
		} else if !same {
			return fmt.Errorf("%s: %w, and is another file", sibling(d.cfg.Dir, to), ErrExists)
		}
		return nil
	}
	return errors.Join(d.root.Chmod(from, p.perm(e.Perm)), d.root.Rename(from, to))
}

// same compares two files.
func (p *publishing) same(a, b string, size int64) (bool, error) {
	var files [2]File
	for i, name := range []string{a, b} {
		f, err := p.d.root.Open(name, os.O_RDONLY|noWait, 0)
		if err != nil {
			return false, err
		}
		defer f.Close()
		files[i] = f
	}
	if fi, err := files[1].Stat(); err != nil || fi.Size() != size {
		return false, err
	}
	x, y := make([]byte, readSize), make([]byte, readSize)
	for off := int64(0); off < size; off += readSize {
		n := min(readSize, size-off)
		if err := errors.Join(read(files[0], x[:n], off), read(files[1], y[:n], off)); err != nil {
			return false, err
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}
