package schedule

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever is charged and given back, and whenever it is asked: no span has more than its rate, a burst and the last piece; and who asks all
// the time gets all of the rate.
func TestALimitHoldsOverAnySpan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(1, 1<<34).Draw(t, "rate")
		piece := rapid.Int64Range(1, 64<<20).Draw(t, "piece")
		pieces := rapid.IntRange(1, 6).Draw(t, "pieces")
		l := NewLimit(pieces)
		l.Piece(piece)
		now := time.Duration(0)
		l.Set(now, rate, 0)
		type charge struct {
			at    time.Duration
			bytes int64
		}
		var all []charge
		burst := max(int64(pieces)*piece, rate/4)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "wait"))
			if l.left > burst {
				t.Fatalf("%d are left of a burst of %d", l.left, burst)
			}
			for l.Allows(now) {
				size := rapid.Int64Range(1, piece).Draw(t, "size")
				l.Charge(size)
				back := rapid.SampledFrom([]int64{0, 0, size / 2, size}).Draw(t, "back")
				l.Refund(back)
				all = append(all, charge{now, size - back})
				if len(all) > 2000 {
					break
				}
			}
		}
		for i := range all {
			sum := 0.0
			for j := i; j < len(all); j++ {
				sum += float64(all[j].bytes)
				span := (all[j].at - all[i].at).Seconds()
				if most := float64(rate)*span + float64(burst+piece) + 1; sum > most {
					t.Fatalf("%.0f bytes in %.3f s at %d/s, want at most %.0f", sum, span, rate, most)
				}
			}
		}
	})
}

func TestALimitLosesNothingToFractions(t *testing.T) {
	l := NewLimit(1)
	l.Piece(10)
	l.Set(0, 1000, 0)
	moved := int64(0)
	for now := time.Duration(0); now <= 10*time.Second; now += 77 * time.Microsecond { // less than a byte each time
		for l.Allows(now) {
			l.Charge(10)
			moved += 10
		}
	}
	if moved < 10_000 || moved > 10_000+250+10 {
		t.Errorf("%d bytes in 10 s at 1000/s", moved)
	}
}

func TestALimitThatIsSetLaterCountsWhatIsUnderWay(t *testing.T) {
	l := NewLimit(2)
	l.Piece(100)
	if l.Charge(1 << 40); !l.Allows(0) {
		t.Fatal("no limit, and it forbids")
	}
	l.Set(time.Second, 100, 500) // of 200: three seconds too much
	if l.Allows(4 * time.Second) {
		t.Error("what is under way does not count")
	}
	if !l.Allows(4*time.Second + 10*time.Millisecond) {
		t.Error("it never allows anything again")
	}
	if l.Set(5*time.Second, 0, 0); !l.Allows(5 * time.Second) {
		t.Error("a limit that was taken away forbids")
	}
	var none *Limit
	none.Charge(5)
	if none.Refund(5); !none.Allows(0) || none.cap(7) != 7 {
		t.Error("no limit at all forbids")
	}
}

// A limited giver's leechers answer at once and take what they are sent at once: it promises no faster than it may, no credit expires, the two
// have the same, nobody is slow, and no further promises are tried.
func TestALimitedGiverPromisesNoFasterThanItMay(t *testing.T) {
	for _, rate := range []int64{testPiece / 4, testPiece, 40 * testPiece} {
		d := newDesk(t, false, 1000, 0, 1)
		d.g.SetLimit(0, rate)
		d.wants(0, 1)
		given := make(map[int]int64)
		const step, end = 10 * time.Millisecond, 60 * time.Second
		moved := int64(0)
		for ; d.now < end; d.now += step {
			d.g.Sample(d.now, moved)
			for _, gr := range d.g.Plan(d.now) {
				if d.g.patience != minPatience || d.g.tries > 0 {
					t.Fatalf("at %v more promises are tried: the limit is taken for slow leechers", d.now)
				}
				d.gets(gr, 1, OK)
				d.g.Progress(d.now, gr.Peer, gr.Credit, testPiece)
				d.g.Ended(d.now, gr.Peer, gr.Credit, true)
				d.g.HasNow(0, gr.Peer, 1)
				given[gr.Peer] += testPiece
				moved += testPiece
			}
			if most := freshPromises*testPiece + rate/4 + testPiece + rate*int64(d.now)/int64(time.Second); moved > most {
				t.Fatalf("%d bytes by %v at %d/s, want at most %d", moved, d.now, rate, most)
			}
			for n, l := range d.g.peers {
				if l.slow || l.streak > 0 {
					t.Fatalf("at %v leecher %d is slow (%v), or let %d credits expire", d.now, n, l.slow, l.streak)
				}
			}
			if d.g.uplink > float64(rate) {
				t.Fatalf("the uplink is taken for %.0f/s, the limit is %d", d.g.uplink, rate)
			}
		}
		if least := rate * int64(end/time.Second) * 98 / 100; moved < least {
			t.Errorf("only %d bytes at %d/s, want %d", moved, rate, least)
		}
		if d := given[0] - given[1]; d < -testPiece || d > testPiece {
			t.Errorf("the two have %v", given)
		}
	}
}

// Pieces of 1 MiB at 128 KiB/s take 8 s each, four at once 32 s: the promises stand, and that is no reason for others.
func TestALimitedGiverThatSendsEvenlyTriesNoFurtherPromises(t *testing.T) {
	d := newDesk(t, false, 1000, 0, 1, 2, 3, 4, 5, 6, 7)
	d.g.SetLimit(0, 128<<10)
	d.wants(0, 1, 2, 3, 4, 5, 6, 7)
	gs := d.g.Plan(d.now)
	for _, gr := range gs {
		d.gets(gr, 1, OK)
	}
	for range 100 {
		d.moves(300*time.Millisecond, 128<<10/int64(len(gs)), gs...)
		d.gives()
		for n, l := range d.g.peers {
			if l.slow {
				t.Fatalf("at %v leecher %d counts as slow", d.now, n)
			}
		}
	}
}

func TestALimitThatIsLoweredHoldsAtOnce(t *testing.T) {
	d := newDesk(t, false, 1000, 0, 1, 2, 3)
	d.wants(0, 1, 2, 3)
	gs := d.gives(0, 1, 2, 3)
	for _, gr := range gs {
		d.gets(gr, 1, OK)
	}
	d.moves(time.Second, 100<<10, gs...)
	d.g.SetLimit(d.now, testPiece)
	for _, gr := range gs {
		d.ends(gr, true)
	}
	if got := len(d.g.Plan(d.now)); got == 0 || got > freshPromises {
		t.Errorf("%d promises at once", got)
	}
	d.wait(10 * time.Second)
	if n := len(d.g.Plan(d.now)); n > freshPromises {
		t.Errorf("%d promises at once", n)
	}
	d.g.SetLimit(d.now, 0)
	if d.g.uplink == 0 {
		t.Error("what was measured is forgotten")
	}
}

// What is not used is given back: an expired or passed credit costs nothing of the limit.
func TestWhatIsNotUsedIsNotCharged(t *testing.T) {
	d := newDesk(t, false, 1000, 0, 1, 2, 3, 4, 5)
	d.g.SetLimit(0, testPiece)
	for range 20 {
		d.wants(0, 1, 2, 3, 4, 5)
		gs := d.gives(0, 1, 2, 3)
		for _, gr := range gs {
			d.g.Pass(d.now, gr.Peer, gr.Credit, false)
			d.g.who[gr.Peer].served, d.g.who[gr.Peer].empty = int64(gr.Peer)-1000, 0
		}
		for n := range 6 {
			d.g.Want(d.now, n, 0, WantNot)
		}
	}
	if d.g.limit.left != freshPromises*testPiece {
		t.Errorf("%d bytes are left, want all %d", d.g.limit.left, freshPromises*testPiece)
	}
}

// Two contents share one limit of downloads: together they ask for no more than it gives, and for all of that.
func TestALimitedTakerAsksForNoMoreThanItMay(t *testing.T) {
	limit := NewLimit(1)
	limit.Set(0, 1000, 0) // ten pieces a second
	limited := func(cfg *TakerConfig) { cfg.Limit = limit }
	chairs := []*chair{newChair(t, 1000, 2, limited), newChair(t, 1000, 2, limited)}
	asked, passes, turn := int64(0), 0, 0
	for _, c := range chairs {
		c.k.HasAll(0, 0)
		c.k.HasAll(0, 1)
	}
	const end = 20 * time.Second
	for now := time.Duration(0); now < end; now += 10 * time.Millisecond {
		for i := range chairs {
			c := chairs[(i+turn)%2]
			c.now = now
			for _, w := range c.k.Wants(now) {
				c.told[w.Peer] = w.Want
			}
			for n := range 2 {
				if c.told[n] == WantNot {
					continue
				}
				a := c.k.Credit(now, n, -1, true)
				if !a.Get {
					c.told[n] = WantNot
					passes++
					continue
				}
				asked += 100
				turn++ // a giver serves the content next that was served longest ago
				c.k.Received(now, n, a.Piece, 100)
				c.k.Verified(now, a.Piece)
			}
		}
		if most := 250 + 100 + 1000*int64(now)/int64(time.Second); asked > most {
			t.Fatalf("%d bytes are asked for by %v, want at most %d", asked, now, most)
		}
	}
	if asked < 19_000 {
		t.Errorf("%d bytes are asked for in 20 s at 1000/s", asked)
	}
	if passes > 25*2*2*int(end/time.Second) { // each is looked at again after aheadTime
		t.Errorf("%d passes", passes)
	}
	if left := chairs[0].k.Missing(); left > 920 || left < 880 {
		t.Errorf("one content lacks %d of 1000 still: they do not share", left)
	}
}

// What a neighbour did not send is asked of others without being charged again.
func TestARequestThatBringsNothingIsNotCharged(t *testing.T) {
	limit := NewLimit(1)
	c := newChair(t, 10, 2, func(cfg *TakerConfig) { cfg.Limit = limit })
	limit.Set(0, 100, 0)
	c.has(0, 0)
	c.gets(0, 0)
	c.moves(0, 0, 0, 40)
	c.k.Failed(c.now, 0, 0, FailRejected)
	if limit.left != 60 {
		t.Errorf("%d bytes are left of 100, of which 40 have come", limit.left)
	}
}

// A limited taker wants few at a time: most of many credits would be passed. The others are wanted for later.
func TestALimitedTakerWantsFewAtATime(t *testing.T) {
	limit := NewLimit(1)
	limit.Set(0, 1000, 0)
	c := newChair(t, 1000, 40, func(cfg *TakerConfig) { cfg.Limit = limit })
	for n := range 40 {
		c.k.HasAll(0, n)
	}
	count := make(map[Want]int)
	for _, w := range c.k.Wants(0) {
		c.told[w.Peer] = w.Want
	}
	for n := range 40 {
		count[c.told[n]]++
	}
	if count[WantNow] < enough || count[WantNow] > 2*enough {
		t.Errorf("of 40 givers %d are wanted now", count[WantNow])
	}
}

// A burst that came at ten times the limit makes nobody ask for more ahead than the limit brings.
func TestWhatIsAskedForAheadGoesByTheLimit(t *testing.T) {
	limit := NewLimit(100)
	c := newChair(t, 1000, 1, func(cfg *TakerConfig) { cfg.Limit = limit })
	limit.Set(0, 1000, 0)
	c.k.HasAll(0, 0)
	c.k.SetRTT(0, 460*time.Millisecond)
	a := c.k.Credit(0, 0, -1, false)
	for range 10 {
		c.k.Tick(c.now)
		c.moves(50*time.Millisecond, 0, a.Piece, 500) // bytes of others count too
	}
	c.k.Tick(c.now)
	if got := c.k.hungry(c.now); got != enough+5 { // what was asked for is all there
		t.Errorf("it wants %d more pieces", got)
	}
}
