package schedule

import (
	"math/bits"
	"time"
)

const (
	// MaxRate is the largest limit, in bytes per second: a larger one is none.
	MaxRate = 1 << 40
	// limitBurst is how much may be promised or asked for at once, as time of the limit; a few pieces at least.
	limitBurst = 250 * time.Millisecond
)

// Limit is how much may be promised, or asked for: in any time what its rate gives in it, and a burst. Pieces are charged whole, before they
// move, and what of them does not move is given back. It may be charged as long as something is left: the last piece may go over, and those
// after it wait the longer, so that a piece that is larger than the burst comes through as well.
type Limit struct {
	rate   int64 // bytes per second; 0: no limit
	pieces int64 // of the largest size, that a burst has at least
	piece  int64 // the largest size
	left   int64 // bytes that may be charged; below 0: charged beforehand
	part   uint64
	at     time.Duration
}

// NewLimit makes a limit that is none, until it is set. A burst has so many pieces at least.
func NewLimit(pieces int) *Limit { return &Limit{pieces: int64(pieces)} }

// Set changes the rate, in bytes per second; 0: no limit. What is promised or asked for already, and has not moved, is charged.
func (l *Limit) Set(now time.Duration, rate, under int64) {
	if rate <= 0 || rate > MaxRate {
		rate = 0
	}
	l.rate, l.at, l.part = rate, now, 0
	l.left = l.burst() - under
}

// Rate returns the limit in bytes per second, 0 if there is none.
func (l *Limit) Rate() int64 {
	if l == nil {
		return 0
	}
	return l.rate
}

// Piece says how large pieces may be that are charged.
func (l *Limit) Piece(size int64) {
	if l == nil || size <= l.piece {
		return
	}
	before := l.burst()
	l.piece = size
	l.left += l.burst() - before
}

func (l *Limit) burst() int64 {
	return max(l.pieces*l.piece, l.rate/int64(time.Second/limitBurst))
}

// Allows says whether another piece may be charged now.
func (l *Limit) Allows(now time.Duration) bool {
	if l.Rate() == 0 {
		return true
	}
	l.fill(now)
	return l.left > 0
}

// fill adds what the rate has given since the last time. Fractions of a byte are kept: it may be asked thousands of times a second.
func (l *Limit) fill(now time.Duration) {
	if now <= l.at {
		return
	}
	high, low := bits.Mul64(uint64(l.rate), uint64(min(now-l.at, time.Hour))) // which fills any burst
	low, carry := bits.Add64(low, l.part, 0)
	got, part := bits.Div64(high+carry, low, uint64(time.Second))
	l.at, l.part = now, part
	if l.left += int64(got); l.left >= l.burst() {
		l.left, l.part = l.burst(), 0
	}
}

// Charge takes what a piece has.
func (l *Limit) Charge(bytes int64) {
	if l.Rate() > 0 {
		l.left -= bytes
	}
}

// Refund gives back what of a piece has not moved.
func (l *Limit) Refund(bytes int64) {
	if l.Rate() > 0 {
		l.left = min(l.left+bytes, l.burst())
	}
}

// cap returns a rate that was measured, at most the limit: a span may have seen a burst.
func (l *Limit) cap(perSecond float64) float64 {
	if rate := l.Rate(); rate > 0 {
		return min(perSecond, float64(rate))
	}
	return perSecond
}
