package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/content"
	"shoal/internal/exchange"
	"shoal/internal/peer"
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
		for _, h := range ss.holders {
			h.drawn = h.drawn.Add(-2 * drawEvery)
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

// A server that lies about who is there, over and over, makes us dial seldom, nobody often, and remember little.
func TestASwarmOfGhostsIsDialledSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ss := newSessions(&Member{})
		id := content.ID{1}
		ghost := func(i int) wire.PeerAddr {
			return wire.PeerAddr{ID: wire.PeerID{1, byte(i >> 16), byte(i >> 8), byte(i)}, Instance: 1, Addrs: []string{fmt.Sprintf("10.%d.%d.%d:1", byte(i>>16), byte(i>>8), byte(i))}}
		}
		tell := func(from, to int, snapshot bool) {
			for at := from; at < to; at += wire.MaxPeers {
				m := &wire.Peers{ID: id, Snapshot: snapshot && at == from, Total: 1 << 40}
				for i := at; i < min(at+wire.MaxPeers, to); i++ {
					m.Added = append(m.Added, ghost(i))
				}
				ss.heard(m)
			}
		}
		tell(0, 1_000_000, true)
		if n := len(ss.holders[id].candidates); n > maxCandidates {
			t.Errorf("%d are remembered", n)
		}
		type attempt struct {
			c  *candidate
			at time.Time
		}
		var under []attempt
		dials, each := 0, make(map[string]int)
		const minutes = 10
		for i := range minutes * 60 * 5 {
			time.Sleep(200 * time.Millisecond)
			if i%5 == 0 { // it says the same again
				tell(0, maxCandidates, true)
			}
			for len(under) > 0 && time.Since(under[0].at) >= dialTimeout {
				ss.dialled(under[0].c, errors.New("nobody is there"))
				under = under[1:]
			}
			due, _ := ss.due()
			for _, d := range due {
				under = append(under, attempt{d.candidate, time.Now()})
				dials++
				each[d.to.Addrs[0]]++
			}
			if len(under) > maxDialling {
				t.Fatalf("%d are dialled at once", len(under))
			}
		}
		if most := dialBurst + dialRate*60*minutes; dials > most+1 || dials < maxDialling {
			t.Errorf("%d dials in %d minutes, at most %d", dials, minutes, most)
		}
		for addr, n := range each {
			if n > 20 { // 1, 2, 4 ... seconds, and then one a minute
				t.Errorf("%s was dialled %d times in %d minutes", addr, n, minutes)
			}
		}
	})
}

// For its user a download has not moved when a few bytes came: a hundred that drip would keep it for ever.
func TestWhatDripsDoesNotMove(t *testing.T) {
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	p := patience{limit: time.Minute, at: start}
	for s := range 60 {
		if p.ends(at(s), int64(50*s), false) {
			t.Fatalf("ended after %d s", s)
		}
	}
	if !p.ends(at(61), 50*61, false) {
		t.Error("50 bytes a second keep it")
	}
	p = patience{limit: time.Minute, at: start}
	for s := range 3600 {
		if p.ends(at(s), int64(1000*s), false) {
			t.Fatalf("a slow one ended after %d s", s)
		}
	}
	if p.ends(at(4000), 3600*1000, true) || !p.ends(at(4061), 3600*1000, false) {
		t.Error("a pause counts, or what comes after it does not")
	}
	if (&patience{at: start}).ends(at(1e6), 0, false) {
		t.Error("who did not say how long waits for ever")
	}
}

// Who is being dialled is dialled where it was known to be, though the server says something else meanwhile.
func TestAnAddressThatChangesWhileItIsDialled(t *testing.T) {
	ss, id, a := newSessions(&Member{}), content.ID{1}, wire.PeerAddr{ID: wire.PeerID{1}, Instance: 1, Addrs: []string{"10.0.0.1:1"}}
	ss.heard(&wire.Peers{ID: id, Snapshot: true, Added: []wire.PeerAddr{a}, Total: 1})
	due, _ := ss.due()
	a.Addrs = []string{"10.0.0.2:1"}
	ss.heard(&wire.Peers{ID: id, Added: []wire.PeerAddr{a}, Total: 1})
	if len(due) != 1 || due[0].to.Addrs[0] != "10.0.0.1:1" || due[0].Addrs[0] != "10.0.0.2:1" {
		t.Errorf("%+v are dialled", due)
	}
}

// Those who have come to us count, also where the server has not named them: else we would dial others for those that we have parted from.
func TestWhoHasEnoughNeighboursDialsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := exchange.New(exchange.Config{})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- x.Run(ctx) }()
		id := content.ID{1}
		x.Add(&exchange.Content{ID: id})
		for n := range neighbours {
			s := peer.NewSession(peer.SessionConfig{Other: wire.PeerID{byte(n)}})
			x.Join(s, func(error) {})
		}
		ss := newSessions(&Member{x: x})
		ss.heard(&wire.Peers{ID: id, Snapshot: true, Added: []wire.PeerAddr{{ID: wire.PeerID{200}, Instance: 1, Addrs: []string{"10.0.0.1:1"}}}, Total: 1})
		if due, _ := ss.due(); len(due) > 0 || x.Neighbours(id) != neighbours {
			t.Errorf("%v is dialled, with %d neighbours", due, x.Neighbours(id))
		}
		x.Remove(id)
		if due, _ := ss.due(); len(due) != 1 || x.Neighbours(id) != 0 {
			t.Errorf("%d are dialled, with %d neighbours", len(due), x.Neighbours(id))
		}
		stop()
		<-ended
	})
}

func TestWhoWasOfNoUseIsNotDialledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ss, id, a := newSessions(&Member{}), content.ID{1}, wire.PeerAddr{ID: wire.PeerID{1}, Instance: 1, Addrs: []string{"10.0.0.1:1"}}
		ss.heard(&wire.Peers{ID: id, Snapshot: true, Added: []wire.PeerAddr{a}, Total: 1})
		due, _ := ss.due()
		ss.dialled(due[0].candidate, nil)
		ss.spare(who{wire.PeerID{1}, 1})
		time.Sleep(maxRedial - 1)
		if due, _ := ss.due(); len(due) > 0 {
			t.Errorf("%v is dialled", due[0].to)
		}
		time.Sleep(time.Nanosecond)
		if due, _ := ss.due(); len(due) != 1 {
			t.Error("it is never dialled again")
		}
	})
}

// Who breaks the protocol is left alone for longer each time, what ends together counts once, and that is forgotten ten minutes after its end.
func TestWhoBreaksTheProtocolIsLeftAloneForLongerEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ss, id := newSessions(&Member{}), wire.PeerID{1}
		for _, want := range []time.Duration{5, 10, 20, 40, 80, 160, 320, 600, 600} {
			ss.rest(id)
			ss.rest(id)
			if got := time.Until(ss.cut[id].until); got != want*time.Second {
				t.Errorf("it is left alone for %v, want %v", got, want*time.Second)
			}
			time.Sleep(want*time.Second + 1)
		}
		time.Sleep(banTime)
		ss.ban(wire.PeerID{2})
		ss.rest(id)
		if got := time.Until(ss.cut[id].until); got != restTime {
			t.Errorf("after a while it is left alone for %v", got)
		}
	})
}
