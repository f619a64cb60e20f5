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
//
// A holder that was asked and delivered no unit has failed, and each failure since its last unit lets it wait behind those who have fewer, and
// makes what it is expected to need four times as much. So who begins quickly and stops in the middle does not get the same unit over and over.
type Shares struct {
	cfg     SharesConfig
	missing uint32 // units that are not there yet
	free    []span // missing units that are in nobody's share, in rising order
	holders []*holder
	failed  map[int]int // of holders that were taken out: how often each had failed; as many as were ever added, of which there is a bound
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
	units    int           // that its request has delivered
	failed   int           // requests that ended in the middle of a unit, or before the first, since it last delivered one

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
	// lateTime is how long a holder that was asked may take to begin while another has nothing to do; it doubles with each failure.
	lateTime = 2 * time.Second
	// maxFailed is where failures are no longer counted.
	maxFailed = 8
	// rates are measured over at least this long, and smoothed.
	sampleTime = 250 * time.Millisecond
	// benefit is how long nothing may come of a holder's first request before that counts as its rate.
	benefit   = time.Second
	smoothing = 0.3
)

// NewShares starts with no holders.
func NewShares(cfg SharesConfig) *Shares {
	s := &Shares{cfg: cfg, failed: make(map[int]int)}
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

// Add brings in a holder. It must not be in already. One that was taken out is remembered by its failures.
func (s *Shares) Add(id int) {
	s.holders = append(s.holders, &holder{id: id, failed: s.failed[id]})
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
	h.at, h.failed = false, 0
	h.units++
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
	if h.busy && (h.at || h.units == 0) {
		h.failed = min(h.failed+1, maxFailed)
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
	if s.failed[id] = h.failed; h.failed == 0 {
		delete(s.failed, id)
	}
	s.holders = slices.DeleteFunc(s.holders, func(other *holder) bool { return other == h })
}

// Plan returns what is to be done now, and counts it as done.
func (s *Shares) Plan(now time.Duration) []Command {
	var out []Command
	for _, h := range s.idle() {
		if len(h.share) == 0 {
			s.supply(h, now, &out)
		}
		if len(h.share) > 0 {
			h.busy, h.asked, h.measured, h.fresh, h.total, h.units = true, now, now, 0, 0, 0
			out = append(out, Command{Holder: h.id, First: h.share[0].first, Last: h.share[0].last})
		}
	}
	return out
}

// idle returns who can be given work: those who failed the least first, and of these the quickest, so that a rest goes to them.
func (s *Shares) idle() []*holder {
	var out []*holder
	for _, h := range s.holders {
		if !h.busy && h.heirOf == nil {
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(a, b *holder) int { return cmp.Or(cmp.Compare(a.failed, b.failed), cmp.Compare(b.rate, a.rate)) })
	return out
}

// supply finds work for an idle holder.
func (s *Shares) supply(h *holder, now time.Duration, out *[]Command) {
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
		if h.known && h.needs(int64(take)*s.cfg.UnitSize) > s.timeLeft(last) {
			return
		}
		last.share, h.share = split(last.share, n-take)
		return
	}
	if late := s.lastToFinish(h, func(v *holder) bool { return v.late(now) }); late != nil {
		late.stopping, h.share, late.share = true, late.share, nil
		*out = append(*out, Command{Holder: late.id, Stop: true})
		return
	}
	s.supplant(h, out)
}

// supplant takes the very unit that one is at, for a holder that would have it clearly sooner from the start.
func (s *Shares) supplant(h *holder, out *[]Command) {
	// Who has only just been asked must have time to show how quick it is.
	last := s.lastToFinish(h, func(v *holder) bool { return v.at && v.known && !v.stopping && v.heir == nil })
	if last == nil {
		return
	}
	// A holder that never had a chance to show how quick it is gets one if nobody is there who is known to be quicker.
	if !h.known && slices.ContainsFunc(s.holders, func(v *holder) bool {
		return v.known && v.failed == 0 && v.rate > clearlySooner*last.rate
	}) {
		return
	}
	if s.timeLeft(last) > clearlySooner*h.needs(s.size(last.current))+patience {
		last.stopping, last.heir, h.heirOf = true, h, last
		*out = append(*out, Command{Holder: last.id, Stop: true})
	}
}

// needs returns how many seconds a holder is expected to need for so many bytes: the longer, the more often it has failed.
func (h *holder) needs(bytes int64) float64 {
	seconds := hope
	if h.known {
		seconds = float64(bytes) / max(h.rate, 1)
	}
	return seconds * float64(int(1)<<(2*h.failed))
}

// late says whether a holder has been asked so long ago, and has not begun, that others need not wait for it.
func (h *holder) late(now time.Duration) bool {
	return h.busy && !h.stopping && !h.at && h.units == 0 && len(h.share) > 0 && now-h.asked >= lateTime<<h.failed
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
