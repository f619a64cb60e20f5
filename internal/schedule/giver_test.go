package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// desk drives a Giver in words.
type desk struct {
	t   *testing.T
	g   *Giver
	now time.Duration
	out map[uint64]Grant // credits that were given
}

const testPiece = 1 << 20

// newDesk has neighbours 0, 1, ... of the identities.
func newDesk(t *testing.T, source bool, pieces uint32, identities ...int) *desk {
	d := &desk{t: t, g: NewGiver(GiverConfig{Rand: rand.New(rand.NewPCG(1, 2))}), out: make(map[uint64]Grant)}
	d.g.AddContent(0, testPiece, source)
	d.g.Pieces(0, pieces)
	for n, identity := range identities {
		d.g.AddPeer(n, identity)
	}
	return d
}

func (d *desk) wants(peers ...int) {
	for _, n := range peers {
		d.g.Want(d.now, n, 0, true)
	}
}

// gives expects credits for these neighbours, in this order, and returns them.
func (d *desk) gives(want ...int) []Grant {
	d.t.Helper()
	var got []int
	grants := d.g.Plan(d.now)
	for _, g := range grants {
		got = append(got, g.Peer)
		d.out[g.Credit] = g
	}
	if !slices.Equal(got, want) {
		d.t.Fatalf("at %v credits for %v, want %v", d.now, got, want)
	}
	return grants
}

func (d *desk) gets(g Grant, piece uint32, want GetResult) {
	d.t.Helper()
	if got := d.g.Get(d.now, g.Peer, g.Credit, 0, piece); got != want {
		d.t.Fatalf("get of %d on credit %d is %d, want %d", piece, g.Credit, got, want)
	}
}

func (d *desk) wait(t time.Duration) { d.now += t }

func (d *desk) ends(g Grant, ok bool) { d.g.Ended(d.now, g.Peer, g.Credit, ok) }

func TestWhoWasServedLongestAgoIsNext(t *testing.T) {
	d := newDesk(t, false, 100, 0, 1, 2, 3, 4)
	d.wants(0, 1, 2, 3, 4)
	first := d.gives(0, 1, 2, 3)
	for _, g := range first {
		d.gets(g, 7, OK)
	}
	d.ends(first[2], true)
	d.ends(first[0], true)
	d.gives(4, 0)
}

func TestTwoNeighboursOfOneIdentityShareATurn(t *testing.T) {
	d := newDesk(t, false, 100, 7, 7, 8)
	d.wants(0, 1, 2)
	d.gives(0, 2, 0, 2) // never 0, 1, 2: the identity of both had its turn
}

func TestOneLeecherHasTwoPromises(t *testing.T) {
	d := newDesk(t, false, 100, 0)
	d.wants(0)
	a := d.gives(0, 0)
	d.gets(a[0], 1, OK)
	d.gives()
	d.ends(a[0], true)
	d.gives(0)
}

func TestSmallPiecesArePromisedByBytes(t *testing.T) {
	g := NewGiver(GiverConfig{Rand: rand.New(rand.NewPCG(1, 2))})
	g.AddContent(0, 64<<10, false)
	g.AddPeer(0, 0)
	g.Want(0, 0, 0, true)
	for i := range 10 { // an uplink of 40 MB/s
		g.Sample(time.Duration(i)*promiseTime, int64(i)*10<<20, true, false, false)
	}
	if n := len(g.Plan(0)); n != 8 {
		t.Fatalf("%d promises of 64 KiB, want 8", n)
	}
}

func TestPromisesGrowWithTheUplink(t *testing.T) {
	d := newDesk(t, false, 1000, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	d.wants(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	d.gives(0, 1, 2, 3)
	for i := range 4 {
		d.g.Sample(d.now, int64(i)*4*testPiece, true, false, false)
		d.wait(50 * time.Millisecond)
	}
	d.gives(4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7) // 18 pieces: half as much again as the 12 that went
}

func TestASourceNamesEachPieceOnceBeforeAnyTwice(t *testing.T) {
	d := newDesk(t, true, 50, 0, 1, 2)
	d.wants(0, 1, 2)
	seen := make(map[int64]bool)
	for len(seen) < 50 {
		for _, g := range d.g.Plan(d.now) {
			if len(seen) < 50 && (g.Piece < 0 || seen[g.Piece]) {
				t.Fatalf("piece %d is named after %d others", g.Piece, len(seen))
			}
			seen[g.Piece] = true
			piece := uint32(max(g.Piece, 0))
			d.gets(g, piece, OK)
			d.ends(g, true)
			d.g.HasNow(0, g.Peer, piece)
		}
	}
	for _, g := range d.g.Plan(d.now) {
		if g.Piece >= 0 {
			t.Fatalf("piece %d is named though all have left", g.Piece)
		}
	}
}

func TestANamedPieceThatWasNotTakenIsNamedAgain(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(*desk, Grant)
	}{
		{"another is taken", func(d *desk, g Grant) { d.gets(g, uint32(g.Piece)^1, OK) }},
		{"it is passed", func(d *desk, g Grant) { d.g.Pass(d.now, g.Peer, g.Credit) }},
		{"it expires", func(d *desk, _ Grant) { d.wait(minExpiry) }},
		{"its transfer fails", func(d *desk, g Grant) { d.gets(g, uint32(g.Piece), OK); d.ends(g, false) }},
		{"nobody tells of it", func(d *desk, g Grant) { d.gets(g, uint32(g.Piece), OK); d.ends(g, true); d.wait(newsTime) }},
		{"its leecher leaves", func(d *desk, g Grant) { d.g.RemovePeer(d.now, g.Peer) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			d := newDesk(t, true, 64, 0, 1)
			d.wants(0)
			a := d.gives(0, 0)
			c.do(d, a[0])
			d.g.Want(d.now, 0, 0, false)
			d.wants(1)
			var again []int64
			for _, g := range d.g.Plan(d.now) {
				again = append(again, g.Piece)
			}
			if !slices.Contains(again, a[0].Piece) {
				t.Fatalf("named %v, want %d among them", again, a[0].Piece)
			}
		})
	}
}

func TestAPieceThatIsKnownElsewhereIsNotNamedAgain(t *testing.T) {
	d := newDesk(t, true, 4, 0, 1)
	d.wants(0)
	a := d.gives(0, 0)
	for _, g := range a {
		d.gets(g, uint32(g.Piece), OK)
		d.ends(g, true)
		d.g.HasNow(0, 0, uint32(g.Piece))
	}
	d.wait(newsTime)
	d.wants(1)
	for _, g := range d.g.Plan(d.now) {
		if g.Piece == a[0].Piece || g.Piece == a[1].Piece {
			t.Fatalf("piece %d is named again", g.Piece)
		}
	}
}

func TestWhoPassesIsLeftAloneUntilItWantsAgain(t *testing.T) {
	d := newDesk(t, false, 100, 0)
	d.wants(0)
	a := d.gives(0, 0)
	d.g.Pass(d.now, 0, a[0].Credit)
	d.g.Pass(d.now, 0, a[1].Credit)
	d.gives()
	d.wait(time.Minute)
	d.gives()
	d.wants(0)
	d.gives(0, 0)
}

func TestAPassOfAnExpiredCreditWithdrawsTheWant(t *testing.T) {
	d := newDesk(t, false, 100, 0)
	d.wants(0)
	a := d.gives(0, 0)
	d.wait(maxExpiry)
	d.gives()
	d.g.Pass(d.now, 0, a[0].Credit)
	d.wait(time.Minute)
	d.gives()
}

func TestALateGetIsNoOffenceAndAnInventedOneIs(t *testing.T) {
	d := newDesk(t, false, 100, 0, 1)
	d.wants(0)
	a := d.gives(0, 0)
	d.wait(minExpiry)
	d.gives()
	d.gets(a[0], 3, Expired)
	d.gets(Grant{Peer: 0, Credit: 999}, 3, Unknown)
	d.gets(Grant{Peer: 1, Credit: a[0].Credit}, 3, Unknown) // another's
	d.wait(time.Minute)
	b := d.gives(0)
	d.gets(b[0], 3, OK)
	d.gets(b[0], 3, Unknown) // twice
	if got := d.g.Get(d.now, 0, b[0].Credit, 5, 3); got != Unknown {
		t.Fatalf("a get for another content is %d", got)
	}
}

func TestWhoLetsCreditsExpireWaitsLongerEachTimeAndHasOneAtATime(t *testing.T) {
	d := newDesk(t, false, 100, 0)
	d.wants(0)
	d.gives(0, 0)
	pause := minExpiry
	for range 5 {
		d.wait(minExpiry)
		d.gives() // expires
		d.wait(pause - time.Millisecond)
		d.gives()
		d.wait(time.Millisecond)
		d.gives(0)
		pause *= 2
	}
	a := d.g.peers[0].promises[0].Grant
	d.gets(a, 1, OK)
	d.gives(0) // a get ends it
}

func TestReconnectingDoesNotEndAPause(t *testing.T) {
	d := newDesk(t, false, 100, 0)
	d.wants(0)
	d.gives(0, 0)
	d.wait(minExpiry)
	d.gives()
	d.g.RemovePeer(d.now, 0)
	d.g.AddPeer(0, 0)
	d.wants(0)
	d.gives()
}

func TestAFarNeighbourHasLongerToAnswer(t *testing.T) {
	for _, c := range []struct{ rtt, want time.Duration }{
		{0, minExpiry}, {100 * time.Millisecond, 400 * time.Millisecond}, {5 * time.Second, maxExpiry},
	} {
		d := newDesk(t, false, 100, 0)
		d.g.SetRTT(0, c.rtt)
		d.wants(0)
		if g := d.gives(0, 0); g[0].Expires != c.want {
			t.Errorf("at %v round trip a credit lives %v, want %v", c.rtt, g[0].Expires, c.want)
		}
	}
}

func TestAGetOutOfRangeHarmsNobody(t *testing.T) {
	d := newDesk(t, true, 10, 0)
	d.wants(0)
	for _, g := range d.gives(0, 0) {
		d.gets(g, 1<<32-1, OK) // the exchange refuses it
		d.ends(g, false)
	}
	d.gives(0, 0)
}

// Whatever neighbours do, promises stay within their bounds, and what is counted is what is there.
func TestAGiverKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := NewGiver(GiverConfig{Rand: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))})
		for c := range 2 {
			g.AddContent(c, testPiece, c == 0)
			g.Pieces(c, 20)
		}
		var now time.Duration
		var said []string
		for range rapid.IntRange(0, 150).Draw(t, "steps") {
			n, c := rapid.IntRange(-1, 4).Draw(t, "peer"), rapid.IntRange(-1, 2).Draw(t, "content")
			credit, piece := rapid.Uint64Range(0, 60).Draw(t, "credit"), rapid.SampledFrom([]uint32{0, 1, 5, 19, 20, 63, 64, 1 << 31}).Draw(t, "piece")
			what := rapid.IntRange(0, 9).Draw(t, "what")
			said = append(said, fmt.Sprint(what, n, c, credit, piece))
			switch what {
			case 0:
				if n >= 0 && g.peer(n) == nil {
					g.AddPeer(n, n/2)
				}
			case 1:
				g.RemovePeer(now, n)
			case 2, 3:
				g.Want(now, n, c, true)
			case 4:
				g.Pass(now, n, credit)
			case 5:
				g.Get(now, n, credit, c, piece)
			case 6:
				g.Ended(now, n, credit, piece%2 == 0)
			case 7:
				g.HasNow(c, n, piece)
			case 8:
				now += time.Duration(piece%7) * 100 * time.Millisecond
			case 9:
				g.Plan(now)
			}
			checkGiver(t, g, said)
		}
	})
}

func checkGiver(t *rapid.T, g *Giver, said []string) {
	bytes, count := int64(0), 0
	for _, l := range g.peers {
		if l == nil {
			continue
		}
		if len(l.promises) > perLeecher || len(l.expired) > keptExpired {
			t.Fatalf("%d promises, %d expired: %s", len(l.promises), len(l.expired), strings.Join(said, "; "))
		}
		for _, p := range l.promises {
			bytes += p.size
			count++
		}
	}
	if count != g.promises || bytes != g.promised || bytes > startPieces*testPiece {
		t.Fatalf("%d promises of %d bytes, counted %d of %d: %s", count, bytes, g.promises, g.promised, strings.Join(said, "; "))
	}
	v := g.contents[0]
	seen := newBits(20)
	for _, p := range v.order {
		if seen.has(p) || !v.queued.has(p) {
			t.Fatalf("piece %d is queued twice or not marked: %s", p, strings.Join(said, "; "))
		}
		seen.set(p)
	}
}
