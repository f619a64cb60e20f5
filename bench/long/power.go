//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var powerStage = stage{
	name: "power", minutes: 3,
	does: "power that goes at each operation of a download onto a simulated disk, and again while it is resumed",
	run:  runPower, figures: powerFigures,
}

const powerSeeds = "internal/store/testdata/power"

// runPower runs the tests of the store's simulated disk, compiled once: all single cuts, and then a sample of several.
func runPower(ctx context.Context, w *work) error {
	binary := filepath.Join(w.dir, "store.test")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "./internal/store").CombinedOutput(); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return fmt.Errorf("build the tests of the store: %w: %s", err, out)
	}
	if w.done("single cuts") == 0 {
		n, err := w.power(ctx, binary, "TestEveryWayInWhichPowerGoesOnceLosesNothing", "")
		w.count("single cuts", n)
		if err != nil {
			return err
		}
	}
	var failed error
	w.each(ctx, w.procs, func(worker int) bool {
		left := w.limit - time.Since(w.start)
		n, err := w.power(ctx, binary, "TestPowerSample", fmt.Sprintf("%d %.1f", w.seed+uint64(worker)<<32, (left-time.Second).Seconds()))
		w.count("sampled cuts", n)
		if err != nil && ctx.Err() == nil {
			failed = err
		}
		return false
	})
	return failed
}

// power runs a test, and returns the cases that it had. A case that failed is kept.
func (w *work) power(ctx context.Context, binary, test, sample string) (cases float64, err error) {
	c := exec.CommandContext(ctx, binary, "-test.run=^"+test+"$", "-test.v", "-test.timeout=2h")
	c.Dir = "internal/store"
	c.Env = append(os.Environ(), "SHOAL_POWER="+sample, "GOMAXPROCS=1")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.CombinedOutput()
	if err == nil && !bytes.Contains(out, []byte("--- PASS: "+test)) {
		err = fmt.Errorf("%s did not run", test)
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if _, rest, ok := strings.Cut(lines.Text(), "failed: "); ok {
			if kept := keep(powerSeeds, rest); kept != nil {
				w.fail("keep the seed: %v", kept)
			}
		}
		if _, rest, ok := strings.Cut(lines.Text(), "cases "); ok {
			cases, _ = strconv.ParseFloat(rest, 64)
		}
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out[max(0, len(out)-2000):])
	}
	return cases, err
}

func powerFigures(t totals) []figure {
	single := atLeast("G2", "ways in which the power goes once: operation, names that last, bytes lost, kept, torn: all there are", t.counts["single cuts"], 1)
	single.Minimum = "all"
	sampled := atLeast("G2", "sampled: power that goes three times in a download, a repair, a directory", t.counts["sampled cuts"], 1e6)
	if !sampled.Met {
		sampled.Reason = "each case is up to three downloads, 2 ms; the goal is a night's"
	}
	return []figure{single, sampled, none("G2", "files that were wrong, lost or left behind", float64(t.failures))}
}
