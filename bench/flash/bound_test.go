//go:build linux

package main

import (
	"math"
	"slices"
	"testing"
)

func TestBounds(t *testing.T) {
	one, slowUp, slowDown := link{1, 1}, link{0.1, 1}, link{1, 0.1}
	repeat := func(l link, n int) []link { return slices.Repeat([]link{l}, n) }
	for what, c := range map[string]struct{ got, want float64 }{
		"the source's uplink":            {plain(100, one, repeat(one, 8)), 100},
		"all uplinks":                    {plain(100, link{10, 10}, repeat(link{1, 10}, 8)), 800.0 / 18},
		"the slowest downlink":           {plain(100, one, append(repeat(one, 7), slowDown)), 1000},
		"slow uplinks":                   {plain(100, one, append(repeat(one, 4), repeat(slowUp, 4)...)), 800 / 5.4},
		"gone, and the others must give": {deserted(100, one, repeat(slowUp, 8), 1.1), 690 / 0.8},
		"gone, and it does not matter":   {deserted(100, one, repeat(one, 8), 1.1), 100},
		"the last to come":               {joining(100, one, repeat(one, 2), []float64{0, 50}), 150},
		"uplinks that came late":         {joining(100, one, repeat(link{1, 100}, 4), []float64{0, 25, 50, 75}), 550.0 / 5},
		"all at once":                    {joining(100, one, repeat(one, 8), make([]float64, 8)), 100},
		"some stop":                      {stalling(100, one, repeat(slowUp, 8), repeat(one, 2), 50), 700 / 1.8},
		"two contents":                   {twofold(100, one, [][]link{repeat(one, 4), repeat(one, 4)}), 200},
		"two, and a slow group":          {twofold(100, link{10, 10}, [][]link{repeat(link{0.1, 10}, 4), repeat(link{9, 10}, 4)}), 400 / 10.4},
	} {
		if math.Abs(c.got-c.want) > 1e-9*c.want {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
}

func TestRates(t *testing.T) {
	for s, want := range map[string]float64{"25mbit": 25e6 / 8, "1gbit": 1e9 / 8, "2500kbit": 2.5e6 / 8, "2.5mbit": 2.5e6 / 8} {
		if got, err := parseRate(s); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "mbit", "25", "25MB", "-1mbit", "0mbit", "NaNmbit", "Infmbit"} {
		if got, err := parseRate(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}
