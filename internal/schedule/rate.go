package schedule

import "time"

const (
	// rateTime is over about how long rates are means.
	rateTime = time.Second
	// peakSpan is the shortest span over which a peak is measured: shorter ones see bursts.
	peakSpan = 100 * time.Millisecond
	// ackSpan is the shortest span over which a peak of bytes that others have acknowledged is measured, ackWaits that in how long things wait in
	// queues, up to maxAckSpan: acknowledgements wait behind what the other side sends, and come together then.
	ackSpan    = 200 * time.Millisecond
	ackWaits   = 4
	maxAckSpan = 2 * time.Second
	// nearTime is how long the shortest round trip is believed in, at least; twice that at most.
	nearTime = 5 * time.Second
	// peakTime is how long a peak is believed in, in peakSlots steps.
	peakTime  = 10 * time.Second
	peakSlots = 10
)

// meter is a rate: a mean in which what is older than rateTime weighs little.
type meter struct {
	bytes float64
	at    time.Duration
}

func (m *meter) add(now time.Duration, n int64) {
	m.decay(now)
	m.bytes += float64(n)
}

func (m *meter) decay(now time.Duration) {
	if dt := now - m.at; dt > 0 {
		f := 1 - float64(dt)/float64(rateTime)
		m.bytes *= max(f, 0)
		m.at = now
	}
}

// perSecond returns bytes per second.
func (m *meter) perSecond(now time.Duration) float64 {
	m.decay(now)
	return m.bytes / rateTime.Seconds()
}

// peak is the best rate of the last peakTime.
type peak struct {
	began time.Duration // of the span that is being measured
	bytes int64         // in it
	on    bool
	step  int64 // of peakTime/peakSlots: the newest of best
	best  [peakSlots]float64
}

// look takes in that n bytes more have gone or come by now, all counted: a span that ends in the middle of a burst would see too much. Least is
// the shortest span that is measured.
func (p *peak) look(now time.Duration, n int64, least time.Duration) {
	if !p.on {
		p.on, p.began = true, now
		return
	}
	p.bytes += n
	span := now - p.began
	if span < least {
		return
	}
	for step := int64(now / (peakTime / peakSlots)); p.step < step; {
		p.step = max(p.step+1, step-peakSlots)
		p.best[p.step%peakSlots] = 0
	}
	b := &p.best[p.step%peakSlots]
	*b = max(*b, float64(p.bytes)/span.Seconds())
	p.began, p.bytes = now, 0
}

// perSecond returns bytes per second, 0 while nothing is known.
func (p *peak) perSecond() (best float64) {
	for _, b := range p.best {
		best = max(best, b)
	}
	return best
}

// trough is the least of the round trips that were seen of late: what a neighbour's distance is when as little as possible waits before it. To take the
// time in queues, which are full of our own pieces, for distance would be to promise more, and make them longer.
type trough struct {
	now, before time.Duration // of this span, and of the one before it
	began       time.Duration // this span
	spans       int           // that have begun
	ever        time.Duration // the least of all
}

// look takes in a round trip.
func (t *trough) look(now, took time.Duration) {
	switch {
	case t.spans == 0 || now-t.began >= nearTime:
		t.now, t.before, t.began = took, t.now, now
		t.spans++
	case took < t.now:
		t.now = took
	}
	if t.ever == 0 || took < t.ever {
		t.ever = took
	}
}

// least returns the shortest round trip, 0 if none was seen.
func (t *trough) least() time.Duration {
	if t.spans > 1 {
		return min(t.now, t.before)
	}
	return t.now
}
