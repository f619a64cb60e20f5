package schedule

import (
	"fmt"
	"maps"
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

	moved int64 // bytes
}

const testPiece = 1 << 20

// newDesk has neighbours 0, 1, ... of the identities.
func newDesk(t *testing.T, source bool, pieces uint32, identities ...int) *desk {
	d := &desk{t: t, g: NewGiver(GiverConfig{Rand: rand.New(rand.NewPCG(1, 2))}), out: make(map[uint64]Grant)}
	d.g.AddContent(0, testPiece, pieces, source)
	for n, identity := range identities {
		d.g.AddPeer(n, identity)
		d.g.who[identity].served = int64(n) - 1000 // no luck in scripts
		d.g.who[identity].spoke = true             // nor strangers
	}
	return d
}

func (d *desk) wants(peers ...int) {
	for _, n := range peers {
		d.g.Want(d.now, n, 0, WantNow)
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

func TestWhoWasNeverServedComesByChance(t *testing.T) {
	first := make(map[int]bool)
	for seed := range uint64(20) {
		g := NewGiver(GiverConfig{Rand: rand.New(rand.NewPCG(seed, 2))})
		g.AddContent(0, testPiece, 100, false)
		for n := range 20 {
			g.AddPeer(n, n)
			g.Want(0, n, 0, WantNow)
		}
		first[g.Plan(0)[0].Peer] = true
	}
	if len(first) < 5 {
		t.Fatalf("with 20 seeds only %v came first: all givers would begin with the same leecher", first)
	}
}

func TestTwoNeighboursOfOneIdentityShareATurn(t *testing.T) {
	d := newDesk(t, false, 100, 7, 7, 8)
	d.wants(0, 1, 2)
	d.g.who[8].served = 0
	d.g.who[7].served = -1
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

// moves sends bytes of transfers at the same rate for a while, and gives nothing new.
func (d *desk) moves(span time.Duration, perSecond int64, gs ...Grant) {
	const step = 50 * time.Millisecond
	for range span / step {
		d.now += step
		bytes := perSecond * int64(step) / int64(time.Second)
		for _, g := range gs {
			p := d.g.peers[g.Peer].find(g.Credit)
			d.g.Progress(d.now, g.Peer, g.Credit, p.sent+bytes)
		}
		d.moved += bytes * int64(len(gs))
		d.g.Sample(d.now, d.moved)
	}
}

func TestALeecherThatTakesMoreInARoundTripHasMorePromises(t *testing.T) {
	d := newDesk(t, false, 100, 0)
	d.g.contents[0].piece = 64 << 10
	d.g.SetRTT(0, 200*time.Millisecond)
	d.wants(0)
	for range 16 { // a far and fast one: as much moves in each step as is promised
		gs := d.g.Plan(d.now)
		for _, g := range gs {
			d.gets(g, 1, OK)
		}
		d.g.peers[0].rtt = 200 * time.Millisecond // as if it had taken so long
		n := int64(len(d.g.peers[0].promises))
		d.now += 50 * time.Millisecond
		for _, p := range slices.Clone(d.g.peers[0].promises) {
			d.g.Progress(d.now, 0, p.Credit, p.size)
			d.ends(p.Grant, true)
		}
		d.moved += n * 64 << 10
		d.g.Sample(d.now, d.moved)
	}
	if n := len(d.g.Plan(d.now)); n < 8 {
		t.Fatalf("%d promises to one who takes 64 KiB x %d in a round trip", n, n*4)
	}
}

// Two pieces in each round trip would be all that a far leecher could ever take, however fast the way is.
func TestAFarLeecherAloneIsPromisedWhatAllMayHave(t *testing.T) {
	for _, c := range []struct {
		rtt  time.Duration
		want int
	}{{farTime - 1, perLeecher}, {farTime, promises}} {
		d := newDesk(t, false, 100, 0)
		d.g.SetRTT(0, c.rtt)
		d.wants(0)
		if n := len(d.g.Plan(d.now)); n != c.want {
			t.Errorf("%d promises over a round trip of %v", n, c.rtt)
		}
	}
	d := newDesk(t, false, 100, 0, 1, 2)
	d.g.SetRTT(0, farTime)
	d.wants(0, 1, 2)
	each := make(map[int]int)
	for _, g := range d.g.Plan(d.now) {
		each[g.Peer]++
	}
	if each[0] > perLeecher {
		t.Errorf("beside others it is promised %d", each[0])
	}
}

func TestALeecherIsNotPromisedMoreThanASessionServes(t *testing.T) {
	d := newDesk(t, false, 100, 0)
	d.g.SetRTT(0, time.Second)
	d.wants(0)
	d.g.peers[0].best, d.g.uplink = 1e9, 1e9
	if n := len(d.g.Plan(d.now)); n != maxPromises {
		t.Fatalf("%d promises to one who takes much in a round trip", n)
	}
}

func TestASlowLeecherHoldsNobodyUp(t *testing.T) {
	d := newDesk(t, false, 1000, 0, 1, 2, 3, 4, 5, 6)
	d.wants(0, 1, 2, 3)
	a := d.gives(0, 1, 2, 3)
	for i, g := range a {
		d.gets(g, uint32(i), OK)
	}
	d.moves(200*time.Millisecond, 1<<20, a...) // the uplink carries 4 MiB/s
	for _, g := range a[2:] {
		d.ends(g, true)
		d.g.Want(d.now, g.Peer, 0, WantNot)
	}
	d.wants(5, 6)
	b := d.gives(5, 6)
	for _, g := range b {
		d.gets(g, 50, OK)
	}
	d.moves(600*time.Millisecond, 50<<10, a[0], a[1], b[0], b[1]) // and these take hardly anything of it
	d.wants(2, 3, 4)
	var got []int
	for _, g := range d.g.Plan(d.now) {
		got = append(got, g.Peer)
	}
	for _, n := range []int{2, 3, 4} {
		if !slices.Contains(got, n) {
			t.Fatalf("beside slow ones %v are promised something, %d is not among them", got, n)
		}
	}
}

// Those who came first and take next to nothing are all that the giver has seen of its uplink: it may be that it carries no more.
func TestThoseWhoTakeHardlyAnythingDoNotKeepOutTheOthersForEver(t *testing.T) {
	d := newDesk(t, false, 1000, 0, 1, 2, 3)
	d.wants(0, 1, 2)
	drips := d.gives(0, 1, 2, 0)
	for i, g := range drips {
		d.gets(g, uint32(i), OK)
	}
	d.moves(10*time.Second, 100, drips...)
	d.wants(3)
	var got []Grant
	for range 200 {
		if got = append(got, d.g.Plan(d.now)...); len(got) > 0 && got[len(got)-1].Peer == 3 {
			break
		}
		d.moves(50*time.Millisecond, 100, drips...)
	}
	if len(got) == 0 || got[len(got)-1].Peer != 3 {
		t.Fatalf("in ten seconds %+v are promised something", got)
	}
	for _, g := range got {
		d.gets(g, 900, OK)
	}
	d.moves(500*time.Millisecond, 400<<10, got[len(got)-1]) // it carries more: the others do not count any more
	d.ends(got[len(got)-1], true)
	d.moves(100*time.Millisecond, 100, drips...)
	if gs := d.g.Plan(d.now); !slices.ContainsFunc(gs, func(g Grant) bool { return g.Peer == 3 }) {
		t.Errorf("then %+v are promised something", gs)
	}
}

func TestASlowUplinkIsNotPromisedOverAndOver(t *testing.T) {
	d := newDesk(t, false, 1000, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	d.wants(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	all := d.gives(0, 1, 2, 3)
	for i, g := range all {
		d.gets(g, uint32(i), OK)
	}
	for range 60 * 20 { // a minute in which no piece comes to its end, and that what is tried does not make faster
		for _, g := range d.g.Plan(d.now) {
			d.gets(g, 900, OK)
			all = append(all, g)
		}
		d.moves(50*time.Millisecond, 5000/int64(len(all)), all...)
	}
	if n := d.g.tries; n == 0 || n > 5 {
		t.Errorf("%d are tried in a minute", n)
	}
}

func TestWhoHasEnoughForNowIsAskedOnlyWhenThereIsNobodyElse(t *testing.T) {
	d := newDesk(t, false, 100, 0, 1)
	d.g.Want(d.now, 0, 0, WantLater)
	d.wants(1)
	a := d.gives(1, 1)
	if a[0].Insist {
		t.Fatal("a credit insists though its leecher wants it")
	}
	d.g.Pass(d.now, 1, a[0].Credit, true)
	d.g.Pass(d.now, 1, a[1].Credit, true)
	b := d.gives(0) // nothing is under way: the uplink would idle
	if !b[0].Insist {
		t.Fatal("a credit for one who has enough does not insist")
	}
	d.gives()
	d.wants(1)
	d.gives(1, 1)
}

// To be passed takes a round trip: the farther its leechers, the sooner a giver insists.
func TestAGiverInsistsBeforeItsUplinkIdles(t *testing.T) {
	for _, c := range []struct {
		rtt  time.Duration
		want float64 // bytes, of an uplink of ten thousand bytes a second
	}{{0, 200}, {10 * time.Millisecond, 500}, {time.Second, 5000}} {
		d := newDesk(t, false, 100, 0)
		d.g.SetRTT(0, c.rtt)
		d.wants(0)
		d.g.Plan(d.now)
		d.g.uplink = 10_000
		if _, _, _, low, _ := d.g.promised(d.now); low != c.want {
			t.Errorf("%v away: it insists below %v bytes, want %v", c.rtt, low, c.want)
		}
	}
}

func TestOtherTransfersCountAsPromises(t *testing.T) {
	d := newDesk(t, false, 100, 0, 1, 2, 3, 4, 5)
	d.g.Beside(3)
	d.wants(0, 1, 2, 3, 4, 5)
	d.gives(0)
	d.g.Beside(0)
	d.gives(1, 2, 3)
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
		{"it is passed", func(d *desk, g Grant) { d.g.Pass(d.now, g.Peer, g.Credit, false) }},
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
			d.g.Want(d.now, 0, 0, WantNot)
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
	d.g.Pass(d.now, 0, a[0].Credit, false)
	d.g.Pass(d.now, 0, a[1].Credit, false)
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
	d.g.Pass(d.now, 0, a[0].Credit, false)
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

// Who answers when its credit has expired has a slow way back, and gets more time; said again it counts no more.
func TestALateAnswerMakesCreditsLiveLonger(t *testing.T) {
	for name, answer := range map[string]func(g *Giver, now time.Duration, credit uint64){
		"a get":  func(g *Giver, now time.Duration, credit uint64) { g.Get(now, 0, credit, 0, 3) },
		"a pass": func(g *Giver, now time.Duration, credit uint64) { g.Pass(now, 0, credit, true) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, false, 100, 0)
			d.wants(0)
			a := d.gives(0, 0)
			d.now = minExpiry
			d.g.Plan(d.now)
			answer(d.g, minExpiry+50*time.Millisecond, a[0].Credit)
			answer(d.g, time.Hour, a[0].Credit)
			d.now = minExpiry + maxPause
			d.wants(0)
			late := d.g.Plan(d.now)
			if len(late) == 0 || late[0].Expires-d.now != 2*(minExpiry+50*time.Millisecond) {
				t.Errorf("the next are %+v", late)
			}
			if l := d.g.peers[0]; l.rtt > 0 {
				t.Errorf("it counts as %v away", l.rtt)
			}
		})
	}
}

func TestAFarNeighbourHasLongerToAnswer(t *testing.T) {
	for _, c := range []struct{ rtt, want time.Duration }{
		{0, minExpiry}, {100 * time.Millisecond, 400 * time.Millisecond}, {5 * time.Second, maxExpiry},
	} {
		d := newDesk(t, false, 100, 0)
		d.g.SetRTT(0, c.rtt)
		d.wants(0)
		if g := d.g.Plan(d.now); g[0].Expires != c.want {
			t.Errorf("at %v round trip a credit lives %v, want %v", c.rtt, g[0].Expires, c.want)
		}
	}
}

// A piece that is taken instead of the one that was named has left: it is not named to others.
func TestWhatIsTakenInsteadIsNotNamed(t *testing.T) {
	d := newDesk(t, true, 8, 0, 1, 2, 3)
	d.wants(0, 1, 2, 3)
	grants := d.g.Plan(d.now)
	taken := -1
	for p := range 8 {
		if !slices.ContainsFunc(grants, func(g Grant) bool { return g.Piece == int64(p) }) {
			taken = p
		}
	}
	d.gets(grants[0], uint32(taken), OK)
	named := 0
	for under := grants[1:]; len(under) > 0; under = append(under[1:], d.g.Plan(d.now)...) {
		g := under[0]
		if g.Piece == int64(taken) {
			t.Fatalf("piece %d is named while it leaves", taken)
		}
		if g.Piece < 0 {
			break
		}
		named++
		d.gets(g, uint32(g.Piece), OK)
		d.ends(g, true)
		d.g.HasNow(0, g.Peer, uint32(g.Piece))
	}
	if named < 7 {
		t.Errorf("only %d of the other seven are named", named)
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
			g.AddContent(c, testPiece, 20, c == 0)
		}
		var now time.Duration
		var said []string
		for range rapid.IntRange(0, 150).Draw(t, "steps") {
			n, c := rapid.IntRange(-1, 4).Draw(t, "peer"), rapid.IntRange(-1, 2).Draw(t, "content")
			credit, piece := rapid.Uint64Range(0, 60).Draw(t, "credit"), rapid.SampledFrom([]uint32{0, 1, 5, 19, 20, 63, 64, 1 << 31}).Draw(t, "piece")
			what := rapid.IntRange(0, 11).Draw(t, "what")
			said = append(said, fmt.Sprint(what, n, c, credit, piece))
			switch what {
			case 0:
				if n >= 0 && g.peer(n) == nil {
					g.AddPeer(n, n/2)
				}
			case 1:
				g.RemovePeer(now, n)
			case 2, 3:
				g.Want(now, n, c, Want(what-1))
			case 4:
				g.Pass(now, n, credit, piece%2 == 0)
			case 5:
				g.Get(now, n, credit, c, piece)
			case 6:
				g.Ended(now, n, credit, piece%2 == 0)
			case 7:
				g.HasNow(c, n, piece)
			case 11:
				g.SetHave(c, n, piece)
			case 8:
				now += time.Duration(piece%7) * 100 * time.Millisecond
			case 9:
				for _, grant := range g.Plan(now) {
					if wants := g.peers[grant.Peer].wants; grant.Insist == slices.Contains(wants, grant.Content) {
						t.Fatalf("insisting is %v with wants %v: %s", grant.Insist, wants, strings.Join(said, "; "))
					}
				}
			case 10:
				g.Progress(now, n, credit, int64(piece))
				g.Sample(now, int64(piece))
			}
			checkGiver(t, g, said)
		}
	})
}

func checkGiver(t *rapid.T, g *Giver, said []string) {
	count := 0
	for _, l := range g.peers {
		if l == nil {
			continue
		}
		most := perLeecher
		if l.rtt >= farTime { // it may have what all together may
			most = promises + 1
		}
		if len(l.promises) > most || len(l.expired) > keptExpired {
			t.Fatalf("%d promises, %d expired: %s", len(l.promises), len(l.expired), strings.Join(said, "; "))
		}
		if !l.slow {
			count += len(l.promises)
		}
		for _, c := range l.wants {
			if slices.Contains(l.later, c) || g.content(c) == nil {
				t.Fatalf("wants %v now, %v later: %s", l.wants, l.later, strings.Join(said, "; "))
			}
		}
	}
	if count > freshPromises+1+g.tries { // one more may have been insisted on
		t.Fatalf("%d promises: %s", count, strings.Join(said, "; "))
	}
	if v := g.contents[0]; v.unsent != nil {
		v.unsent.all(func(p uint32) bool {
			if v.named[p] > 0 {
				t.Fatalf("piece %d is promised and has not left: %s", p, strings.Join(said, "; "))
			}
			return true
		})
	}
}

// Who takes of a source, and never has what it took, is served when nobody else wants anything, one piece at a time.
func TestWhoOnlyTakesIsServedLast(t *testing.T) {
	d := newDesk(t, true, 100, 0, 1)
	d.wants(0, 1)
	for range maxOwed {
		grants := d.g.Plan(d.now)
		if len(grants) != 2*perLeecher {
			t.Fatalf("credits: %v", grants)
		}
		for _, g := range grants {
			d.gets(g, uint32(g.Piece), OK)
			d.ends(g, true)
			if g.Peer == 1 {
				d.g.HasNow(0, 1, uint32(g.Piece))
			}
		}
		d.wait(newsTime)
		if d.g.expire(d.now); d.g.who[0].owed >= maxOwed {
			break
		}
	}
	for _, g := range d.gives(1, 1) {
		d.gets(g, uint32(g.Piece), OK)
		d.g.Progress(d.now, g.Peer, g.Credit, testPiece)
	}
	d.gives() // it waits a while for each
	d.wait(muteWait << maxOwed)
	d.gives(0)
	d.g.HasNow(0, 0, 99)
	if d.g.who[0].owed != 0 {
		t.Error("it has said what it has, and counts as before")
	}
}

// Who wants, and has no use for any credit, over and over, or asks for what is not there, does not keep us busy.
func TestWhoAnswersWithNothingWaits(t *testing.T) {
	for what, answer := range map[string]func(d *desk, g Grant){
		"a pass": func(d *desk, g Grant) { d.g.Pass(d.now, 0, g.Credit, false) },
		"a piece that is not there": func(d *desk, g Grant) {
			d.gets(g, 7, OK)
			d.g.Refused(d.now, 0, g.Credit)
		},
	} {
		t.Run(what, func(t *testing.T) {
			d := newDesk(t, false, 0, 0)
			credits := 0
			for range 10_000 { // a second, at a round trip of 0.1 ms
				d.wants(0)
				for _, g := range d.g.Plan(d.now) {
					credits++
					answer(d, g)
				}
				d.wait(100 * time.Microsecond)
			}
			if credits > 4*emptyAnswers {
				t.Errorf("it had %d credits in a second", credits)
			}
			d.wait(maxPause)
			d.wants(0)
			for _, g := range d.g.Plan(d.now) {
				d.gets(g, 1, OK)
				d.ends(g, true)
			}
			if d.g.who[0].empty != 0 {
				t.Error("it took a piece, and waits as before")
			}
		})
	}
}

// A transfer that ends within a moment, at the rate that it has had, does not count: the next one is promised before the uplink has less to do. One that does not end when it was
// expected to counts again.
func TestWhatEndsSoonIsFollowedAtOnce(t *testing.T) {
	d := newDesk(t, false, 1000, 0, 1, 2, 3, 4, 5)
	d.wants(0, 1, 2, 3, 4, 5)
	under := d.gives(0, 1, 2, 3)
	for i, g := range under {
		d.gets(g, uint32(i), OK)
	}
	d.now += 99 * time.Millisecond // of 110
	d.g.Progress(d.now, 0, under[0].Credit, testPiece*9/10)
	d.gives()
	d.now += 4 * time.Millisecond
	d.gives(4)
	d.gives()
	d.now += 30 * time.Millisecond // it has not ended: nobody is promised anything in the place of what ends
	d.ends(under[1], true)
	d.gives()
	d.ends(under[0], true)
	d.gives(5)
}

// However far its leechers are, no more transfers than there are promises are followed before they have ended.
func TestWhatEndsSoonIsBounded(t *testing.T) {
	d := newDesk(t, false, 1000, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
	for n := range 12 {
		d.g.SetRTT(n, time.Second)
		d.wants(n)
	}
	for _, first := range []int{0, 4} {
		for i, g := range d.gives(first, first+1, first+2, first+3) {
			d.gets(g, uint32(first+i), OK)
			d.g.peers[g.Peer].rtt = time.Second // as if the answer had taken so long
		}
		d.now += 600 * time.Millisecond
		for _, l := range d.g.peers {
			for _, p := range l.promises {
				d.g.Progress(d.now, p.Peer, p.Credit, testPiece*6/10)
			}
			l.near = trough{}
		}
	}
	d.gives()
}

// One that takes next to nothing holds a promise that is as good as none: another is promised in its place, also where the uplink is busy with the others.
func TestACrawlingLeecherDoesNotCountHoweverBusyTheUplinkIs(t *testing.T) {
	for share, want := range map[int64]bool{20: true, 4: false} {
		d := newDesk(t, false, 1000, 0, 1, 2, 3, 4, 5)
		d.wants(0, 1, 2, 3)
		a := d.gives(0, 1, 2, 3)
		for i, g := range a {
			d.gets(g, uint32(i), OK)
		}
		for range 10 { // the uplink carries 1,000,000 a second
			d.now += 50 * time.Millisecond
			for i, bytes := range []int64{12500 / share, 12500, 12500, 12500} {
				d.g.Progress(d.now, i, a[i].Credit, d.g.peers[i].promises[0].sent+bytes)
				d.moved += bytes
			}
			d.g.Sample(d.now, d.moved)
		}
		d.wants(4)
		if gs := d.g.Plan(d.now); len(gs) > 0 != want {
			t.Errorf("beside one that takes a %dth of its part %+v are promised", share, gs)
		}
	}
}

// Who is inside and wants a content that has left does not go before those outside because of another content that has not.
func TestWhatHasLeftGoesToAllAlike(t *testing.T) {
	d := newDesk(t, false, 8, 0, 1)
	d.g.AddContent(1, testPiece, 8, true)
	d.g.Want(d.now, 0, 1, WantNow) // nobody else does
	d.g.Want(d.now, 0, 1, WantNot)
	d.g.SetInside(1)
	d.g.peers[1].served = 5 // it waits for less long
	d.wants(0, 1)
	d.gives(0, 0, 1, 1)
}

// What has not left yet goes to the source's own site before it goes to others, as far as those there take it; then all are served alike. Others than a source serve all alike from the start.
func TestASourceServesItsSiteFirst(t *testing.T) {
	for _, source := range []bool{true, false} {
		d := newDesk(t, source, 8, 0, 1, 2, 3)
		d.g.SetInside(2)
		d.g.SetInside(3)
		d.wants(0, 1, 2, 3)
		var served []int
		for range 12 {
			for _, g := range d.g.Plan(d.now) {
				d.out[g.Credit] = g
			}
			least := slices.Min(slices.Collect(maps.Keys(d.out)))
			g := d.out[least]
			delete(d.out, least)
			served = append(served, g.Peer)
			d.gets(g, uint32(max(g.Piece, 0)), OK)
			d.ends(g, true)
			d.g.HasNow(0, g.Peer, uint32(max(g.Piece, 0)))
		}
		inside := func(list []int) (n int) {
			for _, peer := range list {
				n += peer / 2
			}
			return n
		}
		first, then := inside(served[:8]), inside(served[8:])
		if source && (first < 7 || then > 1) || !source && (first != 4 || then != 2) {
			t.Errorf("source: %v: %v are served", source, served)
		}
	}
}
