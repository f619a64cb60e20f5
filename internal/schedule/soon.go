package schedule

import "time"

const (
	// soonTime is how long before its end a transfer is as good as over, soonTrips that in round trips, where those are longer: to find who gives or takes the next piece takes a
	// while, since most of those who are asked have found somebody else meanwhile.
	soonTime  = 8 * time.Millisecond
	soonTrips = 2
	// soonPart is the largest part of a transfer, from its end, in which it may be as good as over.
	soonPart = 2
)

// pace is how a transfer goes.
type pace struct {
	began, last time.Duration // when it began, and when bytes of it moved last
	size, moved int64         // bytes
}

// soon says whether a transfer is over, or about to be, at the rate that it has had: what comes after it is looked for already. It may end later than was expected by
// as much, and is then under way as all others.
func (p pace) soon(now, trip time.Duration) bool {
	took := p.last - p.began
	if p.moved*soonPart < p.size || took <= 0 {
		return false
	}
	all := time.Duration(float64(took) * float64(p.size) / float64(p.moved))
	return (now - p.began - all).Abs() <= min(max(soonTime, soonTrips*trip), all/soonPart)
}
