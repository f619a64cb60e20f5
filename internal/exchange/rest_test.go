package exchange

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/content"
	"shoal/internal/store"
	"shoal/internal/wire"
)

// sleeper is a content that the exchange is not told of until it asks.
type sleeper struct {
	b      *table
	now    *Content // nil: it rests
	loads  int
	loaded error
	rests  int // times that it was let go of
	gone   bool
}

// sleeps makes what a table shares rest.
func sleeps(b *table) *sleeper {
	s := &sleeper{b: b}
	b.x.call(func(l *loop) { l.x.cfg.Whole = s.whole })
	return s
}

func (s *sleeper) whole(id content.ID) *Content {
	if id != s.b.m.ID || s.gone {
		return nil
	}
	if s.now == nil {
		s.now = &Content{
			ID: id, Manifest: s.b.m.Bare(), Source: bytes.NewReader(s.b.want), Changed: func(error) { s.gone = true },
			Load: func(context.Context) (*content.Manifest, error) {
				time.Sleep(time.Second)
				s.b.lock(func() { s.loads++ })
				return s.b.m, s.loaded
			},
			Rest: func() func() {
				s.now = nil
				return func() { s.b.lock(func() { s.rests++ }) }
			},
		}
	}
	return s.now
}

// knows returns how many contents the loop knows of.
func (b *table) knows() (n int) {
	b.x.call(func(l *loop) {
		for _, c := range l.order {
			if c != nil {
				n++
			}
		}
	})
	return n
}

func TestWhatNobodyExchangesRestsUntilItIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 3)
		s := sleeps(b)
		if b.x.Wake(b.m.ID); b.knows() != 0 {
			t.Error("it is awake though nobody is there")
		}
		for round := range 3 {
			g := b.sit()
			g.asks(b, 2)
			g.says(&wire.Get{Channel: 2, Epoch: 1, Credit: hears[*wire.Credit](g).Number, Request: 1})
			if end := hears[*wire.End](g); end.Reason != wire.ReasonOK {
				t.Errorf("it ended with %+v", end)
			}
			g.says(&wire.Manifest{Channel: 2}, &wire.Manifest{Channel: 2}) // which is on disk
			time.Sleep(2 * time.Second)
			if part := hears[*wire.Part](g); !bytes.Equal(part.Bytes, b.m.Append(nil)) {
				t.Error("it is another manifest")
			}
			time.Sleep(2 * restAfter)
			if b.knows() != 1 {
				t.Error("it rests while a neighbour has it open")
			}
			g.says(&wire.Close{Channel: 2, Reason: wire.ReasonClosing})
			time.Sleep(2 * restAfter)
			if n := b.knows(); n != 0 {
				t.Errorf("%d contents are awake of which nobody wants to know", n)
			}
			b.x.call(func(l *loop) {
				b.mu.Lock()
				defer b.mu.Unlock()
				if s.rests != round+1 || s.loads != round+1 || len(l.order) != 1 {
					t.Errorf("it rested %d times, its manifest was loaded %d times, %d numbers are in use", s.rests, s.loads, len(l.order))
				}
			})
		}
	})
}

func TestWhoWasRefusedIsToldOfWhatWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 2)
		g := b.sit()
		g.says(&wire.Open{Channel: 2, ID: b.m.ID})
		hears[*wire.Refuse](g)
		sleeps(b)
		b.x.Wake(b.m.ID)
		if open := hears[*wire.Open](g); open.ID != b.m.ID {
			t.Errorf("%+v", open)
		}
		if info := hears[*wire.Info](g); !info.All {
			t.Errorf("%+v", info)
		}
	})
}

func TestAManifestThatCannotBeLoadedWithdrawsItsContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 2)
		s := sleeps(b)
		s.loaded = store.ErrChanged
		g := b.sit()
		g.asks(b, 2)
		g.says(&wire.Manifest{Channel: 2})
		time.Sleep(2 * time.Second)
		hears[*wire.Reset](g)
		hears[*wire.Close](g)
		g.says(&wire.Open{Channel: 4, ID: b.m.ID})
		hears[*wire.Refuse](g)
	})
}
