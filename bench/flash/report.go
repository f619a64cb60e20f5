//go:build linux

package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"shoal/bench/internal/lab"
)

const (
	enoughIdle = 0.3 // of the processors; with less, they are what was measured
	curveParts = 20
)

// result is what one run came to. Times are seconds, sizes bytes, parts of one.
type result struct {
	Tool     string  `json:"tool"`
	Scenario string  `json:"scenario"`
	N        int     `json:"n"`
	Bound    float64 `json:"bound"`
	Expected int     `json:"expected"` // leechers who can be done
	Finished int     `json:"finished"`
	Correct  bool    `json:"correct"` // all who are done have what the source has
	Wrong    string  `json:"wrong,omitempty"`
	Void     bool    `json:"void"` // the processors were the limit

	Makespan float64 `json:"makespan"` // from the first process to the last that is done
	Started  float64 `json:"started"`  // when the first process said that it fetches
	Median   float64 `json:"median"`   // of the times when each was done
	Others   float64 `json:"others"`   // the same without the last leecher

	Copies      float64            `json:"copies"`  // sent by the source, headers and all, of each content
	Payload     float64            `json:"payload"` // the same as its TCP has carried it, nothing twice
	CPU         float64            `json:"cpu"`     // of all processes of the tool
	CPUPerGB    float64            `json:"cpu_per_gb"`
	Idle        float64            `json:"idle"`
	Peak        int64              `json:"peak"`
	Wasted      float64            `json:"wasted"` // of what all had to fetch; by the "done" events
	Repeated    float64            `json:"repeated"`
	Watched     float64            `json:"watched"`      // the makespan, or as long as was waited for those who were not done
	Curve       []float64          `json:"curve"`        // the part of all uplinks that was used, by twentieths of that
	FirstSecond []float64          `json:"first_second"` // by tenths
	Values      map[string]float64 `json:"values,omitempty"`

	notes    []string
	samples  []sample
	capacity float64 // of all uplinks, in bytes a second
}

// note adds a figure of the scenario's own, and how it is said.
func (r *result) note(key string, value float64, format string, args ...any) {
	if r.Values == nil {
		r.Values = make(map[string]float64)
	}
	r.Values[key] = value
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// ratio is the makespan as a multiple of the bound.
func (r *result) ratio() float64 { return r.Makespan / r.Bound }

// headers is what Ethernet, IPv4, and TCP with its time stamps put before each segment.
const headers = 14 + 20 + 32

// judge makes a result of a run that is over.
func judge(c *crowd, s scenario) *result {
	r := &result{
		Tool: c.tool.name(), Scenario: s.name, N: len(c.leechers), Bound: c.plan.bound,
		Expected: len(c.expected()), Finished: c.finished(), samples: c.samples, Peak: c.peak,
	}
	if err := c.correct(); err != nil {
		r.Wrong = err.Error()
	}
	r.Correct = r.Wrong == ""
	var done, others []float64
	var wasted int64
	for _, l := range c.leechers {
		if !l.started.IsZero() && (r.Started == 0 || l.started.Sub(c.began).Seconds() < r.Started) {
			r.Started = l.started.Sub(c.began).Seconds()
		}
		if l.err != nil {
			r.Wrong = strings.TrimSpace(r.Wrong + " leecher " + strconv.Itoa(l.i) + ": " + l.err.Error())
		}
		if l.done.IsZero() {
			continue
		}
		wasted += l.event.Wasted
		t := l.done.Sub(c.began).Seconds()
		done = append(done, t)
		if l.i < len(c.leechers)-1 {
			others = append(others, t)
		}
	}
	if len(done) > 0 {
		r.Makespan, r.Median = slices.Max(done), lab.Summarize(done).Median
	}
	if len(others) > 0 {
		r.Others = lab.Summarize(others).Median
	}
	wall := c.after.at.Sub(c.before.at)
	r.Idle = 1 - (c.after.busy-c.before.busy).Seconds()/(wall.Seconds()*float64(runtime.NumCPU()))
	r.Void = r.Idle < enoughIdle
	r.CPU = c.spent.Seconds()
	goal := float64(r.Expected) * c.plan.size
	r.CPUPerGB = r.CPU / (goal / 1e9)
	r.Wasted = float64(wasted) / goal
	r.count(c)
	return r
}

// count makes figures of the counters of the links.
func (r *result) count(c *crowd) {
	var out, again int64
	for i := range c.after.segs {
		out += c.after.segs[i].out - c.before.segs[i].out
		again += c.after.segs[i].again - c.before.segs[i].again
	}
	r.Repeated = float64(again) / float64(max(out, 1))
	goal := c.plan.size * float64(c.plan.contents)
	segs := c.after.segs[0].out + c.after.segs[0].again - c.before.segs[0].out - c.before.segs[0].again
	bursts := c.after.traffic[0].bursts - c.before.traffic[0].bursts
	sent := c.after.traffic[0].sent - c.before.traffic[0].sent + headers*max(0, segs-bursts)
	r.Copies = float64(sent) / goal
	for _, n := range c.acked {
		r.Payload += float64(n) / goal
	}
	r.capacity = c.plan.source.up + uplinks(c.plan.leechers)
	r.Watched = c.samples[len(c.samples)-1].at.Seconds()
	if r.Finished == r.Expected {
		r.Watched = r.Makespan
	}
	end := time.Duration(r.Watched * float64(time.Second))
	r.Curve = curve(c.samples, r.capacity, end, curveParts)
	r.FirstSecond = curve(c.samples, r.capacity, time.Second, 10)
}

// series is what the runs of one row came to.
type series struct {
	s     scenario
	tool  string
	n     int
	runs  []*result // valid and void
	bases []float64 // for scenarios with a comparison: the median of the run without, beside each of runs
}

// add takes in a run, and that without, if there is one: of which nothing can be said where one of the two is void.
func (x *series) add(r, base *result) {
	if base != nil {
		x.bases = append(x.bases, base.Median)
		if base.Void || base.Finished < base.Expected || !base.Correct {
			r.Void = true
			r.note("without_idle", base.Idle, "the run without the slow one says nothing: %.0f %% idle, %d of %d finished", 100*base.Idle, base.Finished, base.Expected)
		}
	}
	x.runs = append(x.runs, r)
}

// valid returns the runs that say something.
func (x *series) valid() (out []*result) {
	for _, r := range x.runs {
		if !r.Void {
			out = append(out, r)
		}
	}
	return out
}

const head = `| scenario | tool | N | bound s | makespan s | makespan / bound | from the first "start" | median s | source: copies, of payload | CPU s (s/GB) | idle | peak MiB | wasted | repeated segments | finished |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
`

// print prints the row, and what there is to say about it.
func (x *series) print(w io.Writer) {
	runs := x.valid()
	void := len(runs) == 0
	if void {
		runs = x.runs
	}
	all := func(f func(*result) float64) lab.Spread {
		var v []float64
		for _, r := range runs {
			v = append(v, f(r))
		}
		return lab.Summarize(v)
	}
	mid := func(f func(*result) float64) float64 { return all(f).Median }
	ratio := "**void: CPU saturated**"
	inner := ratio
	if !void {
		s := all((*result).ratio)
		ratio = fmt.Sprintf("**%.3f** (%.3f to %.3f)", s.Median, s.Min, s.Max)
		inner = fmt.Sprintf("%.3f", mid(func(r *result) float64 { return (r.Makespan - r.Started) / r.Bound }))
	}
	finished, expected, correct := 0, 0, ""
	for _, r := range x.runs {
		finished, expected = finished+r.Finished, expected+r.Expected
		if !r.Correct {
			correct = " **wrong content**"
		}
	}
	if finished < expected && !void {
		ratio, inner = "**not all finished**", ""
	}
	fmt.Fprintf(w, "| %s | %s | %d | %.2f | %.2f | %s | %s | %.2f | %.3f, %.3f | %.1f (%.1f) | %.0f %% | %.0f | %.2f %% | %.1f %% | %d of %d%s |\n",
		x.s.name, x.tool, x.n, mid(func(r *result) float64 { return r.Bound }), mid(func(r *result) float64 { return r.Makespan }), ratio, inner,
		mid(func(r *result) float64 { return r.Median }), mid(func(r *result) float64 { return r.Copies }), mid(func(r *result) float64 { return r.Payload }),
		mid(func(r *result) float64 { return r.CPU }), mid(func(r *result) float64 { return r.CPUPerGB }), 100*mid(func(r *result) float64 { return r.Idle }),
		mid(func(r *result) float64 { return float64(r.Peak) / (1 << 20) }), 100*mid(func(r *result) float64 { return r.Wasted }),
		100*mid(func(r *result) float64 { return r.Repeated }), finished, expected, correct)
}

// explain prints what a row has no room for: the scenario's own figures of each run, and the curve of the run in the middle.
func (x *series) explain(w io.Writer) {
	fmt.Fprintf(w, "- `%s`, %s, N = %d (%s)", x.s.name, x.tool, x.n, x.s.about)
	if v := len(x.valid()); v < len(x.runs) {
		fmt.Fprintf(w, "; %d of %d runs void: CPU saturated", len(x.runs)-v, len(x.runs))
	}
	fmt.Fprintln(w)
	for i, r := range x.runs {
		if x.bases != nil && !r.Void {
			fmt.Fprintf(w, "  - the others' median: %.2f s, without the slow one %.2f s: **%.3f**\n", r.Others, x.bases[i], r.Others/x.bases[i])
		}
		if len(r.notes) > 0 {
			fmt.Fprintf(w, "  - %s\n", strings.Join(r.notes, "; "))
		}
		if r.Wrong != "" {
			fmt.Fprintf(w, "  - %s\n", r.Wrong)
		}
	}
	m := x.middle()
	fmt.Fprintf(w, "  - uplinks used, in %%, by twentieths of %.2f s: %s\n  - the same by tenths of the first second: %s\n", m.Watched,
		percents(m.Curve), percents(m.FirstSecond))
}

// middle returns the run whose ratio is the median.
func (x *series) middle() *result {
	runs := x.valid()
	if len(runs) == 0 {
		runs = x.runs
	}
	runs = slices.SortedFunc(slices.Values(runs), func(a, b *result) int { return int(1e6 * (a.ratio() - b.ratio())) })
	return runs[(len(runs)-1)/2]
}

func percents(parts []float64) string {
	var out []string
	for _, p := range parts {
		out = append(out, strconv.Itoa(int(100*p+0.5)))
	}
	return strings.Join(out, " ")
}

// object is the row for machines.
func (x *series) object(w io.Writer) error {
	return json.NewEncoder(w).Encode(struct {
		T        string    `json:"t"`
		Machine  string    `json:"machine"`
		Scenario string    `json:"scenario"`
		Tool     string    `json:"tool"`
		N        int       `json:"n"`
		Runs     []*result `json:"runs"`
		Without  []float64 `json:"without,omitempty"`
	}{"series", lab.Machine(), x.s.name, x.tool, x.n, x.runs, x.bases})
}

// writeCurves writes every sample of all rows: seconds, the part of all uplinks used since the sample before, and what each machine had sent.
func writeCurves(path string, all []*series) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := csv.NewWriter(f)
	_ = w.Write([]string{"scenario", "tool", "n", "run", "seconds", "used", "sent by the source", "sent by each leecher"}) // Flush has the error
	for _, x := range all {
		for i, r := range x.runs {
			before := sample{}
			for _, s := range r.samples {
				row := []string{
					x.s.name, x.tool, strconv.Itoa(x.n), strconv.Itoa(i), fmt.Sprintf("%.3f", s.at.Seconds()),
					fmt.Sprintf("%.4f", use(r.samples, r.capacity, before.at, s.at)),
				}
				for _, n := range s.sent {
					row = append(row, strconv.FormatInt(n, 10))
				}
				_ = w.Write(row)
				before = s
			}
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return f.Close()
}

func names() string {
	var out []string
	for _, s := range scenarios {
		out = append(out, s.name)
	}
	return strings.Join(out, ",")
}
