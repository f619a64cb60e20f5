package swarm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"shoal/internal/content"
	"shoal/internal/wire"
)

func TestAnOverviewTellsWhoHoldsWhat(t *testing.T) {
	table := NewTable(rand.New(rand.NewPCG(1, 2)))
	for n := range byte(3) {
		table.Enter(key(n+1), "member", fmt.Sprint("node", n+1), "", nil)
	}
	hold := func(n, id byte, all bool) {
		if _, err := table.Hold(key(n), idOf(id), 5, all); err != nil {
			t.Fatal(err)
		}
	}
	hold(1, 7, true)
	if table.completes(key(2), idOf(7), true) {
		t.Error("one who has held nothing has completed it")
	}
	hold(2, 7, false)
	hold(2, 8, true)
	for _, name := range []string{"b", "a", "a"} {
		if err := table.Offer(key(1), wire.Record{Name: name, ID: idOf(7), Size: 5}, key(1).ID, 10); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := table.Follow(key(3), idOf(9)); err != nil { // nobody holds that
		t.Fatal(err)
	}
	o := table.Overview(30)
	if o.Members != 3 || o.Contents != 2 || len(o.There) != 3 || len(o.Contained) != 2 {
		t.Fatalf("%+v", o)
	}
	if c := o.Contained[0]; c.ID != idOf(7) || c.Holders != 2 || c.Seeds != 1 || c.Age != 20 || !slices.Equal(c.Names, []string{"a", "b"}) {
		t.Errorf("%+v", c)
	}
	if want := []SeenHold{{0, 0, true}, {1, 0, false}, {1, 1, true}}; !slices.Equal(o.Holds, want) {
		t.Errorf("%v", o.Holds)
	}
	if m := o.There[1]; m.Name != "node2" || m.Holds != 2 || m.Whole != 1 {
		t.Errorf("%+v", m)
	}
	if !table.completes(key(2), idOf(7), true) || table.completes(key(1), idOf(7), true) || table.completes(key(2), idOf(7), false) {
		t.Error("who completes a content is not told right")
	}
}

// However large a swarm is, what is told of it is not.
func TestAnOverviewIsBounded(t *testing.T) {
	table := NewTable(rand.New(rand.NewPCG(1, 2)))
	for i := range maxSeenMembers + 100 {
		k := PeerKey{wire.PeerID{byte(i), byte(i >> 8)}, 1}
		table.Enter(k, "member", "", "", nil)
		for c := range 6 {
			n := (i*6 + c) % (maxSeenContents + 50)
			if _, err := table.Hold(k, content.ID{byte(n), byte(n >> 8), 1}, 5, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	o := table.Overview(0)
	if o.Members != maxSeenMembers+100 || o.Contents != maxSeenContents+50 {
		t.Errorf("%d members, %d contents", o.Members, o.Contents)
	}
	if len(o.There) != maxSeenMembers || len(o.Contained) != maxSeenContents || len(o.Holds) != maxSeenHolds {
		t.Errorf("%d members, %d contents, %d holds are listed", len(o.There), len(o.Contained), len(o.Holds))
	}
	var a activity
	for range maxNews + 10 {
		a.note(News{Time: time.Now(), What: NewsJoined})
	}
	if a.joined != maxNews+10 || len(a.news) != maxNews {
		t.Errorf("%d news of %d", len(a.news), a.joined)
	}
}
