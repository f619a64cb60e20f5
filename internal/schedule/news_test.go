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
	if _, ok := n.Due(); ok || len(n.Take(0)) != 0 {
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
	if got := n.Take(1020 * ms); !slices.Equal(got, []uint32{7, 8}) {
		t.Errorf("the news are %v", got)
	}
	if _, ok := n.Due(); ok {
		t.Error("they are told, and due still")
	}
	n.Take(1030 * ms)          // told nothing
	n.Add(1030*ms, 9, WantNot) // at once, but not sooner than newsEvery after the last
	due(&n, 1020*ms+newsEvery)
	if got := n.Take(1040 * ms); !slices.Equal(got, []uint32{9}) {
		t.Errorf("the news are %v", got)
	}
	n.Add(2000*ms, 10, WantNot)
	due(&n, 2000*ms)
}
