//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var fuzzStage = stage{
	name: "fuzz", minutes: 14,
	does: "every fuzz target for an equal share of the time: a third of it guided by coverage, the rest as fast as it goes",
	run:  runFuzz, figures: fuzzFigures,
}

// fuzzer is a fuzz target.
type fuzzer struct{ dir, name string }

var (
	fuzzFunc  = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	fuzzExecs = regexp.MustCompile(`elapsed: .*execs: (\d+) `)
)

// targets finds all fuzz targets below here.
func targets() (out []fuzzer, err error) {
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range fuzzFunc.FindAllSubmatch(b, -1) {
			out = append(out, fuzzer{filepath.Dir(path), string(m[1])})
		}
		return err
	})
	// The program itself last: to build it with coverage takes minutes the first time.
	slices.SortStableFunc(out, func(a, b fuzzer) int { return strings.Compare(b.dir[:1], a.dir[:1]) })
	return out, err
}

// fuzzGoal is how often targets are to be run, all together.
const fuzzGoal = 1e8

func runFuzz(ctx context.Context, w *work) error {
	list, err := targets()
	if err != nil {
		return err
	}
	w.worst("targets", float64(len(list)))
	for i, t := range list {
		if w.rest("executions", fuzzGoal) == 0 && w.done("rounds") > 0 {
			return nil
		}
		left := w.limit - time.Since(w.start)
		share := left / time.Duration(len(list)-i)
		if err := w.fuzz(ctx, t, share); err != nil {
			return err
		}
	}
	w.count("rounds", 1)
	return nil
}

// fuzz runs a target in both ways for a share of the time, building included.
func (w *work) fuzz(ctx context.Context, t fuzzer, share time.Duration) error {
	binary := filepath.Join(w.dir, strings.ReplaceAll(t.dir, "/", "-")+".test")
	began := time.Now()
	for _, way := range []struct {
		name  string
		build []string
		until time.Duration
	}{{"guided", []string{"-fuzz=.", "-o", binary + "-guided"}, share / 3}, {"unguided", []string{"-o", binary}, share}} {
		file := way.build[len(way.build)-1]
		if _, err := os.Stat(file); err != nil {
			out, err := exec.CommandContext(ctx, "go", append([]string{"test", "-c"}, append(way.build, "./"+t.dir)...)...).CombinedOutput()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("build %s: %w: %s", t.dir, err, out)
			}
		}
		d := way.until - time.Since(began)
		if d < time.Second {
			continue
		}
		n, err := w.execute(ctx, t, file, d)
		w.count("executions", n)
		w.count(way.name, n)
		if err != nil && ctx.Err() == nil {
			w.fail("%s %s: %v", t.dir, t.name, err)
			return nil // the target's next share would find the same
		}
	}
	fmt.Printf("   %s %s: %s executions in all\n", t.dir, t.name, number(w.done("executions")))
	return ctx.Err()
}

// execute runs a target for a time, and returns how often it was run.
func (w *work) execute(ctx context.Context, t fuzzer, binary string, d time.Duration) (execs float64, err error) {
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		return 0, err
	}
	c := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.fuzz=^"+t.name+"$", fmt.Sprintf("-test.fuzztime=%.0fs", d.Seconds()),
		fmt.Sprintf("-test.parallel=%d", w.procs), "-test.fuzzcachedir="+filepath.Join(strings.TrimSpace(string(cache)), "fuzz", "shoal", t.dir))
	c.Dir = t.dir
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 20 * time.Second
	out, err := c.CombinedOutput()
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if m := fuzzExecs.FindStringSubmatch(lines.Text()); m != nil {
			execs, _ = strconv.ParseFloat(m[1], 64)
		}
	}
	// The time that ends in the middle of an input is a failure for the testing package; an input that failed is written down.
	if err != nil && bytes.Contains(out, []byte("context deadline exceeded")) && !bytes.Contains(out, []byte("Failing input written")) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out[max(0, len(out)-2000):])
	}
	return execs, err
}

func fuzzFigures(t totals) []figure {
	execs := atLeast("G4", "executions of fuzz targets", t.counts["executions"], fuzzGoal)
	execs.Value += fmt.Sprintf(" (guided %s)", number(t.counts["guided"]))
	count := atLeast("G4", "fuzz targets", t.worst["targets"], 30)
	if !count.Met {
		count.Reason = "there are not more of them"
	}
	failed := none("G4", "inputs that failed", float64(t.failures))
	failed.Reason = "panics and wrong answers; hangs and memory are not looked for"
	return []figure{execs, count, failed}
}
