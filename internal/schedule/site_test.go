package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// newSiteChair drives a Taker that ranks at 50 in its site: neighbour 0 is outside, those after it inside with these ranks.
func newSiteChair(t *testing.T, pieces uint32, ranks ...uint64) *chair {
	c := newChair(t, pieces, 1+len(ranks), func(cfg *TakerConfig) { cfg.Site, cfg.Rank = true, 50 })
	for i, rank := range ranks {
		c.k.SetInside(c.now, 1+i, rank)
	}
	return c
}

// waits lets time pass, a tick each second.
func (c *chair) waits(span time.Duration) {
	for end := c.now + span; c.now < end; {
		c.now = min(end, c.now+time.Second)
		c.k.Tick(c.now)
	}
}

// wanted says whether a neighbour is told now that it is wanted.
func (c *chair) wanted(n int) bool {
	return slices.Contains(c.k.Wants(c.now), WantChange{n, WantNow})
}

func TestOnlyThoseThatRankFirstFetchFromOutside(t *testing.T) {
	for n := range 7 {
		c := newSiteChair(t, 8, []uint64{60, 40, 61, 62, 63, 64, 65}[:n]...)
		c.k.HasAll(c.now, 0)
		before := max(0, n-1) // that rank before it
		if n == 1 {
			before = 1
		}
		if got, want := c.wanted(0), before < siteFetchers; got != want {
			t.Errorf("%d rank before it: it fetches from outside: %v", before, got)
		}
	}
}

func TestWhoDoesNotFetchTakesNothingFromOutsideEvenWhenItIsNamed(t *testing.T) {
	c := newSiteChair(t, 8, 60, 61, 62, 63)
	c.k.HasAll(c.now, 0)
	if a := c.k.Credit(c.now, 0, 3, true); a.Get || a.Busy {
		t.Errorf("%+v", a)
	}
}

func TestWhatIsInsideOrClaimedIsNotTakenFromOutside(t *testing.T) {
	c := newSiteChair(t, 4, 60, 40)
	c.k.HasAll(c.now, 0)
	c.has(2, 0)
	c.k.Claimed(c.now, 1, []uint32{1, 99})
	for _, named := range []int64{0, 1} { // another is taken instead
		if a := c.k.Credit(c.now, 0, named, false); !a.Get || a.Piece < 2 {
			t.Fatalf("piece %d is named: %+v", named, a)
		}
	}
	c.passes(0, false)
	c.gets(2, 0)
}

// Six outside who give nothing, and seem to be five seconds away, do not keep us long from another one.
func TestNobodyOutsideIsWaitedForAsLongAsItSeemsToBeAway(t *testing.T) {
	const silent, other, inside = siteEnough + siteSpare, siteEnough + siteSpare, siteEnough + siteSpare + 1
	c := newChair(t, 20, inside+1, func(cfg *TakerConfig) { cfg.Site, cfg.Rank = true, 50 })
	c.k.SetInside(c.now, inside, 60)
	for n := range silent {
		c.k.SetRTT(n, 5*time.Second)
		c.k.HasAll(c.now, n)
	}
	if got := len(c.k.Wants(c.now)); got != silent {
		t.Fatalf("%d are wanted at first", got)
	}
	c.k.site.rate.add(c.now, 1000) // ten pieces a second
	if got, want := c.k.hungryOutside(c.now, c.k.peers[0]), siteEnough+int(10*(maxTrip+aheadTime).Seconds()); got != want {
		t.Errorf("%d pieces are to be under way, want %d", got, want)
	}
	c.k.HasAll(c.now, other)
	c.now += siteWantTime + maxTrip
	if c.wanted(other) {
		t.Error("it is wanted while answers may be on their way")
	}
	c.now += maxTrip
	if !c.wanted(other) {
		t.Error("it is not wanted yet")
	}
}

func TestNobodyOutsideIsWantedForWhatMayNotBeTaken(t *testing.T) {
	c := newSiteChair(t, 2, 60)
	c.k.HasAll(c.now, 0)
	c.k.Claimed(c.now, 1, []uint32{0, 1})
	if c.wanted(0) {
		t.Error("all is claimed")
	}
	c.k.Claimed(c.now, 1, []uint32{1})
	c.now += rewantTime
	if !c.wanted(0) {
		t.Error("piece 0 is free again")
	}
}

func TestFewPiecesAreUnderWayFromOutside(t *testing.T) {
	c := newSiteChair(t, 100, 60)
	c.k.HasAll(c.now, 0)
	for range siteEnough {
		c.gets(0, all(100)...)
	}
	if a := c.k.Credit(c.now, 0, -1, true); a.Get {
		t.Error("more than enough, since the giver insists")
	}
	c.has(1, all(100)...) // those count for nothing inside
	c.gets(1, all(100)...)
}

func TestClaimsAreToldAtOnceAndRenewed(t *testing.T) {
	c := newSiteChair(t, 8, 40)
	c.k.HasAll(c.now, 0)
	claims := func(want ...uint32) {
		t.Helper()
		got, tell := c.k.Claims(c.now)
		slices.Sort(got)
		slices.Sort(want)
		if !tell || !slices.Equal(got, want) {
			t.Errorf("at %v it claims %v (%v), want %v", c.now, got, tell, want)
		}
		if _, again := c.k.Claims(c.now); again {
			t.Error("twice")
		}
	}
	if _, tell := c.k.Claims(c.now); tell {
		t.Error("nothing is claimed, and told")
	}
	p := c.gets(0, all(8)...)
	claims(p)
	q := c.gets(0, all(8)...)
	claims(p, q)
	c.moves(claimEvery, 0, p, 100)
	claims(p, q)
	c.k.Verified(c.now, p)
	c.now += claimLinger - 1
	if _, tell := c.k.Claims(c.now); tell {
		t.Error("what has come is not claimed any more before others can know that it is there")
	}
	c.now += claimEvery
	claims(q)
	c.k.Failed(c.now, 0, q, FailRejected)
	c.now += claimEvery
	claims()
}

func TestOfTwoWhoHaveBegunThatWhichRanksLowerGivesUp(t *testing.T) {
	for rank, lost := range map[uint64]bool{40: false, 60: true} {
		c := newSiteChair(t, 8, rank)
		c.k.HasAll(c.now, 0)
		p := c.gets(0, all(8)...)
		got := c.k.Claimed(c.now, 1, []uint32{p})
		if want := []Cancel{{0, p}}; lost && !slices.Equal(got, want) || !lost && len(got) > 0 {
			t.Errorf("the other ranks %d: %v is given up", rank, got)
		}
	}
	c := newSiteChair(t, 8, 60)
	c.k.HasAll(c.now, 0)
	p := c.gets(0, all(8)...)
	c.moves(time.Second, 0, p, 60)
	if got := c.k.Claimed(c.now, 1, []uint32{p}); len(got) > 0 {
		t.Error("half of it is here, and is thrown away")
	}
}

func TestAClaimThatIsNotRenewedHoldsForAWhile(t *testing.T) {
	c := newSiteChair(t, 1, 60)
	c.k.HasAll(c.now, 0)
	c.k.Claimed(c.now, 1, []uint32{0})
	c.waits(claimTime - time.Second)
	c.passes(0, false)
	c.waits(time.Second)
	c.gets(0, 0)
}

// One that claims, again and again, and brings nothing.
func TestWhatIsClaimedForTooLongIsTakenByOneThatHasNothingElse(t *testing.T) {
	c := newSiteChair(t, 2, 60)
	c.k.HasAll(c.now, 0)
	claim := func(span time.Duration) {
		for end := c.now + span; c.now < end; c.waits(claimEvery) {
			c.k.Claimed(c.now, 1, []uint32{0})
		}
	}
	claim(time.Second)
	c.gets(0, 1)
	c.k.Verified(c.now, 1)
	c.passes(0, false)
	claim(stealTime)
	c.gets(0, 0)
}

func TestFetchersThatDoNothingAreReplacedStepByStep(t *testing.T) {
	c := newSiteChair(t, 100, 60, 61, 62, 63, 64)
	c.k.HasAll(c.now, 0)
	c.waits(siteSilence - time.Second)
	if c.wanted(0) {
		t.Error("too soon")
	}
	c.waits(2 * time.Second) // four have lost their places, of which the fifth has got one
	if !c.wanted(0) {
		t.Error("the places of those that do nothing are free")
	}
	for n := 1; n <= 4; n++ {
		c.has(n, uint32(n))
	}
	c.waits(time.Second)
	if got := c.k.Wants(c.now); !slices.Contains(got, WantChange{0, WantNot}) {
		t.Errorf("they bring pieces again: %v", got)
	}
	for n := 1; n <= 4; n++ { // those that claim are waited for
		c.k.Claimed(c.now, n, []uint32{uint32(10 + n)})
	}
	c.waits(claimTime - time.Second)
	if c.wanted(0) {
		t.Error("they claim")
	}
}

func TestWithNothingToFetchNobodyLosesItsPlace(t *testing.T) {
	c := newSiteChair(t, 4, 60, 61, 62, 63)
	c.waits(time.Minute)
	c.k.HasAll(c.now, 0)
	c.waits(siteSilence - time.Second)
	if c.wanted(0) {
		t.Error("those that rank first have had no time to fetch")
	}
}

func TestThoseThatAreCompleteOrGoneHoldNoPlace(t *testing.T) {
	c := newSiteChair(t, 4, 60, 61, 62, 63)
	c.k.HasAll(c.now, 0)
	if c.wanted(0) {
		t.Fatal("four rank before it")
	}
	c.k.RemovePeer(c.now, 2)
	if !c.wanted(0) {
		t.Error("one of them is gone")
	}
}

// Whoever says inside to have pieces, and gives nothing, is not believed after a while; and is again, when it gives one.
func TestWhoGivesNothingInsideIsNotBelieved(t *testing.T) {
	c := newSiteChair(t, 4, 40)
	c.k.HasAll(c.now, 0)
	c.k.HasAll(c.now, 1)
	c.waits(trustTime - time.Second)
	c.passes(0, false)
	c.waits(2 * time.Second)
	p := c.gets(0, all(4)...)
	q := c.gets(1, all(4)...)
	c.moves(time.Second, 1, q, 100)
	c.k.Verified(c.now, q)
	c.k.Failed(c.now, 0, p, FailRejected)
	c.passes(0, false)
}

func TestWhoStallsInsideIsNotBelieved(t *testing.T) {
	c := newSiteChair(t, 2, 40)
	c.k.HasAll(c.now, 0)
	c.k.HasAll(c.now, 1)
	c.gets(1, 0, 1)
	c.waits(stallTime)
	c.gets(0, 0, 1)
}

// A few bytes now and then, of all that is missing, from one inside: it is fetched from outside beside that.
func TestOneThatDripsInsideHoldsNobodyUp(t *testing.T) {
	c := newSiteChair(t, 1, 40)
	c.k.HasAll(c.now, 0)
	c.k.HasAll(c.now, 1)
	c.gets(1, 0)
	for range 7 {
		c.waits(2 * time.Second)
		c.k.Received(c.now, 1, 0, 1)
	}
	if a := c.k.Credit(c.now, 0, -1, false); !a.Get || !a.Duplicate {
		t.Errorf("%+v", a)
	}
}

func TestWhoIsAloneInItsSiteFetchesAsIfThereWereNone(t *testing.T) {
	c := newSiteChair(t, 100)
	c.k.HasAll(c.now, 0)
	c.k.Wants(c.now)
	for range enough {
		c.gets(0, all(100)...)
	}
	c.passes(0, true)
}

// What is counted step by step is what counting anew gives.
func TestWhatIsKnownOfASiteIsWhatItsPeersHave(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const pieces = 70
		k := NewTaker(TakerConfig{
			Pieces: pieces, PieceLen: func(uint32) int64 { return 100 }, Have: func(uint32) bool { return false }, Rand: rand.New(rand.NewPCG(1, 2)),
			Site: true, Rank: 50,
		})
		now := time.Duration(0)
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			n := rapid.IntRange(0, 5).Draw(t, "peer")
			p := uint32(rapid.IntRange(0, pieces-1).Draw(t, "piece"))
			now += time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond
			switch rapid.IntRange(0, 11).Draw(t, "what") {
			case 10:
				k.Begun(now, n, p)
			case 11:
				k.Failed(now, n, p, FailRejected)
			case 0:
				if k.peer(n) == nil {
					if k.AddPeer(n, n); n > 1 {
						k.SetInside(now, n, uint64(20*n))
					}
				}
			case 1, 2:
				k.Has(now, n, p)
			case 3:
				k.HasAll(now, n)
			case 4:
				k.Reset(now, n)
			case 5:
				k.RemovePeer(now, n)
			case 6:
				k.Claimed(now, n, []uint32{p, p + 1, p})
			case 7:
				if a := k.Credit(now, n, int64(p), true); a.Get && rapid.Bool().Draw(t, "comes") {
					k.Received(now, n, a.Piece, 100)
					k.Verified(now, a.Piece)
				}
			case 8:
				k.Tick(now)
			case 9:
				k.Wants(now)
				k.Claims(now)
			}
			checkSite(t, k, pieces)
		}
	})
}

func checkSite(t *rapid.T, k *Taker, pieces uint32) {
	level, all, outsiders := make([]uint16, pieces), 0, 0
	claims := make(map[uint32]int)
	inside := 0
	for _, g := range k.peers {
		if g == nil || g.inside == nil {
			continue
		}
		inside++
		for _, p := range g.inside.claims {
			claims[p]++
		}
		switch {
		case g.inside.doubted:
		case g.all:
			all++
		default:
			for p := range pieces {
				if g.has.has(p) {
					level[p]++
				}
			}
		}
	}
	for _, f := range k.flights {
		if k.peers[f.peer].inside == nil {
			outsiders++
		}
	}
	s := k.site
	if fmt.Sprint(level) != fmt.Sprint(s.level) || all != s.all || outsiders != k.outsiders || inside != len(s.order) || len(claims) != len(s.claims) {
		t.Fatalf("level %v, want %v; all %d, want %d; outside %d, want %d; claims %v, want %v", s.level, level, s.all, all, k.outsiders, outsiders,
			s.claims, claims)
	}
	for p := range pieces {
		if s.lacking.has(p) != (level[p] == 0) || s.claims[p].by != claims[p] {
			t.Fatalf("piece %d: lacking %v, %d have it, %+v, want %d claims", p, s.lacking.has(p), level[p], s.claims[p], claims[p])
		}
	}
	if !slices.IsSortedFunc(s.order, func(a, b int) int { return int(k.peers[b].inside.rank) - int(k.peers[a].inside.rank) }) {
		t.Fatalf("order %v", s.order)
	}
}
