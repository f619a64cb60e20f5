package main

import "time"

const (
	// rateOver is the time over which a rate is measured, sampleEvery how often.
	rateOver    = 5 * time.Second
	sampleEvery = 200 * time.Millisecond
	// guessAfter is how long a rate must have been measured before it says when the end comes, and guessOver how long it must have said about the same.
	guessAfter = 2 * time.Second
	guessOver  = 3 * time.Second
)

// meter measures the rate at which a count of bytes grows, over the last five seconds.
type meter struct{ samples []sample }

type sample struct {
	at    time.Time
	bytes int64
}

func (m *meter) add(now time.Time, bytes int64) {
	n := len(m.samples)
	if n > 0 && bytes < m.samples[n-1].bytes { // it began anew
		m.samples, n = m.samples[:0], 0
	}
	if n > 1 && m.samples[n-1].at.Sub(m.samples[n-2].at) < sampleEvery { // the newest moves on until it is old enough
		m.samples[n-1] = sample{now, bytes}
	} else {
		m.samples = append(m.samples, sample{now, bytes})
	}
	first := 0
	for first+1 < len(m.samples) && now.Sub(m.samples[first+1].at) >= rateOver {
		first++
	}
	m.samples = append(m.samples[:0], m.samples[first:]...)
}

// rate returns bytes per second.
func (m *meter) rate() float64 {
	if len(m.samples) < 2 {
		return 0
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	return float64(last.bytes-first.bytes) / max(last.at.Sub(first.at).Seconds(), sampleEvery.Seconds())
}

// guess says how long something will take, once that has been about the same for a while.
type guess struct {
	began time.Time
	ends  []endGuess
}

// endGuess is what was thought at a time: when the end comes.
type endGuess struct{ at, end time.Time }

func (g *guess) add(now time.Time, rest int64, rate float64) {
	if rate < 1 {
		*g = guess{}
		return
	}
	if g.began.IsZero() {
		g.began = now
	}
	if now.Sub(g.began) < guessAfter {
		return
	}
	end := now.Add(time.Duration(min(float64(rest)/rate, 1e9) * float64(time.Second)))
	if n := len(g.ends); n > 1 && g.ends[n-1].at.Sub(g.ends[n-2].at) < sampleEvery {
		g.ends[n-1] = endGuess{now, end}
	} else {
		g.ends = append(g.ends, endGuess{now, end})
	}
	for len(g.ends) > 1 && now.Sub(g.ends[1].at) >= guessOver {
		g.ends = g.ends[1:]
	}
}

// left returns how long it still takes; 0: that cannot be said yet.
func (g *guess) left(now time.Time) time.Duration {
	if len(g.ends) == 0 || g.ends[len(g.ends)-1].at.Sub(g.ends[0].at) < guessOver*8/10 {
		return 0
	}
	first, last, sum := g.ends[0].end, g.ends[0].end, time.Duration(0)
	for _, e := range g.ends {
		if e.end.Before(first) {
			first = e.end
		}
		if e.end.After(last) {
			last = e.end
		}
		sum += e.end.Sub(now)
	}
	left := sum / time.Duration(len(g.ends))
	if last.Sub(first) > max(2*time.Second, left/4) {
		return 0
	}
	return max(left, time.Second)
}
