//go:build linux

package main

import (
	"cmp"
	"slices"
)

// link is what joins a machine to the network, in bytes a second either way.
type link struct {
	up, down float64
}

// The bounds below hold for every scheme whatever, in seconds from the first start to the last finish: F is the size of the content, u
// and d the rates of up- and downlinks, s the source, N the number of leechers. They count all that crosses a link as content: headers,
// handshakes and acknowledgements are losses that show in the ratio.

// plain is T* = max(F/u_s, F/d_min, N*F/(u_s + sum u_i)): every byte must leave the source once; the slowest downlink must take all of
// the content; and what all take, all uplinks together must give.
func plain(size float64, source link, leechers []link) float64 {
	return max(size/source.up, size/slowest(leechers), float64(len(leechers))*size/(source.up+uplinks(leechers)))
}

// deserted is the bound when the source is gone after it has sent some copies: what it did not give, the leechers' uplinks must,
// (N - copies)*F / sum u_i. That it gave so much takes no part in it: they may do so meanwhile.
func deserted(size float64, source link, leechers []link, copies float64) float64 {
	return max(plain(size, source, leechers), (float64(len(leechers))-copies)*size/uplinks(leechers))
}

// joining is the bound when leecher i comes at the time at[i]: its uplink is missing until then, so u_s*T + sum u_i*(T - a_i) >= N*F, and
// none is done before a_i + F/d_i.
func joining(size float64, source link, leechers []link, at []float64) float64 {
	missing, last := 0.0, 0.0
	for i, l := range leechers {
		missing += l.up * at[i]
		last = max(last, at[i]+size/l.down)
	}
	return max(size/source.up, last, (float64(len(leechers))*size+missing)/(source.up+uplinks(leechers)))
}

// stalling is the bound for those who go on when others stop at a time: until then the others' uplinks may help, and they need
// nothing of anybody. With S who go on and the others x: (S*F - sum u_x * at) / (u_s + sum u_S).
func stalling(size float64, source link, goOn, stopped []link, at float64) float64 {
	return max(size/source.up, size/slowest(goOn),
		(float64(len(goOn))*size-uplinks(stopped)*at)/(source.up+uplinks(goOn)))
}

// twofold is the bound for several contents of one size from one source, each for a group of its own: the source must send each once,
// and no group gives to another.
func twofold(size float64, source link, groups [][]link) float64 {
	t := max(float64(len(groups))*size/source.up, plain(size, source, slices.Concat(groups...)))
	for _, g := range groups {
		t = max(t, plain(size, source, g))
	}
	return t
}

func slowest(ls []link) float64 {
	return slices.MinFunc(ls, func(a, b link) int { return cmp.Compare(a.down, b.down) }).down
}

func uplinks(ls []link) (sum float64) {
	for _, l := range ls {
		sum += l.up
	}
	return sum
}
