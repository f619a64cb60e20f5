package exchange

import (
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/wire"
)

// serve lets us fetch one piece from a guest that has everything.
func (g *guest) serve(b *table, channel, credit uint64) {
	g.t.Helper()
	g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credit, Insist: true})
	get := hears[*wire.Get](g)
	g.gives(get.Request, b.bytesOf(get.Piece), wire.ReasonOK)
	g.settle()
}

// firstOf returns where the first message of a kind stands among those that were not asked for yet, -1 if there is none.
func firstOf[T any](g *guest) int {
	g.settle()
	for i, k := range g.kept {
		if _, ok := k.(T); ok {
			return i
		}
	}
	return -1
}

// comesBefore expects news, and another message after them.
func comesBefore[T any](g *guest) {
	g.t.Helper()
	have, other := firstOf[*wire.Have](g), firstOf[T](g)
	if have < 0 || other < 0 || have > other {
		g.t.Errorf("the news are message %d, the other %d, of %v", have, other, g.kept)
	}
}

func TestNewsGoBeforeWhatIsDecidedByThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 20)
		b.fetch(nil)
		g, h := b.sit(), b.sit()
		time.Sleep(time.Second)
		from := g.holds(b)
		to := hears[*wire.Open](h).Channel
		h.says(&wire.Info{Channel: to, Known: true, Size: b.m.Geo.Size, Epoch: 1}, &wire.Have{Channel: to, Epoch: 1, First: 19, Runs: []uint32{0, 1}})
		g.serve(b, from, 1)
		first := hears[*wire.Have](h) // at once: it may want it
		h.says(&wire.Want{Channel: to, On: true})
		credit := hears[*wire.Credit](h)
		hears[*wire.Credit](h)
		g.serve(b, from, 2)
		if firstOf[*wire.Have](h) >= 0 {
			t.Fatal("who wants us already is told at once")
		}
		h.says(&wire.Get{Channel: to, Epoch: 1, Credit: credit.Number, Request: 1, Piece: first.First + first.Runs[0]})
		comesBefore[*wire.Credit](h)

		hears[*wire.Have](h)
		g.serve(b, from, 3)
		if firstOf[*wire.Have](h) >= 0 {
			t.Fatal("who wants us already is told at once")
		}
		piece := uint32(19)
		h.says(&wire.Credit{Channel: to, Epoch: 1, Number: 1, Piece: &piece})
		comesBefore[*wire.Get](h)
	})
}

// Who has everything needs no news; it is told all the same, in its turn.
func TestWhoHasEverythingIsToldLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 20)
		b.fetch(nil)
		g := b.sit()
		channel := g.holds(b)
		g.serve(b, channel, 1)
		hears[*wire.Have](g) // the first one, at once
		g.serve(b, channel, 2)
		time.Sleep(400 * time.Millisecond)
		if firstOf[*wire.Have](g) >= 0 {
			t.Error("it is told within 400 ms")
		}
		time.Sleep(200 * time.Millisecond)
		hears[*wire.Have](g)
	})
}

func TestTheLastPieceIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 2)
		b.fetch(nil)
		g, h := b.sit(), b.sit()
		time.Sleep(time.Second)
		from := g.holds(b)
		to := hears[*wire.Open](h).Channel
		h.says(&wire.Info{Channel: to, Known: true, Size: b.m.Geo.Size, Epoch: 1})
		g.serve(b, from, 1)
		hears[*wire.Have](h)
		h.says(&wire.Want{Channel: to, On: true})
		hears[*wire.Credit](h)
		hears[*wire.Credit](h)
		g.serve(b, from, 2)
		hears[*wire.Have](h)
	})
}

// Asking the system what has arrived costs a call for each session: an idle one is left alone.
func TestAnIdleSessionIsNotAskedWhatHasArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		b.share()
		var net below
		g := b.sitOver(&net)
		g.says(&wire.Open{Channel: 2, ID: b.m.ID}, &wire.Info{Channel: 2, Epoch: 1})
		time.Sleep(2 * ackTime)
		synctest.Wait()
		before := net.looks.Load()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if after := net.looks.Load(); after != before {
			t.Errorf("%d times in ten idle seconds", after-before)
		}
		g.says(&wire.Want{Channel: 2, On: true})
		credit := hears[*wire.Credit](g)
		g.says(&wire.Get{Channel: 2, Epoch: 1, Credit: credit.Number, Request: 1})
		time.Sleep(time.Second)
		synctest.Wait()
		if net.looks.Load() == before {
			t.Error("nor is one to which something was sent")
		}
	})
}

// Whether a piece ends soon is known when it is asked, and not at the next tick only.
func TestAPieceThatIsNearlyThereIsFollowedBetweenTicks(t *testing.T) {
	for phase := time.Duration(0); phase < tick; phase += tick / 5 {
		synctest.Test(t, func(t *testing.T) {
			b := newTable(t, 100)
			b.fetch(nil)
			var guests []*guest
			var at []uint64
			for range 5 {
				guests = append(guests, b.sit())
			}
			time.Sleep(time.Second)
			for _, g := range guests {
				at = append(at, g.holds(b))
				g.serve(b, at[len(at)-1], 1)
			}
			time.Sleep(time.Second + phase)
			number := uint64(1)
			asks := func() *wire.Get {
				number++
				n := int(number) % len(guests)
				guests[n].says(&wire.Credit{Channel: at[n], Epoch: 1, Number: number})
				get, _ := heardA[*wire.Get](guests[n])
				return get
			}
			first := asks()
			from := guests[int(number)%len(guests)]
			for asks() != nil { // until it is enough
			}
			time.Sleep(20 * time.Millisecond)
			bytes := b.bytesOf(first.Piece)
			bytes = bytes[:len(bytes)*19/20]
			_, _ = from.conn.Write(append(wire.AppendData(nil, first.Request, len(bytes)), bytes...))
			synctest.Wait()
			time.Sleep(countEvery)
			if asks() == nil {
				t.Errorf("%v after a tick, a piece of which 19 of 20 parts are there counts as one that is to come", phase)
			}
		})
	}
}
