package schedule

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// Whatever happens to it, the order has each piece that is in it once, the rarest first.
func TestTheOrderOfRarityHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint32Range(1, 20).Draw(t, "pieces")
		q := newRarity(n, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)))
		in := make(map[uint32]bool)
		for range rapid.IntRange(0, 100).Draw(t, "steps") {
			p := rapid.Uint32Range(0, n-1).Draw(t, "piece")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				if !in[p] {
					q.add(p)
					in[p] = true
				}
			case 1:
				q.remove(p)
				delete(in, p)
			case 2:
				q.change(p, true)
			case 3:
				if q.level[p] > 0 {
					q.change(p, false)
				}
			}
			if len(q.order) != len(in) {
				t.Fatalf("%d are in order, want %d", len(q.order), len(in))
			}
			for i, p := range q.order {
				if !in[p] || q.pos[p] != int32(i) {
					t.Fatalf("piece %d at %d: in %v, pos %d", p, i, in[p], q.pos[p])
				}
				if i > 0 && q.level[q.order[i-1]] > q.level[p] {
					t.Fatalf("%v is not in order", q.order)
				}
			}
		}
	})
}
