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

// Of twelve that fetch, nine have half. Three are served more often when they have said to have less, be it in another epoch or on a new channel, and less often when they have all.
func TestWhoHasLessIsServedMoreOften(t *testing.T) {
	const channel = 4
	opens := func(g *guest, b *table, channel uint64, all bool) {
		g.says(&wire.Open{Channel: channel, ID: b.m.ID}, &wire.Info{Channel: channel, Epoch: 1, All: all})
	}
	has := func(g *guest, channel uint64, pieces uint32) {
		g.says(&wire.Have{Channel: channel, Epoch: 1, Runs: []uint32{0, pieces}})
	}
	for name, c := range map[string]struct {
		three       func(g *guest, b *table)
		least, most float64 // how often they are served for each time of the others
	}{
		"one piece": {func(g *guest, b *table) { opens(g, b, channel, false); has(g, channel, 1) }, 2, 16},
		"half":      {func(g *guest, b *table) { opens(g, b, channel, false); has(g, channel, 1); has(g, channel, 20) }, 0.7, 1.4},
		"nothing any more": {func(g *guest, b *table) {
			opens(g, b, channel, false)
			has(g, channel, 20)
			g.says(&wire.Reset{Channel: channel, Epoch: 2})
		}, 2, 16},
		"all, on a new channel": {func(g *guest, b *table) {
			opens(g, b, 2, false)
			has(g, 2, 20)
			g.says(&wire.Close{Channel: 2})
			opens(g, b, channel, true)
		}, 0, 0.4},
		"nothing, on a new channel": {func(g *guest, b *table) {
			opens(g, b, 2, false)
			has(g, 2, 20)
			g.says(&wire.Close{Channel: 2})
			opens(g, b, channel, false)
		}, 2, 16},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newTable(t, 40)
				first := b.sit()
				d := b.fetch(nil)
				first.serves(b, d, first.holds(b))
				var guests []*guest
				for n := range 12 {
					g := b.sit()
					if guests = append(guests, g); n < 3 {
						c.three(g, b)
					} else {
						opens(g, b, channel, false)
						has(g, channel, 20)
					}
				}
				three, nine := 0.0, 0.0
				for range 100 {
					for _, g := range guests {
						g.says(&wire.Want{Channel: channel, On: true})
					}
					var credits []*wire.Credit
					var whose []*guest
					for n, g := range guests {
						for credit, is := heardA[*wire.Credit](g); is; credit, is = heardA[*wire.Credit](g) {
							if credits, whose = append(credits, credit), append(whose, g); n < 3 {
								three++
							} else {
								nine++
							}
						}
					}
					for i, credit := range credits {
						g := whose[i]
						g.says(&wire.Get{Channel: channel, Epoch: credit.Epoch, Credit: credit.Number, Piece: 30, Request: credit.Number})
						hears[*wire.End](g)
						g.kept = nil
						g.says(&wire.Have{Channel: channel, Epoch: 1, Runs: []uint32{39, 1}, Begun: true}) // it passes on what it takes
						g.says(&wire.Have{Channel: channel, Epoch: 2, Runs: []uint32{39, 1}, Begun: true}) // whichever is its epoch
					}
				}
				if ratio := three / 3 / (nine / 9); ratio < c.least || ratio > c.most {
					t.Errorf("each of the three is served %.2f times for each time of one of the others, want %.2f to %.2f", ratio, c.least, c.most)
				}
			})
		})
	}
}
