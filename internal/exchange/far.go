package exchange

import (
	"time"

	"shoal/internal/schedule"
)

// newCrowd is how long nothing must have been given of a content for those who come then to be another crowd.
const newCrowd = 10 * time.Second

// far is how far a content's exchange is from the bound: docs/SCHEDULING.md, "How far from the bound".
type far struct {
	in, out       schedule.Course
	lookedIn      int64
	given         int64 // bytes that were given since the last look
	optimal       float64
	copies        int
	copiesOptimal float64
}

// look takes over what of a request was given since the last time.
func (g *giving) look() {
	n := g.sent.Load()
	g.c.far.given += n - g.looked
	g.looked = n
}

// look takes in what has come and gone since the last time.
func (l *loop) look(c *exchanged, now time.Duration) {
	f := &c.far
	if f.given > 0 && f.out.Idle(now) > newCrowd {
		f.out, f.copies, f.copiesOptimal = schedule.Course{}, 0, 0
	}
	f.out.Limit, f.in.Limit = l.giver.Limit(), l.down.Rate()
	f.out.Look(now, f.given)
	f.given = 0
	if c.taker == nil { // complete, or never fetched: what it was stays
		return
	}
	f.in.Look(now, c.received-f.lookedIn)
	f.lookedIn = c.received
	f.optimal = f.in.Ratio(now, c.received-c.wasted, c.Manifest.Geo.Piece)
}

// copied takes in that another has all of it now.
func (c *exchanged) copied(now time.Duration) {
	if c.Manifest == nil {
		return
	}
	c.far.copies++
	c.far.copiesOptimal = c.far.out.Ratio(now, c.Manifest.Geo.Size, c.Manifest.Geo.Piece)
}
