package schedule

import (
	"slices"
	"testing"
	"time"
)

func TestWhatHasBegunIsAskedForAndCountsAsRare(t *testing.T) {
	c := newChair(t, 4, 3, nil)
	c.has(1, 0, 1)
	c.k.Begun(c.now, 2, 0)
	c.k.Begun(c.now, 2, 3)
	c.gets(2, 3)
	c.gets(1, 1) // two have the other
	c.gets(2, 0)
}

func TestWhatDoesNotComeAfterAllIsNotAskedForAgain(t *testing.T) {
	c := newChair(t, 4, 2, nil)
	c.k.Begun(c.now, 0, 2)
	c.gets(0, 2)
	c.k.Failed(c.now, 0, 2, FailRejected)
	c.now += time.Second
	c.passes(0, false)
	c.wants()
	c.k.Begun(c.now, 0, 2) // it begins again
	c.gets(0, 2)
	c.has(0, 2)
	c.k.Failed(c.now, 0, 2, FailRejected) // what is whole may be refused, and is there
	c.now += time.Second
	c.gets(0, 2)

	c.k.Begun(c.now, 1, 1)
	c.k.Lost(1, 1)
	c.k.Lost(0, 2) // which is whole
	if c.k.peers[0].useful != 1 || c.k.peers[1].useful != 0 {
		t.Error("what is lost is believed to come, or what is there is not")
	}
	c.k.Begun(c.now, 1, 3)
	c.gets(1, 3)
	c.now += stallTime
	c.k.Tick(c.now)
	if g := c.k.peers[1]; g.hasPiece(3) || g.useful != 0 {
		t.Error("what has stalled is believed to come")
	}
}

// Two that wait for each other wait for ever.
func TestNobodyWaitsForOneWhoMayWaitForIt(t *testing.T) {
	c := newChair(t, 2, 3, nil)
	c.has(0, 0)
	c.k.Begun(c.now, 1, 0)
	c.gets(0, 0)
	c.moves(100*time.Millisecond, 0, 0, 50)
	if !c.k.PassOn(c.now, 0, 0) {
		t.Fatal("it is not passed on")
	}
	c.k.RemovePeer(c.now, 0)
	c.passes(1, false)
	if a := c.k.Credit(c.now, 1, 0, true); a.Get {
		t.Error("it is asked for since it was named")
	}
	c.has(1, 0)
	c.gets(1, 0)
	c.moves(100*time.Millisecond, 1, 0, 10) // which crawls, and is the last but for one that nobody has
	c.k.pickable.remove(1)
	c.now += 10 * time.Second
	c.k.speed = 1000
	c.k.Begun(c.now, 2, 0)
	if a := c.k.Credit(c.now, 2, -1, true); a.Get {
		t.Error("it is asked for a second time of one who waits for it")
	}
	c.has(2, 0)
	c.gets(2, 0)
}

func TestASlowPieceIsNotPassedOn(t *testing.T) {
	c := newChair(t, 40, 2, nil)
	c.k.HasAll(c.now, 0)
	c.k.HasAll(c.now, 1)
	fast := c.gets(0, all(40)...)
	slow := c.gets(1, all(40)...)
	for range 20 { // 1,600 bytes a second, of which a fair part is 400
		c.moves(50*time.Millisecond, 0, fast, 80)
		c.k.Tick(c.now)
	}
	c.k.Verified(c.now, fast)
	c.k.Received(c.now, 1, slow, 99)
	if c.k.PassOn(c.now, 1, slow) {
		t.Error("a slow one is passed on")
	}
	c.k.Received(c.now, 1, slow, 1)
	if !c.k.PassOn(c.now, 1, slow) {
		t.Error("one that is not much slower than others is not passed on")
	}
	if c.k.PassOn(c.now, 1, slow) || c.k.PassOn(c.now, 0, slow) || c.k.PassOn(c.now, 0, 39) {
		t.Error("it is told twice, or of one who does not send it")
	}
}

func TestAsManyAreBelievedToComeAsOneHasUseFor(t *testing.T) {
	c := newChair(t, maxBegun+10, 1, nil)
	for p := range uint32(maxBegun + 10) {
		c.k.Begun(c.now, 0, p)
	}
	if g := c.k.peers[0]; g.useful != maxBegun || g.coming != maxBegun {
		t.Errorf("%d are", g.useful)
	}
	c.has(0, all(maxBegun+10)...)
	if g := c.k.peers[0]; g.useful != maxBegun+10 || g.coming != 0 {
		t.Errorf("%d are there, and %d to come", g.useful, g.coming)
	}
	if got := slices.Max(c.k.pickable.level); got != 1 {
		t.Errorf("counted %d times", got)
	}
}

// Who passes on what has stalled before it came to it has done nothing wrong. Who says again and again that something comes, and it never does, has.
func TestWhoPassesOnWhatStalledIsNotLeftAlone(t *testing.T) {
	c := newChair(t, 10, 2, nil)
	for i := range uint32(maxLost + 2) {
		c.k.Begun(c.now, 0, i)
		c.gets(0, i)
		c.moves(100*time.Millisecond, 0, i, 10)
		c.now += stallTime
		if stalled := c.k.Tick(c.now); len(stalled) != 1 {
			t.Fatalf("%v have stalled", stalled)
		}
		if paused := c.k.peers[0].paused > c.now; paused != (i >= maxLost) {
			t.Errorf("after %d times it is left alone: %v", i+1, paused)
		}
		c.now += time.Second
	}
	c.has(0, 9)
	c.gets(0, 9)
	c.now += stallTime
	if c.k.Tick(c.now); c.k.peers[0].paused < c.now+stallPause {
		t.Error("who stalls with what it has is not left alone")
	}
}

// While one sends us something, what it waits for itself is borne.
func TestWhatIsWaitedForDoesNotStallWhileItsGiverSends(t *testing.T) {
	c := newChair(t, 10, 1, nil)
	c.k.Begun(c.now, 0, 1)
	c.gets(0, 1)
	c.has(0, 2)
	c.gets(0, 2)
	for range 10 {
		c.moves(stallTime/2, 0, 2, 1)
		if stalled := c.k.Tick(c.now); len(stalled) > 0 {
			t.Fatalf("%v have stalled", stalled)
		}
	}
	c.now += stallTime
	if stalled := c.k.Tick(c.now); len(stalled) != 2 {
		t.Errorf("%v have stalled", stalled)
	}
}

// Who waits for a part longer than passTime could take us for one who has stalled.
func TestWhatComesAPartInSecondsIsNotPassedOn(t *testing.T) {
	c := newChair(t, 10, 1, func(cfg *TakerConfig) { cfg.PartLen = 50 })
	c.k.HasAll(c.now, 0)
	p := c.gets(0, all(10)...)
	c.moves(2*time.Second, 0, p, 50)
	if c.k.PassOn(c.now, 0, p) {
		t.Error("it is passed on, at 25 bytes a second")
	}
	c.k.Received(c.now, 0, p, 50)
	if !c.k.PassOn(c.now, 0, p) {
		t.Error("it is not passed on, at a part a second")
	}
}

// What could not be waited for can be asked for as soon as it is whole.
func TestWhatIsWholeIsWantedAtOnce(t *testing.T) {
	c := newChair(t, 1, 2, nil)
	c.has(0, 0)
	c.gets(0, 0)
	c.moves(10*time.Millisecond, 0, 0, 50)
	c.k.PassOn(c.now, 0, 0)
	c.k.Failed(c.now, 0, 0, FailRejected)
	c.k.Begun(c.now, 1, 0)
	c.passes(1, false)
	c.k.Wants(c.now)
	c.has(1, 0)
	if got := c.k.Wants(c.now); !slices.Contains(got, WantChange{1, WantNow}) {
		t.Errorf("told %v", got)
	}
}
