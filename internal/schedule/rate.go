package schedule

import "time"

const (
	// rateTime is over about how long rates are means.
	rateTime = time.Second
	// peakSpan is the shortest span over which a peak is measured: shorter ones see bursts.
	peakSpan = 100 * time.Millisecond
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

// look takes in that n bytes more have gone or come by now, all counted: a span that ends in the middle of a burst would see too much.
func (p *peak) look(now time.Duration, n int64) {
	if !p.on {
		p.on, p.began = true, now
		return
	}
	p.bytes += n
	span := now - p.began
	if span < peakSpan {
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
