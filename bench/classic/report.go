//go:build linux

package main

import (
	"fmt"
	"strings"

	"shoal/bench/internal/lab"
)

const tableHead = "| holders | copy | seconds (least-most) | GB/s | of bare | of bare + sync | CPU s/GB sending | receiving | peak MiB |\n" +
	"| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"

// tableRows is the outcome of one series: a row for each moment to which a copy is timed.
func tableRows(holders int, size int64, pairs []pair) string {
	gb := float64(size) / 1e9
	var out strings.Builder
	for _, r := range []struct {
		name string
		of   func(pair) copied
		ours bool
	}{
		{"bare", func(p pair) copied { return p.bare }, false},
		{"bare + sync", func(p pair) copied { return p.synced }, false},
		{"download, start to done", func(p pair) copied { return p.transfer }, true},
		{"download, whole process", func(p pair) copied { return p.whole }, true},
	} {
		took := spread(pairs, func(p pair) float64 { return r.of(p).seconds })
		ofBare, ofSynced := "", ""
		if r.ours {
			ofBare = fmt.Sprintf("%.2f", spread(pairs, func(p pair) float64 { return p.bare.seconds / r.of(p).seconds }).Median)
			ofSynced = fmt.Sprintf("%.2f", spread(pairs, func(p pair) float64 { return p.synced.seconds / r.of(p).seconds }).Median)
		}
		fmt.Fprintf(&out, "| %d | %s | %.2f (%.2f-%.2f) | %.2f | %s | %s | %s | %s | %s |\n",
			holders, r.name, took.Median, took.Min, took.Max, gb/took.Median, ofBare, ofSynced,
			perGB(pairs, gb, func(p pair) float64 { return r.of(p).sendCPU }),
			perGB(pairs, gb, func(p pair) float64 { return r.of(p).recvCPU }),
			peak(pairs, func(p pair) int64 { return r.of(p).peak }))
	}
	fmt.Fprintf(&out, "| %d | search before the start | %.2f | | | | | | |\n", holders,
		spread(pairs, func(p pair) float64 { return p.search }).Median)
	disturbed := 0
	for _, p := range pairs {
		if p.disturbed() {
			disturbed++
		}
	}
	fmt.Fprintf(&out, "| %d | CPU s of others (disturbed pairs: %d of %d) | %.2f | | | | | | |\n", holders, disturbed, len(pairs),
		spread(pairs, func(p pair) float64 { return p.others }).Median)
	return out.String()
}

func spread(pairs []pair, of func(pair) float64) lab.Spread {
	var values []float64
	for _, p := range pairs {
		values = append(values, of(p))
	}
	return lab.Summarize(values)
}

// perGB is empty where it was not measured.
func perGB(pairs []pair, gb float64, of func(pair) float64) string {
	if m := spread(pairs, of).Median; m > 0 {
		return fmt.Sprintf("%.2f", m/gb)
	}
	return ""
}

// peak is the most of all pairs, and empty where it was not measured.
func peak(pairs []pair, of func(pair) int64) string {
	if m := spread(pairs, func(p pair) float64 { return float64(of(p)) }).Max; m > 0 {
		return fmt.Sprintf("%.1f", m/(1<<20))
	}
	return ""
}
