package exchange

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/wire"
)

// What is fetched from outside is claimed inside, and nowhere else; what is claimed inside is not fetched from outside.
func TestASiteIsToldWhatIsFetchedFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTableIn(t, 6, "here")
		b.fetch(nil)
		outside, other := b.sitWith(nil, "there"), b.sitWith(nil, "")
		inside := b.sitWith(nil, "here")
		far := outside.holds(b)
		other.holds(b)
		near := hears[*wire.Open](inside).Channel
		inside.says(&wire.Info{Channel: near, Known: true, Size: b.m.Geo.Size, Epoch: 1}, &wire.Claim{Channel: near, Pieces: []uint32{0, 1, 2}})
		inside.settle()
		outside.says(&wire.Credit{Channel: far, Epoch: 1, Number: 1}, &wire.Credit{Channel: far, Epoch: 1, Number: 2})
		var got []uint32
		for range 2 {
			get := hears[*wire.Get](outside)
			if got = append(got, get.Piece); get.Piece < 3 {
				t.Errorf("piece %d is fetched twice for one site", get.Piece)
			}
		}
		var claimed []uint32
		for c, ok := heardA[*wire.Claim](inside); ok; c, ok = heardA[*wire.Claim](inside) {
			if claimed = c.Pieces; c.Channel != near {
				t.Errorf("%+v", c)
			}
		}
		slices.Sort(got)
		slices.Sort(claimed)
		if !slices.Equal(got, claimed) {
			t.Errorf("%v are fetched, %v claimed", got, claimed)
		}
		for _, g := range []*guest{outside, other} {
			if c, ok := heardA[*wire.Claim](g); ok {
				t.Errorf("one outside is told %+v", c)
			}
		}
	})
}

// Of two who fetch one piece, the one that ranks lower cancels; a claim of one outside, or to a content that is whole, means nothing.
func TestAClaimOfTheSamePieceIsSettled(t *testing.T) {
	lost, kept := 0, 0
	for range 20 { // contents, in which the ranks differ
		synctest.Test(t, func(t *testing.T) {
			b := newTableIn(t, 1, "here")
			b.fetch(nil)
			outside, inside := b.sitWith(nil, "there"), b.sitWith(nil, "here")
			far := outside.holds(b)
			near := hears[*wire.Open](inside).Channel
			inside.says(&wire.Info{Channel: near, Known: true, Size: b.m.Geo.Size, Epoch: 1})
			inside.settle()
			outside.says(&wire.Credit{Channel: far, Epoch: 1, Number: 1})
			get := hears[*wire.Get](outside)
			outside.says(&wire.Claim{Channel: far, Pieces: []uint32{0}})
			if _, ok := heardA[*wire.Cancel](outside); ok {
				t.Error("one outside claims, and is heeded")
			}
			inside.says(&wire.Claim{Channel: near, Pieces: []uint32{0}})
			inside.settle()
			time.Sleep(100 * time.Millisecond)
			first := wire.SiteRank(b.m.ID, inside.s.Peer(), inside.s.Instance()) > wire.SiteRank(b.m.ID, wire.PeerID{}, 0)
			cancel, ok := heardA[*wire.Cancel](outside)
			if ok != first || ok && cancel.Request != get.Request {
				t.Errorf("the other ranks first: %v; cancelled: %v", first, ok)
			}
			if ok {
				lost++
			} else {
				kept++
			}
		})
	}
	if lost == 0 || kept == 0 {
		t.Errorf("%d lost, %d kept", lost, kept)
	}
}

// Who shares gives what has not left yet to those of its own site first: two of four have two promises each at a time, and the others the fifth.
func TestASharerServesItsSiteFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTableIn(t, 400, "here")
		b.share()
		guests := []*guest{b.sitWith(nil, "there"), b.sitWith(nil, ""), b.sitWith(nil, "here"), b.sitWith(nil, "here")}
		for _, g := range guests {
			g.asks(b, 2)
			g.says(&wire.Have{Channel: 2, Epoch: 1, Runs: []uint32{399, 1}})
		}
		credits := make(map[uint64]*wire.Credit)
		whose := make(map[uint64]int)
		served := make([]int, len(guests))
		for range 50 {
			for n, g := range guests {
				for credit, is := heardA[*wire.Credit](g); is; credit, is = heardA[*wire.Credit](g) {
					credits[credit.Number], whose[credit.Number] = credit, n
				}
			}
			oldest := slices.Min(slices.Collect(maps.Keys(credits)))
			credit, n := credits[oldest], whose[oldest]
			delete(credits, oldest)
			served[n]++
			guests[n].says(&wire.Get{Channel: 2, Epoch: 1, Credit: oldest, Piece: *credit.Piece, Request: oldest})
			hears[*wire.End](guests[n])
			guests[n].says(&wire.Have{Channel: 2, Epoch: 1, Runs: []uint32{*credit.Piece, 1}})
		}
		if outside := served[0] + served[1]; outside > 15 || outside == 0 {
			t.Errorf("of 50 pieces those of other sites get %d and %d, those of its own %d and %d", served[0], served[1], served[2], served[3])
		}
	})
}
