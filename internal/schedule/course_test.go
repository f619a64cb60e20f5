package schedule

import (
	"math"
	"testing"
	"time"
)

func TestHowFarACourseIsFromTheBestRateThatItSaw(t *testing.T) {
	const piece = 10
	type leg struct {
		span time.Duration
		rate float64 // bytes per second
	}
	for _, c := range []struct {
		what   string
		legs   []leg
		needed float64 // part of what moved that was of use; 0: all
		limit  int64
		want   float64 // 0: nothing is said
	}{
		{"evenly", []leg{{10 * time.Second, 1000}}, 0, 0, 1},
		{"at its limit, but for a burst", []leg{{time.Second, 1500}, {9 * time.Second, 1000}}, 0, 1000, 1},
		{"at half of its limit for a while", []leg{{5 * time.Second, 1000}, {5 * time.Second, 500}}, 0, 1000, 10. / 7.5},
		{"half of the time at half the rate", []leg{{5 * time.Second, 500}, {5 * time.Second, 1000}}, 0, 0, 10. / 7.5},
		{"a pause in the middle", []leg{{4 * time.Second, 1000}, {2 * time.Second, 0}, {4 * time.Second, 1000}}, 0, 0, 1.25},
		{"nothing before it begins counts", []leg{{time.Minute, 0}, {10 * time.Second, 1000}}, 0, 0, 1},
		{"a burst of a tenth of a second is no rate", []leg{{5 * time.Second, 1000}, {100 * time.Millisecond, 6000}, {5 * time.Second, 1000}}, 0, 0, 10.1 * 1500 / 10600},
		{"a fifth in vain", []leg{{10 * time.Second, 1000}}, 0.8, 0, 1.25},
		{"too short", []leg{{1900 * time.Millisecond, 1000}}, 0, 0, 0},
		{"too few pieces", []leg{{10 * time.Second, 15}}, 0, 0, 0},
		{"nothing", []leg{{10 * time.Second, 0}}, 0, 0, 0},
	} {
		for _, tick := range []time.Duration{10 * time.Millisecond, 50 * time.Millisecond} {
			k := Course{Limit: c.limit}
			now, owed, moved := 7*time.Second, 0.0, int64(0)
			k.Look(now, 0)
			for _, l := range c.legs {
				for at := time.Duration(0); at < l.span; at += tick {
					now += tick
					owed += l.rate * tick.Seconds()
					n := int64(math.Round(owed - float64(moved)))
					moved += n
					k.Look(now, n)
				}
			}
			needed := moved
			if c.needed > 0 {
				needed = int64(float64(moved) * c.needed)
			}
			got := k.Ratio(k.Last(), needed, piece)
			if math.Abs(got-c.want) > 0.02*c.want {
				t.Errorf("%s, looked at every %v: %.3f, want %.3f", c.what, tick, got, c.want)
			}
			if len(k.marks) > 25 {
				t.Errorf("%s: %d marks are kept", c.what, len(k.marks))
			}
		}
	}
}
