package node

import (
	"testing"

	"shoal/internal/content"
	"shoal/internal/wire"
)

func TestWhoKnowsFewOfManyHoldersAsksForOthers(t *testing.T) {
	ss := newSessions(&Member{})
	few, all := content.ID{1}, content.ID{2}
	holders := func(n int) (out []wire.PeerAddr) {
		for i := range n {
			out = append(out, wire.PeerAddr{ID: wire.PeerID{byte(i + 1)}, Instance: 1, Addrs: []string{"10.0.0.1:5"}})
		}
		return out
	}
	ss.heard(&wire.Peers{ID: few, Snapshot: true, Added: holders(fewNeighbours), Total: 100})
	ss.heard(&wire.Peers{ID: all, Snapshot: true, Added: holders(5), Total: 5})
	past := func() {
		for id := range ss.drawn {
			ss.drawn[id] = ss.drawn[id].Add(-2 * drawEvery)
		}
	}
	past()
	if got := ss.thin(); len(got) > 0 {
		t.Fatalf("%v are asked for, and none is short of holders", got)
	}
	ss.heard(&wire.Peers{ID: few, Gone: holders(1), Total: 99})
	if got := ss.thin(); len(got) != 1 || got[0] != few {
		t.Fatalf("%v are asked for, want %v", got, few)
	}
	if got := ss.thin(); len(got) > 0 {
		t.Fatalf("%v are asked for again at once", got)
	}
	past()
	if got := ss.thin(); len(got) != 1 {
		t.Fatalf("asked for later: %v", got)
	}
}
