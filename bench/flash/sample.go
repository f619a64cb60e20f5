//go:build linux

package main

import (
	"time"

	"shoal/bench/internal/lab"
)

// sampleEvery is how often the counters of all links are read.
const sampleEvery = 100 * time.Millisecond

// sample is what all machines had sent at a time.
type sample struct {
	at   time.Duration // since the first start
	sent []int64       // bytes since then, by machine; the source first
}

// use returns which part of all uplinks' capacity was used between two times; the curve of a whole run in a few numbers.
func use(samples []sample, capacity float64, from, to time.Duration) float64 {
	if to <= from || capacity == 0 {
		return 0
	}
	return (sentBy(samples, to) - sentBy(samples, from)) / (capacity * (to - from).Seconds())
}

// sentBy returns what all had sent by a time, in proportion between two samples.
func sentBy(samples []sample, at time.Duration) float64 {
	var before sample
	for _, s := range samples {
		if s.at >= at {
			part := 1.0
			if s.at > before.at {
				part = float64(at-before.at) / float64(s.at-before.at)
			}
			return total(before) + part*(total(s)-total(before))
		}
		before = s
	}
	return total(before)
}

func total(s sample) (sum float64) {
	for _, n := range s.sent {
		sum += float64(n)
	}
	return sum
}

// curve divides the time until end into parts of equal length, and says how much of the capacity each has used.
func curve(samples []sample, capacity float64, end time.Duration, parts int) (out []float64) {
	for i := range time.Duration(parts) {
		n := time.Duration(parts)
		out = append(out, use(samples, capacity, end*i/n, end*(i+1)/n))
	}
	return out
}

// meter is what the machine and its network have done by a time.
type meter struct {
	at      time.Time
	busy    time.Duration // of all processors together
	traffic []traffic
	segs    []segments
}

func (n *network) meter() (m meter, err error) {
	if m.traffic, err = n.traffic(); err != nil {
		return m, err
	}
	for _, s := range n.machines[:len(n.machines)-1] {
		segs, err := s.segments()
		if err != nil {
			return m, err
		}
		m.segs = append(m.segs, segs)
	}
	m.busy, err = lab.Busy()
	m.at = time.Now()
	return m, err
}
