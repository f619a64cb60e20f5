package exchange

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/content"
	"shoal/internal/wire"
)

// A guest takes all that it is promised at once. By the promises alone it gets no more than the limit, and all of that.
func TestNoMoreIsPromisedThanTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, burst = 4, 7 // pieces
		b := newTable(t, 400)
		b.share()
		b.x.SetLimits(perSecond*content.MinPiece, 0)
		g := b.sit()
		g.asks(b, 2)
		request, ended := uint64(0), 0
		began := time.Now()
		for time.Since(began) < 30*time.Second {
			for credit, ok := heardA[*wire.Credit](g); ok; credit, ok = heardA[*wire.Credit](g) {
				request++
				g.says(&wire.Get{Channel: 2, Epoch: 1, Credit: credit.Number, Request: request, Piece: uint32(request)})
			}
			for _, ok := heardA[*wire.End](g); ok; _, ok = heardA[*wire.End](g) {
				ended++
			}
			g.kept = nil
			if most := burst + int(perSecond*time.Since(began).Seconds()); ended > most {
				t.Fatalf("%d pieces in %v, want at most %d", ended, time.Since(began), most)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if ended < 30*perSecond {
			t.Errorf("only %d pieces in 30 s", ended)
		}
		b.x.SetLimits(0, 0)
	})
}

// Two guests take all that they are promised at once: each has the limit of one.
func TestNoMoreIsPromisedToOneThanItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, burst = 4, 4 // pieces
		b := newTable(t, 400)
		b.share()
		b.x.SetPeerLimits(perSecond*content.MinPiece, 0)
		guests := []*guest{b.sit(), b.sit()}
		for _, g := range guests {
			g.asks(b, 2)
		}
		var request uint64
		ended := make([]int, 2)
		began := time.Now()
		for time.Since(began) < 20*time.Second {
			for i, g := range guests {
				for credit, ok := heardA[*wire.Credit](g); ok; credit, ok = heardA[*wire.Credit](g) {
					request++
					g.says(&wire.Get{Channel: 2, Epoch: 1, Credit: credit.Number, Request: request, Piece: uint32(request)})
				}
				for _, ok := heardA[*wire.End](g); ok; _, ok = heardA[*wire.End](g) {
					ended[i]++
					g.says(&wire.Have{Channel: 2, Epoch: 1, Runs: []uint32{uint32(ended[i]), 1}})
				}
				g.kept = nil
				if most := burst + int(perSecond*time.Since(began).Seconds()); ended[i] > most {
					t.Fatalf("%d pieces in %v, want at most %d", ended[i], time.Since(began), most)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		if min(ended[0], ended[1]) < 19*perSecond {
			t.Errorf("only %v pieces in 20 s", ended)
		}
	})
}

func TestNoMoreIsAskedOfOneThanItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 100)
		d := b.fetch(nil)
		b.x.SetPeerLimits(0, 10*content.MinPiece)
		g := b.sit()
		channel := g.holds(b)
		began := time.Now()
		g.serves(b, d, channel)
		if took := time.Since(began); took < 9500*time.Millisecond || took > 11*time.Second {
			t.Errorf("100 pieces at ten a second of one took %v", took)
		}
	})
}

func TestNoMoreIsAskedForThanTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 100)
		d := b.fetch(nil)
		b.x.SetLimits(0, 10*content.MinPiece)
		g := b.sit()
		channel := g.holds(b)
		began := time.Now()
		g.serves(b, d, channel)
		if took := time.Since(began); took < 9500*time.Millisecond || took > 11*time.Second {
			t.Errorf("100 pieces at ten a second took %v", took)
		}
		synctest.Wait()
		if p := b.c.Progress(); p.Optimal < 1 || p.Optimal > 1.1 {
			t.Errorf("it was %.2f times as long as its limit allows", p.Optimal)
		}
	})
}

// Half of what comes evenly comes in vain: that takes twice as long as it could.
func TestWhatComesInVainMakesADownloadLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 50)
		d := b.fetch(nil)
		g := b.sit()
		channel := g.holds(b)
		for credit := uint64(1); !d.HaveAll() && credit < 200; credit++ {
			g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credit})
			if get, ok := heardA[*wire.Get](g); ok {
				reason := wire.ReasonOK
				if credit%2 == 0 {
					reason = wire.ReasonMissing
				}
				g.gives(get.Request, b.bytesOf(get.Piece), reason)
			}
			time.Sleep(50 * time.Millisecond)
		}
		synctest.Wait()
		if p := b.c.Progress(); math.Abs(p.Optimal-2) > 0.1 {
			t.Errorf("it was %.2f times as long as it could have been: %+v", p.Optimal, p)
		}
	})
}

// A source says how long it took until others had all of it, as a multiple of what one copy takes; who comes later is another crowd.
func TestASourceSaysHowLongItsCopiesTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 40)
		b.share()
		b.x.SetLimits(10*content.MinPiece, 0)
		takes := func(channel uint64) {
			g := b.sit()
			g.asks(b, channel)
			for request := uint64(0); request < 40; time.Sleep(10 * time.Millisecond) {
				for credit, ok := heardA[*wire.Credit](g); ok && request < 40; credit, ok = heardA[*wire.Credit](g) {
					g.says(&wire.Get{Channel: channel, Epoch: 1, Credit: credit.Number, Request: request + 1, Piece: uint32(request)})
					request++
					g.says(&wire.Have{Channel: channel, Epoch: 1, Runs: []uint32{0, uint32(request)}})
				}
			}
			g.says(&wire.Have{Channel: channel, Epoch: 1, Runs: []uint32{0, 40}}, &wire.Want{Channel: channel})
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		takes(2)
		if p := b.c.Progress(); p.Copies != 1 || p.CopiesOptimal < 1 || p.CopiesOptimal > 1.1 {
			t.Errorf("one copy: %+v", p)
		}
		takes(2)
		if p := b.c.Progress(); p.Copies != 2 || p.CopiesOptimal < 1.7 || p.CopiesOptimal > 2.1 {
			t.Errorf("two, one after the other: %+v", p)
		}
		time.Sleep(newCrowd + 5*time.Second)
		takes(2)
		if p := b.c.Progress(); p.Copies != 1 || p.CopiesOptimal < 0.9 || p.CopiesOptimal > 1.1 {
			t.Errorf("another, later: %+v", p)
		}
	})
}

// What neighbours have said before we had the manifest counts as what is said afterwards does: while one who has nothing is served four times, four who have
// nine tenths are once each, and not three times.
func TestWhatWasSaidBeforeTheManifestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pieces, perSecond, burst, turns = 100, 4, 10, 4
		b := newTable(t, pieces)
		b.content(nil)
		source, poor := b.sit(), b.sit()
		rich := []*guest{b.sit(), b.sit(), b.sit(), b.sit()}
		from := source.holds(b)
		opens := func(g *guest) {
			channel := hears[*wire.Open](g).Channel
			g.says(&wire.Info{Channel: channel, Known: true, Size: b.m.Geo.Size, Epoch: 1})
		}
		to := uint64(1) // what is opened first by who dials
		opens(poor)
		for _, g := range rich {
			opens(g)
			g.says(&wire.Have{Channel: to, Epoch: 1, Runs: []uint32{0, pieces - 10}})
			g.settle()
		}
		hears[*wire.Manifest](source)
		encoded := b.m.Append(nil)
		source.says(&wire.Part{Channel: from, Total: uint64(len(encoded)), Bytes: encoded})
		source.settle()
		source.serves(b, b.begin(nil), from)

		b.x.SetLimits(perSecond*content.MinPiece, 0)
		asked := make(map[*guest]int)
		takes := func(g *guest) {
			for credit, ok := heardA[*wire.Credit](g); ok; credit, ok = heardA[*wire.Credit](g) {
				asked[g]++
				g.says(&wire.Get{Channel: to, Epoch: 1, Credit: credit.Number, Request: uint64(asked[g]), Piece: pieces - uint32(asked[g])})
			}
		}
		began := time.Now()
		until := func(served int) {
			for asked[poor] < served && time.Since(began) < time.Minute {
				takes(poor)
				poor.says(&wire.Have{Channel: to, Epoch: 1, First: pieces - uint32(asked[poor]), Runs: []uint32{0, uint32(asked[poor])}})
				for _, g := range rich { // they say nothing more, which would be counted with all before
					takes(g)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		poor.says(&wire.Want{Channel: to, On: true})
		until(burst) // which needs no turns
		for _, g := range rich {
			g.says(&wire.Want{Channel: to, On: true})
		}
		until(burst + turns)
		sum := 0
		for _, g := range rich {
			sum += asked[g]
		}
		if sum == 0 || sum >= 2*turns || asked[poor] < burst+turns {
			t.Errorf("while who has nothing was served %d times, four who have nine tenths were %d times", asked[poor]-burst, sum)
		}
	})
}
