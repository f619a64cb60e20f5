package swarm

import (
	"math/rand/v2"
	"slices"
	"testing"

	"shoal/internal/wire"
)

// Who is in a site is told of most of its own, those that rank first among them, and of some others; who is in none as before.
func TestADrawHasMostOfOnesOwnSite(t *testing.T) {
	table := NewTable(rand.New(rand.NewPCG(1, 2)))
	site := func(n byte) string { return []string{"", "a", "b"}[n%3] }
	var ranks []uint64
	rank := func(k PeerKey) uint64 { return wire.SiteRank(idOf(1), k.ID, k.Instance) }
	for n := range byte(240) {
		table.Enter(key(n), "member", "", "", nil)
		table.SetSite(key(n), site(n))
		if _, err := table.Hold(key(n), idOf(1), 5, false); err != nil {
			t.Fatal(err)
		}
		if site(n) == "a" {
			ranks = append(ranks, rank(key(n)))
		}
	}
	slices.Sort(ranks)
	seen := make(map[PeerKey]bool)
	for n := range byte(240) {
		p, err := table.Follow(key(n), idOf(1))
		if err != nil || len(p.Added) != drawSize || p.Total != 239 {
			t.Fatalf("%+v, %v", p, err)
		}
		near, first := 0, 0
		own := make(map[PeerKey]bool)
		for _, a := range p.Added {
			k := PeerKey{a.ID, a.Instance}
			if own[k] || k == key(n) {
				t.Fatalf("%d is told of %v", n, k)
			}
			own[k] = true
			if site(byte(a.Instance)) == site(n) {
				near++
				seen[k] = true
			}
			if site(byte(a.Instance)) == "a" && rank(k) >= ranks[len(ranks)-siteFirst] {
				first++
			}
		}
		if site(n) != "" && near != siteDraw {
			t.Errorf("%d of %d are of the own site", near, drawSize)
		}
		if site(n) == "a" && rank(key(n)) < ranks[len(ranks)-siteFirst] && first != siteFirst {
			t.Errorf("%d of those that rank first", first)
		}
	}
	if len(seen) < 230 {
		t.Errorf("only %d are ever drawn", len(seen))
	}
}

func TestADrawOfASmallSwarmHasEverybody(t *testing.T) {
	table := NewTable(rand.New(rand.NewPCG(1, 2)))
	for n := range byte(41) {
		table.Enter(key(n), "member", "", "", nil)
		table.SetSite(key(n), []string{"", "a"}[n%2])
		_, _ = table.Hold(key(n), idOf(1), 5, false)
	}
	for n := range byte(41) {
		if p, err := table.Follow(key(n), idOf(1)); err != nil || len(p.Added) != 40 {
			t.Errorf("%d of 40, %v", len(p.Added), err)
		}
	}
}
