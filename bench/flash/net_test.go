//go:build linux

package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestCountersOfTheKernel(t *testing.T) {
	const table = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
   hub:       1       2    0    0    0     0          0         0        3       4    0    0    0     0       0          0
 port1:      50       6    0    0    0     0          0         0       70       8    0    0    0     0       0          0
 port0: 1000000      20    0    0    0     0          0         0     3000      40    0    0    0     0       0          0
 port2:       9       9    0    0    0     0          0         0        9       9    0    0    0     0       0          0
`
	got, err := parseTraffic(table, 2)
	if want := []traffic{{1000000, 3000, 20}, {50, 70, 6}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if got, err := parseTraffic(table, 4); err == nil {
		t.Errorf("of four ports three are there: %v", got)
	}
	if to, from, err := parseCrossed(strings.ReplaceAll(table, " port0:", "cross0:")); to != 3000 || from != 1000000 || err != nil {
		t.Errorf("%d and %d have crossed, %v", to, from, err)
	}
	if _, _, err := parseCrossed(table); err == nil {
		t.Error("there is no such link")
	}
	segs, err := parseSegments("Ip: Forwarding\nIp: 1\nTcp: InSegs OutSegs RetransSegs\nTcp: 7 8 9\n")
	if want := (segments{8, 9}); err != nil || segs != want {
		t.Errorf("%v, %v, want %v", segs, err, want)
	}
	acked, err := parseAcknowledged("0 0 a:1 b:2 bbr bytes_acked:12 x\n0 0 c:1 d:2 bytes_sent:4 bytes_acked:30\n0 0 e:1 f:2 bbr\n")
	if want := map[string]int64{"a:1 b:2": 12, "c:1 d:2": 30}; err != nil || !maps.Equal(acked, want) {
		t.Errorf("%v, %v, want %v", acked, err, want)
	}
}

func TestTheCurveIsInProportionBetweenSamples(t *testing.T) {
	const s = 1e9
	samples := []sample{{0, []int64{0, 0}}, {1 * s, []int64{100, 0}}, {3 * s, []int64{300, 200}}}
	if got, want := curve(samples, 200, 3*s, 3), []float64{0.5, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := use(samples, 200, 2*s, 4*s); got != 0.5 { // nothing is known to have come later
		t.Errorf("%v, want 0.5", got)
	}
}
