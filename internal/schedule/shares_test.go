package schedule

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// script drives a Shares as a transfer does, in words: it keeps what each holder was asked for.
type script struct {
	t   *testing.T
	s   *Shares
	now time.Duration
}

func begin(t *testing.T, units uint32, holders ...int) *script {
	s := NewShares(SharesConfig{Units: units, UnitSize: 100, LastSize: 100})
	for _, h := range holders {
		s.Add(h)
	}
	return &script{t: t, s: s}
}

// plans expects these commands: "1:0-3 2:4-6" asks holder 1 for units 0 to 3, "!2" stops holder 2.
func (sc *script) plans(want string) {
	sc.t.Helper()
	var got []string
	for _, c := range sc.s.Plan(sc.now) {
		if c.Stop {
			got = append(got, fmt.Sprintf("!%d", c.Holder))
		} else {
			got = append(got, fmt.Sprintf("%d:%d-%d", c.Holder, c.First, c.Last))
		}
	}
	if strings.Join(got, " ") != want {
		sc.t.Fatalf("planned %q, want %q", got, want)
	}
}

// delivers lets a holder deliver units, each within a time.
func (sc *script) delivers(h int, each time.Duration, units ...uint32) {
	sc.t.Helper()
	for _, u := range units {
		if !sc.s.Begin(h, u) {
			sc.t.Fatalf("holder %d may not begin %d", h, u)
		}
		sc.now += each
		sc.s.Received(h, 100, sc.now)
		sc.s.End(h)
	}
}

func (sc *script) mayNotBegin(h int, unit uint32) {
	sc.t.Helper()
	if sc.s.Begin(h, unit) {
		sc.t.Fatalf("holder %d began %d", h, unit)
	}
}

func TestSharesAreContiguousAndRoughlyEqual(t *testing.T) {
	begin(t, 7, 1).plans("1:0-6")
	begin(t, 7, 1, 2).plans("1:0-3 2:4-6")
	begin(t, 7, 1, 2, 3, 4).plans("1:0-1 2:2-3 3:4-5 4:6-6")
	begin(t, 2, 1, 2, 3).plans("1:0-0 2:1-1")
	begin(t, 0, 1).plans("")
}

func TestWhatIsThereIsNotAskedFor(t *testing.T) {
	s := NewShares(SharesConfig{Units: 10, UnitSize: 100, LastSize: 7, Have: func(u uint32) bool { return u < 3 || u == 5 }})
	s.Add(1)
	s.Add(2)
	sc := &script{t: t, s: s}
	sc.plans("1:3-4 2:7-9")
	sc.delivers(1, time.Second, 3, 4)
	s.Stopped(1)
	sc.plans("1:6-6") // the rest of its share
	if s.Missing() != 4 {
		t.Errorf("%d missing, want 4", s.Missing())
	}
}

func TestAHolderThatDiesLeavesItsRestToTheOthers(t *testing.T) {
	sc := begin(t, 8, 1, 2)
	sc.plans("1:0-3 2:4-7")
	sc.delivers(2, time.Second, 4)
	sc.s.Begin(2, 5)
	sc.s.Stopped(2)
	sc.s.Remove(2)
	sc.plans("") // holder 1 has its own share first
	sc.delivers(1, time.Second, 0, 1, 2, 3)
	sc.s.Stopped(1)
	sc.plans("1:5-7")
}

func TestAHolderThatFinishesEarlyTakesHalfOfTheSlowestOnesRest(t *testing.T) {
	sc := begin(t, 16, 1, 2)
	sc.plans("1:0-7 2:8-15")
	sc.s.Begin(2, 8)
	sc.delivers(1, time.Second, 0, 1, 2, 3, 4, 5, 6, 7)
	sc.s.Received(2, 50, sc.now)
	sc.s.Stopped(1)
	sc.plans("1:12-15") // of 9 to 15, which holder 2 has not begun
	sc.s.Received(2, 50, sc.now+time.Second)
	sc.s.End(2)
	sc.delivers(2, time.Second, 9, 10, 11)
	sc.mayNotBegin(2, 12)
	sc.s.Stopped(2)
}

func TestTheSlowestIsTheOneExpectedToFinishLast(t *testing.T) {
	sc := begin(t, 12, 1, 2, 3)
	sc.plans("1:0-3 2:4-7 3:8-11")
	sc.s.Begin(2, 4)
	sc.s.Begin(3, 8)
	sc.delivers(1, time.Second, 0, 1, 2, 3)
	sc.s.Received(2, 10, sc.now) // a tenth of the speed of holder 3
	sc.s.Received(3, 99, sc.now)
	sc.s.Stopped(1)
	sc.plans("1:6-7")
}

func TestTheLastUnitIsTakenFromOneWhoWouldNeedClearlyLonger(t *testing.T) {
	sc := begin(t, 4, 1, 2)
	sc.plans("1:0-1 2:2-3")
	sc.s.Begin(2, 2)
	sc.delivers(1, time.Second, 0, 1)
	sc.s.Received(2, 2, sc.now) // one byte a second
	sc.s.Stopped(1)
	sc.plans("1:3-3")
	sc.delivers(1, time.Second, 3)
	sc.s.Stopped(1)
	sc.plans("!2")
	sc.plans("") // and nobody touches the unit before holder 2 has stopped
	sc.s.Stopped(2)
	sc.plans("1:2-2")
	sc.mayNotBegin(2, 2)
}

// One that is done before its speed could be sampled is quick all the same.
func TestAHolderIsQuickFromItsFirstUnitOn(t *testing.T) {
	sc := begin(t, 2, 1, 2)
	sc.plans("1:0-0 2:1-1")
	sc.s.Begin(2, 1)
	sc.delivers(1, time.Millisecond, 0)
	sc.s.Stopped(1)
	sc.now += 2 * time.Second
	sc.s.Received(2, 1, sc.now)
	sc.plans("!2")
	sc.s.Stopped(2)
	sc.plans("1:1-1")
}

func TestAHolderThatNeverHadAChanceGetsOneFromAVerySlowOne(t *testing.T) {
	sc := begin(t, 1, 1, 2)
	sc.plans("1:0-0")
	sc.s.Begin(1, 0)
	sc.now = 2 * time.Second
	sc.s.Received(1, 1, sc.now)
	sc.plans("!1")
	sc.s.Stopped(1)
	sc.plans("2:0-0")
}

func TestNobodyTakesWhatIsAsGoodAsDone(t *testing.T) {
	sc := begin(t, 2, 1, 2)
	sc.plans("1:0-0 2:1-1")
	sc.s.Begin(2, 1)
	sc.delivers(1, time.Second, 0)
	sc.s.Received(2, 50, sc.now)
	sc.s.Stopped(1)
	sc.plans("")
}

func TestAUnitThatWasNotAskedForIsRefused(t *testing.T) {
	sc := begin(t, 4, 1, 2)
	sc.mayNotBegin(1, 0) // before it was asked
	sc.plans("1:0-1 2:2-3")
	sc.mayNotBegin(1, 1)
	sc.mayNotBegin(1, 2)
	sc.mayNotBegin(3, 0)
	sc.delivers(1, time.Second, 0)
	sc.mayNotBegin(1, 0)
}

// One that sends half a unit at once, and then nothing, is known to be quick. It does not get the unit again before others had their turn.
func TestWhoStoppedInTheMiddleComesAfterThoseWhoDidNot(t *testing.T) {
	sc := begin(t, 1, 1, 2, 3)
	stalls := func(h, samples int) {
		t.Helper()
		if !sc.s.Begin(h, 0) {
			t.Fatalf("holder %d may not begin", h)
		}
		sc.now += sampleTime
		sc.s.Received(h, 50, sc.now)
		for range samples {
			sc.now += sampleTime
			sc.s.Received(h, 0, sc.now)
		}
	}
	sc.plans("1:0-0")
	stalls(1, 12)
	sc.plans("!1")
	sc.s.Stopped(1)
	sc.plans("2:0-0")
	stalls(2, 20)
	sc.plans("!2")
	sc.s.Stopped(2)
	sc.plans("3:0-0")
	sc.delivers(3, time.Second, 0)
}

// Nobody is told to stop before there was time to see how quick it is, however little the others have led us to expect.
func TestWhoHasJustBegunIsNotStopped(t *testing.T) {
	sc := begin(t, 1, 1)
	sc.plans("1:0-0")
	sc.s.Begin(1, 0)
	for id, rate := range map[int]float64{2: 20, 3: 0, 4: 0} {
		sc.s.Add(id)
		sc.s.find(id).known, sc.s.find(id).rate = true, rate
	}
	sc.plans("")
	sc.now += benefit
	sc.s.Received(1, 0, sc.now)
	sc.plans("!1")
	sc.s.Stopped(1)
	sc.plans("2:0-0")
}

func TestWhoDoesNotBeginIsNotWaitedForByThoseWithNothingToDo(t *testing.T) {
	sc := begin(t, 1, 1)
	sc.plans("1:0-0")
	sc.s.Add(2)
	sc.now = lateTime - 1
	sc.plans("")
	sc.now = lateTime
	sc.plans("!1 2:0-0")
	sc.mayNotBegin(1, 0)
	sc.s.Stopped(1)
	sc.now += lateTime
	sc.plans("!2 1:0-0")
	sc.s.Stopped(2)
	sc.now += lateTime
	sc.plans("") // the second time it has longer: else two who are slow to begin would never get to it
	sc.now += lateTime
	sc.plans("!1 2:0-0")
}

func TestFailuresAreForgottenWithAUnitAndNotWithAnAbsence(t *testing.T) {
	sc := begin(t, 2, 1)
	sc.plans("1:0-1")
	sc.s.Begin(1, 0)
	sc.s.Stopped(1)
	sc.s.Remove(1)
	sc.s.Add(1)
	sc.s.Add(2)
	sc.plans("2:0-0 1:1-1") // 2 goes first
	sc.delivers(1, time.Second, 1)
	sc.s.Begin(2, 0)
	sc.s.Stopped(1)
	sc.s.Stopped(2)
	sc.plans("1:0-0")
}

// Whatever liars do, and however often they come back, the one who is honest has its turn.
func TestLiarsDoNotKeepTheLastUnitFromWhoIsHonest(t *testing.T) {
	for seed := range uint64(200) {
		took := underLiars(seed)
		if took > 2*time.Minute {
			t.Fatalf("seed %d: %v", seed, took)
		}
	}
}

// underLiars returns how long a unit takes that sixteen liars and one who is honest have.
func underLiars(seed uint64) time.Duration {
	const tick, unit, liars = 50 * time.Millisecond, 320_000, 16
	rng := rand.New(rand.NewPCG(seed, 1))
	s := NewShares(SharesConfig{Units: 1, UnitSize: unit, LastSize: unit})
	type liar struct {
		kind, strikes            int
		in, busy, stop, at, fast bool
		asked, back              time.Duration
	}
	honest := rng.IntN(liars + 1)
	peers := make([]liar, liars+1)
	for i := range peers {
		peers[i].kind = rng.IntN(4)
	}
	var got int64
	for now := time.Duration(0); ; now += tick {
		for i := range peers {
			p := &peers[i]
			if !p.in && now >= p.back {
				p.in = true
				s.Add(i)
			}
			fails := func() {
				s.Stopped(i)
				s.Remove(i)
				p.strikes++
				*p = liar{kind: p.kind, strikes: p.strikes, back: now + min(500*time.Millisecond<<min(p.strikes-1, 10), 30*time.Second)}
			}
			switch {
			case !p.busy:
				continue
			case p.stop:
				s.Stopped(i)
				p.busy, p.stop, p.at = false, false, false
				continue
			case !p.at && now-p.asked < 100*time.Millisecond:
				continue
			case !p.at && i != honest && p.kind == 0: // says nothing
				if now-p.asked > 10*time.Second {
					fails()
				}
				continue
			case !p.at:
				if !s.Begin(i, 0) {
					s.Stopped(i)
					p.busy = false
					continue
				}
				p.at, p.fast = true, true
				got = 0
			}
			switch {
			case i == honest:
				s.Received(i, unit/4, now)
				if got += unit / 4; got == unit {
					s.End(i)
					return now
				}
			case p.kind == 1 && p.fast: // half of it, and nothing more
				s.Received(i, unit/2, now)
				p.fast = false
			case p.kind == 2: // breaks off
				s.Received(i, unit/4, now)
				fails()
			case p.kind == 3 && now%time.Second == 0: // a byte a second
				s.Received(i, 1, now)
			default:
				s.Received(i, 0, now)
			}
			if p.busy && now-p.asked > 30*time.Second {
				fails()
			}
		}
		for _, c := range s.Plan(now) {
			p := &peers[c.Holder]
			if c.Stop {
				p.stop = true
			} else {
				p.busy, p.asked = true, now
			}
		}
		if now > time.Hour {
			return now
		}
	}
}

// Swarms by seed: holders of very different speed that die, come back and come late. Whatever happens, one holder at a
// time is at a unit, everything arrives, and the end comes not much later than the speeds allow.
func TestSwarmsOfUnequalHoldersFinish(t *testing.T) {
	for seed := range uint64(300) {
		if err := simulate(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func simulate(seed uint64) error {
	const tick, unit = 100 * time.Millisecond, 1000
	rng := rand.New(rand.NewPCG(seed, 0))
	units := 1 + rng.Uint32N(60)
	s := NewShares(SharesConfig{Units: units, UnitSize: unit, LastSize: 1 + rng.Int64N(unit)})
	type peer struct {
		in, busy, stop, at bool
		rate, got          int64
		next, last         uint32
	}
	peers := make([]peer, 1+rng.IntN(6))
	for i := range peers {
		peers[i].rate = 1 + rng.Int64N(10)*rng.Int64N(10)*10
	}
	peers[0].rate = 500
	writer := make(map[uint32]int)
	have := make(map[uint32]bool)
	stopped := func(i int) {
		p := &peers[i]
		if p.at {
			delete(writer, p.next)
		}
		p.at, p.busy, p.stop = false, false, false
		s.Stopped(i)
	}
	for now := time.Duration(0); s.Missing() > 0; now += tick {
		if now > time.Hour {
			return fmt.Errorf("%d of %d units missing after an hour", s.Missing(), units)
		}
		for i := range peers {
			p := &peers[i]
			switch {
			case !p.in && (i == 0 || rng.IntN(20) == 0):
				p.in = true
				s.Add(i)
			case p.in && i > 0 && rng.IntN(200) == 0: // peer 0 is always there
				stopped(i)
				s.Remove(i)
				p.in = false
			}
			if p.busy && (p.stop || p.next > p.last) {
				stopped(i)
			}
			if !p.busy {
				continue
			}
			if !p.at {
				if !s.Begin(i, p.next) {
					stopped(i)
					continue
				}
				if other, taken := writer[p.next]; taken || have[p.next] {
					return fmt.Errorf("unit %d is begun by %d, and %d is at it or it is there", p.next, i, other)
				}
				p.at, p.got, writer[p.next] = true, 0, i
			}
			size := s.size(p.next)
			more := min(p.rate/10+1, size-p.got)
			p.got += more
			s.Received(i, more, now)
			if p.got == size {
				s.End(i)
				have[p.next] = true
				delete(writer, p.next)
				p.at = false
				p.next++
			}
		}
		for _, c := range s.Plan(now) {
			p := &peers[c.Holder]
			if c.Stop {
				p.stop = true
				continue
			}
			if p.busy || !p.in {
				return fmt.Errorf("busy or absent peer %d asked for %d-%d", c.Holder, c.First, c.Last)
			}
			p.busy, p.next, p.last = true, c.First, c.Last
		}
		if s.Missing() == 0 {
			// Peer 0 alone would need that long; the slow ones may cost the endgame's patience, not more.
			alone := time.Duration(units) * unit * time.Second / 500
			if now > alone*3/2+10*time.Second {
				return fmt.Errorf("took %v, the quickest holder alone %v", now, alone)
			}
		}
	}
	if uint32(len(have)) != units {
		return fmt.Errorf("%d of %d units", len(have), units)
	}
	return nil
}
