package schedule

import "time"

const (
	// soonTime is how long before its end a transfer is as good as over, soonTrips that in round trips: to find who gives or takes the next piece takes several
	// of them, since most of those who are asked have found somebody else meanwhile.
	soonTime  = 8 * time.Millisecond
	soonTrips = 4
	// soonPart is the largest part of a transfer, from its end, in which it may be as good as over.
	soonPart = 2
)

// course is how a transfer goes.
type course struct {
	began, last time.Duration // when it began, and when bytes of it moved last
	size, moved int64         // bytes
}

// soon says whether a transfer is over, or about to be, at the rate that it has had: what comes after it is looked for already. It may end later than was expected by
// as much, and is then under way as all others.
func (c course) soon(now, trip time.Duration) bool {
	took := c.last - c.began
	if c.moved*soonPart < c.size || took <= 0 {
		return false
	}
	all := time.Duration(float64(took) * float64(c.size) / float64(c.moved))
	return (now - c.began - all).Abs() <= min(max(soonTime, soonTrips*trip), all/soonPart)
}
