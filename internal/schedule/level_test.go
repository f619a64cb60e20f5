package schedule

import (
	"math"
	"slices"
	"testing"
)

// serve serves some twenty neighbours that want everything, and returns how often each was.
func (d *desk) serve(times int) []int {
	d.t.Helper()
	served := make([]int, len(d.g.peers))
	var under []Grant
	for range times {
		if under = append(under, d.g.Plan(d.now)...); len(under) == 0 {
			d.t.Fatal("nobody is served")
		}
		g := under[0]
		under = under[1:]
		d.gets(g, 7, OK)
		d.ends(g, true)
		d.g.HasNow(0, g.Peer, 7)
		served[g.Peer]++
	}
	return served
}

// Ten that have two fifths and ten that have half of a content: the first are served more often by about the fourth power of what they lack, and those of each ten alike. So it is when the others
// say no more than that; a source serves all alike.
func TestWhoLacksMoreIsServedMoreOften(t *testing.T) {
	for _, source := range []bool{false, true} {
		d := newDesk(t, source, 1000, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
		for n := range 20 {
			d.wants(n)
			d.g.SetHave(0, n, uint32(400+100*(n/10)))
		}
		if source {
			for p := range uint32(1000) { // all of it has left
				d.g.contents[0].unsent.remove(p)
			}
		}
		served := d.serve(3000)
		want := math.Pow(601.0/501, 4)
		if source {
			want = 1
		}
		first, second := served[:10], served[10:]
		sum := func(list []int) (n int) {
			for _, x := range list {
				n += x
			}
			return n
		}
		if ratio := float64(sum(first)) / float64(sum(second)); math.Abs(ratio-want) > 0.15*want {
			t.Errorf("source: %v: %v were served, so that those who lack more were %.2f times as often, want %.2f", source, served, ratio, want)
		}
		if !source { // what is said meanwhile counts from then on
			for n := range 10 {
				d.g.SetHave(0, n, 500)
			}
			d.serve(100) // those who have waited
			served = d.serve(1000)
			if ratio := float64(sum(served[:10])) / float64(sum(served[10:])); math.Abs(ratio-1) > 0.1 {
				t.Errorf("once all lack as much %v were served", served)
			}
		}
		for _, list := range [][]int{first, second} {
			if float64(slices.Max(list)) > 1.1*float64(slices.Min(list)) {
				t.Errorf("source: %v: of those who lack as much some are served more often: %v", source, list)
			}
		}
	}
}

// However much somebody says to lack, it is no more than so many turns for one of another.
func TestHowMuchOneIsFavouredIsBounded(t *testing.T) {
	d := newDesk(t, false, 1000, 0, 1, 2, 3, 4, 5)
	weights := func() (out []float64) {
		d.g.level()
		for _, l := range d.g.peers[:5] {
			out = append(out, l.weight)
		}
		return out
	}
	d.wants(0, 1, 2, 3, 4)
	if got := weights(); slices.Min(got) != 1 || slices.Max(got) != 1 {
		t.Errorf("where nobody has anything they count %v", got)
	}
	for n := range 4 {
		d.g.SetHave(0, n, math.MaxUint32) // more than there is is all
	}
	d.g.SetHave(0, 5, 500) // it wants nothing, so that it is no measure
	if got, want := weights(), []float64{1.0 / levelMost, 1.0 / levelMost, 1.0 / levelMost, 1.0 / levelMost, levelMost}; !slices.Equal(got, want) {
		t.Errorf("they count %v, want %v", got, want)
	}
	d.g.Want(d.now, 4, 0, WantLater)
	if got := weights(); got[4] != levelMost {
		t.Errorf("one that has enough for now counts %v", got[4])
	}
	d.g.SetHave(1, 4, 3) // an unknown content
	d.g.SetHave(0, 6, 3) // an unknown neighbour
	d.g.AddContent(1, testPiece, 1000, false)
	d.g.Want(d.now, 0, 1, WantNow)
	d.g.Want(d.now, 4, 1, WantNow)
	d.g.SetHave(1, 4, 999)
	if got := weights(); got[0] <= 2 || got[4] != levelMost {
		t.Errorf("who lacks most of one of two contents counts by the other: %v", got)
	}
	d.g.RemoveContent(1)
	d.g.AddContent(1, testPiece, 10, false)
	if n := d.g.peers[4].have[1]; n != 0 {
		t.Errorf("of a content that is new it has %d pieces already", n)
	}
}
