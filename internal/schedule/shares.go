// Package schedule decides: which unit of a content comes next, and from whom. It is pure. It knows small integers, sizes
// and the time that it is told; it has no connections, no files, no goroutines, no clock and no chance of its own, so the
// same calls give the same commands, always. Carrying the commands out is the business of package transfer.
//
// [Shares] is the schedule for holders that are asked for ranges and cannot be asked for less than a unit: classic
// peers. docs/CLASSIC.md section 6.
package schedule

import (
	"cmp"
	"slices"
	"time"
)

// Shares divides the units of one content among its holders.
//
// Each holder has a share: units that it alone is asked for, in rising order. At first the shares are equal and
// contiguous. A holder that goes leaves its share to the others. A holder that has finished takes over: the later
// half of what the one expected to finish last has not begun; and when nothing is left that was not begun, the very unit
// that one is at, if it would have it clearly sooner from the start. At any moment a unit is in at most one
// share, and only one holder may be at it: its place has one writer.
type Shares struct {
	cfg     SharesConfig
	missing uint32 // units that are not there yet
	free    []span // missing units that are in nobody's share, in rising order
	holders []*holder
}

// SharesConfig is what a [Shares] is about.
type SharesConfig struct {
	Units    uint32            // how many the content has
	UnitSize int64             // bytes in each but the last
	LastSize int64             // bytes in the last
	Have     func(uint32) bool // which are there already; nil: none
}

// span is the units first to last, inclusive.
type span struct{ first, last uint32 }

func (s span) len() uint32 { return s.last - s.first + 1 }

// holder is one who has all units.
type holder struct {
	id       int
	share    []span // what it is to deliver and has not begun, in rising order
	busy     bool   // it has been asked for a range, and that has not ended
	stopping bool   // it has been told to stop

	at       bool // it is in the middle of unit current
	current  uint32
	got      int64   // bytes of current
	rate     float64 // bytes per second
	known    bool    // rate has been measured
	fresh    int64   // bytes since measured
	measured time.Duration
	asked    time.Duration // when its request began
	heard    time.Duration // when it was last told of
	total    int64         // bytes of its request

	heir   *holder // gets current when this one has stopped
	heirOf *holder
}

// Command is what a [Shares] wants done.
type Command struct {
	Holder      int
	Stop        bool   // end the holder's request, even in the middle of a unit; else:
	First, Last uint32 // ask it for these units, inclusive
}

const (
	// clearlySooner is how much longer a holder must need for the rest of a unit than another for the whole of it, for
	// the unit to be taken from it.
	clearlySooner = 2
	// patience is added to that, so that nobody takes over what is as good as done.
	patience = 1.0 // seconds
	// hope is how long a holder that has delivered nothing yet is expected to need for a unit.
	hope = 5.0 // seconds
	// rates are measured over at least this long, and smoothed.
	sampleTime = 250 * time.Millisecond
	// benefit is how long nothing may come of a holder's first request before that counts as its rate.
	benefit   = time.Second
	smoothing = 0.3
)

// NewShares starts with no holders.
func NewShares(cfg SharesConfig) *Shares {
	s := &Shares{cfg: cfg}
	for u := uint32(0); u < cfg.Units; u++ {
		if cfg.Have == nil || !cfg.Have(u) {
			s.missing++
			s.free = addUnit(s.free, u)
		}
	}
	return s
}

// Missing returns how many units are not there yet.
func (s *Shares) Missing() uint32 { return s.missing }

// Add brings in a holder. It must not be in already.
func (s *Shares) Add(id int) {
	s.holders = append(s.holders, &holder{id: id})
	slices.SortFunc(s.holders, func(a, b *holder) int { return cmp.Compare(a.id, b.id) })
}

// Begin says that the holder is about to deliver a unit, and returns whether it may: only if that is the next in its share.
func (s *Shares) Begin(id int, unit uint32) bool {
	h := s.find(id)
	if h == nil || !h.busy || h.stopping || h.at || len(h.share) == 0 || h.share[0].first != unit {
		return false
	}
	h.at, h.current, h.got = true, unit, 0
	h.share = dropFirst(h.share)
	return true
}

// Received says how many more bytes of its unit the holder has delivered. It is to be called now and then even when
// that is none, so that the measured rate falls.
func (s *Shares) Received(id int, bytes int64, now time.Duration) {
	h := s.find(id)
	if h == nil || !h.busy {
		return
	}
	h.got += bytes
	h.fresh += bytes
	h.total += bytes
	h.heard = now
	if dt := now - h.measured; dt >= sampleTime {
		rate := float64(h.fresh) / dt.Seconds()
		switch {
		case h.known:
			h.rate += smoothing * (rate - h.rate)
		case h.fresh > 0 || now-h.asked >= benefit:
			h.rate, h.known = rate, true
		}
		h.fresh, h.measured = 0, now
	}
}

// End says that the holder's unit is there.
func (s *Shares) End(id int) {
	h := s.find(id)
	if h == nil || !h.at {
		return
	}
	h.at = false
	s.missing--
	if !h.known { // it delivered a unit in less time than a sample takes
		h.rate, h.known = float64(h.total)/max(h.heard-h.asked, time.Millisecond).Seconds(), true
	}
}

// Stopped says that the holder's request has ended, by itself or because it was told to, and that nothing more of it
// will be written. What it was at is given to others; its share stays its own.
func (s *Shares) Stopped(id int) {
	h := s.find(id)
	if h == nil {
		return
	}
	if h.at {
		if h.heir != nil {
			h.heir.share = addUnit(h.heir.share, h.current)
		} else {
			s.free = addUnit(s.free, h.current)
		}
	}
	s.unlink(h)
	h.at, h.busy, h.stopping, h.fresh = false, false, false, 0
}

// Remove takes a holder out; it must not be busy. Its share is given to others.
func (s *Shares) Remove(id int) {
	h := s.find(id)
	if h == nil {
		return
	}
	s.Stopped(id)
	for _, sp := range h.share {
		s.free = merge(s.free, sp)
	}
	if h.heirOf != nil {
		h.heirOf.heir = nil
	}
	s.holders = slices.DeleteFunc(s.holders, func(other *holder) bool { return other == h })
}

// Plan returns what is to be done now, and counts it as done.
func (s *Shares) Plan(now time.Duration) []Command {
	var out []Command
	for _, h := range s.idle() {
		if len(h.share) == 0 {
			s.supply(h, &out)
		}
		if len(h.share) > 0 {
			h.busy, h.asked, h.measured, h.fresh, h.total = true, now, now, 0, 0
			out = append(out, Command{Holder: h.id, First: h.share[0].first, Last: h.share[0].last})
		}
	}
	return out
}

// idle returns who can be given work: the quickest first, so that a rest goes to them.
func (s *Shares) idle() []*holder {
	var out []*holder
	for _, h := range s.holders {
		if !h.busy && h.heirOf == nil {
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(a, b *holder) int { return cmp.Compare(b.rate, a.rate) })
	return out
}

// supply finds work for an idle holder.
func (s *Shares) supply(h *holder, out *[]Command) {
	if n := total(s.free); n > 0 {
		waiting := uint32(0)
		for _, other := range s.holders {
			if !other.busy && other.heirOf == nil && len(other.share) == 0 {
				waiting++
			}
		}
		h.share, s.free = split(s.free, (n+waiting-1)/waiting)
		return
	}
	if last := s.lastToFinish(h, func(v *holder) bool { return v.canGive() > 0 }); last != nil {
		n, take := total(last.share), last.canGive()
		if h.known && float64(take)*float64(s.cfg.UnitSize)/max(h.rate, 1) > s.timeLeft(last) {
			return
		}
		last.share, h.share = split(last.share, n-take)
		return
	}
	last := s.lastToFinish(h, func(v *holder) bool { return v.at && !v.stopping && v.heir == nil })
	if last == nil {
		return
	}
	whole := float64(s.size(last.current)) / max(h.rate, 1)
	if !h.known {
		// It never had a chance to show how quick it is; it gets one if nobody is there who is known to be quicker.
		if !last.known || slices.ContainsFunc(s.holders, func(v *holder) bool { return v.known && v.rate > clearlySooner*last.rate }) {
			return
		}
		whole = hope
	}
	if s.timeLeft(last) > clearlySooner*whole+patience {
		last.stopping, last.heir, h.heirOf = true, h, last
		*out = append(*out, Command{Holder: last.id, Stop: true})
	}
}

// canGive returns how many units of its share a holder can do without: the larger half of what it has not begun, but not
// the first, if it was only just asked for that.
func (h *holder) canGive() uint32 {
	n := total(h.share)
	if h.at {
		return n - n/2
	}
	return n / 2
}

// lastToFinish returns which of the others that fit is expected to be busy longest.
func (s *Shares) lastToFinish(h *holder, fits func(*holder) bool) *holder {
	var last *holder
	for _, v := range s.holders {
		if v != h && fits(v) && (last == nil || s.timeLeft(v) > s.timeLeft(last)) {
			last = v
		}
	}
	return last
}

// timeLeft returns how many seconds the holder is expected to need for all that it is to deliver.
func (s *Shares) timeLeft(h *holder) float64 {
	bytes := float64(total(h.share)) * float64(s.cfg.UnitSize)
	if h.at {
		bytes += float64(s.size(h.current) - h.got)
	}
	rate := h.rate
	if !h.known {
		rate = s.meanRate() // it was only just asked
	}
	return bytes / max(rate, 1)
}

// meanRate returns the mean of the known rates, 0 if none is known.
func (s *Shares) meanRate() float64 {
	sum, n := 0.0, 0
	for _, h := range s.holders {
		if h.known {
			sum += h.rate
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}

func (s *Shares) size(unit uint32) int64 {
	if unit == s.cfg.Units-1 {
		return s.cfg.LastSize
	}
	return s.cfg.UnitSize
}

func (s *Shares) find(id int) *holder {
	for _, h := range s.holders {
		if h.id == id {
			return h
		}
	}
	return nil
}

// unlink ends a planned inheritance from h.
func (s *Shares) unlink(h *holder) {
	if h.heir != nil {
		h.heir.heirOf = nil
		h.heir = nil
	}
}
