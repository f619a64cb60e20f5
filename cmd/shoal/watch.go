package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"shoal/internal/node"
	"shoal/internal/transfer"
)

// The objects that get prints with --json. Sizes are bytes, rates bytes per second, times seconds.
type (
	jsonStart struct {
		V       int    `json:"v"`
		T       string `json:"t"`
		Name    string `json:"name"`
		Size    int64  `json:"size"`
		Resumed int64  `json:"resumed"`
		Sources int    `json:"sources"`
	}
	jsonProgress struct {
		V       int     `json:"v"`
		T       string  `json:"t"`
		Name    string  `json:"name"`
		Phase   string  `json:"phase"`
		Done    int64   `json:"done"`
		Total   int64   `json:"total"`
		Rate    int64   `json:"rate"`
		ETA     float64 `json:"eta,omitempty"`
		Sources int     `json:"sources"`
		Fetched int64   `json:"fetched"`
	}
	jsonNote struct {
		V    int    `json:"v"`
		T    string `json:"t"`
		Text string `json:"text"`
	}
	jsonDone struct {
		V        int     `json:"v"`
		T        string  `json:"t"`
		Name     string  `json:"name"`
		Path     string  `json:"path"`
		Size     int64   `json:"size"`
		Seconds  float64 `json:"seconds"`
		Sources  int     `json:"sources"`
		Fetched  int64   `json:"fetched"`
		Resumed  int64   `json:"resumed"`
		Verified bool    `json:"verified"`
		Already  bool    `json:"already"`
	}
)

const (
	// jsonEvery is how often progress is told with --json.
	jsonEvery = time.Second
	// Without a terminal a line comes for each tenth of the file, but not more often than this.
	lineEvery = 30 * time.Second
	// etaAfter is how long a rate must have been measured before it says when the end comes.
	etaAfter = 3 * time.Second
)

// watcher tells the user how a download goes: a bar, lines, or objects.
type watcher struct {
	e        *env
	d        *node.Download
	name     string
	began    atomic.Int64 // when fetching began, in Unix nanoseconds: the bar reads it too
	started  bool         // the start was told
	told     time.Time    // when a line or object was printed last
	toldPart int64        // tenths of the file at that time
	bad      map[string]transfer.State
}

func newWatcher(e *env, d *node.Download, name string) *watcher {
	return &watcher{e: e, d: d, name: name, bad: make(map[string]transfer.State)}
}

// run watches until stop is closed.
func (w *watcher) run(stop <-chan struct{}) {
	if !w.e.json && !w.e.quiet {
		defer w.e.screen.show(w.gauge)()
	}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			w.tell(w.d.Status())
			return
		case <-ticker.C:
			w.tell(w.d.Status())
		}
	}
}

// tell prints what is due.
func (w *watcher) tell(st node.Status) {
	if st.Size == 0 || w.e.quiet {
		return
	}
	if !w.started {
		w.started, w.told = true, time.Now()
		w.began.Store(w.told.UnixNano())
		w.tellStart(st)
	}
	for _, s := range st.Transfer.Sources {
		if s.State == transfer.Banned && w.bad[s.Name] != transfer.Banned && !w.e.json {
			w.e.screen.printf("warning: %s is not asked any more: %s\n", s.Name, oneLine(s.Err.Error()))
		}
		w.bad[s.Name] = s.State
	}
	switch {
	case w.e.json && time.Since(w.told) >= jsonEvery:
		w.told = time.Now()
		printJSON(w.e.stdout, jsonProgress{
			1, "progress", w.name, string(st.Phase), st.Transfer.Done, st.Size, int64(st.Transfer.Rate),
			w.eta(st).Seconds(), st.Transfer.Active, st.Transfer.Fetched,
		})
	case !w.e.json && !w.e.screen.terminal:
		part := st.Transfer.Done * 10 / st.Size
		if part > w.toldPart && time.Since(w.told) >= lineEvery {
			w.told, w.toldPart = time.Now(), part
			w.e.screen.printf("get %s %d%% %s/%s %s\n", quote(w.name), st.Transfer.Done*100/st.Size,
				size(st.Transfer.Done), size(st.Size), w.facts(st))
		}
	}
}

func (w *watcher) tellStart(st node.Status) {
	known := max(len(st.Transfer.Sources), 1)
	switch {
	case w.e.json:
		printJSON(w.e.stdout, jsonStart{1, "start", w.name, st.Size, st.Resumed, known})
	case st.Resumed > 0:
		w.e.screen.printf("Resuming %s at %d%% (%s kept)\n", quote(w.name), st.Resumed*100/st.Size, size(st.Resumed))
	default:
		w.e.screen.printf("Getting  %s  %s  (classic: unencrypted, unverified)\n", quote(w.name), size(st.Size))
	}
}

// gauge is the download as a line.
func (w *watcher) gauge() gauge {
	st := w.d.Status()
	switch st.Phase {
	case node.Searching:
		return gauge{Label: "Asking the swarm for " + quote(w.name)}
	case node.Merging:
		return gauge{Label: "Merging the chunks of " + quote(w.name)}
	case node.Checking:
		return gauge{Label: "Checking " + quote(w.name), Done: min(st.Checked, st.Size), Total: st.Size}
	}
	short := fmt.Sprintf("%s/s", size(int64(st.Transfer.Rate)))
	return gauge{
		Label: cut(w.name, 24), Done: st.Transfer.Done, Total: st.Size, Short: short,
		Facts: fmt.Sprintf("%s/%s  %s", size(st.Transfer.Done), size(st.Size), w.facts(st)),
	}
}

// facts says how fast it goes, when it ends, and who gives.
func (w *watcher) facts(st node.Status) string {
	if st.Transfer.Active == 0 {
		return "waiting for sources"
	}
	eta := "--:--"
	if d := w.eta(st); d > 0 {
		eta = seconds(d)
	}
	return fmt.Sprintf("%s/s  eta %s  sources %d", size(int64(st.Transfer.Rate)), eta, st.Transfer.Active)
}

// eta returns how long the rest will take, 0 if it is too soon to say.
func (w *watcher) eta(st node.Status) time.Duration {
	began := w.began.Load()
	if began == 0 || time.Since(time.Unix(0, began)) < etaAfter || st.Transfer.Rate < 1 {
		return 0
	}
	return time.Duration(float64(st.Size-st.Transfer.Done) / st.Transfer.Rate * float64(time.Second))
}

// printDone prints a result: its path on standard output, the rest as talk.
func printDone(e *env, name string, r *node.Result, took time.Duration) {
	if e.json {
		printJSON(e.stdout, jsonDone{
			1, "done", name, r.Path, r.Size, took.Seconds(), r.Sources, r.Fetched, r.Resumed, r.Verified, r.Already,
		})
		return
	}
	e.screen.close() // what goes to standard output would be drawn over
	if !e.quiet {
		switch {
		case r.Already:
			e.screen.printf("%s %s  %s  already complete and verified, 0 B fetched\n", e.screen.sign("✓", "ok"), quote(name), size(r.Size))
		case r.Verified:
			e.screen.printf("%s %s  %s\n", e.screen.sign("✓", "ok"), summary(name, r, took), "verified")
		default:
			e.screen.printf("! %s  UNVERIFIED: the classic protocol has no checksums\n", summary(name, r, took))
			e.screen.printf("  next:  sha256sum %s    and compare with the sender\n", shellQuote(r.Path))
		}
	}
	fmt.Fprintln(e.stdout, r.Path)
}

func summary(name string, r *node.Result, took time.Duration) string {
	rate := float64(r.Fetched) / max(took.Seconds(), 0.001)
	return fmt.Sprintf("%s  %s in %v (%s/s)  from %d sources", quote(name), size(r.Size),
		took.Round(10*time.Millisecond), size(int64(rate)), r.Sources)
}
