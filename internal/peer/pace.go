package peer

import (
	"time"

	"shoal/internal/wire"
)

// pace fits the size of data frames, and of what the kernel may hold unsent, to the rate at which a connection takes them.
type pace struct {
	below  Below         // nil: nobody is told
	frame  int           // bytes of the next data frame
	unsent int           // what the kernel may hold
	rate   int           // bytes in a frame's time
	skip   int           // bytes that an idle connection takes at once, which says nothing of its rate
	bytes  int           // that were measured
	busy   time.Duration // how long they took
	last   time.Time     // when the last frame had gone; zero: the connection was idle
	since  time.Time     // since when the kernel holds too much, and nothing has arrived; zero: it does not
	acked  int64         // what had arrived then
	until  time.Time     // when it is worth while to look again
}

func newPace(below Below) *pace {
	p := &pace{below: below}
	p.set(firstFrame)
	p.idle()
	return p
}

// set takes over how many bytes the connection moves in a frame's time.
func (p *pace) set(share int) {
	p.rate = max(share, 1)
	share = max(share, min(minFrame, slowFrames*share), leastFrame)
	p.frame = min(share, wire.MaxDataBytes)
	if unsent := min(share, maxUnsent); unsent != p.unsent {
		p.unsent = unsent
		if p.below != nil {
			p.below.LimitUnsent(unsent)
		}
	}
}

// idle says that there is nothing to send.
func (p *pace) idle() {
	p.skip, p.last, p.since, p.until = p.frame+p.unsent, time.Time{}, time.Time{}, time.Time{}
}

// sent says that a frame has gone.
func (p *pace) sent(now time.Time, bytes int) {
	took := now.Sub(p.last)
	if p.last = now; p.skip > 0 {
		p.skip -= bytes
		return
	}
	p.bytes += bytes
	p.busy += took
	if p.bytes < paceBytes && p.busy < paceTime {
		return
	}
	p.set(int(int64(p.bytes) * int64(frameTime) / int64(max(p.busy, time.Microsecond))))
	p.bytes, p.busy = 0, 0
}

// wait returns how long to wait before the next frame, when the kernel holds many bytes unsent: it takes whole segments of 64 KiB whatever it was
// told. A fast connection is left to it. Stuck says that nothing has arrived for too long; what is unsent does not say so, as control messages go on adding to it.
func (p *pace) wait(now time.Time, unsent func() int, acked func() int64) (wait time.Duration, stuck bool) {
	if p.unsent >= maxUnsent {
		p.since = time.Time{}
		return 0, false
	}
	if now.Before(p.until) { // a control message came between: nothing else has changed
		return p.until.Sub(now), false
	}
	over := unsent() - p.unsent
	if over <= 0 {
		p.since = time.Time{}
		return 0, false
	}
	if p.since.IsZero() || now.Sub(p.since) > stuckLook {
		if n := acked(); p.since.IsZero() || n != p.acked {
			p.since, p.acked = now, n
		}
	}
	most := min(time.Duration(p.unsent)*frameTime/time.Duration(p.rate), maxHold)
	wait = min(time.Duration(over+p.unsent/2)*frameTime/time.Duration(p.rate), most)
	p.until = now.Add(wait)
	return wait, now.Sub(p.since) > deadAfter
}
