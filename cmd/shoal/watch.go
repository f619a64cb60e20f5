package main

import (
	"fmt"
	"time"

	"shoal/internal/content"
	"shoal/internal/exchange"
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

		Full     int   `json:"full"`      // of the sources: those that have all of it
		Up       int64 `json:"up"`        // rate of giving
		GivingTo int   `json:"giving_to"` // peers
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
	// Without a terminal a line comes for each tenth of the file, not more often than lineApart, and one each lineEvery.
	lineApart = time.Second
	lineEvery = 30 * time.Second
	// stripEvery is how often it is looked which pieces are here.
	stripEvery = 250 * time.Millisecond
)

// watcher tells the user how a download with the classic protocol goes: by a panel, lines, or objects.
type watcher struct {
	fetchWatcher
	d    *node.Download
	name string
	bad  map[string]transfer.State
}

func newWatcher(e *env, d *node.Download, name string) *watcher {
	return &watcher{fetchWatcher: fetchWatcher{e: e}, d: d, name: name, bad: make(map[string]transfer.State)}
}

// run watches until stop is closed.
func (w *watcher) run(stop <-chan struct{}) {
	defer w.show()()
	ticker := time.NewTicker(drawEvery)
	defer ticker.Stop()
	for {
		w.tell(w.d.Status())
		select {
		case <-stop:
			w.tell(w.d.Status())
			return
		case <-ticker.C:
		}
	}
}

// tell prints what is due.
func (w *watcher) tell(st node.Status) {
	if w.e.quiet {
		return
	}
	v := w.look(w.common(st))
	if st.Size == 0 {
		return
	}
	if !w.started {
		w.started, w.told = true, time.Now()
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
			V: 1, T: "progress", Name: w.name, Phase: string(st.Phase), Done: st.Transfer.Done, Total: st.Size, Rate: int64(v.rate), ETA: v.left.Seconds(),
			Sources: st.Transfer.Active, Fetched: st.Transfer.Fetched, Full: st.Transfer.Active,
		})
	case !w.e.json && !w.e.screen.terminal:
		w.tellLine(v)
	}
}

// common is what is shown of any download; classic holders have all of a file.
func (w *watcher) common(st node.Status) node.FetchStatus {
	out := node.FetchStatus{Phase: st.Phase, Name: w.name, Size: st.Size, Resumed: st.Resumed, Checked: st.Checked}
	if out.Phase == node.Complete { // the end is told by another
		out.Phase = node.Fetching
	}
	out.Exchange = exchange.Progress{Done: st.Transfer.Done, Received: st.Transfer.Fetched}
	g, _ := content.GeometryOf(st.Size)
	for _, s := range st.Transfer.Sources {
		n := exchange.Neighbour{Name: s.Name, Received: s.Bytes, Pieces: g.Pieces}
		if s.State == transfer.Delivering {
			n.Active = 1
		}
		out.Exchange.Neighbours = append(out.Exchange.Neighbours, n)
	}
	return out
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
			e.screen.printf("%s", e.screen.said(append(summary(e.screen.sign("✓", "ok"), name, r, took), "verified")...))
		default:
			e.screen.printf("%s", e.screen.said(append(summary("!", name, r, took), "UNVERIFIED: the classic protocol has no checksums")...))
			fmt.Fprintln(e.screen, e.screen.hang("  next:  ", "         ", "sha256sum "+shellQuote(r.Path)+"    and compare with the sender"))
		}
	}
	fmt.Fprintln(e.stdout, r.Path)
}

func summary(sign, name string, r *node.Result, took time.Duration) []string {
	rate := float64(r.Fetched) / max(took.Seconds(), 0.001)
	return []string{
		sign + " " + quote(name), fmt.Sprintf("%s in %v (%s/s)", size(r.Size), took.Round(10*time.Millisecond), size(int64(rate))),
		"from " + count(r.Sources, "source"),
	}
}
