//go:build linux

package lab

import "slices"

// Spread is what repeated measurements of one thing came to.
type Spread struct {
	Median, Min, Max float64
}

// Summarize returns the spread of at least one measurement.
func Summarize(values []float64) Spread {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return Spread{Median: (s[(n-1)/2] + s[n/2]) / 2, Min: s[0], Max: s[n-1]}
}
