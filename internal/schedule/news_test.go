package schedule

import (
	"slices"
	"testing"
	"time"
)

func TestNewsWaitForAnotherMessageUnlessTheNeighbourLacksNothingOfOurs(t *testing.T) {
	const ms = time.Millisecond
	due := func(n *News, want time.Duration) {
		t.Helper()
		if at, ok := n.Due(); !ok || at != want {
			t.Errorf("due at %v (%v), want %v", at, ok, want)
		}
	}
	var n News
	if _, ok := n.Due(); ok || len(n.Take(0).Whole) != 0 {
		t.Error("there are news of nothing")
	}
	n.Add(500*ms, 6, WantNow) // the first of all are told at once
	due(&n, 500*ms)
	n.Take(500 * ms)
	n.Add(1000*ms, 7, WantNow)
	due(&n, 1000*ms+newsWait)
	n.Add(1010*ms, 8, WantLater)
	due(&n, 1000*ms+newsWait)
	n.Wanted(1020*ms, WantLater)
	due(&n, 1000*ms+newsWait)
	n.Wanted(1020*ms, WantNot) // it has no use for what it knows of: perhaps for this
	due(&n, 1020*ms)
	if got := n.Take(1020 * ms).Whole; !slices.Equal(got, []uint32{7, 8}) {
		t.Errorf("the news are %v", got)
	}
	if _, ok := n.Due(); ok {
		t.Error("they are told, and due still")
	}
	n.Take(1030 * ms)          // told nothing
	n.Add(1030*ms, 9, WantNot) // at once, but not sooner than newsEvery after the last
	due(&n, 1020*ms+newsEvery)
	if got := n.Take(1040 * ms).Whole; !slices.Equal(got, []uint32{9}) {
		t.Errorf("the news are %v", got)
	}
	n.Add(2000*ms, 10, WantNot)
	due(&n, 2000*ms)
}

func TestThatAPieceIsWholeThatHasBegunWaitsForAnotherMessage(t *testing.T) {
	const ms = time.Millisecond
	var n News
	is := func(now, due time.Duration, whole, begun []uint32) {
		t.Helper()
		if at, ok := n.Due(); !ok || at != due {
			t.Errorf("due at %v (%v), want %v", at, ok, due)
		}
		if got := n.Take(now); !slices.Equal(got.Whole, whole) || !slices.Equal(got.Begun, begun) || len(got.Lost) > 0 {
			t.Errorf("the news are %v, want %v and %v", got, whole, begun)
		}
	}
	n.Begun(500*ms, 6, WantNow)
	n.Begun(500*ms, 6, WantNow)
	is(500*ms, 500*ms, nil, []uint32{6}) // the first of all are told at once

	n.Begun(1000*ms, 7, WantNow)
	n.Add(1010*ms, 7, WantNow) // nobody needs to know that it had begun
	n.Begun(1015*ms, 7, WantNow)
	is(1020*ms, 1000*ms+newsWait, []uint32{7}, nil)

	n.Add(2000*ms, 6, WantNot)
	n.Wanted(2000*ms, WantNot)
	is(2000*ms, 2000*ms+newsWait, []uint32{6}, nil)

	n.Begun(3000*ms, 8, WantNot)
	is(3000*ms, 3000*ms, nil, []uint32{8})
	n.Add(3100*ms, 8, WantNot)
	n.Begun(3200*ms, 9, WantNot) // what has begun does not wait with what is whole
	is(3200*ms, 3200*ms, []uint32{8}, []uint32{9})

	n.Begun(4000*ms, 9, WantNow)
	if _, ok := n.Due(); ok {
		t.Error("what was told is to be told again")
	}
	n.Add(4100*ms, 9, WantNot)
	is(4100*ms, 4100*ms+newsWait, []uint32{9}, nil)
	n.Add(4200*ms, 9, WantNow)
	is(4200*ms, 4200*ms+newsWait, []uint32{9}, nil)
}

func TestWhatIsLostIsToldToWhoWasToldThatItComes(t *testing.T) {
	const ms = time.Millisecond
	var n News
	n.Begun(0, 5, WantNow)
	n.Lost(0, 5)
	n.Lost(0, 6)
	if _, ok := n.Due(); ok {
		t.Errorf("%v are to be told", n.Take(0))
	}
	n.Begun(1000*ms, 5, WantNot)
	n.Take(1000 * ms)
	n.Lost(1010*ms, 5)
	if at, ok := n.Due(); !ok || at != 1000*ms+newsEvery { // who asks for it asks in vain
		t.Errorf("due at %v (%v)", at, ok)
	}
	n.Begun(1020*ms, 5, WantNow)
	if got := n.Take(1100 * ms); !slices.Equal(got.Lost, []uint32{5}) || !slices.Equal(got.Begun, []uint32{5}) {
		t.Errorf("the news are %v", got)
	}
	n.Lost(1200*ms, 5)
	n.Begun(1200*ms, 5, WantNow)
	n.Lost(1200*ms, 5) // it has failed again before anything was told
	if got := n.Take(1300 * ms); !slices.Equal(got.Lost, []uint32{5}) || len(got.Begun) > 0 {
		t.Errorf("the news are %v", got)
	}
	n.Begun(1400*ms, 6, WantNow)
	n.Take(1400 * ms)
	n.Lost(1500*ms, 6)
	n.Add(1500*ms, 6, WantNow)
	if got := n.Take(1600 * ms); len(got.Lost) > 0 || !slices.Equal(got.Whole, []uint32{6}) {
		t.Errorf("the news are %v", got)
	}
	if len(n.open) > 0 {
		t.Errorf("%v are remembered", n.open)
	}
}
