package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// chair drives a Taker in words. Its content has pieces of 100 bytes, and its neighbours have sent some before.
type chair struct {
	t    *testing.T
	k    *Taker
	now  time.Duration
	told map[int]Want
}

func newChair(t *testing.T, pieces uint32, neighbours int, change func(*TakerConfig)) *chair {
	cfg := TakerConfig{
		Pieces: pieces, PieceLen: func(uint32) int64 { return 100 }, Have: func(uint32) bool { return false }, Rand: rand.New(rand.NewPCG(1, 2)),
	}
	if change != nil {
		change(&cfg)
	}
	c := &chair{t: t, k: NewTaker(cfg), told: make(map[int]Want)}
	for n := range neighbours {
		c.k.AddPeer(n, n)
		c.k.peers[n].proven = true
	}
	return c
}

func (c *chair) has(n int, pieces ...uint32) {
	for _, p := range pieces {
		c.k.Has(c.now, n, p)
	}
}

// wants expects these neighbours to be told, and no others.
func (c *chair) wants(want ...WantChange) {
	c.t.Helper()
	got := c.k.Wants(c.now)
	slices.SortFunc(got, func(a, b WantChange) int { return a.Peer - b.Peer })
	if !slices.Equal(got, want) {
		c.t.Fatalf("at %v told %v, want %v", c.now, got, want)
	}
}

// gets expects a credit of a neighbour to be used for one of these pieces.
func (c *chair) gets(n int, oneOf ...uint32) uint32 {
	c.t.Helper()
	a := c.k.Credit(c.now, n, -1, false)
	if !a.Get || !slices.Contains(oneOf, a.Piece) {
		c.t.Fatalf("a credit of %d is answered with %+v, want one of %v", n, a, oneOf)
	}
	return a.Piece
}

func (c *chair) passes(n int, busy bool) {
	c.t.Helper()
	if a := c.k.Credit(c.now, n, -1, false); a.Get || a.Busy != busy {
		c.t.Fatalf("a credit of %d is answered with %+v", n, a)
	}
}

func (c *chair) moves(span time.Duration, n int, piece uint32, bytes int64) {
	c.now += span
	c.k.Received(c.now, n, piece, bytes)
}

func TestTheRarestPieceIsTaken(t *testing.T) {
	c := newChair(t, 4, 3, nil)
	c.has(0, 0, 1, 2, 3)
	c.has(1, 0, 1, 2)
	c.has(2, 0, 1)
	c.gets(0, 3)
	c.gets(0, 2)
	c.gets(0, 0, 1)
}

func TestANamedPieceIsTakenIfItIsMissing(t *testing.T) {
	c := newChair(t, 8, 1, nil)
	c.k.HasAll(c.now, 0)
	if a := c.k.Credit(c.now, 0, 5, false); !a.Get || a.Piece != 5 {
		t.Fatalf("%+v", a)
	}
	if a := c.k.Credit(c.now, 0, 5, false); !a.Get || a.Piece == 5 {
		t.Fatalf("the named piece was on its way, and the answer is %+v", a)
	}
}

func TestOneIsWantedAsLongAsItHasSomethingThatIsMissing(t *testing.T) {
	c := newChair(t, 2, 2, nil)
	c.wants()
	c.has(0, 0)
	c.wants(WantChange{0, WantNow})
	c.wants()
	c.gets(0, 0)
	c.passes(0, false)
	c.wants()
	c.has(0, 1)
	c.wants(WantChange{0, WantNow})
	c.k.Verified(c.now, 0)
	c.gets(0, 1)
	c.k.Verified(c.now, 1)
	c.wants(WantChange{0, WantNot})
}

func TestWhenEnoughIsComingCreditsArePassedForNow(t *testing.T) {
	c := newChair(t, 100, 8, nil)
	for n := range 8 {
		c.k.HasAll(c.now, n)
	}
	c.k.Wants(c.now)
	for n := range enough {
		c.gets(n, all(100)...)
	}
	c.passes(enough, true)
	if a := c.k.Credit(c.now, enough+1, -1, true); !a.Get {
		t.Fatal("one that insists is passed")
	}
	c.wants() // the pass has said so
	for f := range 2 {
		c.k.Verified(c.now, c.k.flights[f].piece)
	}
	c.wants(WantChange{enough, WantNow})
}

func TestPiecesThatDoNotMoveDoNotCount(t *testing.T) {
	c := newChair(t, 100, enough+1, nil)
	for n := range enough + 1 {
		c.k.HasAll(c.now, n)
	}
	c.k.Wants(c.now)
	for n := range enough {
		c.gets(n, all(100)...)
	}
	c.passes(enough, true)
	c.now += idleTime
	c.gets(enough, all(100)...)
}

// Four pieces from slow givers are not enough for one who could have faster ones.
func TestPiecesThatComeSlowlyCountLess(t *testing.T) {
	for _, tc := range []struct {
		bytes int64 // of each of four pieces, in half a second
		more  int   // how many more are asked for
	}{{5, 4}, {25, 3}, {63, 0}} {
		c := newChair(t, 100, 1, nil)
		c.k.HasAll(c.now, 0)
		for range 10 { // it has seen a thousand bytes a second: half a fair part is 125
			c.k.came += 100
			c.now += 100 * time.Millisecond
			c.k.Tick(c.now)
		}
		c.k.Wants(c.now)
		var pieces []uint32
		for range enough {
			pieces = append(pieces, c.gets(0, all(100)...))
		}
		c.passes(0, true)
		c.now += 500 * time.Millisecond
		for _, p := range pieces {
			c.moves(0, 0, p, tc.bytes)
		}
		c.k.Wants(c.now)
		for range tc.more {
			c.gets(0, all(100)...)
		}
		c.passes(0, true)
	}
}

func TestAFastDownlinkWantsMoreAtOnce(t *testing.T) {
	c := newChair(t, 100, 1, nil)
	c.k.HasAll(c.now, 0)
	c.k.Wants(c.now)
	c.k.SetRTT(0, 480*time.Millisecond)
	c.gets(0, all(100)...)
	c.k.rate.add(c.now, 2000) // two thousand bytes a second: ten pieces in a round trip and a little
	for range enough + 10 - 1 {
		c.gets(0, all(100)...)
	}
	c.passes(0, true)
}

// Of neighbours that are far as much more is asked as comes while the requests are on their way: a second's worth would always be on its way else.
func TestMoreIsAskedForWhereRequestsTakeLong(t *testing.T) {
	for trip, want := range map[time.Duration]int{0: 20, time.Second: 40, time.Hour: 40} {
		c := newChair(t, 100, 1, nil)
		c.k.HasAll(c.now, 0)
		c.k.SetRTT(0, trip)
		c.k.rate.add(c.now, 2000)
		got := 0
		for ; got < 100 && !c.k.full(c.now); got++ {
			c.k.get(c.now, 0, uint32(got), false)
		}
		if got != want {
			t.Errorf("%v away, 20 pieces a second: %d pieces are under way, want %d", trip, got, want)
		}
	}
}

// Who gets little for a while goes by its best rate: else it would be content with little for ever.
func TestALeechersAppetiteIsThatOfItsBestRate(t *testing.T) {
	c := newChair(t, 100, 1, nil)
	c.k.HasAll(c.now, 0)
	c.k.SetRTT(0, 460*time.Millisecond)
	for range 10 {
		c.k.came += 100 // a thousand bytes a second, for a second
		c.now += 100 * time.Millisecond
		c.k.Tick(c.now)
	}
	c.now += 3 * time.Second // and then nothing
	c.k.Wants(c.now)
	for range enough + 5 {
		c.gets(0, all(100)...)
	}
	c.passes(0, true)
}

func TestMoreThanComesInASecondIsNotAskedFor(t *testing.T) {
	c := newChair(t, 100, 1, func(cfg *TakerConfig) { cfg.MaxInFlight = 300 })
	c.k.HasAll(c.now, 0)
	for range 3 {
		c.gets(0, all(100)...)
	}
	if a := c.k.Credit(c.now, 0, 50, true); a.Get || a.Busy {
		t.Fatalf("beyond its memory a taker answers %+v", a)
	}
	c.wants() // else who insists would be passed again and again
	c.now += 2 * aheadTime
	c.wants()
	c.k.Verified(c.now, c.k.flights[0].piece)
	c.wants(WantChange{0, WantNow})
}

// Who said that it wants nothing says so still when a credit crosses that: a giver takes a pass for later from those alone who want.
func TestWhoDoesNotWantDoesNotPassForLater(t *testing.T) {
	c := newChair(t, 100, 2, nil)
	c.k.HasAll(c.now, 0)
	c.has(1, 7)
	c.k.Wants(c.now)
	c.k.Verified(c.now, 7)
	c.wants(WantChange{1, WantNot})
	for range enough {
		c.gets(0, all(100)...)
	}
	c.passes(1, false)
	c.has(1, 8)
	if p := c.k.pickable.pos[8]; p < 0 {
		t.Skip("it is on its way")
	}
	c.wants(WantChange{1, WantLater})
}

func TestThoseWhoAreSlowDoNotKeepOutWhoIsFast(t *testing.T) {
	c := newChair(t, 100, 10, nil)
	for n := range 10 {
		c.k.HasAll(c.now, n)
	}
	c.k.Wants(c.now)
	var slow []uint32
	for i := range minInFlight {
		a := c.k.Credit(c.now, 1+i%8, -1, true)
		if !a.Get {
			t.Fatalf("%+v", a)
		}
		slow = append(slow, a.Piece)
	}
	for range 5 {
		c.now += fillTime / 4
		for i, p := range slow {
			c.k.Received(c.now, 1+i%8, p, 1)
		}
		c.k.Wants(c.now)
	}
	if a := c.k.Credit(c.now, 9, -1, true); !a.Get { // one more of those
		t.Fatalf("%+v", a)
	}
	if a := c.k.Credit(c.now, 0, -1, true); !a.Get {
		t.Fatalf("one who is fast and insists is answered %+v", a)
	}
}

func TestOneNeighbourMayNotTakeAllAndSendNothing(t *testing.T) {
	c := newChair(t, 100, 2, nil)
	c.k.HasAll(c.now, 0)
	c.k.HasAll(c.now, 1)
	c.k.Wants(c.now)
	for range 20 {
		c.now += fillTime / 5
		for range 10 {
			if a := c.k.Credit(c.now, 0, -1, true); a.Get {
				c.k.Received(c.now, 0, a.Piece, 1)
			}
		}
		for _, f := range c.k.flights {
			c.k.Received(c.now, 0, f.piece, 1)
		}
		c.k.Wants(c.now)
	}
	if n := c.k.peers[0].asked; n > (minInFlight+1)*100 {
		t.Fatalf("%d bytes are asked of one who hardly sends", n)
	}
	if a := c.k.Credit(c.now, 1, -1, true); !a.Get {
		t.Fatalf("the other is answered %+v", a)
	}
}

func TestInTheEndgameTheLastPieceIsAskedForTwiceAndTheLoserIsCancelled(t *testing.T) {
	c := newChair(t, 2, 2, nil)
	c.k.HasAll(c.now, 0)
	c.k.HasAll(c.now, 1)
	slow := c.gets(0, 0, 1)
	quick := c.gets(1, 0, 1)
	c.moves(100*time.Millisecond, 0, slow, 1)
	c.moves(0, 1, quick, 100)
	c.k.Verified(c.now, quick)
	c.moves(100*time.Millisecond, 0, slow, 1)
	a := c.k.Credit(c.now, 1, -1, false)
	if !a.Get || a.Piece != slow || !a.Duplicate {
		t.Fatalf("a quick neighbour's credit in the endgame is answered with %+v", a)
	}
	c.passes(1, false) // two copies are enough
	losers := c.k.Verified(c.now, slow)
	if !slices.Contains(losers, Cancel{0, slow}) {
		t.Fatalf("cancelled %v", losers)
	}
}

// Who promises everything and has sent nothing yet is asked for as much as an honest giver promises, and is not waited for as long.
func TestOneThatHasSentNothingYetIsTrustedWithLittle(t *testing.T) {
	c := newChair(t, 100, 2, nil)
	c.k.HasAll(c.now, 0)
	c.k.HasAll(c.now, 1)
	c.k.peers[0].proven = false
	first := c.gets(0, all(100)...)
	second := c.gets(0, all(100)...)
	c.passes(0, false)
	c.now += freshStall - 1
	if got := c.k.Tick(c.now); len(got) > 0 {
		t.Fatalf("%v stalled too soon", got)
	}
	c.moves(0, 0, second, 1)
	c.now++
	if got := c.k.Tick(c.now); !slices.Equal(got, []Cancel{{0, first}}) {
		t.Fatalf("stalled: %v", got)
	}
	c.now += stallPause
	c.moves(0, 0, second, 99)
	c.k.Verified(c.now, second)
	for range 3 {
		c.gets(0, all(100)...)
	}
}

// Who promises the last piece and refuses it, faster than anybody sends it, does not keep it from who would.
func TestWhoRefusesIsLeftAlone(t *testing.T) {
	c := newChair(t, 1, 2, nil)
	c.k.HasAll(c.now, 0)
	c.k.HasAll(c.now, 1)
	asked := 0
	for range 1000 { // a second
		if a := c.k.Credit(c.now, 0, -1, true); a.Get {
			asked++
			c.k.Failed(c.now, 0, 0, FailRejected)
		}
		c.now += time.Millisecond
	}
	if asked > 8 {
		t.Errorf("it was asked %d times in a second", asked)
	}
	c.gets(1, 0)
	c.k.Failed(c.now, 1, 0, FailOurs)
	c.gets(1, 0)
}

// Two that send a byte a second each do not keep the last piece from who would send it at once.
func TestCopiesThatCrawlGiveWayInTheEndgame(t *testing.T) {
	c := newChair(t, 2, 4, nil)
	for n := range 4 {
		c.k.HasAll(c.now, n)
	}
	last := c.gets(0, 0, 1)
	quick := c.gets(2, 0, 1)
	c.moves(50*time.Millisecond, 2, quick, 100)
	c.k.Verified(c.now, quick)
	c.moves(50*time.Millisecond, 0, last, 1)
	if a := c.k.Credit(c.now, 1, -1, true); !a.Get || a.Piece != last {
		t.Fatalf("a second copy: %+v", a)
	}
	c.passes(2, false) // the second has not had its time
	for range 3 {
		c.moves(crawlTime/2, 0, last, 1)
		c.moves(0, 1, last, 2)
	}
	c.gets(2, last)
	if got := c.k.Tick(c.now); !slices.Equal(got, []Cancel{{0, last}}) {
		t.Fatalf("given up: %v, want the slowest", got)
	}
	c.passes(0, false) // it would not be sooner
	c.moves(100*time.Millisecond, 2, last, 100)
	if got := c.k.Verified(c.now, last); !slices.Contains(got, Cancel{1, last}) || c.k.InFlight() != 0 {
		t.Fatalf("cancelled %v, %d bytes in flight", got, c.k.InFlight())
	}
}

func TestNothingIsAskedForTwiceWhileAnythingIsNotAskedForOnce(t *testing.T) {
	c := newChair(t, 3, 2, nil)
	c.k.HasAll(c.now, 0)
	c.has(1, 0)
	first := c.gets(0, 1, 2)
	c.gets(1, 0)
	c.now += idleTime
	c.gets(0, 3-first)
	c.moves(100*time.Millisecond, 1, 0, 100)
	c.k.Verified(c.now, 0)
	c.passes(1, false) // it has nothing else
}

func TestAStalledRequestIsGivenToOthersAndItsGiverLeftAlone(t *testing.T) {
	c := newChair(t, 1, 2, nil)
	c.k.HasAll(c.now, 0)
	c.gets(0, 0)
	c.moves(time.Second, 0, 0, 10)
	c.k.HasAll(c.now, 1)
	c.now += stallTime - 1
	if got := c.k.Tick(c.now); len(got) > 0 {
		t.Fatalf("%v stalled too soon", got)
	}
	c.now++
	if got := c.k.Tick(c.now); !slices.Equal(got, []Cancel{{0, 0}}) {
		t.Fatalf("%v stalled", got)
	}
	c.passes(0, false)
	c.gets(1, 0)
	c.k.Failed(c.now, 1, 0, FailRejected)
	c.now += stallPause
	c.gets(0, 0)
}

func TestWhatANeighbourLeavesBehindIsFreeForOthers(t *testing.T) {
	for what, leave := range map[string]func(*chair){
		"it leaves":      func(c *chair) { c.k.RemovePeer(c.now, 0) },
		"it refuses":     func(c *chair) { c.k.Failed(c.now, 0, 0, FailRejected) },
		"it sends wrong": func(c *chair) { c.k.Failed(c.now, 0, 0, FailBad); c.k.RemovePeer(c.now, 0) },
	} {
		t.Run(what, func(t *testing.T) {
			c := newChair(t, 1, 2, nil)
			c.k.HasAll(c.now, 0)
			c.k.HasAll(c.now, 1)
			c.gets(0, 0)
			c.passes(1, false)
			leave(c)
			c.gets(1, 0)
		})
	}
}

func TestInOrderPiecesAreTakenNearTheFirstThatIsMissing(t *testing.T) {
	c := newChair(t, 1000, 1, func(cfg *TakerConfig) { cfg.Sequential = true })
	c.k.HasAll(c.now, 0)
	for p := range uint32(enough) {
		c.gets(0, p)
	}
	c.k.Verified(c.now, 3)
	c.gets(0, enough)
}

func TestWhoHasFewOfTheRarestIsStillUsed(t *testing.T) {
	c := newChair(t, 100_000, 2, nil)
	for p := range uint32(99_990) {
		c.k.Has(c.now, 0, p)
		c.k.Has(c.now, 1, p)
	}
	c.k.AddPeer(2, 2)
	c.has(2, 77, 50_000)
	c.gets(2, 77, 50_000)
	c.gets(2, 77, 50_000)
}

func all(n uint32) (out []uint32) {
	for p := range n {
		out = append(out, p)
	}
	return out
}

// Whatever happens, what a taker has counted is what a recount finds.
func TestATakersCountsAreWhatARecountFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const pieces, peers = 70, 4
		k := NewTaker(TakerConfig{
			Pieces: pieces, PieceLen: func(uint32) int64 { return 100 }, Have: func(p uint32) bool { return p%9 == 0 },
			Rand: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), Sequential: rapid.Bool().Draw(t, "sequential"),
		})
		var now time.Duration
		asked := make(map[string]bool)
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			n, p := rapid.IntRange(0, peers-1).Draw(t, "peer"), rapid.Uint32Range(0, pieces+1).Draw(t, "piece")
			key := fmt.Sprint(n, " ", p)
			switch rapid.IntRange(0, 13).Draw(t, "what") {
			case 11:
				k.Begun(now, n, p)
			case 13:
				k.Lost(n, p)
			case 12:
				k.PassOn(now, n, p)
			case 0:
				if k.peer(n) == nil {
					k.AddPeer(n, n)
				}
			case 1:
				k.RemovePeer(now, n)
			case 2, 3, 4:
				k.Has(now, n, p)
			case 5:
				k.HasAll(now, n)
			case 6:
				k.Reset(now, n)
			case 7:
				if a := k.Credit(now, n, int64(p)-1, p%2 == 0); a.Get {
					asked[fmt.Sprint(n, " ", a.Piece)] = true
				}
			case 8:
				if asked[key] {
					k.Received(now, n, p, 30)
				}
				k.Wants(now)
				k.Tick(now)
			case 9:
				if asked[key] && p < pieces {
					k.Verified(now, p)
				}
			case 10:
				now += time.Duration(p) * 10 * time.Millisecond
				k.Failed(now, n, p, FailRejected)
			}
			recount(t, k)
		}
	})
}

func recount(t *rapid.T, k *Taker) {
	left, inFlight := uint32(0), int64(0)
	flights, sure := make(map[uint32]int), make(map[uint32]int)
	for _, f := range k.flights {
		inFlight += 100 - f.got
		flights[f.piece]++
		if !f.doubted {
			sure[f.piece]++
		}
		if k.peer(f.peer) == nil || !k.missing.has(f.piece) || flights[f.piece] > maxCopies {
			t.Fatalf("a request to %d for %d is under way", f.peer, f.piece)
		}
	}
	for p := range k.cfg.Pieces {
		if k.missing.has(p) {
			left++
		}
		if (k.pickable.pos[p] >= 0) != (k.missing.has(p) && sure[p] == 0) {
			t.Fatalf("piece %d can be picked: %v; missing %v, %d under way of which nobody doubts", p, k.pickable.pos[p] >= 0, k.missing.has(p), sure[p])
		}
		level := 0
		for _, g := range k.peers {
			if g != nil && !g.all && g.has.has(p) {
				level++
			}
		}
		if int(k.pickable.level[p]) != level {
			t.Fatalf("%d have piece %d, counted %d", level, p, k.pickable.level[p])
		}
	}
	if left != k.left || inFlight != k.inFlight {
		t.Fatalf("%d pieces and %d bytes, counted %d and %d", left, inFlight, k.left, k.inFlight)
	}
	for n, g := range k.peers {
		if g == nil {
			continue
		}
		useful, own, asked := uint32(0), 0, int64(0)
		for p := range k.cfg.Pieces {
			if k.missing.has(p) && g.hasPiece(p) {
				useful++
			}
		}
		for _, f := range k.flights {
			if f.peer == n {
				own++
				asked += 100 - f.got
			}
		}
		if asked != g.asked {
			t.Fatalf("neighbour %d: %d bytes asked, counted %d", n, asked, g.asked)
		}
		coming := 0
		for p := range k.cfg.Pieces {
			if g.begins(p) {
				if coming++; g.all || !g.has.has(p) {
					t.Fatalf("neighbour %d: piece %d has begun, and is not there", n, p)
				}
			}
		}
		if coming != g.coming {
			t.Fatalf("neighbour %d: %d are coming, counted %d", n, coming, g.coming)
		}
		for _, f := range k.flights {
			if f.peer == n && f.told && !k.forwarded.has(f.piece) {
				t.Fatalf("piece %d is told, and not known to be", f.piece)
			}
		}
		if useful != g.useful || own != g.flights {
			t.Fatalf("neighbour %d: %d useful, %d under way, counted %d, %d", n, useful, own, g.useful, g.flights)
		}
	}
}

// untried makes these neighbours ones that have never sent anything.
func (c *chair) untried(peers ...int) {
	for _, n := range peers {
		c.k.peers[n].proven = false
	}
}

// Many that promise at once, and have never sent anything, are neither enough nor do they fill the downlink: who has sent some is asked as before.
func TestThoseWhoHaveSentNothingAreNotEnough(t *testing.T) {
	c := newChair(t, 100, 30, nil)
	for n := range 30 {
		c.k.HasAll(c.now, n)
	}
	for n := 1; n < 30; n++ {
		c.untried(n)
	}
	c.k.Wants(c.now)
	for n := range maxUntried / perLeecher {
		c.gets(1+n, all(100)...)
		c.gets(1+n, all(100)...)
	}
	if a := c.k.Credit(c.now, 20, -1, true); a.Get {
		t.Fatal("still more is asked of those who have sent nothing")
	}
	for range enough - untried {
		c.gets(0, all(100)...)
	}
	c.passes(0, true)
	for range minInFlight - untried - (enough - untried) {
		if a := c.k.Credit(c.now, 0, -1, true); !a.Get {
			t.Fatal("it insists, and the downlink is not full")
		}
	}
	if a := c.k.Credit(c.now, 0, -1, true); a.Get {
		t.Fatal("the downlink is full")
	}
}

// What one who has never sent anything does not send is asked of those who have, and not of another such one.
func TestWhatIsDoubtedIsAskedOfThoseWhoHaveSentSome(t *testing.T) {
	c := newChair(t, 1, 3, nil)
	for n := range 3 {
		c.k.HasAll(c.now, n)
	}
	c.untried(0, 1)
	c.gets(0, 0)
	c.now += doubtTime - 1
	c.k.Tick(c.now)
	c.passes(2, false)
	c.now++
	c.k.Tick(c.now)
	c.passes(1, false)
	c.gets(2, 0)
	c.passes(1, false)
	if gone := c.k.Verified(c.now, 0); len(gone) != 2 {
		t.Errorf("given up: %v", gone)
	}
}

// It comes in the end: nobody else is asked then.
func TestWhatComesIsNotDoubted(t *testing.T) {
	c := newChair(t, 2, 2, nil)
	c.has(0, 0)
	c.has(1, 0, 1)
	c.untried(0)
	c.gets(0, 0)
	c.now += doubtTime
	c.k.Tick(c.now)
	c.moves(0, 0, 0, 50)
	c.gets(1, 1)
	c.passes(1, false)
}

// One that goes on giving credits, though it is not wanted, is answered now and then.
func TestWhoIsNotWantedIsNotAnsweredForEver(t *testing.T) {
	c := newChair(t, 2, 2, nil)
	c.has(1, 0)
	answers := 0
	for range 1000 {
		if a := c.k.Credit(c.now, 0, -1, true); !a.Silent {
			answers++
		}
		c.now += time.Millisecond
	}
	if most := maxVain + int(time.Second/vainTime); answers < maxVain || answers > most {
		t.Errorf("%d of 1000 credits were answered, at most %d should be", answers, most)
	}
	c.has(0, 1)
	c.k.Wants(c.now)
	c.gets(0, 1)
	if a := c.k.Credit(c.now, 0, -1, true); a.Silent {
		t.Error("it was of use, and is not answered")
	}
}

// A giver sends one piece after the other: while something of the first comes, the second is neither doubted nor stalled.
func TestWhatWaitsBehindAnotherPieceIsNotStalled(t *testing.T) {
	c := newChair(t, 2, 2, nil)
	c.untried(0)
	c.k.HasAll(c.now, 0)
	first := c.gets(0, 0, 1)
	c.gets(0, 1-first)
	for range 50 { // 10 s
		c.moves(200*time.Millisecond, 0, first, 1)
		if gone := c.k.Tick(c.now); len(gone) > 0 || c.k.doubts > 0 {
			t.Fatalf("after %v given up: %v, doubted: %d", c.now, gone, c.k.doubts)
		}
	}
	for range 50 { // and then something of another content
		c.now += 200 * time.Millisecond
		c.k.Behind(c.now, 0)
	}
	c.k.Tick(c.now)
	if _, n := c.k.copies(1 - first); n != 1 {
		t.Fatal("it waits behind another content, and is given up")
	}
	c.now += freshStall
	if gone := c.k.Tick(c.now); len(gone) != 1 || gone[0].Piece != 1-first {
		t.Errorf("it has stopped, and given up is %v", gone)
	}
}

// Who has sent pieces and crawls now, or is not asked for a while, keeps the last piece from nobody.
func TestALastPieceThatCrawlsIsAskedOfWhoeverHasIt(t *testing.T) {
	for name, change := range map[string]func(c *chair){
		"it has sent some":                            func(*chair) {},
		"it has not, and one who has is not asked":    func(c *chair) { c.untried(0); c.k.HasAll(c.now, 2); c.k.peers[2].paused = time.Hour },
		"it has not, and nobody who has, has a piece": func(c *chair) { c.untried(0) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newChair(t, 1, 3, nil)
			c.k.speed = 1000
			c.k.HasAll(c.now, 0)
			c.k.HasAll(c.now, 1)
			c.untried(1)
			change(c)
			c.gets(0, 0)
			for c.now < stallTime+2*time.Second {
				c.moves(time.Second, 0, 0, 1)
				c.k.Tick(c.now)
				c.k.Wants(c.now)
				if a := c.k.Credit(c.now, 1, -1, true); a.Get {
					return
				}
			}
			t.Error("who has it and would send it was never asked")
		})
	}
}

// A neighbour that answers late on purpose is not waited for longer.
func TestAFarNeighbourIsDoubtedInTime(t *testing.T) {
	c := newChair(t, 1, 2, nil)
	c.k.HasAll(c.now, 0)
	c.k.HasAll(c.now, 1)
	c.untried(0)
	c.k.SetRTT(0, time.Hour)
	c.gets(0, 0)
	c.now += doubtTime + 2*maxTrip
	c.k.Tick(c.now)
	c.gets(1, 0)
}

// What is on its way from a far one when it is told that it is not wanted is answered, all of it.
func TestCreditsThatCrossAreAnswered(t *testing.T) {
	c := newChair(t, 4, 1, nil)
	c.has(0, 0)
	c.k.SetRTT(0, 250*time.Millisecond)
	piece := c.gets(0, 0)
	for range 4 {
		c.k.Received(c.now, 0, piece, 25)
		c.now += 10 * time.Millisecond
	}
	c.k.peers[0].rate.add(c.now, 20_000) // 200 pieces a second
	c.k.Verified(c.now, piece)
	for range 50 {
		if a := c.k.Credit(c.now, 0, -1, false); a.Get || a.Silent {
			t.Fatalf("%+v", a)
		}
		c.now += time.Millisecond
	}
}

// Who has never sent a piece, and goes in the middle of one, is not asked for a while when it is back, the longer the more often: by its identity.
func TestWhoGoesInTheMiddleIsLeftAloneWhenItIsBack(t *testing.T) {
	for name, gone := range map[string]func(c *chair, n int, p uint32){
		"its connection ends": func(c *chair, n int, p uint32) { c.k.RemovePeer(c.now, n) },
		"its requests end before": func(c *chair, n int, p uint32) {
			c.k.Failed(c.now, n, p, FailGone)
			c.k.RemovePeer(c.now, n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChair(t, 100, 1, nil)
			c.has(0, 0, 1, 2, 3, 4, 5)
			wait := time.Duration(0)
			for times := range 7 {
				n := times + 1
				c.k.AddPeer(n, 7)
				c.k.HasAll(c.now, n)
				from := c.now
				var a Answer
				for ; c.now-from < time.Minute; c.now += 50 * time.Millisecond {
					if a = c.k.Credit(c.now, n, -1, true); a.Get {
						break
					}
				}
				if waited := c.now - from; waited != wait {
					t.Errorf("back for the %d. time it is asked after %v, want %v", times, waited, wait)
				}
				c.k.Received(c.now, n, a.Piece, 50)
				gone(c, n, a.Piece)
				wait = min(breakPause<<times, stallPause)
			}
		})
	}
}

// Who has sent a piece is asked at once when it is back, whatever it went in the middle of.
func TestWhoHasSentAPieceIsAskedWhenItIsBack(t *testing.T) {
	c := newChair(t, 100, 1, nil)
	c.has(0, 0, 1)
	c.k.AddPeer(1, 7)
	c.k.HasAll(c.now, 1)
	for back := range 3 {
		a := c.k.Credit(c.now, back+1, -1, true)
		if !a.Get {
			t.Fatalf("back for the %d. time it is answered with %+v", back, a)
		}
		if back == 0 {
			c.k.Received(c.now, 1, a.Piece, 100)
			c.k.Verified(c.now, a.Piece)
			a = c.k.Credit(c.now, 1, -1, true)
		}
		c.k.Failed(c.now, back+1, a.Piece, FailGone)
		c.k.RemovePeer(c.now, back+1)
		c.k.AddPeer(back+2, 7)
		c.k.HasAll(c.now, back+2)
	}
}

// One who has never sent a piece is asked for as many over four connections as over one.
func TestConnectionsOfOneIdentityAreAskedForNoMore(t *testing.T) {
	c := newChair(t, 100, 1, nil)
	c.has(0, 0, 1, 2, 3, 4, 5)
	asked := 0
	for n := 1; n <= 4; n++ {
		c.k.AddPeer(n, 7)
		c.k.HasAll(c.now, n)
		for range 4 {
			if c.k.Credit(c.now, n, -1, true).Get {
				asked++
			}
		}
	}
	if asked != perLeecher {
		t.Errorf("it is asked for %d pieces, want %d", asked, perLeecher)
	}
}

// A piece that ends within a moment, at the rate that it has had, does not count: the next one is asked for before the downlink has less to do.
func TestAPieceThatEndsSoonIsFollowedAtOnce(t *testing.T) {
	c := newChair(t, 100, enough+1, nil)
	for n := range enough + 1 {
		c.k.HasAll(c.now, n)
	}
	c.k.Wants(c.now)
	var first uint32
	for n := range enough {
		if p := c.gets(n, all(100)...); n == 0 {
			first = p
		}
	}
	c.moves(90*time.Millisecond, 0, first, 90) // of 100 ms
	c.passes(enough, true)
	c.now += 3 * time.Millisecond
	c.k.Wants(c.now)
	c.gets(enough, all(100)...)
	c.now += 20 * time.Millisecond // it has not ended, and counts again
	if h := c.k.hungry(c.now); h != -1 {
		t.Errorf("it wants %d more", h)
	}
}

// How long before its end a transfer is as good as over: longer where an answer takes longer, and never more than half of it.
func TestHowSoonIsSoon(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		moved       int64 // of 100 bytes in 60 ms, at the end of which it is looked
		trip        time.Duration
		after, till time.Duration // from when to when it is as good as over
	}{
		{60, 0, 92 * ms, 108 * ms},           // it ends at 100 ms
		{60, 10 * ms, 80 * ms, 120 * ms},     // two round trips
		{60, time.Second, 60 * ms, 150 * ms}, // half of it
		{49, time.Second, 0, 0},
		{100, 0, 60 * ms, 68 * ms},
	} {
		for at := 60 * ms; at < 200*ms; at += ms {
			got := (pace{0, 60 * ms, 100, c.moved}).soon(at, c.trip)
			if want := c.till > 0 && at >= c.after && at <= c.till; got != want {
				t.Errorf("%d bytes in 60 ms, %v away: at %v %v, want %v", c.moved, c.trip, at, got, want)
			}
		}
	}
	if (pace{5, 5, 100, 100}).soon(5, 0) {
		t.Error("what took no time has a rate")
	}
}

func TestWhatEndsSoonIsNoMoreThanWhatIsEnough(t *testing.T) {
	c := newChair(t, 100, 1, nil)
	c.k.HasAll(c.now, 0)
	c.k.SetRTT(0, time.Second)
	c.k.Wants(c.now)
	for n := 1; n <= 2; n++ {
		for range enough {
			c.gets(0, all(100)...)
		}
		c.now += 200 * time.Millisecond
		for _, f := range c.k.flights {
			f.got, f.last = 60, c.now
		}
	}
	if h := c.k.hungry(c.now); h != 0 {
		t.Errorf("it wants %d more", h)
	}
}

// A way that is full is no longer than it was when it was empty.
func TestSoonGoesByTheShortestRoundTrip(t *testing.T) {
	c := newChair(t, 100, 1, nil)
	for _, rtt := range []time.Duration{500 * time.Millisecond, 10 * time.Millisecond, 900 * time.Millisecond} {
		c.k.SetRTT(0, rtt)
		c.k.Tick(c.now)
	}
	if d := c.k.peers[0].distance(); d != 10*time.Millisecond {
		t.Errorf("it is %v away", d)
	}
}
