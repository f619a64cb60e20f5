package exchange

import "shoal/internal/content"

// Rarest says of a content that is fetched how many neighbours have the rarest missing piece of each of so many columns; see [schedule.Taker.Rarest].
// Of another content it says nothing.
func (x *Exchange) Rarest(id content.ID, columns int) (out []int) {
	x.call(func(l *loop) {
		if c := l.contents[id]; c != nil && c.taker != nil {
			out = c.taker.Rarest(columns)
		}
	})
	return out
}
