//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"shoal/bench/internal/lab"
)

// report is what long.json holds.
type report struct {
	Stages  map[string][]slot   `json:"stages"`
	Figures map[string][]figure `json:"figures"` // made from the slots each time it is written
}

// slot is one run of a stage.
type slot struct {
	Date     string             `json:"date"`
	Revision string             `json:"revision"` // of the source; with a + where it had changes
	Machine  string             `json:"machine"`
	Seconds  float64            `json:"seconds"`
	Scale    float64            `json:"scale"`
	Seed     uint64             `json:"seed"`
	Counts   map[string]float64 `json:"counts"`
	Worst    map[string]float64 `json:"worst,omitempty"`
	Failures []string           `json:"failures,omitempty"`
}

// figure is one line of the goals.
type figure struct {
	Goal    string `json:"goal"`
	What    string `json:"what"`
	Value   string `json:"value"`
	Minimum string `json:"minimum"`
	Met     bool   `json:"met"`
	Reason  string `json:"reason,omitempty"` // why it is missed, or what it does not say
}

func (f figure) text() string {
	verdict := "met"
	if !f.Met {
		verdict = "MISSED"
	}
	text := fmt.Sprintf("%s %s: %s (minimum %s): %s", f.Goal, f.What, f.Value, f.Minimum, verdict)
	if f.Reason != "" {
		text += "; " + f.Reason
	}
	return text
}

// atLeast is a figure that counts up to a goal.
func atLeast(goal, what string, value, minimum float64) figure {
	f := figure{Goal: goal, What: what, Value: number(value), Minimum: number(minimum), Met: value >= minimum}
	if !f.Met {
		f.Reason = "more slots are needed"
	}
	return f
}

// none is a figure of what must not be.
func none(goal, what string, value float64) figure {
	return figure{Goal: goal, What: what, Value: number(value), Minimum: "0", Met: value == 0}
}

// number writes a count as people do.
func number(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func (s *slot) describe(o options, took time.Duration) {
	s.Date = time.Now().UTC().Format(time.RFC3339)
	s.Machine, s.Scale, s.Seed, s.Seconds = lab.Machine(), o.scale, o.seed, took.Seconds()
	out, err := exec.Command("git", "describe", "--always", "--dirty=+", "--exclude=*").Output()
	if s.Revision = strings.TrimSpace(string(out)); err != nil {
		s.Revision = "unknown"
	}
}

func readReport(path string) (*report, error) {
	r := &report{Stages: make(map[string][]slot)}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, r)
	}
	if err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	return r, nil
}

// write writes both forms of the report, each beside its place first.
func (r *report) write(dir string) error {
	r.Figures = make(map[string][]figure)
	for _, s := range stages {
		if len(r.Stages[s.name]) > 0 {
			r.Figures[s.name] = s.figures(r.totals(s.name))
		}
	}
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{"long.json": append(b, '\n'), "LONG.md": r.markdown()} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", b, 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}

// markdown is the report for people.
func (r *report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# The long run\n\nWritten by `make test-long` (`go run ./bench/long`; method at the top of its main.go). The minimum is what a machine of two cores and 20,000 descriptors\n"+
		"is to reach in about an hour. What a stage has done is the sum of its slots.\n\n| goal | what | measured | minimum | |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range stages {
		for _, f := range r.Figures[s.name] {
			verdict := "met"
			if !f.Met {
				verdict = "**missed**"
			}
			if f.Reason != "" {
				verdict += ": " + f.Reason
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", f.Goal, f.What, f.Value, f.Minimum, verdict)
		}
	}
	for _, s := range stages {
		if len(r.Stages[s.name]) == 0 {
			fmt.Fprintf(&b, "\n## %s: %s\n\n**Not run.**\n", s.name, s.does)
			continue
		}
		r.slots(&b, s)
	}
	return b.Bytes()
}

// slots tells of each run of a stage.
func (r *report) slots(b *bytes.Buffer, s stage) {
	fmt.Fprintf(b, "\n## %s: %s\n\n| when | revision | minutes | seed | counted | failures |\n| --- | --- | --- | --- | --- | --- |\n", s.name, s.does)
	machines := make(map[string]bool)
	for _, one := range r.Stages[s.name] {
		var counted []string
		t := totals{counts: one.Counts}
		for _, name := range t.sorted("") {
			counted = append(counted, name+" "+number(one.Counts[name]))
		}
		fmt.Fprintf(b, "| %s | %s | %.1f | %d | %s | %d |\n", one.Date, one.Revision, one.Seconds/60, one.Seed, strings.Join(counted, "; "), len(one.Failures))
		machine, _, _ := strings.Cut(one.Machine, "go1")
		machines[strings.TrimSuffix(machine, ", ")] = true
	}
	for m := range machines {
		fmt.Fprintf(b, "\nMachine: %s\n", m)
	}
	for _, one := range r.Stages[s.name] {
		for _, f := range one.Failures {
			fmt.Fprintf(b, "\n    %s\n", strings.ReplaceAll(f, "\n", "\n    "))
		}
	}
}
