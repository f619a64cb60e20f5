package node

import (
	"testing"
	"time"

	"shoal/internal/content"
	"shoal/internal/wire"
)

// One who fills a draw with holders that cannot be reached does not hide the others: the server is asked for more, less and less often. Who is drawn
// again is not dialled sooner for it.
func TestWhoCannotBeReachedHidesNobody(t *testing.T) {
	ss := newSessions(&Member{})
	id := content.ID{1}
	var dead []wire.PeerAddr
	for n := range byte(40) {
		dead = append(dead, wire.PeerAddr{ID: wire.PeerID{n + 1}, Instance: 1, Addrs: []string{"10.0.0.1:5"}})
	}
	ss.heard(&wire.Peers{ID: id, Snapshot: true, Added: dead, Total: 100})
	past := func(d time.Duration) { ss.holders[id].drawn = ss.holders[id].drawn.Add(-d) }
	past(2 * drawEvery)
	if got := ss.thin(); len(got) > 0 {
		t.Fatalf("asked for others before any was tried: %v", got)
	}
	for _, c := range ss.holders[id].candidates { // each was dialled in vain
		c.wait, c.after = 8*minRedial, time.Now().Add(8*minRedial)
	}
	asked := 0
	for range 24 { // two minutes, a draw each time that others were asked for
		past(drawEvery + time.Millisecond)
		if len(ss.thin()) > 0 {
			asked++
			since := ss.holders[id].drawn
			ss.heard(&wire.Peers{ID: id, Snapshot: true, Added: dead, Total: 100})
			ss.holders[id].drawn = since
		}
	}
	if asked < 3 || asked > 6 {
		t.Errorf("others were asked for %d times in two minutes", asked)
	}
	for k, c := range ss.holders[id].candidates {
		if c.wait < 8*minRedial {
			t.Fatalf("%v was drawn again, and is dialled as if for the first time", k)
		}
	}
	honest := make([]wire.PeerAddr, 40)
	for n := range byte(40) {
		honest[n] = wire.PeerAddr{ID: wire.PeerID{n + 101}, Instance: 1, Addrs: []string{"10.0.0.2:5"}}
	}
	ss.heard(&wire.Peers{ID: id, Snapshot: true, Added: honest, Total: 100})
	past(time.Hour)
	if got := ss.thin(); len(got) > 0 || ss.holders[id].vain > 0 {
		t.Errorf("with others to try more are asked for: %v", got)
	}
}
