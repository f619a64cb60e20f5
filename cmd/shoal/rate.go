package main

import (
	"fmt"
	"strconv"
	"strings"

	"shoal/internal/schedule"

	"github.com/spf13/pflag"
)

// minRate is the least limit: what neighbours tell each other, which is not limited, would be more than that.
const minRate = 16 << 10

// rateFlag is a limit in bytes per second; 0: none.
type rateFlag int64

// rateUnits are in bytes per second. Mb and kb are left out: some mean bits by them, and some bytes.
var rateUnits = map[string]float64{
	"": 1, "b": 1, "k": 1e3, "kb": 1e3, "kib": 1 << 10, "m": 1e6, "mb": 1e6, "mib": 1 << 20, "g": 1e9, "gb": 1e9, "gib": 1 << 30,
	"bit": 1. / 8, "kbit": 1e3 / 8, "mbit": 1e6 / 8, "gbit": 1e9 / 8, "kibit": 1 << 7, "mibit": 1 << 17, "gibit": 1 << 27,
}

func parseRate(s string) (int64, error) {
	bad := fmt.Errorf("%s is no rate: write it as 200MiB/s, 10MB/s, 80Mbit/s or bytes, at least %s/s; 0: no limit", quote(s), size(minRate))
	text := strings.TrimSuffix(strings.ReplaceAll(s, " ", ""), "/s")
	if bits, ok := strings.CutSuffix(text, "bps"); ok {
		text = bits + "bit"
	}
	at := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if at < 0 {
		at = len(text)
	}
	unit := text[at:]
	factor, known := rateUnits[strings.ToLower(unit)]
	if n := len(unit); n == 2 && unit[1] == 'b' {
		known = false
	}
	n, err := strconv.ParseFloat(text[:at], 64)
	rate := n * factor
	if err != nil || !known || rate != 0 && rate < minRate || rate > schedule.MaxRate {
		return 0, bad
	}
	return int64(rate), nil
}

func (r *rateFlag) Set(s string) error {
	n, err := parseRate(s)
	if err == nil {
		*r = rateFlag(n)
	}
	return err
}

func (r *rateFlag) String() string {
	if *r == 0 {
		return "0"
	}
	return size(int64(*r)) + "/s"
}

func (*rateFlag) Type() string { return "RATE" }

// limitFlags are those of all commands that move files.
type limitFlags struct{ up, down, peerUp, peerDown rateFlag }

func (l *limitFlags) add(f *pflag.FlagSet) {
	f.Var(&l.up, "limit-up", "most that others are given, in all: 200MiB/s, 10MB/s, 80Mbit/s (0: no limit)")
	f.Var(&l.down, "limit-down", "most that is downloaded, in all")
	f.Var(&l.peerUp, "limit-peer-up", "most that any one peer is given; not with the classic protocol")
	f.Var(&l.peerDown, "limit-peer-down", "most that is downloaded from any one peer; not with the classic protocol")
}
