package schedule

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// What is told of a column is what counting its pieces gives.
func TestTheRarestPieceOfEachColumnIsCounted(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		pieces, columns := uint32(1+rng.IntN(300)), 1+rng.IntN(40)
		have := make([]bool, pieces)
		for i := range have {
			have[i] = rng.IntN(3) == 0
		}
		k := NewTaker(TakerConfig{Pieces: pieces, PieceLen: func(uint32) int64 { return 1 }, Have: func(p uint32) bool { return have[p] }, Rand: rng})
		holders := make([]int, pieces)
		for n := range rng.IntN(6) {
			k.AddPeer(n, n)
			whole := rng.IntN(3) == 0
			if whole {
				k.HasAll(0, n)
			}
			for p := range pieces {
				switch {
				case whole:
					holders[p]++
				case rng.IntN(2) == 0:
					holders[p]++
					k.Has(0, n, p)
				}
			}
		}
		want := make([]int, min(columns, int(pieces)))
		for c := range want {
			want[c] = -1
			for p := c * int(pieces) / len(want); p < (c+1)*int(pieces)/len(want); p++ {
				if !have[p] && (want[c] < 0 || holders[p] < want[c]) {
					want[c] = holders[p]
				}
			}
		}
		if got := k.Rarest(columns); !slices.Equal(got, want) {
			t.Fatalf("%d pieces in %d columns: %v, want %v", pieces, columns, got, want)
		}
	}
}
