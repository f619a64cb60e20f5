package sim

import (
	"math"
	"slices"
	"time"
)

// tolerance is the change of a link's level below which its neighbours are not told: it ends the relaxation.
const tolerance = 1e-4

// link is a capacity that flows share: a peer's uplink or downlink.
type link struct {
	rate  float64 // bytes per second
	flows []*flow
	level float64 // the most that one flow gets of it; infinite while it is not full
	dirty bool
}

// flow is what one peer sends to another, piece by piece in the order of their requests. One of which there is nothing to send yet lets the next one go first.
type flow struct {
	from, to *peer
	links    []*link
	queue    []*request
	on       bool // it is on its links: there is something to send of the first request
	rate     float64
	at       time.Duration // when left was right
	left     float64       // bytes of the first request
	version  uint32        // of the event that ends its part
	gone     bool
}

// network shares links among flows.
type network struct {
	w     *world
	dirty []*link
}

// send begins to send a request over the connection between two peers.
func (n *network) send(f *flow, r *request) {
	f.queue = append(f.queue, r)
	if !f.on {
		n.pick(f)
	}
}

// advance brings a flow to the present.
func (n *network) advance(f *flow) {
	f.left -= f.rate * (n.w.now - f.at).Seconds()
	f.at = n.w.now
}

// pick goes on with the first request of which there is something to send. The flow is off its links while there is none.
func (n *network) pick(f *flow) {
	i := slices.IndexFunc(f.queue, func(r *request) bool { return r.sent < f.from.there(r) })
	if i < 0 {
		n.off(f)
		return
	}
	r := f.queue[i]
	copy(f.queue[1:], f.queue[:i])
	f.queue[0] = r
	f.left, f.at = float64(r.size-r.sent), n.w.now
	if f.on {
		n.due(f)
		return
	}
	f.on, f.rate = true, 0
	for _, l := range f.links {
		l.flows = append(l.flows, f)
		n.mark(l)
	}
	n.settle()
}

// off takes a flow off its links.
func (n *network) off(f *flow) {
	f.version++
	f.rate = 0
	if !f.on {
		return
	}
	f.on = false
	for _, l := range f.links {
		if i := slices.Index(l.flows, f); i >= 0 {
			l.flows[i] = l.flows[len(l.flows)-1]
			l.flows = l.flows[:len(l.flows)-1]
			n.mark(l)
		}
	}
	n.settle()
}

// stop ends a flow.
func (n *network) stop(f *flow) {
	f.queue = nil
	n.off(f)
}

// remove takes a request out of a flow, and goes on with another one.
func (n *network) remove(f *flow, r *request) {
	i := slices.Index(f.queue, r)
	if i < 0 {
		return
	}
	first := i == 0 && f.on
	if first {
		n.advance(f)
		r.sent = r.size - int64(max(f.left, 0))
	}
	f.queue = slices.Delete(f.queue, i, i+1)
	if first {
		n.pick(f)
	}
}

// sentOf returns how many bytes of a request have gone.
func (n *network) sentOf(f *flow, r *request) int64 {
	if !f.on || f.queue[0] != r {
		return r.sent
	}
	left := f.left - f.rate*(n.w.now-f.at).Seconds()
	return r.size - int64(max(left, 0))
}

func (n *network) mark(l *link) {
	if !l.dirty {
		l.dirty = true
		n.dirty = append(n.dirty, l)
	}
}

// settle finds the max-min fair rates: each link's level is what one flow may have of it when those that other links hold back have
// theirs. A link whose level has changed changes those of the flows' other links, until nothing changes any more.
func (n *network) settle() {
	budget := 4096 // a relaxation that does not end would be a mistake of ours
	var touched []*flow
	for i := 0; i < len(n.dirty); i++ {
		l := n.dirty[i]
		l.dirty = false
		touched = append(touched, l.flows...)
		before := l.level
		l.level = l.fair()
		if same(before, l.level) {
			continue
		}
		if budget--; budget < 0 {
			continue
		}
		for _, f := range l.flows {
			for _, other := range f.links {
				if other != l {
					n.mark(other)
				}
			}
		}
	}
	n.dirty = n.dirty[:0]
	for _, f := range touched {
		rate := f.limit(nil)
		if rate != f.rate {
			n.advance(f)
			f.rate = rate
			n.due(f)
		}
	}
}

func same(a, b float64) bool {
	if math.IsInf(a, 1) || math.IsInf(b, 1) {
		return a == b
	}
	return math.Abs(a-b) <= tolerance*max(a, b)
}

// limit returns what a flow gets of all its links but one.
func (f *flow) limit(but *link) float64 {
	rate := math.Inf(1)
	for _, l := range f.links {
		if l != but {
			rate = min(rate, l.level)
		}
	}
	return rate
}

// fair returns the level at which a link is just full.
func (l *link) fair() float64 {
	var buf [64]float64
	limits := buf[:0]
	for _, f := range l.flows {
		limits = append(limits, f.limit(l))
	}
	slices.Sort(limits)
	rest := l.rate
	for i, limit := range limits {
		share := rest / float64(len(limits)-i)
		if limit >= share {
			return share
		}
		rest -= limit
	}
	return math.Inf(1)
}

// due plans the end of the part that a flow sends.
func (n *network) due(f *flow) {
	f.version++
	if f.rate <= 0 || math.IsInf(f.rate, 1) {
		if math.IsInf(f.rate, 1) {
			panic("sim: a flow without a bound")
		}
		return
	}
	rest := max(f.left-float64(f.queue[0].behind(n.w.part())), 0)
	in := time.Duration(rest / f.rate * float64(time.Second))
	n.w.at(n.w.now+in, event{kind: evSent, flow: f, version: f.version})
}

// behind returns how many bytes of a request come after the part of which some are sent.
func (r *request) behind(part int64) int64 { return max(r.size-(r.sent/part+1)*part, 0) }
