//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"shoal/internal/sim"
)

// sizes are the simulated swarms: leechers, pieces, and how many seeds.
var sizes = []struct {
	n      int
	pieces uint32
	seeds  float64
}{{24, 64, 1000}, {100, 64, 100}, {1000, 64, 10}}

const seedsFile = "internal/sim/testdata/seeds"

var simStage = stage{
	name: "sim", minutes: 10,
	does: "simulated swarms with churn, liars and stallers, in which the real schedule runs, each seed twice",
	run:  runSim, figures: simFigures,
}

func seedsOf(n int) string { return fmt.Sprintf("seeds of %d", n) }

func runSim(ctx context.Context, w *work) error {
	type task struct {
		n      int
		pieces uint32
		seed   uint64
	}
	var tasks []task
	for _, size := range sizes { // the smallest first: one of 1,000 twice is more than a short slot has
		for k := range w.rest(seedsOf(size.n), size.seeds) {
			tasks = append(tasks, task{size.n, size.pieces, w.seed + uint64(k)})
		}
	}
	queue := make(chan task, len(tasks))
	for _, t := range tasks {
		queue <- t
	}
	close(queue)
	w.each(ctx, w.procs, func(int) bool {
		t, more := <-queue
		if more {
			w.swarm(ctx, t.n, t.pieces, t.seed)
		}
		return more
	})
	return ctx.Err()
}

// swarm simulates one twice.
func (w *work) swarm(ctx context.Context, n int, pieces uint32, seed uint64) {
	cfg := sim.Mixed(n, pieces, seed)
	cfg.Stop = func() bool { return ctx.Err() != nil }
	began := time.Now()
	a := sim.Run(cfg)
	took := time.Since(began)
	b := sim.Run(cfg)
	if ctx.Err() != nil {
		return
	}
	w.count(seedsOf(n), 1)
	w.count(fmt.Sprintf("simulated seconds of %d", n), a.Makespan.Seconds())
	w.count(fmt.Sprintf("seconds for %d", n), took.Seconds())
	if a.Hash == b.Hash && a.Events == b.Events {
		w.count("replayed alike", 1)
	}
	if a.Hash == b.Hash && a.Unfinished == 0 {
		return
	}
	w.count("failed", 1)
	w.fail("%d leechers, %d pieces, seed %d: %d never finished; hashes %016x, %016x", n, pieces, seed, a.Unfinished, a.Hash, b.Hash)
	if err := keep(seedsFile, fmt.Sprintf("%d %d %d", n, pieces, seed)); err != nil {
		w.fail("keep the seed: %v", err)
	}
}

// keep appends a line to what a test runs again.
func keep(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintln(f, line); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func simFigures(t totals) (out []figure) {
	all := 0.0
	for _, s := range sizes {
		out = append(out, atLeast("G5", fmt.Sprintf("seeds of %d leechers", s.n), t.counts[seedsOf(s.n)], s.seeds))
		all += t.counts[seedsOf(s.n)]
	}
	out = append(out, none("G5", "swarms in which an honest peer that lives never finished, or that differ when repeated", t.counts["failed"]))
	replayed := figure{Goal: "G6", What: "seeds that give the same trace again", Value: fmt.Sprintf("%s of %s", number(t.counts["replayed alike"]), number(all)), Minimum: "all of 1,000"}
	replayed.Met = t.counts["replayed alike"] == all && all >= 1000
	out = append(out, replayed)
	if took := t.counts["seconds for 100"]; took > 0 {
		speed := t.counts["simulated seconds of 100"] / took
		f := figure{Goal: "G7", What: "simulated time to time, 100 leechers, one core", Value: number(speed), Minimum: "1,000", Met: speed >= 1000}
		if !f.Met {
			f.Reason = "every piece of every peer is an event, and the links' shares are found anew for each"
		}
		out = append(out, f)
	}
	return out
}
