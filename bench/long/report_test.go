//go:build linux

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// counting is a stage that counts one thing for each run, up to three.
var counting = stage{
	name: "counting", does: "it counts", minutes: 1,
	run: func(_ context.Context, w *work) error {
		if w.rest("things", 3) > 0 {
			w.count("things", 1)
			w.worst("depth", 2-w.before.counts["things"])
		}
		return nil
	},
	figures: func(t totals) []figure { return []figure{atLeast("G0", "things", t.counts["things"], 3)} },
}

// What stages have done is the sum of their slots, through the file; a stage that has enough adds none; -fresh begins anew.
func TestSlotsAddUpUntilThereIsEnough(t *testing.T) {
	old := stages
	stages = []stage{counting}
	defer func() { stages = old }()
	dir := t.TempDir()
	o := options{scale: 1, out: dir}
	for i, want := range []struct {
		slots  int
		things float64
		text   string
	}{{1, 1, "**missed**"}, {2, 2, "**missed**"}, {3, 3, "| met |"}, {3, 3, "| met |"}} {
		r, err := readReport(filepath.Join(dir, "long.json"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.runStage(t.Context(), r, counting); err != nil {
			t.Fatal(err)
		}
		if err := r.write(dir); err != nil {
			t.Fatal(err)
		}
		all := r.totals("counting")
		if len(all.slots) != want.slots || all.counts["things"] != want.things || all.worst["depth"] != 2 {
			t.Errorf("run %d: %+v", i, all)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "LONG.md")); err != nil || !strings.Contains(string(b), want.text) {
			t.Errorf("run %d: LONG.md has no %q (%v):\n%s", i, want.text, err, b)
		}
	}
	o.fresh = true
	r, err := readReport(filepath.Join(dir, "long.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.runStage(t.Context(), r, counting); err != nil {
		t.Fatal(err)
	}
	if all := r.totals("counting"); len(all.slots) != 1 || all.counts["things"] != 1 {
		t.Errorf("fresh: %+v", all)
	}
}

// A stage whose time is over has not failed; what it has counted is kept. One that has failed says so in the report.
func TestASlotThatEndsEarlyCounts(t *testing.T) {
	s := counting
	s.run = func(ctx context.Context, w *work) error {
		w.count("things", 1)
		<-ctx.Done()
		return ctx.Err()
	}
	r := &report{Stages: make(map[string][]slot)}
	if _, err := (options{scale: 1, minutes: 1e-6}).runStage(t.Context(), r, s); err != nil {
		t.Error(err)
	}
	s.run = func(_ context.Context, w *work) error { w.fail("%d is wrong", 7); return nil }
	if slot, err := (options{scale: 1}).runStage(t.Context(), r, s); err != nil || len(slot.Failures) != 1 {
		t.Errorf("%+v, %v", slot, err)
	}
	if all := r.totals("counting"); all.counts["things"] != 1 || all.failures != 1 {
		t.Errorf("%+v", all)
	}
	if text := string((&report{Stages: r.Stages, Figures: map[string][]figure{}}).markdown()); strings.Contains(text, "7 is wrong") {
		t.Error("a stage that is none is told of")
	}
}

func TestEveryFuzzTargetIsFound(t *testing.T) {
	t.Chdir("../..")
	list, err := targets()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[fuzzer]bool)
	for _, f := range list {
		found[f] = true
	}
	for _, want := range []fuzzer{{"internal/wire", "FuzzParse"}, {"internal/store", "FuzzReplay"}, {"cmd/shoal", "FuzzKeys"}} {
		if !found[want] {
			t.Errorf("%v is not among %v", want, list)
		}
	}
}
