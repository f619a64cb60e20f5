//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// far says whether a machine is in the second site: the second half of the leechers. The server is in the first.
func far(i, machines int) bool { return i > machines/2 && i < machines }

// switchOf returns the switch of machine i, of so many with a limited link.
func switchOf(i, machines int, between float64) string {
	if between > 0 && far(i, machines) {
		return "far"
	}
	return "hub"
}

// second returns the commands that make another switch, and the link to it: as a veth pair, each end of which limits what leaves it.
func (w wire) second(between float64) []string {
	return []string{
		fmt.Sprintf("ip link add far type bridge mcast_snooping 0 && ip link set far mtu %d up", w.mtu),
		fmt.Sprintf("ip link add cross0 mtu %d type veth peer name cross1 mtu %d", w.mtu, w.mtu),
		"ip link set cross0 master hub up",
		"ip link set cross1 master far up",
		w.shape("cross0", between),
		w.shape("cross1", between),
	}
}

// site returns where machine i says that it is; empty: nowhere, as there is one switch.
func (c *crowd) site(i int) string {
	switch {
	case c.plan.between == 0:
		return ""
	case far(i, len(c.plan.leechers)+1):
		return "far"
	}
	return "near"
}

// crossed returns the bytes that have left the first site, and those that have come to it.
func (n *network) crossed() (to, from int64, err error) {
	b, err := os.ReadFile(n.hub.proc("dev"))
	if err != nil {
		return 0, 0, err
	}
	return parseCrossed(string(b))
}

func parseCrossed(table string) (to, from int64, err error) {
	const received, sent = 0, 8
	for line := range strings.Lines(table) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		if f := strings.Fields(rest); name == "cross0" && len(f) > sent {
			if to, err = strconv.ParseInt(f[sent], 10, 64); err == nil {
				from, err = strconv.ParseInt(f[received], 10, 64)
			}
			return to, from, err
		}
	}
	return 0, 0, fmt.Errorf("there is no link between two sites")
}

// noteSites says what has crossed, and when the first site was done.
func noteSites(c *crowd, r *result) {
	to, from, err := c.net.crossed()
	if err != nil {
		r.Wrong = err.Error()
		return
	}
	near := 0.0
	for _, l := range c.leechers {
		if !far(l.i+1, len(c.leechers)+1) && !l.done.IsZero() {
			near = max(near, l.done.Sub(c.began).Seconds())
		}
	}
	r.note("crossed", float64(to+from)/c.plan.size, "%.3f copies have crossed to the other site and %.3f back, headers, handshakes and all",
		float64(to)/c.plan.size, float64(from)/c.plan.size)
	r.note("near", near, "the source's site was done after %.1f s", near)
}
