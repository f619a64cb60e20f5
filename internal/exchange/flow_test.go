package exchange

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/wire"
)

// below is a network that says how much has arrived.
type below struct{ acked, looks atomic.Int64 }

func (*below) LimitUnsent(int) {}
func (*below) Expect(int)      {}
func (*below) Unsent() int     { return 0 }
func (b *below) Acked() int64  { b.looks.Add(1); return b.acked.Load() }

// A leecher that has enough coming passes for later, and takes what one gives who has nobody else to give to.
func TestWhoHasEnoughComingPassesForLaterUnlessAGiverInsists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 100)
		b.fetch(nil)
		g := b.sit()
		channel := g.holds(b)
		if w := hears[*wire.Want](g); !w.On || w.Later {
			t.Fatalf("at first it says %+v", w)
		}
		g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: 1000}) // who has sent nothing yet is not asked for much
		get := hears[*wire.Get](g)
		g.gives(get.Request, b.bytesOf(get.Piece), wire.ReasonOK)
		g.settle()
		credit := uint64(0)
		gives := func(insist bool) {
			credit++
			g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credit, Insist: insist})
		}
		var pass *wire.Pass
		for pass == nil {
			if gives(false); credit > 20 {
				t.Fatal("it never has enough")
			}
			pass, _ = heardA[*wire.Pass](g)
		}
		if *pass != (wire.Pass{Channel: channel, Credit: credit, Later: true}) {
			t.Errorf("it passes with %+v", pass)
		}
		gots := uint64(0)
		for _, ok := heardA[*wire.Get](g); ok; _, ok = heardA[*wire.Get](g) {
			gots++
		}
		if gots != credit-1 {
			t.Errorf("%d of %d credits are used", gots, credit)
		}
		gives(true)
		if get := hears[*wire.Get](g); get.Credit != credit {
			t.Errorf("it uses credit %d, not %d", get.Credit, credit)
		}
	})
}

// Who has too much coming takes its want back, also from those who insist: they would ask again at once, for ever.
func TestWhoHasTooMuchComingIsNotAskedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 100)
		b.fetch(nil)
		g := b.sit()
		channel := g.holds(b)
		hears[*wire.Want](g)
		wanted, credits, passes := true, uint64(0), 0
		for range 100 { // a giver that insists for as long as it is wanted, and sends nothing
			for wanted && credits < 1000 {
				credits++
				g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credits, Insist: true})
				if p, ok := heardA[*wire.Pass](g); ok {
					wanted = p.Later
					passes++
				}
				if w, ok := heardA[*wire.Want](g); ok {
					wanted = w.On
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		if passes == 0 || credits > 40 {
			t.Errorf("%d credits, %d passes", credits, passes)
		}
	})
}

func TestALeecherForLaterIsGivenAnInsistingCreditWhenItIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		b.share()
		g := b.sit()
		g.asks(b, 2)
		first := hears[*wire.Credit](g)
		if first.Insist {
			t.Errorf("who wants now is given %+v", first)
		}
		g.says(&wire.Pass{Channel: 2, Credit: first.Number, Later: true})
		for {
			credit, ok := heardA[*wire.Credit](g)
			if !ok {
				t.Fatal("who alone wants something is given nothing")
			}
			if credit.Insist {
				break
			}
			g.says(&wire.Pass{Channel: 2, Credit: credit.Number, Later: true})
		}
	})
}

// What has arrived never becomes less: not when a connection is closed, and the kernel forgets, nor by what was given otherwise.
func TestWhatHasArrivedIsCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		var net below
		b.sitOver(&net)
		b.sit() // of which nothing is known
		total := func() (n int64) {
			b.x.call(func(l *loop) { n = l.total() })
			return n
		}
		b.x.Gave(1 << 30)
		if n := total(); n != 1<<30 {
			t.Errorf("%d bytes, given otherwise", n)
		}
		net.acked.Store(5000) // of the greeting
		total()
		net.acked.Store(7000)
		if n := total(); n != 1<<30+2000 {
			t.Errorf("%d bytes, 2000 of them by a session", n)
		}
		net.acked.Store(0) // it is closed
		b.x.Gave(10)
		if n := total(); n != 1<<30+2010 {
			t.Errorf("%d bytes when a connection is closed", n)
		}
		if n := b.x.Sent(); n != 1<<30+10 {
			t.Errorf("%d bytes sent", n)
		}
	})
}

func TestTheRateThatIsShownFallsWhenNothingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		d := b.fetch(nil)
		g := b.sit()
		g.serves(b, d, g.holds(b))
		time.Sleep(100 * time.Millisecond)
		before := b.c.Progress().Rate
		time.Sleep(10 * time.Second)
		if after := b.c.Progress().Rate; before == 0 || after > before/100 {
			t.Errorf("%.0f bytes per second, and ten quiet seconds later %.0f", before, after)
		}
	})
}

// Who passes what it was not given is believed to want as before, here as in the schedule.
func TestAPassOfNoCreditTakesNoWantBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		b.share()
		g := b.sit()
		g.asks(b, 2)
		first := hears[*wire.Credit](g)
		g.says(&wire.Pass{Channel: 2, Credit: 1 << 40})
		if g.settle(); !b.x.Wanted(b.m.ID) {
			t.Error("a pass of a credit that never was takes the want back")
		}
		g.says(&wire.Pass{Channel: 2, Credit: first.Number})
		if g.settle(); b.x.Wanted(b.m.ID) {
			t.Error("a pass does not take the want back")
		}
	})
}
