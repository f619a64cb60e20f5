//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"shoal/internal/hostile"
)

// plan is what a scenario asks of the lab: links, starts, and the bound that follows from them.
type plan struct {
	size     float64
	contents int
	between  float64 // the rate of the link between two sites, half of the leechers each, the source in the first; 0: there is one
	source   link
	leechers []link    // leecher i wants the content i modulo their number
	hostile  []link    // of those who are there to harm the others
	at       []float64 // when each starts; nil: all at once
	bound    float64   // of the makespan, in seconds
	until    float64   // when the scenario intervenes, if it does
}

func (p plan) startOf(i int) float64 {
	if p.at == nil {
		return 0
	}
	return p.at[i]
}

// scenario is one kind of crowd.
type scenario struct {
	name, about string
	aria2       bool // whether aria2 can do it
	plan        func(size, rate float64, n int) plan
	act         func(ctx context.Context, c *crowd, t time.Duration) error
	notes       func(c *crowd, r *result)
	without     bool         // the others' median is compared with that of a run without the last leecher
	role        hostile.Role // of those who are hostile
}

// copiesBeforeGone is how much of the content the source has sent when it is killed in "sourcegone".
const copiesBeforeGone = 1.1

var scenarios = []scenario{
	{name: "equal", about: "all links alike", aria2: true, plan: equal},
	{name: "fastdown", about: "downlinks four times the uplinks", aria2: true, plan: func(size, rate float64, n int) plan {
		return plain1(size, link{rate, 4 * rate}, slices.Repeat([]link{{rate, 4 * rate}}, n))
	}},
	{name: "slowhalf", about: "half the leechers' uplinks ten times slower", aria2: true, plan: func(size, rate float64, n int) plan {
		ls := slices.Repeat([]link{{rate, rate}}, n)
		for i := range n / 2 {
			ls[2*i+1].up = rate / 10
		}
		return plain1(size, link{rate, rate}, ls)
	}},
	{name: "slowone", about: "one leecher with both links ten times slower", aria2: true, without: true, plan: func(size, rate float64, n int) plan {
		ls := slices.Repeat([]link{{rate, rate}}, n)
		ls[n-1] = link{rate / 10, rate / 10}
		return plain1(size, link{rate, rate}, ls)
	}},
	{name: "killed", about: "a third of the leechers killed at half of T* and started again", aria2: true, plan: halfway(equal), act: killThird, notes: noteKilled},
	{name: "sourcegone", about: "a source with twice the uplink, killed when it has sent 1.1 copies", aria2: true, plan: func(size, rate float64, n int) plan {
		p := plain1(size, link{2 * rate, rate}, slices.Repeat([]link{{rate, rate}}, n)) // with the others' uplink it would take T* and more for that
		p.bound = deserted(size, p.source, p.leechers, copiesBeforeGone)
		return p
	}, act: killSource, notes: noteGone},
	{name: "joins", about: "the starts spread evenly over one T*", aria2: true, plan: func(size, rate float64, n int) plan {
		p := equal(size, rate, n)
		for i := range n {
			p.at = append(p.at, p.bound*float64(i)/float64(n))
		}
		p.bound = joining(size, p.source, p.leechers, p.at)
		return p
	}, notes: noteJoins},
	{name: "sites", about: "two sites, the link between them a tenth as fast as a leecher's", plan: func(size, rate float64, n int) plan {
		p := equal(size, rate, n)
		p.between = rate / 10
		p.bound = max(p.bound, size/p.between)
		return p
	}, notes: noteSites},
	{name: "stall", about: "a tenth of the leechers stopped (SIGSTOP) at half of T*", plan: func(size, rate float64, n int) plan {
		p := halfway(equal)(size, rate, n)
		k := n - stalledOf(n)
		p.bound = stalling(size, p.source, p.leechers[:k], p.leechers[k:], p.until)
		return p
	}, act: stopTenth},
	{name: "two", about: "two contents from one source, half of the leechers each", plan: func(size, rate float64, n int) plan {
		p := equal(size, rate, n)
		p.contents = 2
		var groups [2][]link
		for i, l := range p.leechers {
			groups[i%2] = append(groups[i%2], l)
		}
		p.bound = twofold(size, p.source, groups[:])
		return p
	}, notes: noteTwo},
}

// plain1 is the plan of one content for all, who come at once.
func plain1(size float64, source link, leechers []link) plan {
	return plan{size: size, contents: 1, source: source, leechers: leechers, bound: plain(size, source, leechers)}
}

func equal(size, rate float64, n int) plan {
	return plain1(size, link{rate, rate}, slices.Repeat([]link{{rate, rate}}, n))
}

func halfway(make func(size, rate float64, n int) plan) func(size, rate float64, n int) plan {
	return func(size, rate float64, n int) plan {
		p := make(size, rate, n)
		p.until = p.bound / 2
		return p
	}
}

// killThird kills every third leecher at half time, and starts the same command again at once.
func killThird(ctx context.Context, c *crowd, t time.Duration) error {
	if c.acted || t.Seconds() < c.plan.until {
		return nil
	}
	c.acted = true
	var victims []*leecher
	for i, l := range c.leechers {
		if i%3 == 1 && l.done.IsZero() && l.err == nil {
			victims = append(victims, l)
		}
	}
	for _, l := range victims {
		if err := c.kill(l.p); err != nil {
			return err
		}
	}
	for _, l := range victims {
		if err := c.restart(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// noteKilled says what those had who were killed, and what they found and fetched when they came again.
func noteKilled(c *crowd, r *result) {
	var had, resumed, fetched, received, n int64
	for _, l := range c.leechers {
		if !l.killed {
			continue
		}
		n++
		had += l.had
		resumed += l.event.Resumed
		fetched += l.event.Fetched
		received += c.after.traffic[l.i+1].received - c.before.traffic[l.i+1].received
	}
	mean := func(b int64) float64 { return float64(b) / float64(max(n, 1)) / c.plan.size }
	r.note("killed", float64(n), "%.0f were killed", float64(n))
	r.note("had", mean(had), "they had %.3f of the content in whole pieces", mean(had))
	if c.tool.name() == "shoal" {
		r.note("resumed", mean(resumed), "found %.3f of it", mean(resumed))
		r.note("refetched", mean(had+fetched)-1, "fetched %.3f more: %+.4f of it again", mean(fetched), mean(had+fetched)-1)
	}
	r.note("received", mean(received), "each received %.3f copies in all, headers counted", mean(received))
}

// killSource kills the source as soon as the switch has counted enough from it.
func killSource(ctx context.Context, c *crowd, t time.Duration) error {
	if c.acted || float64(c.samples[len(c.samples)-1].sent[0]) < copiesBeforeGone*c.plan.size {
		return nil
	}
	c.acted, c.plan.until = true, t.Seconds()
	if err := c.countSource(ctx); err != nil {
		return err
	}
	p := c.source
	c.source = nil
	return c.kill(p)
}

func noteGone(c *crowd, r *result) {
	if !c.acted {
		r.note("gone", 0, "it was over before that")
		return
	}
	r.note("gone", c.plan.until, "the source went after %.1f s", c.plan.until)
	n, err := c.together(c.files[0])
	if err != nil {
		r.Wrong = err.Error()
	}
	part := float64(n) / c.plan.size
	r.note("together", part, "in the end all had %.3f of the content together", part)
}

func noteJoins(c *crowd, r *result) {
	var own []float64
	for i, l := range c.leechers {
		if !l.done.IsZero() {
			own = append(own, l.done.Sub(c.began).Seconds()-c.plan.startOf(i))
		}
	}
	if own != nil {
		slices.Sort(own)
		r.note("own", own[len(own)/2], "from one's own start to the end: %.1f s at the median, %.1f s at most", own[len(own)/2], own[len(own)-1])
	}
}

// stalledOf returns how many of n leechers are stopped.
func stalledOf(n int) int { return max(1, n/10) }

// stopTenth stops the last leechers in the middle of what they do.
func stopTenth(_ context.Context, c *crowd, t time.Duration) error {
	if c.acted || t.Seconds() < c.plan.until {
		return nil
	}
	c.acted = true
	for _, l := range c.leechers[len(c.leechers)-stalledOf(len(c.leechers)):] {
		if err := syscall.Kill(l.p.PID(), syscall.SIGSTOP); err != nil {
			return fmt.Errorf("stop a leecher: %w", err)
		}
		l.stopped = true
	}
	return nil
}

// noteTwo compares when the two halves were done.
func noteTwo(c *crowd, r *result) {
	var last, sum [2]float64
	for i, l := range c.leechers {
		t := l.done.Sub(c.began).Seconds()
		last[i%2] = max(last[i%2], t)
		sum[i%2] += t
	}
	r.note("fair", max(last[0], last[1])/min(last[0], last[1]), "the last of one half took %.2f times as long as that of the other",
		max(last[0], last[1])/min(last[0], last[1]))
	r.note("fairMean", max(sum[0], sum[1])/min(sum[0], sum[1]), "on the mean %.2f", max(sum[0], sum[1])/min(sum[0], sum[1]))
}
