package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bits-and-blooms/bitset"
)

// oneFile is the layout [OneFile].
type oneFile struct {
	p     *Partial
	f     *os.File
	whole bool // it had its size when it was opened: one that we made again is all zeros, whatever the journal says

	// writing is held during a write: writers that meet in the kernel spin for the inode's lock, which costs up to half of
	// their CPU time and brings nothing.
	writing sync.Mutex
}

func (d *oneFile) begin() (there int64, err error) {
	d.f, err = d.p.root.OpenFile(filepath.Join(d.p.dir, "data"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return 0, err
	}
	fi, err := d.f.Stat()
	if err != nil {
		return 0, err
	}
	d.whole = fi.Size() == d.p.cfg.Size
	return min(allocated(fi), d.p.cfg.Size), nil
}

func (d *oneFile) writeAt(unit uint32, b []byte, off int64) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	_, err := d.f.WriteAt(b, int64(unit)*d.p.cfg.UnitSize+off)
	return err
}

func (d *oneFile) reserve() error            { return allocate(d.f, d.p.cfg.Size) }
func (d *oneFile) finish(uint32) error       { return nil }
func (d *oneFile) sync(*bitset.BitSet) error { return d.p.lasting.pass(dataSync(d.f)) }
func (d *oneFile) has(uint32, int64) bool    { return d.whole }
func (d *oneFile) cleanup() error            { return nil }

func (d *oneFile) assemble(context.Context) error { return d.p.lasting.pass(d.f.Sync()) }

func (d *oneFile) close() error {
	if d.f == nil {
		return nil
	}
	f := d.f
	d.f = nil
	return f.Close()
}

// unitFiles is the layout [UnitFiles].
type unitFiles struct {
	p       *Partial
	resumed bool      // an earlier run has left something
	began   time.Time // when this run did

	mu   sync.Mutex // guards open
	open map[uint32]*os.File
}

func (d *unitFiles) begin() (there int64, err error) {
	// Which of them are ours is not known yet; as a bound of what may be missing all of them will do.
	err = eachUnitFile(d.p.root, d.p.cfg.Units(), func(fi fs.FileInfo) { there += fi.Size() })
	return min(there, d.p.cfg.Size), err
}

func (d *unitFiles) reserve() error { return nil }

const unitSuffix = ".p2p"

func unitName(unit uint32) string { return strconv.FormatUint(uint64(unit), 10) + unitSuffix }

func (d *unitFiles) writeAt(unit uint32, b []byte, off int64) error {
	f, err := d.file(unit)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, off)
	return err
}

// file returns the open file of a unit, which it makes when the unit is begun. Only a file that the journal has as ours, or that a run of ours may
// have left before it could note that, is made anew; one that somebody else made is left alone.
func (d *unitFiles) file(unit uint32) (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.open[unit]; f != nil {
		return f, nil
	}
	if d.isMade(unit) || d.isLeft(unit) {
		if err := removeFile(d.p.root, unitName(unit)); err != nil {
			return nil, err
		}
	}
	f, err := d.p.root.OpenFile(unitName(unit), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s: %w; another download into this folder may be writing it",
			filepath.Join(d.p.cfg.Dir, unitName(unit)), ErrExists)
	} else if err != nil {
		return nil, err
	}
	if err := d.setMade(unit); err != nil {
		return nil, errors.Join(err, f.Close(), d.p.root.Remove(unitName(unit)))
	}
	d.open[unit] = f
	return f, nil
}

// isLeft says whether there is a file that an earlier run has made, and was killed before it noted so: there is nothing in it, and it is older than this run.
// What another download has just made is younger.
func (d *unitFiles) isLeft(unit uint32) bool {
	if !d.resumed {
		return false
	}
	fi, err := d.p.root.Lstat(unitName(unit))
	return err == nil && fi.Mode().IsRegular() && fi.Size() == 0 && fi.ModTime().Before(d.began)
}

func (d *unitFiles) isMade(unit uint32) bool {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	return d.p.made.Test(uint(unit))
}

// setMade notes in the journal that a file is ours. The note need not last: a file of which it was lost is left alone.
func (d *unitFiles) setMade(unit uint32) error {
	if d.isMade(unit) {
		return nil
	}
	d.p.writing.Lock()
	err := d.p.record(recordMade, bitset.New(uint(unit)+1).Set(uint(unit)))
	d.p.writing.Unlock()
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	d.p.made.Set(uint(unit))
	return err
}

func (d *unitFiles) finish(unit uint32) error {
	d.mu.Lock()
	f := d.open[unit]
	delete(d.open, unit)
	d.mu.Unlock()
	return f.Close()
}

func (d *unitFiles) sync(units *bitset.BitSet) error {
	for u, ok := units.NextSet(0); ok; u, ok = units.NextSet(u + 1) {
		f, err := d.p.root.OpenFile(unitName(uint32(u)), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(d.p.lasting.pass(f.Sync()), f.Close()); err != nil {
			return err
		}
	}
	return syncDir(d.p.root, ".")
}

func (d *unitFiles) has(unit uint32, size int64) bool {
	if !d.isMade(unit) {
		return false
	}
	fi, err := d.p.root.Lstat(unitName(unit))
	return err == nil && fi.Mode().IsRegular() && fi.Size() == size
}

// assemble merges the unit files, in order, into the hidden folder's data file.
func (d *unitFiles) assemble(ctx context.Context) error {
	out, err := d.p.root.OpenFile(filepath.Join(d.p.dir, "data"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	defer out.Close()
	for u := range d.p.cfg.Units() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.mergeOne(out, u); err != nil {
			return fmt.Errorf("merge %s: %w", unitName(u), err)
		}
	}
	return d.p.lasting.pass(out.Sync())
}

func (d *unitFiles) mergeOne(out *os.File, unit uint32) error {
	in, err := d.p.root.OpenFile(unitName(unit), os.O_RDONLY|noWait, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.Copy(out, in)
	if err == nil && n != d.p.unitSize(unit) {
		err = fmt.Errorf("it has %d bytes, and had %d", n, d.p.unitSize(unit))
	}
	return err
}

// cleanup removes the unit files that are ours: no other file is touched.
func (d *unitFiles) cleanup() error {
	var errs []error
	for u, ok := d.p.made.NextSet(0); ok; u, ok = d.p.made.NextSet(u + 1) {
		errs = append(errs, removeFile(d.p.root, unitName(uint32(u))))
	}
	return errors.Join(errs...)
}

func (d *unitFiles) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for u, f := range d.open {
		errs = append(errs, f.Close())
		delete(d.open, u)
	}
	return errors.Join(errs...)
}

// eachUnitFile calls do for each unit file of a content of so many units, and for no other file.
func eachUnitFile(root *os.Root, units uint32, do func(fs.FileInfo)) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(256)
		for _, e := range entries {
			base, isUnit := strings.CutSuffix(e.Name(), unitSuffix)
			n, err := strconv.ParseUint(base, 10, 32)
			if !isUnit || err != nil || n >= uint64(units) || e.Name() != unitName(uint32(n)) || !e.Type().IsRegular() {
				continue
			}
			if fi, err := e.Info(); err == nil {
				do(fi)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
