package schedule

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestALineIsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const pieces = 12
		order := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}).Draw(t, "order")
		l := newLine(order)
		want := make([]uint32, 0, pieces) // from the head on
		for _, p := range slices.Backward(order) {
			want = append(want, uint32(p))
		}
		t.Repeat(map[string]func(*rapid.T){
			"remove": func(t *rapid.T) {
				p := rapid.Uint32Max(pieces+1).Draw(t, "piece") // also of what there is none
				l.remove(p)
				want = slices.DeleteFunc(want, func(q uint32) bool { return q == p })
			},
			"push": func(t *rapid.T) {
				if p := rapid.Uint32Max(pieces-1).Draw(t, "piece"); !l.has(p) {
					l.push(p)
					want = slices.Insert(want, 0, p)
				}
			},
			"remove on the way": func(t *rapid.T) {
				at := 0
				l.all(func(p uint32) bool {
					if at++; at%3 == 0 {
						l.remove(p)
						want = slices.DeleteFunc(want, func(q uint32) bool { return q == p })
					}
					return at < 6
				})
			},
			"": func(t *rapid.T) {
				var got []uint32
				l.all(func(p uint32) bool { got = append(got, p); return true })
				if !slices.Equal(got, want) && len(want) > 0 || len(got) != l.n {
					t.Fatalf("%v, %d in all, want %v", got, l.n, want)
				}
				for p := range uint32(pieces + 2) {
					if l.has(p) != slices.Contains(want, p) {
						t.Fatalf("has %d: %v", p, l.has(p))
					}
				}
			},
		})
	})
}
