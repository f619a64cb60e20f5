package schedule

import (
	"testing"
	"time"
)

// Each identity has a limit of its own, which its neighbours share, and who comes later has it as well. Without limits it is as before.
func TestAGiverPromisesNoIdentityMoreThanItMay(t *testing.T) {
	const rate, step, end = 2 * testPiece, 10 * time.Millisecond, 30 * time.Second
	d := newDesk(t, false, 1000, 0, 1, 1)
	d.g.SetPeerLimit(0, rate)
	d.g.AddPeer(3, 2)
	d.wants(0, 1, 2, 3)
	given := make(map[int]int64)
	identity := []int{0, 1, 1, 2}
	moved := int64(0)
	for ; d.now < end; d.now += step {
		d.g.Sample(d.now, moved)
		for _, gr := range d.g.Plan(d.now) {
			d.gets(gr, 1, OK)
			d.g.Progress(d.now, gr.Peer, gr.Credit, testPiece)
			d.ends(gr, true)
			d.g.HasNow(0, gr.Peer, 1)
			given[identity[gr.Peer]] += testPiece
			moved += testPiece
		}
		for who, n := range given {
			if most := perLeecher*testPiece + testPiece + rate*int64(d.now)/int64(time.Second); n > most {
				t.Fatalf("identity %d was promised %d bytes by %v, want at most %d", who, n, d.now, most)
			}
		}
	}
	for who := range 3 {
		if given[who] < rate*29 {
			t.Errorf("identity %d was promised %d bytes in %v", who, given[who], end)
		}
	}
	d.g.SetPeerLimit(d.now, 0)
	if n := len(d.g.Plan(d.now)); n == 0 {
		t.Error("a limit that was taken away forbids")
	}
}

// A promise that is not used is given back to the identity.
func TestWhatIsPassedDoesNotCountForAPeersLimit(t *testing.T) {
	d := newDesk(t, false, 100, 0)
	d.g.SetPeerLimit(0, 1) // a byte a second: what was charged does not come back by itself
	for range 4 {
		d.wants(0)
		for _, gr := range d.gives(0, 0) {
			d.g.Pass(d.now, gr.Peer, gr.Credit, false)
		}
		d.wait(10 * time.Millisecond)
	}
}

// What one neighbour is asked for is limited, over all contents; the others are asked as before, and it is wanted again in time.
func TestATakerAsksNoNeighbourForMoreThanItMay(t *testing.T) {
	c := newChair(t, 1000, 2, nil)
	limit := NewLimit(1)
	limit.Set(0, 1000, 0) // ten pieces a second; a burst has 250 bytes
	c.k.SetPeerLimit(0, limit)
	other := newChair(t, 1000, 1, nil)
	other.k.SetPeerLimit(0, limit)
	c.k.HasAll(0, 0)
	c.k.HasAll(0, 1)
	other.k.HasAll(0, 0)
	asked := 0
	for c.now = 0; c.now < 10*time.Second; c.now += 10 * time.Millisecond {
		for _, from := range []*chair{c, other} {
			from.now = c.now
			if a := from.k.Credit(c.now, 0, -1, true); a.Get {
				asked++
				from.k.Received(c.now, 0, a.Piece, 100)
				from.k.Verified(c.now, a.Piece)
			}
			for _, w := range from.k.Wants(c.now) {
				from.told[w.Peer] = w.Want
			}
		}
		if most := 4 + int(10*c.now.Seconds()); asked > most {
			t.Fatalf("%d pieces by %v, want at most %d", asked, c.now, most)
		}
	}
	if asked < 95 {
		t.Errorf("%d pieces in 10 s", asked)
	}
	if a := c.k.Credit(c.now, 1, -1, true); !a.Get {
		t.Errorf("a neighbour without a limit is answered with %+v", a)
	}
	c.now += time.Second
	c.k.Tick(c.now)
	for _, w := range c.k.Wants(c.now) {
		c.told[w.Peer] = w.Want
	}
	if c.told[0] == WantNot {
		t.Error("it is not wanted again when its limit allows")
	}
}
