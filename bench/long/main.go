//go:build linux

// Command long is the campaign against ourselves that takes an hour: kills, power that goes, simulated swarms, fuzzing, flipped bits, and a soak.
//
//	go run ./bench/long -fresh                          # all of it, from the start: make test-long
//	go run ./bench/long -stage kills -minutes 9         # one stage, for so long at most
//	go run ./bench/long -scale 0.01 -out /tmp/trial     # a hundredth of everything, into another report
//
// Each run of a stage is a slot of the report, with its date, its revision, and what it counted; what a stage has done is the sum of its
// slots, and it goes on where the last ended, until it has what it is to have. So an hour can be had in pieces of ten minutes, and a slot
// that was interrupted counts for what it did. The report is written after each slot: long.json for programs, LONG.md for people. -fresh
// forgets the slots of the stages that are run.
//
// What fails is kept: inputs of fuzz targets in the testdata of their package, seeds of swarms in internal/sim/testdata/seeds, seeds of disks in
// internal/store/testdata/power. The tests of those packages run them again each time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stages are all there are, in the order of a whole run.
var stages = []stage{simStage, powerStage, flipStage, killStage, fuzzStage, soakStage}

// stage is a part of the hour.
type stage struct {
	name    string
	does    string
	minutes float64 // of the hour, at most
	run     func(context.Context, *work) error
	figures func(totals) []figure
}

type options struct {
	stages  []string
	scale   float64
	minutes float64
	fresh   bool
	out     string
	procs   int
	seed    uint64
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "long:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("long", flag.ContinueOnError)
	var names []string
	for _, s := range stages {
		names = append(names, s.name)
	}
	only := f.String("stage", strings.Join(names, ","), "stages to run, separated by commas")
	f.Float64Var(&o.scale, "scale", 1, "a part of everything, for a trial")
	f.Float64Var(&o.minutes, "minutes", 0, "the most that each stage may take now; 0: its part of the hour")
	f.BoolVar(&o.fresh, "fresh", false, "forget what these stages have done before")
	f.StringVar(&o.out, "out", "bench", "folder of the report")
	f.IntVar(&o.procs, "procs", runtime.NumCPU(), "how much goes on at once")
	f.Uint64Var(&o.seed, "seed", rand.Uint64()>>32, "of all chance; 0 and up")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.stages = strings.Split(*only, ",")
	for _, name := range o.stages {
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("-stage: there is no stage %q, only %s", name, strings.Join(names, ", "))
		}
	}
	if o.scale <= 0 || o.scale > 1 {
		return o, fmt.Errorf("-scale: %v is not within 0 and 1", o.scale)
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if _, err := os.Stat("go.mod"); err != nil {
		return errors.New("run it in the root of the source: it builds and tests it")
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	r, err := readReport(filepath.Join(o.out, "long.json"))
	if err != nil {
		return err
	}
	var failed []string
	for _, s := range stages {
		if !slices.Contains(o.stages, s.name) || ctx.Err() != nil {
			continue
		}
		slot, err := o.runStage(ctx, r, s)
		if err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", s.name, err))
		}
		if len(slot.Failures) > 0 {
			failed = append(failed, fmt.Sprintf("%s: %d failures, the first: %s", s.name, len(slot.Failures), slot.Failures[0]))
		}
		if err := r.write(o.out); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return errors.New(strings.Join(failed, "\n"))
	}
	return ctx.Err()
}

func (o options) runStage(ctx context.Context, r *report, s stage) (*slot, error) {
	if o.fresh {
		delete(r.Stages, s.name)
	}
	minutes := s.minutes * o.scale
	if o.minutes > 0 {
		minutes = o.minutes
	}
	dir, err := os.MkdirTemp("", "shoal-long-")
	if err != nil {
		return &slot{}, err
	}
	defer os.RemoveAll(dir)
	w := &work{
		options: o, dir: dir, before: r.totals(s.name), start: time.Now(), limit: time.Duration(minutes * float64(time.Minute)),
		slot: slot{Counts: make(map[string]float64), Worst: make(map[string]float64)},
	}
	fmt.Printf("%s: %s, %.1f minutes at most, seed %d\n", s.name, s.does, minutes, o.seed)
	within, cancel := context.WithTimeout(ctx, w.limit)
	err = s.run(within, w)
	if within.Err() != nil && errors.Is(err, within.Err()) {
		err = ctx.Err() // that its time is over is no error of a stage
	}
	cancel()
	w.slot.describe(o, time.Since(w.start))
	if err != nil {
		w.slot.Failures = append(w.slot.Failures, err.Error())
	}
	if len(w.slot.Counts) > 0 || len(w.slot.Failures) > 0 {
		r.Stages[s.name] = append(r.Stages[s.name], w.slot)
	}
	for _, f := range s.figures(r.totals(s.name)) {
		fmt.Println("  ", f.text())
	}
	return &w.slot, err
}

// work is a stage under way.
type work struct {
	options
	dir    string // that goes when the stage ends
	before totals // of the slots before
	start  time.Time
	limit  time.Duration

	mu   sync.Mutex
	slot slot
}

// count adds to what the slot counts.
func (w *work) count(what string, n float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slot.Counts[what] += n
}

// worst keeps the largest that was seen.
func (w *work) worst(what string, v float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old, known := w.slot.Worst[what]; !known || v > old {
		w.slot.Worst[what] = v
	}
}

// fail notes what must not be. Only the first hundred are kept.
func (w *work) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(os.Stderr, "   FAILED:", text)
	if len(w.slot.Failures) < 100 {
		w.slot.Failures = append(w.slot.Failures, text)
	}
}

// done returns what has been counted, in all slots together.
func (w *work) done(what string) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.before.counts[what] + w.slot.Counts[what]
}

// rest returns how many of a goal are to be done yet, of a part of it in a trial.
func (w *work) rest(what string, goal float64) int {
	return max(0, int(goal*w.scale-w.done(what)+0.5))
}

// each calls f in several goroutines, until it says that nothing is left, or the time is over.
func (w *work) each(ctx context.Context, procs int, f func(worker int) (more bool)) {
	var wg sync.WaitGroup
	for worker := range procs {
		wg.Go(func() {
			for ctx.Err() == nil && f(worker) {
			}
		})
	}
	wg.Wait()
}

// totals are what the slots of a stage come to.
type totals struct {
	counts, worst map[string]float64
	slots         []slot
	failures      int
}

func (r *report) totals(name string) totals {
	t := totals{counts: make(map[string]float64), worst: make(map[string]float64), slots: r.Stages[name]}
	for _, s := range t.slots {
		for what, n := range s.Counts {
			t.counts[what] += n
		}
		for what, v := range s.Worst {
			if old, known := t.worst[what]; !known || v > old {
				t.worst[what] = v
			}
		}
		t.failures += len(s.Failures)
	}
	return t
}

// sorted are the names of counts that begin so.
func (t totals) sorted(prefix string) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(t.counts)) {
		if strings.HasPrefix(name, prefix) {
			out = append(out, name)
		}
	}
	return out
}
