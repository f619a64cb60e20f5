package exchange

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/content"
	"shoal/internal/wire"
)

// Two that have more neighbours than they need part, if both say so: one offers it, and the other closes.
func TestNeighboursThatAreNotNeededPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		b.fetch(nil)
		var guests []*guest
		channels := make(map[*guest]uint64)
		for range Neighbours + 2 {
			g, channel := b.lacking()
			guests, channels[g] = append(guests, g), channel
			g.says(&wire.Want{Channel: channel, On: true, Neighbours: Neighbours + 10}, &wire.Want{Channel: channel})
		}
		time.Sleep(time.Second)
		var offered *guest
		for _, g := range guests {
			g.stays()
			if m, ok := heardA[*wire.Spare](g); ok {
				if offered != nil || m.Channel != channels[g] {
					t.Fatal("it is offered to too many at once, or on another channel")
				}
				offered = g
			}
		}
		if offered == nil {
			t.Fatal("it is offered to nobody")
		}
		parted := 0
		for _, g := range guests {
			if g == offered {
				continue
			}
			g.says(&wire.Spare{Channel: channels[g]})
			g.settle()
			if m, ok := heardA[*wire.Close](g); ok {
				if parted++; m.Reason != wire.ReasonSpare {
					t.Errorf("it is closed with %v", m)
				}
				if bye := hears[*wire.Bye](g); bye.Reason != wire.ReasonSpare {
					t.Errorf("it goes with %v", bye)
				}
				if <-g.ended; !errors.Is(g.why, ErrSpare) {
					t.Errorf("it has ended: %v", g.why)
				}
			}
		}
		if parted != 1 || b.x.Neighbours(b.m.ID) != Neighbours+1 {
			t.Errorf("%d are parted from, and %d left; one more has been told that it may go", parted, b.x.Neighbours(b.m.ID))
		}
		offered.says(&wire.Close{Channel: channels[offered], Reason: wire.ReasonSpare})
		synctest.Wait()
		time.Sleep(5 * time.Second)
		for _, g := range guests {
			if m, ok := heardA[*wire.Spare](g); ok {
				t.Errorf("%v is offered still", m)
			}
		}
		if n := b.x.Neighbours(b.m.ID); n != Neighbours {
			t.Errorf("%d are left", n)
		}
	})
}

// Where the two have another content to exchange the connection stays, and nobody would open the channel again.
func TestWhoHasAnotherContentStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTable(t, 4)
		b.fetch(nil)
		c := b.c
		b.x.Add(&Content{ID: content.ID{7}})
		var guests []*guest
		for range Neighbours + 2 {
			g := b.sit()
			for open, ok := heardA[*wire.Open](g); ok; open, ok = heardA[*wire.Open](g) {
				if open.ID != c.ID {
					continue
				}
				g.says(&wire.Info{Channel: open.Channel, Known: true, Size: b.m.Geo.Size, Epoch: 1},
					&wire.Want{Channel: open.Channel, On: true, Neighbours: Neighbours + 10}, &wire.Want{Channel: open.Channel}, &wire.Spare{Channel: open.Channel})
			}
			guests = append(guests, g)
		}
		time.Sleep(5 * time.Second)
		for _, g := range guests {
			g.stays()
			if m, ok := heardA[*wire.Spare](g); ok {
				t.Errorf("%v is offered", m)
			}
			if m, ok := heardA[*wire.Close](g); ok {
				t.Errorf("%v comes", m)
			}
		}
	})
}
