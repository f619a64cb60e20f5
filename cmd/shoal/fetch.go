package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"shoal/internal/bundle"
	"shoal/internal/content"
	"shoal/internal/exchange"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/store"
)

// getVerified fetches a content by link, name or id in a swarm.
func getVerified(ctx context.Context, e *env, o getOptions, what string) error {
	req, sw, err := fetchRequest(ctx, e, o, what)
	if err != nil {
		return err
	}
	o.tells = true
	m, err := o.member(e, sw, slog.LevelWarn)
	if err != nil {
		return err
	}
	defer m.Close()
	name, began := req.Name, time.Now()
	return m.Run(ctx, func(ctx context.Context) error {
		if bridged, err := onlyClassicHas(ctx, m, req); err != nil {
			return err
		} else if bridged {
			return getBridged(ctx, e, o, m, name, began)
		}
		f := m.NewFetch(req)
		stop, track := watchFetch(e, f), trackFetch(e, f)
		got, err := f.Run(ctx)
		stop()
		track.end()
		if err != nil {
			return whyFetchFailed(ctx, m, f, req, o, err)
		}
		if req.Out != nil {
			closeOutput(e)
		}
		printFetched(e, got, time.Since(began), req.Out != nil)
		return giveOn(ctx, e, o, m, f, got, name)
	})
}

// fetchRequest makes a request, and finds its swarm, of what was typed.
func fetchRequest(ctx context.Context, e *env, o getOptions, what string) (req node.FetchRequest, sw *identity.Swarm, err error) {
	req = node.FetchRequest{
		Name: what, Overwrite: o.overwrite, Restart: o.restart, Wait: o.wait, Patience: o.timeout,
		Note: func(text string) {
			if e.json {
				printJSON(e.stdout, jsonNote{1, "note", text})
			} else if !e.quiet {
				e.screen.printf("warning: %s\n", oneLine(text))
			}
		},
	}
	if len(o.from) > 0 || o.chunkFiles {
		return req, nil, &usageError{"--from and --chunk-files are for the classic protocol"}
	}
	if o.blake3 != "" {
		id, err := content.ParseID(strings.ToLower(o.blake3))
		if err != nil {
			return req, nil, &usageError{"--blake3: " + err.Error()}
		}
		req.ID = content.PrefixOf(id)
	}
	if o.sha256 != "" && !o.classic {
		return req, nil, &usageError{"--sha256 is for the classic protocol: here the content's id is checked, which is its BLAKE3 hash"}
	}
	if sw, err = swarmOf(ctx, e, what, &req); err != nil {
		return req, nil, err
	}
	if o.output == "" || o.timeout < 0 {
		return req, nil, &usageError{"--output must not be empty, nor --timeout below 0"}
	}
	if req.Selection = (bundle.Selection{Only: o.only, Except: o.except}); req.Selection.Check() != nil {
		return req, nil, &usageError{req.Selection.Check().Error()}
	}
	if o.output == "-" {
		req.Out, err = toOutput(e, o)
		return req, sw, err
	}
	req.Dir, req.Target = target(o.output, "")
	req.Either = req.Target == "" && isPath(o.output)
	return req, sw, nil
}

// whyFetchFailed ends a fetch that has failed, and returns what the user is told of it.
func whyFetchFailed(ctx context.Context, m *node.Member, f *node.Fetch, req node.FetchRequest, o getOptions, err error) error {
	st := f.Status()
	err = errors.Join(err, f.Close())
	if st.Directory && errors.Is(err, store.ErrExists) {
		_, none := os.Lstat(filepath.Join(req.Dir, st.Name))
		return dirExists(err, o.output, req.Either && none != nil)
	}
	if req.Out != nil { // what was fetched for a stream goes with it
		st.Exchange.Done = 0
	}
	return fetchFailed(ctx, m, ofGet(noFolder(err, req.Dir), cmp.Or(st.Name, req.Name), req.Dir, o), st)
}

// giveOn gives what was fetched to others, as long as the user wants that.
func giveOn(ctx context.Context, e *env, o getOptions, m *node.Member, f *node.Fetch, got *node.Fetched, name string) error {
	switch {
	case got.Already && !o.stay && got.Directory:
		return f.Close()
	case got.Already && !o.stay:
		return nil
	case got.Already && !got.Directory:
		if _, err := m.Share(ctx, got.Path, name, nil); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	if !o.once {
		if o.stay && !e.quiet && !e.json {
			e.screen.printf("Giving %s to others. Ctrl-C stops that.\n", quote(got.Name))
		}
		stop := watchGiving(e, f)
		f.Give(ctx, o.stay)
		stop()
	}
	return f.Close()
}

// onlyClassicHas says whether a name must be asked of classic peers, since nobody offers it in the swarm, and the user allows that.
func onlyClassicHas(ctx context.Context, m *node.Member, req node.FetchRequest) (bool, error) {
	if m.Classic() == nil || req.ID.Bits > 0 {
		return false, nil
	}
	entries, err := m.Find(ctx, req.Name, content.Prefix{})
	return len(entries) == 0, err
}

// getBridged downloads a file from classic peers of a swarm that this machine is in. It is called unverified, unless a digest is given.
func getBridged(ctx context.Context, e *env, o getOptions, m *node.Member, name string, began time.Time) error {
	req, err := o.request(name)
	if err != nil {
		return err
	}
	req.Note = func(text string, _ error) {
		if !e.json && !e.quiet {
			e.screen.printf("note: %s\n", oneLine(text))
		}
	}
	d := m.Classic().NewDownload(req)
	if done, err := d.CheckTarget(ctx); err != nil {
		return noFolder(err, req.Dir)
	} else if done != nil {
		printDone(e, name, done, 0)
		return nil
	}
	if err := fetch(ctx, e, d, name, began); err != nil {
		return keptNote(err, d, name)
	}
	return nil
}

// swarmOf finds the swarm that is meant: that of a link, which is joined if need be, or the one that this machine is in.
func swarmOf(ctx context.Context, e *env, what string, req *node.FetchRequest) (*identity.Swarm, error) {
	if !strings.HasPrefix(what, "shoal://") {
		if id, err := content.ParseID(strings.ToLower(what)); err == nil {
			req.ID = content.PrefixOf(id)
		}
		return e.need()
	}
	link, err := identity.ParseLink(what)
	if err != nil {
		return nil, err
	}
	if link.ID.Bits == 0 {
		return nil, &usageError{"the link names no file: join with  shoal join LINK, and then  shoal get NAME"}
	}
	req.Name, req.ID, req.FromLink, req.Directory = link.Name, link.ID, true, link.Dir
	return enterSwarm(ctx, e, link)
}

// watchFetch shows how a fetch goes until stop is called.
func watchFetch(e *env, f *node.Fetch) (stop func()) {
	w := &fetchWatcher{e: e, status: f.Status, parts: func(p exchange.Progress) strip { return partsOf(f.Pieces(), p) }}
	return w.start()
}

// watchGiving shows on a terminal how a fetch that is complete is given to others until stop is called.
func watchGiving(e *env, f *node.Fetch) (stop func()) {
	if !e.screen.terminal || e.json || e.quiet {
		return func() {}
	}
	return (&fetchWatcher{e: e, status: f.Status, started: true}).start()
}

// fetchWatcher tells the user how a fetch goes: by a panel, lines, or objects.
type fetchWatcher struct {
	e       *env
	status  func() node.FetchStatus
	parts   func(exchange.Progress) strip // what of it is here; nil: that is not known
	sampler sampler
	strip   strip
	mapped  time.Time // when the strip was made
	view    atomic.Pointer[getView]
	started bool
	told    time.Time
	part    int64
	trouble trouble
}

// start watches until stop is called.
func (w *fetchWatcher) start() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(ended)
		defer w.show()()
		ticker := time.NewTicker(drawEvery)
		defer ticker.Stop()
		for {
			w.tell(w.status())
			select {
			case <-done:
				w.tell(w.status())
				return
			case <-ticker.C:
			}
		}
	}()
	return func() { close(done); <-ended }
}

// show draws the panel, if there is to be one, until stop is called.
func (w *fetchWatcher) show() (stop func()) {
	if w.e.json || w.e.quiet {
		return func() {}
	}
	return w.e.screen.panel(func(k look) []line {
		if v := w.view.Load(); v != nil {
			return v.lines(k)
		}
		return nil
	})
}

// look measures how it goes.
func (w *fetchWatcher) look(st node.FetchStatus) *getView {
	now := time.Now()
	if w.parts != nil && w.e.screen.terminal && now.Sub(w.mapped) >= stripEvery {
		w.strip, w.mapped = w.parts(st.Exchange), now
	}
	v := w.sampler.view(now, st, w.strip)
	v.table = w.e.verbose
	w.view.Store(&v)
	return &v
}

// tell prints what is due.
func (w *fetchWatcher) tell(st node.FetchStatus) {
	if w.e.quiet {
		return
	}
	v := w.look(st)
	if st.Phase == node.Complete && w.started && !w.e.json { // it was told, or will be
		return
	}
	// What was complete before is told by another, and all there is to tell people.
	already := st.Already || !w.e.json && st.Phase == node.Complete && st.Size > 0 && st.Resumed == st.Size
	if already || st.Phase == node.Searching || st.Phase == node.Meeting || st.Phase == node.Checking {
		return
	}
	p := st.Exchange
	name := quote(st.Name)
	if st.Directory {
		name = quote(st.Name + "/")
	}
	if !w.started {
		w.started, w.told = true, time.Now()
		switch {
		case w.e.json:
			printJSON(w.e.stdout, jsonStart{1, "start", st.Name, st.Size, st.Resumed, len(p.Neighbours)})
		case st.Resumed > 0 && st.Size > 0:
			w.e.screen.printf("Resuming %s at %d%% (%s kept)\n", name, st.Resumed*100/st.Size, size(st.Resumed))
		default:
			w.e.screen.printf("Getting  %s  %s  (encrypted, verified)\n", name, size(st.Size))
		}
	}
	switch {
	case w.e.json && time.Since(w.told) >= jsonEvery:
		w.told = time.Now()
		printJSON(w.e.stdout, jsonProgress{
			V: 1, T: "progress", Name: st.Name, Phase: string(st.Phase), Done: v.done, Total: st.Size, Rate: int64(v.rate), ETA: v.left.Seconds(),
			Sources: v.full + v.part, Fetched: p.Received, Full: v.full, Up: int64(v.up), GivingTo: v.givingTo,
		})
	case !w.e.json && !w.e.screen.terminal && st.Size > 0:
		w.tellLine(v)
	}
}

// tellLine prints, where there is no terminal, a line for each tenth, one when half a minute has brought none, and one when it stops or goes on.
func (w *fetchWatcher) tellLine(v *getView) {
	part, since := v.done*10/v.size, time.Since(w.told)
	same := part <= w.part && v.trouble() == w.trouble
	if (same || since < lineApart) && since < lineEvery {
		return
	}
	w.told, w.part, w.trouble = time.Now(), part, v.trouble()
	w.e.screen.printf("%s\n", v.logLine(time.Now()))
}

// printFetched prints a result: its path on standard output, the rest as talk.
func printFetched(e *env, r *node.Fetched, took time.Duration, streamed bool) {
	if e.json {
		printJSON(e.stdout, struct {
			jsonDone
			ID      string  `json:"id"`
			Wasted  int64   `json:"wasted"`
			Optimal float64 `json:"optimal,omitempty"`
		}{jsonDone{
			1, "done", r.Name, r.Path, r.Size, took.Seconds(), r.Sources, r.Received, r.Resumed, true, r.Already,
		}, r.ID.String(), r.Wasted, r.Optimal})
		return
	}
	if !e.quiet {
		e.screen.close() // what goes to standard output would be drawn over
		sign := e.screen.sign("✓", "ok")
		name, fetched := quote(r.Name), int64(0)
		if r.Directory {
			name, fetched = quote(r.Name+"/"), r.Received // its listing was
		}
		if r.Already {
			e.screen.printf("%s %s  %s  already complete and verified, %s fetched\n", sign, name, size(r.Size), size(fetched))
		} else {
			rate := float64(r.Received) / max(took.Seconds(), 0.001)
			facts := []string{
				fmt.Sprintf("%s %s", sign, name), fmt.Sprintf("%s in %v (%s/s)", size(r.Size), took.Round(10*time.Millisecond), size(int64(rate))),
				"from " + count(r.Sources, "source"),
			}
			if text := strings.TrimSpace(optimal(r.Optimal)); text != "" {
				facts = append(facts, text)
			}
			e.screen.printf("%s         id  %s\n", e.screen.said(append(facts, "verified")...), r.ID)
		}
	}
	if !streamed {
		fmt.Fprintln(e.stdout, r.Path)
	}
}

// toOutput returns standard output as the place for the bytes.
func toOutput(e *env, o getOptions) (io.Writer, error) {
	switch {
	case e.json:
		return nil, &usageError{"-o - and --json both want standard output"}
	case o.overwrite || o.restart:
		return nil, &usageError{"--overwrite and --restart are for files, not for -o -"}
	case isTerminal(e.stdout):
		return nil, &usageError{"-o - would write the file to this terminal: let another program read it, or name a path"}
	}
	signal.Ignore(syscall.SIGPIPE) // a reader that goes is an error of the write
	return e.stdout, nil
}

// closeOutput tells the reader of standard output that all has come, though others may still be given it.
func closeOutput(e *env) {
	if f, ok := e.stdout.(*os.File); ok {
		f.Close()
	}
}

// isPath says whether -o may be the path of a directory that is fetched: a folder to put it into is written with a slash at its end, or is "." or "..".
func isPath(output string) bool {
	base := filepath.Base(output)
	return !os.IsPathSeparator(output[len(output)-1]) && base != "." && base != ".."
}

// dirExists says what to do where a directory is to be that there is already, and is another.
func dirExists(err error, output string, itself bool) error {
	f := &failure{
		Code: "E-EXISTS", Exit: exitExists, err: err, What: oneLine(err.Error()), Cause: "nothing is replaced unasked",
		Next: "add --overwrite to replace the files in it that differ and add those that are missing, or name another place with  -o PATH",
	}
	if itself {
		f.Next = "-o " + shellQuote(output+"/") + "  puts it into that folder; --overwrite replaces files in it that differ, and adds those that are missing"
	}
	return f
}
