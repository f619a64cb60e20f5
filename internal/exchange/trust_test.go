package exchange

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/store"
	"shoal/internal/wire"
)

// full is a network that takes a little, and then nothing for now.
type full struct{ below }

func (*full) Unsent() int { return 1 << 20 }

// Who breaks off what it was given, and says of nothing that it has it, waits while others want something.
func TestWhoBreaksOffIsGivenNothingForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 100)
		b.share()
		g, other := b.sitOver(&full{}), b.sit()
		other.asks(b, 2) // who is alone is given two
		g.asks(b, 2)
		credit := hears[*wire.Credit](g)
		g.says(&wire.Get{Channel: 2, Epoch: 1, Credit: credit.Number, Piece: uint32(*credit.Piece), Request: 1})
		g.settle()
		g.says(&wire.Cancel{Request: 1})
		time.Sleep(50 * time.Millisecond)
		if end := hears[*wire.End](g); end.Reason != wire.ReasonCancelled {
			t.Fatalf("its request ended with %+v", end)
		}
		began := time.Now()
		for {
			other.says(&wire.Want{Channel: 2, On: true}) // its own credits expire, and it is there still
			if _, given := heardA[*wire.Credit](g); given {
				break
			}
			if time.Sleep(50 * time.Millisecond); time.Since(began) > 20*time.Second {
				t.Fatal("it is given nothing any more")
			}
		}
		if waited := time.Since(began); waited < 3*time.Second {
			t.Errorf("it was given something after %v", waited)
		}
	})
}

// A giver sends one piece after the other, whatever content they are of: what waits behind another content's piece has not stalled.
func TestWhatWaitsBehindAnotherContentsPieceHasNotStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		b.fetch(nil)
		other := &table{t: t, x: b.x, want: bytes.Repeat([]byte("another"), 40_000)}
		var err error
		if other.m, err = store.Hash(t.Context(), bytes.NewReader(other.want), int64(len(other.want)), 1, nil); err != nil {
			t.Fatal(err)
		}
		other.fetch(nil)
		g := b.sit()
		var gets []*wire.Get
		for range 2 {
			open := hears[*wire.Open](g)
			size := b.m.Geo.Size
			if open.ID == other.m.ID {
				size = other.m.Geo.Size
			}
			g.says(&wire.Info{Channel: open.Channel, Known: true, Size: size, Epoch: 1, All: true})
			g.says(&wire.Credit{Channel: open.Channel, Epoch: 1, Number: open.Channel})
			gets = append(gets, hears[*wire.Get](g))
		}
		began := time.Now()
		for range 12 { // the first comes slowly, of the second nothing
			_, _ = g.conn.Write(append(wire.AppendData(nil, gets[0].Request, 1000), make([]byte, 1000)...))
			time.Sleep(500 * time.Millisecond)
			if cancel, is := heardA[*wire.Cancel](g); is {
				t.Fatalf("request %d is given up, of %d and %d, after %v", cancel.Request, gets[0].Request, gets[1].Request, time.Since(began))
			}
		}
		time.Sleep(8 * time.Second) // now nothing comes at all
		if _, is := heardA[*wire.Cancel](g); !is {
			t.Error("none is ever given up")
		}
	})
}

// Who has never sent a piece, and goes in the middle of one, is asked for nothing for a while when it is back.
func TestWhoGoesInTheMiddleIsAskedForNothingForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		b.fetch(nil)
		credit := uint64(0)
		offers := func(g *guest, channel uint64) (*wire.Get, bool) {
			credit++
			g.says(&wire.Credit{Channel: channel, Epoch: 1, Number: credit})
			return heardA[*wire.Get](g)
		}
		comes := func() (*guest, uint64) {
			g := b.sit()
			open := hears[*wire.Open](g)
			g.says(&wire.Info{Channel: open.Channel, Known: true, Size: b.m.Geo.Size, Epoch: 1, All: true})
			return g, open.Channel
		}
		g, channel := comes()
		get, asked := offers(g, channel)
		if !asked {
			t.Fatal("it is asked for nothing from the start")
		}
		_, _ = g.conn.Write(append(wire.AppendData(nil, get.Request, 1000), make([]byte, 1000)...))
		g.settle()
		g.conn.Close()
		<-g.ended
		b.seat-- // it is the same one
		g, channel = comes()
		for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			_, asked := offers(g, channel)
			waited := time.Since(began)
			if asked && waited < 900*time.Millisecond {
				t.Errorf("it is asked again after %v", waited)
			}
			if asked {
				break
			}
			if waited > 10*time.Second {
				t.Fatal("it is never asked again")
			}
		}
	})
}

// Who wants says how many neighbours it has, so that those who give can make up for it.
func TestAWantSaysHowManyNeighboursThereAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 100)
		b.fetch(nil)
		guests := []*guest{b.sit(), b.sit(), b.sit()}
		time.Sleep(time.Second)
		var last wire.Want
		for _, g := range guests {
			g.holds(b)
			last = *hears[*wire.Want](g)
		}
		if !last.On || last.Neighbours != 3 {
			t.Errorf("the last of three was told %+v", last)
		}
	})
}

// Of twelve that fetch, nine have half of it and three have one piece: each of these is served more often than each of those, until it has said to have more.
func TestWhoHasLessIsServedMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 40)
		first := b.sit()
		d := b.fetch(nil)
		first.serves(b, d, first.holds(b))
		var guests []*guest
		epochs := make([]uint64, 12)
		for n := range epochs {
			g := b.sit()
			g.asks(b, 2)
			epochs[n] = 1
			g.says(&wire.Have{Channel: 2, Epoch: 1, Runs: []uint32{0, map[bool]uint32{true: 1, false: 20}[n < 3]}})
			guests = append(guests, g)
		}
		perGuest := func() (few, many float64) {
			served := make([]float64, len(guests))
			for range 100 {
				for _, g := range guests {
					g.says(&wire.Want{Channel: 2, On: true})
				}
				var gets []func()
				for n, g := range guests {
					for {
						credit, is := heardA[*wire.Credit](g)
						if !is {
							break
						}
						served[n]++
						gets = append(gets, func() {
							g.says(&wire.Get{Channel: 2, Epoch: credit.Epoch, Credit: credit.Number, Piece: 30, Request: credit.Number})
							hears[*wire.End](g)
							g.kept = nil
							g.says(&wire.Have{Channel: 2, Epoch: epochs[n], Runs: []uint32{0, 1}}) // it speaks, of what it has had
						})
					}
				}
				for _, get := range gets {
					get()
				}
			}
			for n, times := range served {
				if n < 3 {
					few += times / 3
				} else {
					many += times / 9
				}
			}
			return few, many
		}
		if few, many := perGuest(); few < 2*many {
			t.Errorf("who has little is served %.1f times, who has half %.1f times", few, many)
		}
		for _, g := range guests[:3] {
			g.says(&wire.Have{Channel: 2, Epoch: 1, Runs: []uint32{1, 19}})
		}
		if few, many := perGuest(); few > 1.5*many || many > 1.5*few {
			t.Errorf("once all have half some are served %.1f times, the others %.1f times", few, many)
		}
		for n, g := range guests[:3] {
			epochs[n] = 2
			g.says(&wire.Reset{Channel: 2, Epoch: 2})
		}
		if few, many := perGuest(); few < 2*many {
			t.Errorf("who has lost what it had is served %.1f times, who has half %.1f times", few, many)
		}
	})
}
