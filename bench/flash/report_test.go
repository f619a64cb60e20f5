//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestARunBesideOneThatSaysNothingIsVoid(t *testing.T) {
	for name, base := range map[string]*result{
		"void":       {Void: true, Median: 10, Finished: 3, Expected: 3, Correct: true},
		"unfinished": {Median: 10, Finished: 2, Expected: 3, Correct: true},
		"wrong":      {Median: 10, Finished: 3, Expected: 3},
		"":           {Median: 10, Finished: 3, Expected: 3, Correct: true},
	} {
		x := &series{s: scenario{name: "slowone"}, tool: "shoal", n: 3}
		x.add(&result{Bound: 10, Makespan: 11, Others: 11, Finished: 3, Expected: 3, Correct: true, Curve: []float64{1}}, base)
		var out strings.Builder
		x.explain(&out)
		if got, want := len(x.valid()) == 1, name == ""; got != want || strings.Contains(out.String(), "1.100") != want {
			t.Errorf("%q: valid %v: %s", name, got, &out)
		}
	}
}
