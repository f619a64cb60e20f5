package schedule

import "time"

const (
	// bestSpan is over how long the best rate of a course is measured: shorter spans see bursts.
	bestSpan = time.Second
	// markEvery is how often what has moved is noted down for that.
	markEvery = 50 * time.Millisecond
	// Of what took less than leastTime, or was fewer than leastPieces, nothing can be said.
	leastTime   = 2 * time.Second
	leastPieces = 16
)

// Course is how bytes moved, from the first to the last: docs/SCHEDULING.md, "How far from the bound".
type Course struct {
	Limit       int64 // bytes per second that it was held to, 0: none; a better rate that was seen was a burst
	seen, begun bool
	looked      time.Duration // when it was told last
	first, last time.Duration // when the first and the last bytes moved
	total       int64
	best        float64 // bytes per second, the most of any bestSpan
	marks       []mark  // of the last bestSpan, and one before
}

type mark struct {
	at    time.Duration
	total int64
}

// Look takes in that so many bytes have moved since the last time.
func (c *Course) Look(now time.Duration, bytes int64) {
	if bytes > 0 {
		if !c.begun {
			c.begun, c.first = true, now
			if c.seen && now-c.looked <= 2*markEvery { // they came since then
				c.first = c.looked
			}
			c.marks = append(c.marks, mark{c.first, 0})
		}
		c.last = now
		c.total += bytes
	}
	c.seen, c.looked = true, now
	if !c.begun {
		return
	}
	for len(c.marks) > 1 && c.marks[1].at <= now-bestSpan {
		c.marks = c.marks[1:]
	}
	if from := c.marks[0]; from.at <= now-bestSpan {
		c.best = max(c.best, float64(c.total-from.total)/(now-from.at).Seconds())
	}
	if now-c.marks[len(c.marks)-1].at >= markEvery {
		c.marks = append(c.marks, mark{now, c.total})
	}
}

// Idle returns for how long nothing has moved, 0 before anything has.
func (c *Course) Idle(now time.Duration) time.Duration {
	if !c.begun {
		return 0
	}
	return now - c.last
}

// Last returns when the last bytes moved.
func (c *Course) Last() time.Duration { return c.last }

// Ratio returns how many times as long it has taken until then as so many bytes take at the best rate that was seen; 0: nothing can be said.
func (c *Course) Ratio(until time.Duration, bytes, piece int64) float64 {
	took := until - c.first
	if !c.begun || took < leastTime || bytes < leastPieces*piece || c.best == 0 {
		return 0
	}
	best := c.best
	if c.Limit > 0 {
		best = min(best, float64(c.Limit))
	}
	return max(1, best*took.Seconds()/float64(bytes))
}
