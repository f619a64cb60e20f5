// Package throttle spreads bytes evenly over time, so that a limit of a rate is not used in bursts. A [Rate] is shared by all that move bytes in
// one direction, in whatever protocol; who comes first goes first, a small part at a time. What is promised to whom is not its
// business: internal/schedule keeps that within the limit (docs/SCHEDULING.md, "Limits").
package throttle

import (
	"context"
	"sync"
	"time"
)

const (
	// partTime is how much time of the limit one part takes: what a reader sees of the limit is no coarser.
	partTime = 50 * time.Millisecond
	// minPart is the least part, however low the limit is.
	minPart = 1 << 10
	// slack is how much may be made up for after a wait that was too long: timers are late.
	slack = 20 * time.Millisecond
)

// Rate is a limit in bytes per second. A nil one, and one of 0, is none. Its methods may be called from any goroutine.
type Rate struct {
	mu        sync.Mutex // guards what follows
	perSecond int64
	next      time.Time // when the next part may go
}

// New makes a limit.
func New(perSecond int64) *Rate { return &Rate{perSecond: max(perSecond, 0)} }

// Set changes it. Who waits already goes on waiting, for a part at most.
func (r *Rate) Set(perSecond int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.perSecond, r.next = max(perSecond, 0), time.Time{}
}

// Part returns how many of n bytes are to go at once.
func (r *Rate) Part(n int) int {
	if r == nil {
		return n
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.perSecond == 0 {
		return n
	}
	return int(min(int64(n), max(minPart, r.perSecond/int64(time.Second/partTime))))
}

// Reserve takes its turn with n bytes, and returns how long to wait before they go. They count as gone.
func (r *Rate) Reserve(now time.Time, n int) time.Duration {
	if r == nil || n <= 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.perSecond == 0 {
		return 0
	}
	if earliest := now.Add(-slack); r.next.Before(earliest) {
		r.next = earliest
	}
	wait := r.next.Sub(now)
	r.next = r.next.Add(time.Duration(float64(n) / float64(r.perSecond) * float64(time.Second)))
	return max(wait, 0)
}

// Wait takes its turn with n bytes, and waits for it, at most until ctx ends.
func (r *Rate) Wait(ctx context.Context, n int) error {
	wait := r.Reserve(time.Now(), n)
	if wait == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
