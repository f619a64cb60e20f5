package exchange

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/store"
	"shoal/internal/wire"
)

// sick is a source that cannot be read while err is set.
type sick struct {
	*bytes.Reader
	err atomic.Pointer[error]
}

func (s *sick) ReadAt(b []byte, off int64) (int, error) {
	if err := s.err.Load(); err != nil {
		return 0, *err
	}
	return s.Reader.ReadAt(b, off)
}

// What cannot be read is withdrawn: its owner is told, and so is everybody who might ask. Where it failed for want of descriptors, the one
// request is refused, and the next is answered.
func TestAFileThatCannotBeReadIsWithdrawn(t *testing.T) {
	for name, c := range map[string]struct {
		err       error
		withdrawn bool
	}{
		"a bad sector":            {syscall.EIO, true},
		"a disk that has gone":    {syscall.ESTALE, true},
		"it is shorter":           {nil, true}, // io.EOF
		"too many files are open": {&os.PathError{Op: "open", Path: "a", Err: syscall.EMFILE}, false},
	} {
		inBubble(t, name, func(t *testing.T) {
			b := newTable(t, 3)
			source := &sick{Reader: bytes.NewReader(b.want)}
			if c.err == nil {
				source.Reader = bytes.NewReader(nil)
			} else {
				source.err.Store(&c.err)
			}
			b.content(func(c *Content) { c.Manifest, c.Source = b.m, source })
			g, other := b.sit(), b.sit()
			g.asks(b, 2)
			other.asks(b, 2)
			g.says(&wire.Get{Channel: 2, Epoch: 1, Credit: hears[*wire.Credit](g).Number, Request: 1})
			if end := hears[*wire.End](g); end.Reason != wire.ReasonRead {
				t.Errorf("it ended with %+v", end)
			}
			b.lock(func() {
				if (b.changed == 1) != c.withdrawn {
					t.Errorf("its owner is told %d times", b.changed)
				}
			})
			g.stays()
			if c.withdrawn {
				hears[*wire.Reset](other)
				hears[*wire.Close](other)
				return
			}
			source.err.Store(nil)
			g.says(&wire.Get{Channel: 2, Epoch: 1, Credit: hears[*wire.Credit](g).Number, Request: 2})
			if end := hears[*wire.End](g); end.Reason != wire.ReasonOK {
				t.Errorf("then it ended with %+v", end)
			}
		})
	}
}

// Who cannot read a piece is left alone for a while, instead of being asked as fast as it can refuse.
func TestWhoCannotReadIsNotAskedAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		d := b.fetch(nil)
		g := b.sit()
		channel := g.holds(b)
		refused := 0
		for credit := uint64(1); credit <= 100; credit++ { // one second
			g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credit})
			if get, ok := heardA[*wire.Get](g); ok {
				g.gives(get.Request, nil, wire.ReasonRead)
				refused++
			}
			time.Sleep(10 * time.Millisecond)
		}
		if refused == 0 || refused > 2 {
			t.Errorf("it was asked %d times in a second", refused)
		}
		g.stays()
		g.serves(b, d, channel)
		b.lock(func() {
			if !b.done || b.failed != nil {
				t.Errorf("complete: %v; %v", b.done, b.failed)
			}
		})
	})
}

// stuck is a disk on which a sync takes 30 s, and, while slow is set, a write 20 s.
type stuck struct {
	store.Disk
	slow  atomic.Bool
	syncs atomic.Int32
}

type (
	stuckFolder struct {
		store.Folder
		d *stuck
	}
	stuckFile struct {
		store.File
		d *stuck
	}
)

func (d *stuck) OpenFolder(path string) (store.Folder, error) {
	f, err := d.Disk.OpenFolder(path)
	return &stuckFolder{f, d}, err
}

func (f *stuckFolder) Open(name string, flag int, perm os.FileMode) (store.File, error) {
	file, err := f.Folder.Open(name, flag, perm)
	if err == nil && filepath.Base(name) == "data" {
		file = &stuckFile{file, f.d}
	}
	return file, err
}

func (f *stuckFile) WriteAt(b []byte, off int64) (int, error) {
	if f.d.slow.Load() {
		time.Sleep(20 * time.Second)
	}
	return f.File.WriteAt(b, off)
}

func (f *stuckFile) DataSync() error {
	f.d.syncs.Add(1)
	time.Sleep(30 * time.Second)
	return f.File.DataSync()
}

// A disk that takes half a minute for a sync, or for a write, is waited for. Nobody is blamed or given up for it, what comes meanwhile is
// bounded by what was asked for, and in the end the file is there.
func TestADiskThatStallsIsWaitedForAndNobodyIsGivenUp(t *testing.T) {
	inBubble(t, "sync", func(t *testing.T) {
		disk := &stuck{Disk: store.System()}
		b := newTable(t, 6)
		d := b.fetch(disk)
		g := b.sit()
		channel := g.holds(b)
		g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: 1})
		get := hears[*wire.Get](g)
		g.gives(get.Request, b.bytesOf(get.Piece), wire.ReasonOK)
		g.settle()
		synced := make(chan error, 1)
		go func() { synced <- d.Sync() }()
		synctest.Wait()
		began := time.Now()
		g.serves(b, d, channel)
		if took := time.Since(began); took > 25*time.Second || disk.syncs.Load() != 1 {
			t.Errorf("what came waited %v for the sync", took)
		}
		if err := errors.Join(<-synced, d.Complete(t.Context())); err != nil {
			t.Fatal(err)
		}
		g.stays()
		if got, err := os.ReadFile(d.Path()); err != nil || !bytes.Equal(got, b.want) {
			t.Errorf("the file has %d bytes, %v", len(got), err)
		}
	})
	inBubble(t, "write", func(t *testing.T) {
		disk := &stuck{Disk: store.System()}
		b := newTable(t, 6)
		d := b.fetch(disk)
		g := b.sit()
		channel := g.holds(b)
		disk.slow.Store(true)
		asked := 0
		for credit := range uint64(20) {
			g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credit + 1})
			for get, ok := heardA[*wire.Get](g); ok; get, ok = heardA[*wire.Get](g) {
				g.gives(get.Request, b.bytesOf(get.Piece), wire.ReasonOK)
				asked++
			}
		}
		if asked == 0 || asked > 6 {
			t.Errorf("%d pieces were asked for", asked)
		}
		time.Sleep(45 * time.Second)
		g.stays()
		disk.slow.Store(false)
		time.Sleep(20 * time.Second)
		g.serves(b, d, channel)
		g.stays()
		b.lock(func() {
			if !b.done || b.failed != nil || len(b.notes) > 0 {
				t.Errorf("complete: %v; %v, %q", b.done, b.failed, b.notes)
			}
		})
	})
}

// The end of a request that was given up says nothing of a newer one for the same piece, of the same neighbour.
func TestALateEndIsNotThatOfTheNextRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 1)
		d := b.fetch(nil)
		g := b.sit()
		first := g.holds(b)
		g.says(&wire.Credit{Channel: first, Epoch: 1, Number: 1})
		old := hears[*wire.Get](g)
		g.says(&wire.Close{Channel: first}, &wire.Open{Channel: 2, ID: b.m.ID}, &wire.Info{Channel: 2, Known: true, Size: b.m.Geo.Size, Epoch: 1, All: true})
		time.Sleep(2 * time.Second) // who went with a request under way is not asked at once
		g.says(&wire.Credit{Channel: 2, Epoch: 1, Number: 2})
		get := hears[*wire.Get](g)
		g.says(&wire.End{Request: old.Request, Reason: wire.ReasonCancelled})
		time.Sleep(100 * time.Millisecond)
		g.says(&wire.Credit{Channel: 2, Epoch: 1, Number: 3})
		hears[*wire.Pass](g)
		if again, ok := heardA[*wire.Get](g); ok {
			t.Errorf("piece %d is asked for while it is under way", again.Piece)
		}
		g.gives(get.Request, b.bytesOf(0), wire.ReasonOK)
		g.settle()
		if !d.HaveAll() {
			t.Error("it is not complete")
		}
	})
}
