package main

import "testing"

func TestRatesAsPeopleWriteThem(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "20000": 20000, "200MiB/s": 200 << 20, "10MB/s": 10_000_000, "80Mbit/s": 10_000_000, "80mbit": 10_000_000, "80Mbps": 10_000_000,
		"1.5 MiB/s": 3 << 19, "1g": 1_000_000_000, "16KiB": 16 << 10, "100kB/s": 100_000, "1Gibit/s": 1 << 27,
	} {
		if got, err := parseRate(s); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "fast", "-5MB/s", "10Mb/s", "10kb", "1e9", "1..5MB", "5MB/h", "MB/s", "16383", "9999999GB/s", "10MB/s/s", "inf", "NaN"} {
		if got, err := parseRate(s); err == nil {
			t.Errorf("%q is taken for %d", s, got)
		}
	}
}
