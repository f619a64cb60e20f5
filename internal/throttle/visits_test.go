package throttle

import (
	"net/netip"
	"testing"
	"time"
)

func TestVisitorsMayComeOftenAtOnceAndThenAtARate(t *testing.T) {
	v := NewVisits[string](3, 2)
	now := time.Unix(1000, 0)
	come := func(who string, want int) {
		t.Helper()
		n := 0
		for range 100 {
			if v.May(who, now) {
				n++
			}
		}
		if n != want {
			t.Errorf("%s came %d times, want %d", who, n, want)
		}
	}
	come("a", 3)
	come("b", 3) // whatever a does
	now = now.Add(time.Second)
	come("a", 2)
	now = now.Add(time.Hour)
	come("a", 3)
}

func TestVisitorsAreForgotten(t *testing.T) {
	v := NewVisits[int](2, 1)
	now := time.Unix(1000, 0)
	for who := range 2 * maxVisitors {
		v.May(who, now)
	}
	if len(v.of) > maxVisitors {
		t.Errorf("%d are remembered, the bound is %d", len(v.of), maxVisitors)
	}
	now = now.Add(time.Minute)
	for who := range v.sweep - len(v.of) + 10 {
		v.May(-1-who, now)
	}
	if len(v.of) >= maxVisitors/2 {
		t.Errorf("%d are remembered, of whom most came long ago", len(v.of))
	}
}

func TestWhomAnAddressStandsFor(t *testing.T) {
	for addr, want := range map[string][2]string{
		"10.1.2.3":            {"10.1.2.3", "10.1.2.0"},
		"::ffff:10.1.2.3":     {"10.1.2.3", "10.1.2.0"},
		"2001:db8:1:2:3::4":   {"2001:db8:1:2::", "2001:db8:1:2::"},
		"fe80::1:2%eth0":      {"fe80::", "fe80::"},
		"2001:db8:1:2:ffff::": {"2001:db8:1:2::", "2001:db8:1:2::"},
	} {
		a := netip.MustParseAddr(addr)
		if got := [2]string{Origin(a).String(), Network(a).String()}; got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
}
