package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	unitSize = 3 << 20
	units    = 7
	size     = (units-1)*unitSize + 5
)

// memory is a store that checks what it is given: one writer for each unit, in order, and each unit once.
type memory struct {
	t       *testing.T
	mu      sync.Mutex
	data    []byte
	at      map[uint32]int64
	have    map[uint32]bool
	synced  int
	syncErr error
	full    bool
}

var errFull = errors.New("disk full")

func newMemory(t *testing.T) *memory {
	return &memory{t: t, data: make([]byte, size), at: map[uint32]int64{}, have: map[uint32]bool{}}
}

func (m *memory) Have(unit uint32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.have[unit]
}

func (m *memory) WriteAt(unit uint32, b []byte, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return errFull
	}
	if m.have[unit] {
		m.t.Errorf("unit %d is there, and written again", unit)
	}
	if off != 0 && m.at[unit] != off {
		m.t.Errorf("unit %d is written at %d, its writer was at %d: two writers", unit, off, m.at[unit])
	}
	m.at[unit] = off + int64(len(b))
	copy(m.data[int64(unit)*unitSize+off:], b)
	return nil
}

func (m *memory) Mark(unit uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.have[unit] = true
	return nil
}

func (m *memory) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.synced = len(m.have)
	return m.syncErr
}

func content() []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

var errDied = errors.New("connection reset")

// fake is a source with a rate, in bytes per second of fake time, and one fault.
type fake struct {
	name    string
	rate    int64
	dieAt   int64 // bytes after which it dies, each time
	short   bool  // announces units that are one byte short
	mu      sync.Mutex
	fetches int
	asked   [2]uint32 // the first range
	sent    int64
}

func (f *fake) String() string { return f.name }

func (f *fake) Fetch(ctx context.Context, first, last uint32, recv func(uint32, int64, io.Reader) error) error {
	f.mu.Lock()
	if f.fetches++; f.fetches == 1 {
		f.asked = [2]uint32{first, last}
	}
	f.mu.Unlock()
	all := content()
	for u := first; u <= last; u++ {
		b := all[int64(u)*unitSize : min(int64(u+1)*unitSize, size)]
		if f.short {
			b = b[1:]
		}
		body := &slowReader{ctx, f, bytes.NewReader(b)}
		if err := recv(u, int64(len(b)), body); err != nil {
			return err
		}
	}
	return nil
}

type slowReader struct {
	ctx context.Context
	f   *fake
	r   io.Reader
}

func (s *slowReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b[:min(len(b), 64<<10)])
	s.f.mu.Lock()
	s.f.sent += int64(n)
	dead := s.f.dieAt > 0 && s.f.sent >= s.f.dieAt
	s.f.mu.Unlock()
	if dead {
		return 0, errDied
	}
	select {
	case <-time.After(time.Duration(n) * time.Second / time.Duration(s.f.rate)):
	case <-s.ctx.Done():
		return 0, errDied // what a closed connection says
	}
	return n, err
}

// run runs a transfer from some sources to its end, in fake time.
func run(t *testing.T, m *memory, sources ...*fake) (tr *Transfer, took time.Duration, err error) {
	t.Helper()
	tr = New(Config{Units: units, UnitSize: unitSize, Size: size, Store: m, Blame: func(Source, error) bool { return false }})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for _, f := range sources {
		tr.cfg.Sources = append(tr.cfg.Sources, f)
	}
	start := time.Now()
	err = tr.Run(ctx)
	return tr, time.Since(start), err
}

func wantAll(t *testing.T, m *memory, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.data, content()) {
		t.Fatal("the bytes are not those of the content")
	}
	if m.synced != units {
		t.Errorf("%d units synced, want %d", m.synced, units)
	}
}

func TestSourcesShareTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		a, b, c := &fake{name: "a", rate: 1 << 20}, &fake{name: "b", rate: 1 << 20}, &fake{name: "c", rate: 1 << 20}
		tr, took, err := run(t, m, a, b, c)
		wantAll(t, m, err)
		if alone := time.Duration(size/(1<<20)) * time.Second; took > alone/2+time.Second {
			t.Errorf("took %v, one alone takes %v", took, alone)
		}
		p := tr.Progress()
		if p.Done != size || p.Fetched != size || len(p.Sources) != 3 {
			t.Errorf("progress %+v", p)
		}
		if got := [][2]uint32{a.asked, b.asked, c.asked}; !slices.Equal(got, [][2]uint32{{0, 2}, {3, 4}, {5, 6}}) {
			t.Errorf("they were first asked for %v: not for equal shares", got)
		}
	})
}

func TestASourceThatDiesLosesItsRestToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		dies, lives := &fake{name: "dies", rate: 1 << 20, dieAt: unitSize + 100}, &fake{name: "lives", rate: 1 << 20}
		_, _, err := run(t, m, dies, lives)
		wantAll(t, m, err)
		if dies.fetches < 2 {
			t.Errorf("it was asked %d times: not again later", dies.fetches)
		}
	})
}

func TestASlowSourceDoesNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		tr, took, err := run(t, m, &fake{name: "slow", rate: 100}, &fake{name: "quick", rate: 1 << 20})
		wantAll(t, m, err)
		if took > 40*time.Second {
			t.Errorf("took %v, the quick one alone takes 18 s", took)
		}
		for _, s := range tr.Progress().Sources {
			if s.Err != nil {
				t.Errorf("%s was told to stop, and that counts as its failure: %v", s.Name, s.Err)
			}
		}
	})
}

func TestASourceWithUnitsOfAnotherSizeIsBanned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		liar := &fake{name: "liar", rate: 1 << 20, short: true}
		tr, _, err := run(t, m, liar, &fake{name: "honest", rate: 1 << 20})
		wantAll(t, m, err)
		if liar.fetches != 1 {
			t.Errorf("asked %d times", liar.fetches)
		}
		for _, s := range tr.Progress().Sources {
			if s.Name == "liar" && (s.State != Banned || s.Bytes != 0) {
				t.Errorf("%+v", s)
			}
		}
	})
}

func TestATransferResumesAndFetchesOnlyWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		copy(m.data, content())
		for _, u := range []uint32{0, 2, 3, 6} {
			m.have[u] = true
		}
		a := &fake{name: "a", rate: 1 << 20}
		_, _, err := run(t, m, a)
		wantAll(t, m, err)
		if a.sent != 3*unitSize {
			t.Errorf("fetched %d bytes, want %d", a.sent, 3*unitSize)
		}
	})
}

func TestAnErrorOfTheStoreEndsTheTransferAndBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		m.full = true
		if _, _, err := run(t, m, &fake{name: "a", rate: 1 << 20}); !errors.Is(err, errFull) {
			t.Errorf("writing: got %v", err)
		}
		m = newMemory(t)
		m.syncErr = errFull
		if _, _, err := run(t, m, &fake{name: "a", rate: 1 << 20}); !errors.Is(err, errFull) {
			t.Errorf("syncing: got %v", err)
		}
	})
}

func TestATransferWaitsForSourcesAndStopsWhenTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		tr := New(Config{Units: units, UnitSize: unitSize, Size: size, Store: m})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- tr.Run(ctx) }()
		time.Sleep(time.Minute)
		tr.Add(ctx, &fake{name: "late", rate: 1 << 20})
		time.Sleep(5 * time.Second)
		if got := tr.Progress(); got.Active != 1 || got.Done == 0 {
			t.Errorf("progress %+v", got)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if m.synced != len(m.have) || m.synced == 0 {
			t.Errorf("%d of %d complete units synced", m.synced, len(m.have))
		}
	})
}
