package schedule

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

const benchNeighbours = 40

// sized runs a benchmark with few pieces and with many: what each costs is to be nearly the same.
func sized(b *testing.B, do func(b *testing.B, pieces uint32)) {
	for _, pieces := range []uint32{1_000, 30_000, 1_000_000} {
		b.Run(fmt.Sprint("pieces=", pieces), func(b *testing.B) { do(b, pieces) })
	}
}

// benchTaker is a taker whose neighbours have every eighth piece each.
func benchTaker(pieces uint32, chance *rand.Rand) *Taker {
	t := NewTaker(TakerConfig{
		Pieces: pieces, PieceLen: func(uint32) int64 { return 1 << 16 }, Have: func(uint32) bool { return false }, Rand: chance,
	})
	for n := range benchNeighbours {
		t.AddPeer(n, n)
		t.peers[n].proven = true
		for p := chance.Uint32N(8); p < pieces; p += 8 {
			t.Has(0, n, p)
		}
	}
	return t
}

// A piece that is chosen among all that are missing, comes, and is ours.
func BenchmarkTaking(b *testing.B) {
	sized(b, func(b *testing.B, pieces uint32) {
		chance := rand.New(rand.NewPCG(1, 2))
		now := time.Duration(0)
		var t *Taker
		for i, idle := 0, benchNeighbours; b.Loop(); i++ {
			for got := false; !got; idle++ {
				if idle >= benchNeighbours { // nobody has anything more
					b.StopTimer()
					t, idle, now = benchTaker(pieces, chance), 0, 0
					b.StartTimer()
				}
				now += time.Millisecond
				n := (i + idle) % benchNeighbours
				a := t.Credit(now, n, -1, true)
				if got = a.Get; got {
					t.Received(now, n, a.Piece, 1<<16)
					t.Verified(now, a.Piece)
					idle = -1
				}
			}
		}
	})
}

// A neighbour says that it has a piece.
func BenchmarkHearing(b *testing.B) {
	sized(b, func(b *testing.B, pieces uint32) {
		chance := rand.New(rand.NewPCG(1, 2))
		var t *Taker
		said := pieces * benchNeighbours
		for b.Loop() {
			if said == pieces*benchNeighbours {
				b.StopTimer()
				said, t = 0, NewTaker(TakerConfig{
					Pieces: pieces, PieceLen: func(uint32) int64 { return 1 << 16 }, Have: func(uint32) bool { return false }, Rand: chance,
				})
				for n := range benchNeighbours {
					t.AddPeer(n, n)
				}
				b.StartTimer()
			}
			n := said % benchNeighbours
			t.Has(0, int(n), uint32((uint64(said/benchNeighbours)*611_953+uint64(n)*7919)%uint64(pieces))) // each once, in an order of its own: the first factor has no divisor in common with the sizes
			said++
		}
	})
}

// A source promises a piece that has not left, another one is taken, as by who reads from the begin on, and arrives.
func BenchmarkGiving(b *testing.B) {
	sized(b, func(b *testing.B, pieces uint32) {
		chance := rand.New(rand.NewPCG(1, 2))
		now := time.Duration(0)
		var g *Giver
		piece := pieces
		var under []Grant
		for b.Loop() {
			if piece == pieces {
				b.StopTimer()
				g, piece, under, now = NewGiver(GiverConfig{Rand: chance}), 0, nil, 0
				g.AddContent(0, 1<<16, pieces, true)
				for n := range benchNeighbours {
					g.AddPeer(n, n)
					g.Want(now, n, 0, WantNow)
				}
				b.StartTimer()
			}
			now += time.Millisecond
			under = append(under, g.Plan(now)...)
			if len(under) == 0 {
				b.Fatal("nothing is promised")
			}
			a := under[0]
			under = under[1:]
			if g.Get(now, a.Peer, a.Credit, 0, piece) == OK {
				g.Ended(now, a.Peer, a.Credit, true)
				g.HasNow(0, a.Peer, piece)
			}
			piece++
		}
	})
}
