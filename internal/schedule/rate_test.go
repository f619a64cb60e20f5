package schedule

import (
	"testing"
	"time"
)

// What others acknowledge waits behind what they send, and comes together: a link that carries 1.5 MB/s is not taken for one that carries three times as
// much. Else it would never be busy, all would count as slow, and everybody would be promised something at once.
func TestAcknowledgementsThatComeTogetherAreNoFastUplink(t *testing.T) {
	const uplink, held, step = 1_500_000, 300 * time.Millisecond, 50 * time.Millisecond
	d := newDesk(t, false, 100, 0, 1)
	d.wants(0, 1)
	for _, g := range d.gives(0, 1, 0, 1) {
		d.now += 10 * time.Millisecond // near, when nothing waits yet
		d.gets(g, 1, OK)
	}
	for _, l := range d.g.peers {
		l.rtt = held // with what waits
	}
	for range int(5 * time.Second / step) {
		d.now += step
		if d.now%held < step {
			d.moved += int64(uplink * held.Seconds())
		}
		d.g.Sample(d.now, d.moved)
	}
	if got := d.g.uplink; got < 0.9*uplink || got > 1.25*uplink {
		t.Errorf("%.0f bytes a second, want about %d", got, uplink)
	}
}

// The other way round: where nothing waits, a rate is believed soon.
func TestAnUplinkIsKnownSoonWhereNothingWaits(t *testing.T) {
	const uplink, step = 1_500_000, 50 * time.Millisecond
	d := newDesk(t, false, 100, 0)
	d.wants(0)
	for _, g := range d.gives(0, 0) {
		d.now += 10 * time.Millisecond
		d.gets(g, 1, OK)
	}
	for range int(350 * time.Millisecond / step) {
		d.now += step
		d.moved += int64(uplink * step.Seconds())
		d.g.Sample(d.now, d.moved)
	}
	if got := d.g.uplink; got < 0.9*uplink || got > 1.1*uplink {
		t.Errorf("%.0f bytes a second, want about %d", got, uplink)
	}
}

// Answers that take long because our own pieces wait before them say nothing of a distance: to promise more would make them wait longer.
func TestAFullQueueIsNoDistance(t *testing.T) {
	for _, c := range []struct {
		what            string
		first, then     time.Duration
		promises, spare int
	}{
		{"near, and much waits", 10 * time.Millisecond, 400 * time.Millisecond, promises, 2},
		{"far", 400 * time.Millisecond, 400 * time.Millisecond, 20, 8},
	} {
		d := newDesk(t, false, 1000, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
		d.g.contents[0].piece = 64 << 10
		for n, l := range d.g.peers {
			d.wants(n)
			l.answered(d.now, c.first)
			for range 3 * rttMean {
				l.answered(d.now+nearTime/2, c.then)
			}
		}
		d.now += nearTime / 2
		d.g.uplink, d.g.rate = 3_000_000, 3_000_000
		if got := len(d.g.Plan(d.now)); got < c.promises || got > c.promises+c.spare {
			t.Errorf("%s: %d promises, want %d to %d", c.what, got, c.promises, c.promises+c.spare)
		}
	}
}

func TestTheShortestRoundTripIsBelievedInForAWhile(t *testing.T) {
	var near trough
	for _, c := range []struct{ at, took, least time.Duration }{
		{0, 50, 50},
		{1 * time.Second, 10, 10},
		{2 * time.Second, 90, 10},
		{nearTime, 80, 10},     // the span before counts
		{2 * nearTime, 70, 70}, // and the one before that does not
		{2*nearTime + 1, 60, 60},
	} {
		near.look(c.at, c.took)
		if got := near.least(); got != c.least {
			t.Errorf("at %v: %d, want %d", c.at, got, c.least)
		}
	}
	if near.ever != 10 {
		t.Errorf("%d is the least of all, want 10", near.ever)
	}
}
