package schedule

import (
	"slices"
	"testing"
	"time"
)

func anyone(int) bool { return true }

func TestWhoHasTooManyNeighboursOffersAFewToPart(t *testing.T) {
	for _, c := range []struct{ neighbours, want int }{{Neighbours, 0}, {Neighbours + 1, 1}, {Neighbours + 7, 1}, {Neighbours + 8, 2}, {2 * Neighbours, 10}} {
		h := newChair(t, 10, c.neighbours, nil)
		for n := range c.neighbours {
			h.k.SetGivers(n, Neighbours+1)
		}
		h.now = time.Second
		first := h.k.Offers(h.now, anyone)
		if len(first) != c.want {
			t.Errorf("of %d neighbours %d are offered to part, want %d", c.neighbours, len(first), c.want)
		}
		if again := h.k.Offers(h.now+offerTime-1, anyone); len(again) > 0 {
			t.Errorf("of %d neighbours %d more are, before the first could answer", c.neighbours, len(again))
		}
		if again := h.k.Offers(h.now+offerTime, anyone); len(again) != c.want {
			t.Errorf("of %d neighbours %d are when none has answered, want %d", c.neighbours, len(again), c.want)
		}
	}
}

func TestOnlyWhoIsOfNoUseIsOfferedToPart(t *testing.T) {
	h := newChair(t, 10, Neighbours+40, nil)
	for n := range Neighbours + 40 {
		h.k.SetGivers(n, Neighbours+1)
	}
	h.k.SetGivers(0, Neighbours) // it needs all that it has
	h.k.SetGivers(1, 0)          // it has not said
	h.k.HasAll(h.now, 2)
	h.has(3, 7)
	h.gets(3, 7)
	var got []int
	for range 200 {
		h.now += offerTime
		got = append(got, h.k.Offers(h.now, func(n int) bool { return n != 4 })...)
	}
	slices.Sort(got)
	if got = slices.Compact(got); got[0] != 5 || len(got) != Neighbours+35 {
		t.Errorf("offered to %v", got)
	}
	for n := range 5 {
		if want := n < 2; h.k.Parts(h.now, n, n != 4) != want { // who offers it has said that it can
			t.Errorf("neighbour %d is let go: %v", n, !want)
		}
	}
}

// Neither side has fewer than it needs because of it, also when all offer at once.
func TestNobodyPartsFromWhomItNeeds(t *testing.T) {
	h := newChair(t, 10, Neighbours+3, nil)
	for n := range Neighbours + 3 {
		h.k.SetGivers(n, Neighbours+1)
	}
	h.now = time.Second
	offered := h.k.Offers(h.now, anyone)
	if len(offered) != 1 {
		t.Fatal(offered)
	}
	left := 0
	for n := range Neighbours + 3 {
		if n != offered[0] && h.k.Parts(h.now, n, true) {
			h.k.RemovePeer(h.now, n)
			left++
		}
	}
	h.k.RemovePeer(h.now, offered[0]) // it takes the offer
	if left != 2 || h.k.Givers() != Neighbours {
		t.Errorf("%d are let go beside the one to which it was offered, and %d left", left, h.k.Givers())
	}
}

// In a site all are needed.
func TestInASiteNobodyIsOfferedToPart(t *testing.T) {
	h := newSiteChair(t, 10, 20, 10)
	for n := 2; n < 2*Neighbours; n++ {
		h.k.AddPeer(n, n)
		h.k.SetGivers(n, Neighbours+1)
	}
	h.now = time.Second
	if offered := h.k.Offers(h.now, anyone); len(offered) > 0 || h.k.Parts(h.now, 5, true) {
		t.Errorf("%v are", offered)
	}
}

// One that has many connections is one neighbour, and drives nobody out.
func TestAnIdentityCountsOnce(t *testing.T) {
	h := newChair(t, 10, Neighbours, nil)
	for n := range Neighbours {
		h.k.SetGivers(n, Neighbours+1)
	}
	for n := range 32 {
		h.k.AddPeer(Neighbours+n, 0)
	}
	h.now = time.Second
	if offered := h.k.Offers(h.now, anyone); len(offered) > 0 || h.k.Parts(h.now, 5, true) {
		t.Errorf("%v are offered to part", offered)
	}
}
